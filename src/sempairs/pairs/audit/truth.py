"""How well the ranking finds pairs that are known to be false, as they were planted by `corrupted`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sempairs.pairs.audit.doubt import Doubts
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.select import CORRUPTED


@dataclass(frozen=True)
class Ranking:
    """average_precision of the planted pairs; in_first: share of the first `planted` pairs that are planted;
    enrichment: that over their share of all pairs, 1 being chance."""

    average_precision: float
    in_first: float
    enrichment: float


@dataclass(frozen=True)
class PlantedPairs:
    """planted of pairs are false on purpose. by_doubt: how the ranking finds them. by_similarity: the same
    without labels, None without similarities; labels tell of planted pairs what they would not of a wrong
    label, so this is the number that carries over."""

    planted: int
    pairs: int
    share: float
    by_doubt: Ranking
    by_similarity: Ranking | None


def planted_pairs(subject: Subject, doubts: Doubts) -> PlantedPairs | None:
    """None if no pair, or every pair, is of the relation `corrupted`."""
    false = np.array([subject.relation[row] == CORRUPTED for row in doubts.rows], dtype=bool)
    if not false.any() or false.all():
        return None
    alone = None if doubts.by_similarity is None else ranking(false, doubts.by_similarity)
    return PlantedPairs(
        int(false.sum()), len(false), float(false.mean()), ranking(false, doubts.doubt), alone
    )


def ranking(false: NDArray[np.bool_], score: NDArray[np.float64]) -> Ranking:
    """false, score: (P,), at least one of them true. Ties count against the ranking."""
    order = np.lexsort((false, -score))
    hits = false[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    planted = int(hits.sum())
    first = float(hits[:planted].mean())
    return Ranking(float(precision[hits].mean()), first, first / float(hits.mean()))
