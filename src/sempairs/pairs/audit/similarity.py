"""How alike the two images of a pair are, by relation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.index import Int

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Cosine similarities of the pairs of one relation: their number, mean and quantiles by percent."""

    pairs: int
    mean: float
    quantiles: dict[str, float]


def cosine(subject: Subject, vectors: NDArray[np.float32]) -> Real:
    """Cosine similarity of each distinct pair, (P,); vectors: (n, D) by item, unit length."""
    anchor, partner = subject.anchor[subject.distinct], subject.partner[subject.distinct]
    found = np.empty(len(anchor))
    for start in range(0, len(anchor), 1 << 14):
        at = slice(start, start + (1 << 14))
        found[at] = np.einsum("pd,pd->p", vectors[anchor[at]], vectors[partner[at]])
    return np.clip(found, -1, 1)


def by_relation(subject: Subject, similarity: Real) -> dict[str, Spread]:
    """similarity: of the distinct pairs, (P,)."""
    relation = np.array(subject.relation, dtype=object)[subject.distinct]
    found = {}
    for name in sorted(set(relation)):
        values = similarity[relation == name]
        marks = np.quantile(values, QUANTILES)
        named = {f"{100 * q:g}": float(v) for q, v in zip(QUANTILES, marks, strict=True)}
        found[str(name)] = Spread(len(values), float(values.mean()), named)
    return found


def extremes(subject: Subject, similarity: Real, count: int) -> tuple[Int, Int]:
    """Rows of the most and of the least similar pairs, the most extreme first."""
    order = np.argsort(similarity, kind="stable")
    half = min(count, len(order) // 2) or len(order)
    return subject.distinct[order[::-1][:half]], subject.distinct[order[:half]]
