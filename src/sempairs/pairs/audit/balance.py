"""Classes, partners an image, and how much of the catalogue the pairs cover."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from sempairs.pairs.audit.subject import Subject


@dataclass(frozen=True)
class Balance:
    """classes: rows by class, the largest first; "" is no known class. evenness: entropy of the counts over
    that of equal ones, 1 for equal ones or a single class."""

    classes: dict[str, int]
    number: int
    least: int
    median: float
    most: int
    evenness: float


@dataclass(frozen=True)
class Multiplicity:
    """images: how many images have how many different partners. covered: images used; of: images of the
    catalogue the set was built from (0: unknown). repeated: rows that state a pair once more."""

    images: dict[int, int]
    covered: int
    of: int
    repeated: int


def balance(subject: Subject) -> Balance:
    counts = Counter(name or "" for name in subject.category.texts())
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    values = np.array(list(ordered.values()), dtype=float)
    share = values / values.sum()
    even = float(-(share * np.log(share)).sum() / np.log(len(values))) if len(values) > 1 else 1.0
    return Balance(
        classes=ordered, number=len(values) - ("" in counts), least=int(values.min()),
        median=float(np.median(values)), most=int(values.max()), evenness=even,
    )  # fmt: skip


def multiplicity(subject: Subject) -> Multiplicity:
    rows = subject.distinct
    ends = np.concatenate([subject.anchor[rows], subject.partner[rows]])
    degree = np.bincount(ends, minlength=len(subject.ids))
    values, counts = np.unique(degree, return_counts=True)
    own = int((subject.anchor == subject.partner).sum())
    return Multiplicity(
        images={int(v): int(c) for v, c in zip(values, counts, strict=True)},
        covered=len(subject.ids), of=subject.pairs.catalog_images,
        repeated=len(subject) - own - len(rows),
    )  # fmt: skip
