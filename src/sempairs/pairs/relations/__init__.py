"""Relations between the two images of a pair, one a file; see `pairs.config` for what a relation is."""
