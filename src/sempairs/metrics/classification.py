"""Accuracy of predicted labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """Share of equal labels; (N,) each. Raises: ValueError for unequal shapes or none."""
    return float(np.mean(_equal(predicted, true)))


def mean_per_class_accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean over the classes present in `true` of the accuracy within each. Raises: ValueError as above."""
    hits = _equal(predicted, true)
    _, classes = np.unique(np.asarray(true), return_inverse=True)
    return float(np.mean(np.bincount(classes, weights=hits) / np.bincount(classes)))


def _equal(predicted: ArrayLike, true: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    left, right = np.asarray(predicted), np.asarray(true)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"labels must be (N,) of one length, got {left.shape} and {right.shape}")
    return np.asarray(left == right, dtype=np.bool_)
