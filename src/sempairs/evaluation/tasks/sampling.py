"""Which images are fitted on: keyed, stratified, and the same in whatever order a catalogue lists them.

Images of one unit (a `split_group`: identical pictures, one concept) are never divided between parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]


def subset(strata: NDArray[np.generic], ids: Sequence[str], n: int, *, seed: int) -> Mask:
    """A mask (N,) of n of the N images, each stratum kept in proportion and none lost while n allows.

    strata: (N,) ids of the strata; ids: the images' names, the keys of the draw.
    """
    if n >= len(ids):
        return np.ones(len(ids), dtype=bool)
    key = keyed.text_key(seed, "splits", [f"subset/{i}" for i in ids])
    rank, size = _rank_within(strata, key)
    # An image's place in its stratum as a fraction; the first of every stratum has 0, so it goes in first.
    chosen = np.lexsort((key, rank / size))[:n]
    mask = np.zeros(len(ids), dtype=bool)
    mask[chosen] = True
    return mask


def folds(labels: Int, units: Sequence[str], count: int, *, seed: int, repeat: int) -> Int:
    """The fold of each image, (N,) in [0, count): units whole, classes spread evenly.

    labels: (N,); units: (N,) names; a unit of several classes counts as its smallest label.
    """
    names, of_unit = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)
    label = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(label, of_unit, labels)
    key = keyed.text_key(seed, "splits", [f"fold {repeat}/{name}" for name in names])
    order = np.lexsort((key, label))
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))  # dealt on from class to class, so that folds are equal in size
    return np.asarray((place % count)[of_unit], dtype=np.int64)


def holdout(labels: Int, units: Sequence[str], fraction: float, *, seed: int) -> Mask:
    """A mask (N,) of about `fraction` of the images, whole units, every class in proportion.

    A class of a single unit stays outside the mask: it could otherwise not be learnt.
    """
    names, of_unit = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)
    label = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(label, of_unit, labels)
    rank, size = _rank_within(label, keyed.text_key(seed, "splits", [f"holdout/{name}" for name in names]))
    take = np.round(size * fraction).astype(np.int64)
    take = np.where(size >= 2, np.clip(take, 1, size - 1), 0)
    return np.asarray((rank < take)[of_unit], dtype=bool)


def _rank_within(strata: NDArray[np.generic], key: NDArray[np.uint64]) -> tuple[Int, Int]:
    """Place (from 0) of each item in its stratum by key, and the stratum's size; (N,) each."""
    _, of, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    order = np.lexsort((key, of))
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    rank = np.empty(len(of), dtype=np.int64)
    rank[order] = np.arange(len(of)) - starts[of[order]]
    return rank, sizes[of]
