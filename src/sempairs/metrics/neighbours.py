"""Nearest neighbours by cosine, and the weighted kNN classifier.

Wu et al. 2018, arXiv:1805.01978, section 3.4: a neighbour of cosine s votes with weight exp(s / T)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sempairs.metrics import _arrays
from sempairs.metrics.classification import accuracy


class KnnSetting(NamedTuple):
    """`k` neighbours; `temperature` None gives every neighbour one vote."""

    k: int
    temperature: float | None


#: Vectors of which unit ones are made at once take about this much memory.
BLOCK_BYTES = 256 * 2**20

#: The two settings in use: DINO and solo-learn; lightly and InstDisc.
KNN_SETTINGS: Mapping[str, KnnSetting] = {
    "knn20": KnnSetting(20, 0.07),
    "knn200": KnnSetting(200, 0.1),
}


def nearest_neighbours(
    train: ArrayLike, test: ArrayLike, *, k: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The k rows of `train` (N, D) nearest to each row of `test` (M, D): indices and cosines, (M, k) each.

    Nearest first; of equal cosines the lower index first, also at the border. Exact, for vectors of any
    finite length, with bounded memory: many rows are taken a block at a time, their unit vectors too.
    Raises: ValueError for shapes that do not match, values that are not finite, or k outside [1, N].
    """
    base, queries = _arrays.features(train, "train"), _arrays.features(test, "test")
    if base.shape[1] != queries.shape[1]:
        raise ValueError(f"train and test must have one width, got {base.shape[1]} and {queries.shape[1]}")
    if not 1 <= k <= len(base):
        raise ValueError(f"k must be in [1, {len(base)}], the number of training rows, got {k}")
    dtype = np.result_type(base, queries)
    # Twice a block's size: its unit vectors, and what BLAS makes of them.
    high = max(1, BLOCK_BYTES // (dtype.itemsize * base.shape[1]))
    found = []
    for at in range(0, len(queries), high):
        some = _arrays.unit(queries[at : at + high].astype(dtype, copy=False))
        best: tuple[NDArray[np.int64], NDArray[Any]] | None = None
        for first in range(0, len(base), high):
            part = _arrays.unit(base[first : first + high].astype(dtype, copy=False))
            near = _nearest(part, some, min(k, len(part)))
            best = _merged(best, (near[0] + first, near[1]), k)
        assert best is not None
        found.append(best)
    return np.concatenate([i for i, _ in found]), np.concatenate([c for _, c in found])


def _nearest(base: NDArray[Any], queries: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The same of unit vectors of one type."""
    indices = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=base.dtype)
    for start, block in _arrays.similarities(queries, base):
        rows = slice(start, start + len(block))
        indices[rows] = _largest(block, k)
        cosines[rows] = np.take_along_axis(block, indices[rows], axis=1)
    return indices, cosines


def _merged(
    before: tuple[NDArray[np.int64], NDArray[Any]] | None,
    after: tuple[NDArray[np.int64], NDArray[Any]],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The k nearest of two lists, each with its nearest first; the second's indices are all higher."""
    if before is None:
        return after
    indices, cosines = (np.concatenate(both, axis=1) for both in zip(before, after, strict=True))
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(cosines, order, axis=1)


def knn_predict(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    *,
    k: int,
    temperature: float | None,
) -> NDArray[Any]:
    """Predict labels by the votes of nearest neighbours. Of classes with equal votes the smaller label wins.

    Args:
        train: Features, (N, D).
        train_labels: Labels, (N,), of any sortable type.
        test: Features, (M, D).
        k: Neighbours that vote.
        temperature: A vote is exp(cosine / temperature); None: every vote is 1.

    Returns:
        The label of each row of `test`, (M,), in the type of `train_labels`.

    Raises:
        ValueError: as `nearest_neighbours`, and for a temperature that is not above 0.
    """
    if temperature is not None and not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    indices, cosines = nearest_neighbours(train, test, k=k)
    names, classes = np.unique(
        _arrays.labels(train_labels, "train_labels", len(np.asarray(train))), return_inverse=True
    )
    winner = np.empty(len(indices), dtype=np.int64)
    step = max(1, _arrays.CHUNK_BYTES // (8 * (len(names) + 2 * k)))
    for start in range(0, len(indices), step):
        near, cosine = indices[start : start + step], cosines[start : start + step]
        if temperature is None:
            weights = np.ones(cosine.shape)
        else:  # relative to the nearest: the same votes, and no overflow at any temperature
            weights = np.exp((cosine - cosine[:, :1]).astype(np.float64) / temperature)
        votes = np.zeros((len(near), len(names)))
        # Column by column: each class adds up its neighbours from near to far, equal ones to equal sums.
        for column in range(k):
            votes[np.arange(len(votes)), classes[near[:, column]]] += weights[:, column]
        winner[start : start + step] = votes.argmax(axis=1)
    predicted: NDArray[Any] = names[winner]
    return predicted


def knn_accuracy(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    k: int,
    temperature: float | None,
) -> float:
    """Compute the share of test rows whose predicted label is the true one.

    Args:
        train: Features, (N, D).
        train_labels: Labels, (N,), of any sortable type.
        test: Features, (M, D).
        test_labels: Labels, (M,).
        k: Neighbours that vote.
        temperature: A vote is exp(cosine / temperature); None: every vote is 1.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: as `knn_predict`.
    """
    predicted = knn_predict(train, train_labels, test, k=k, temperature=temperature)
    return accuracy(predicted, test_labels)


def _largest(block: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Indices of the k largest values a row, in order of (value descending, index ascending)."""
    if k == block.shape[1]:
        chosen = np.broadcast_to(np.arange(k), block.shape)
    else:
        chosen = np.argpartition(block, -k, axis=1)[:, -k:]
        border = np.take_along_axis(block, chosen, axis=1).min(axis=1)
        # argpartition picks any of the values equal to the smallest chosen; such rows are done in full.
        tied = np.flatnonzero((block >= border[:, None]).sum(axis=1) > k)
        if len(tied):
            chosen[tied] = np.argsort(-block[tied], axis=1, kind="stable")[:, :k]
    chosen = np.sort(chosen, axis=1)
    order = np.argsort(-np.take_along_axis(block, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1).astype(np.int64)
