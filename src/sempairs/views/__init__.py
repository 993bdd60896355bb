"""Pixels to training views: pixel store, keyed parameters, batched augmentation, recipes."""
