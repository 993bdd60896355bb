"""What is fitted to features or trained on views: the linear probe, its solver, SGD."""
