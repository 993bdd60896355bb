"""Shared by the metrics: checks, unit vectors, similarities a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]

#: A chunk of similarities takes about this much memory, whatever the number of rows.
CHUNK_BYTES = 64 * 2**20


def features(values: ArrayLike, name: str) -> NDArray[Any]:
    """`values` as a finite (N, D) float array. Raises: ValueError."""
    array = np.asarray(values)
    if array.ndim != 2 or not len(array):
        raise ValueError(f"{name} must be (N, D) with N at least 1, got shape {array.shape}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def labels(values: ArrayLike, name: str, count: int) -> NDArray[Any]:
    """`values` as `count` labels of any type. Raises: ValueError."""
    array = np.asarray(values)
    if array.shape != (count,):
        raise ValueError(f"{name} must be ({count},), got shape {array.shape}")
    return array


def unit(array: NDArray[Any]) -> NDArray[Any]:
    """Rows divided by their length; a zero row stays zero, and so has cosine 0 with everything.

    Rows of any finite length: each is first brought near 1 by a power of two, which rounds nothing, as
    squares of large numbers are infinite and of small ones zero. Memory: the result and little more.
    """
    result: NDArray[Any] = np.empty_like(array)
    step = max(1, CHUNK_BYTES // max(1, array.itemsize * array.shape[1]))
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        largest = np.maximum(rows.max(axis=1, initial=0), -rows.min(axis=1, initial=0))
        power = np.frexp(largest)[1][:, None]
        # In two steps, as the power itself can lie outside of the numbers' range.
        near = np.ldexp(np.ldexp(rows, -(power // 2)), power // 2 - power)
        lengths = np.linalg.norm(near, axis=1, keepdims=True)
        result[start : start + step] = near / np.where(lengths > 0, lengths, 1)
    return result


def similarities(left: NDArray[Any], right: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cosines of unit rows, (start, chunk (m, len(right))), with bounded memory beside a copy of `right`.

    numpy's own product, threaded by its BLAS; left and right share one dtype.
    """
    step = max(1, CHUNK_BYTES // (right.dtype.itemsize * len(right)))
    turned = np.ascontiguousarray(right.T)
    for start in range(0, len(left), step):
        yield start, left[start : start + step] @ turned
