"""Retrieval by cosine: first hit and mean average precision, with any number of positives a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sempairs.metrics import _arrays


@dataclass(frozen=True)
class RetrievalScores:
    """`top1` and `mean_average_precision` over the queries that have a positive in the gallery.

    `hit` (Q,) and `average_precision` (Q,) hold each query's own; NaN where it has no positive. `scored` is
    the number of queries that have one.
    """

    top1: float
    mean_average_precision: float
    scored: int
    hit: NDArray[np.float64]
    average_precision: NDArray[np.float64]


def average_precision(scores: ArrayLike, relevant: ArrayLike) -> float:
    """Σ (R_n − R_{n−1}) P_n over the thresholds of `scores` (N,), `relevant` (N,) of booleans.

    Equal scores share a threshold, as in scikit-learn's average_precision_score, so order does not matter.
    Raises: ValueError for shapes that differ, or if nothing is relevant.
    """
    values, positive = np.asarray(scores), np.asarray(relevant, dtype=np.bool_)
    if values.ndim != 1 or values.shape != positive.shape:
        raise ValueError(f"scores and relevant must be (N,), got {values.shape} and {positive.shape}")
    found = np.sort(values[positive])
    if not len(found):
        raise ValueError("average precision needs at least one relevant item")
    # At the threshold of a positive: positives and items at or above it.
    positives = len(found) - np.searchsorted(found, found, side="left")
    items = len(values) - np.searchsorted(np.sort(values), found, side="left")
    return float(np.mean(positives / items))


def retrieval_scores(
    queries: ArrayLike,
    query_labels: ArrayLike,
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    *,
    leave_out: ArrayLike | None = None,
) -> RetrievalScores:
    """Score how well each query finds the gallery items of its label by cosine. Memory is bounded.

    Args:
        queries: Features, (Q, D).
        query_labels: Labels, (Q,).
        gallery: Features, (G, D).
        gallery_labels: Labels, (G,).
        leave_out: For each query the gallery row that is the query itself and is not searched, −1 for none.

    Returns:
        The scores. The first hit is the item of largest cosine, of equal ones the lowest row.

    Raises:
        ValueError: for shapes that do not match, or if no query has a positive.
    """
    left, right = _arrays.features(queries, "queries"), _arrays.features(gallery, "gallery")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"queries and gallery must have one width, got {left.shape[1]} and {right.shape[1]}")
    wanted, labels = _codes(
        _arrays.labels(query_labels, "query_labels", len(left)),
        _arrays.labels(gallery_labels, "gallery_labels", len(right)),
    )
    own = np.full(len(left), -1) if leave_out is None else np.asarray(leave_out, dtype=np.int64)
    if own.shape != (len(left),) or own.max() >= len(right):
        raise ValueError(f"leave_out must be ({len(left)},) of gallery rows or -1")
    dtype = np.result_type(left, right)
    left, right = _arrays.unit(left.astype(dtype)), _arrays.unit(right.astype(dtype))
    hit = np.full(len(left), np.nan)
    precision = np.full(len(left), np.nan)
    for start, block in _arrays.similarities(left, right):
        for row, cosines in enumerate(block, start):
            relevant = labels == wanted[row]
            if own[row] >= 0:
                cosines, relevant = _without(cosines, own[row]), _without(relevant, own[row])
            if relevant.any():
                hit[row] = relevant[cosines.argmax()]
                precision[row] = average_precision(cosines, relevant)
    scored = int(np.isfinite(precision).sum())
    if not scored:
        raise ValueError("no query has an item of its label in the gallery")
    return RetrievalScores(float(np.nanmean(hit)), float(np.nanmean(precision)), scored, hit, precision)


def _codes(left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of any type as numbers, which compare faster."""
    _, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    return codes[: len(left)], codes[len(left) :]


def _without(values: NDArray[Any], index: int) -> NDArray[Any]:
    """`values` with the one at `index` left out."""
    return np.concatenate([values[:index], values[index + 1 :]])
