"""Likely false pairs: a doubt in [0, 1] for each pair, from similarity and labels, out of sample.

    doubt = sigmoid((z_pair + z_fit) / sqrt(2) + s_labels - 3)

z_pair: how much less alike the two images are than those of other pairs of their relation and class (of the
relation alone where the class has fewer than 20 pairs). z_fit: how much nearer one of the two images is to
the centre of another meaning than to the centre of the meaning the pair claims; centres are means of unit
vectors, and each image is compared with centres that neither image of the pair is part of. Both are standard
scores, (value - median) / (1.4826 * median absolute deviation), so that false pairs do not set the scale by
which they are judged; what a score has beyond 3 counts by its logarithm, ln(1 + beyond). Where z_fit is
unknown, z_pair stands alone, without the sqrt(2). The mean of all images is taken off the vectors first: what
all of them share tells no pair from another. Where there are images enough, similarities are those of a
space learned from the other meanings alone (see `spaces`).
s_labels: for each label column in which the two images differ, -ln(share of pairs that differ as much), at
most 3: a contradiction that most pairs have says nothing. Categories and concepts differ or do not; names
differ by the share of their words that they do not have in common, where that varies among pairs of one
meaning.

At 3 above the middle of its group a pair has doubt 1/2; from there on it is called doubtful. This ranks
pairs for people to look at. It is no probability, and no verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sempairs.pairs.audit.centres import margins
from sempairs.pairs.audit.similarity import cosine
from sempairs.pairs.audit.spaces import spaces
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.index import Int, Labels
from sempairs.pairs.select import CORRUPTED

THRESHOLD = 0.5
BIAS, LIMIT, SURPRISE = 3.0, 3.0, 3.0
SMALL_CLASS = 20
NAMES = ("name", "icon", "title", "caption", "label")
Real = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Doubts:
    """rows: the distinct pairs, the most doubtful first; doubt: theirs; evidence: short phrases for each.

    by_similarity: the doubt that similarity alone would give, (P,) in the order of `rows`; None without it.
    """

    rows: Int
    doubt: Real
    evidence: list[list[str]] = field(repr=False)
    by_similarity: Real | None

    @property
    def count(self) -> int:
        """Pairs whose doubt is at least `THRESHOLD`."""
        return int((self.doubt >= THRESHOLD).sum())


def doubts(subject: Subject, vectors: Vectors | None) -> Doubts:
    """vectors: (n, D) by item, unit length; None where there are none."""
    rows = subject.distinct
    evidence: list[list[str]] = [[] for _ in rows]
    score = np.zeros(len(rows))
    by_similarity = None
    if vectors is not None:
        score = _by_similarity(subject, centred(vectors), evidence)
        by_similarity = _sigmoid(score - BIAS)
    score = score + _by_labels(subject, evidence)
    doubt = _sigmoid(score - BIAS)
    keys = [subject.key(int(row)) for row in rows]
    order = np.array(sorted(range(len(rows)), key=lambda i: (-doubt[i], keys[i])), dtype=np.int64)
    alone = None if by_similarity is None else by_similarity[order]
    return Doubts(rows[order], doubt[order], [evidence[i] for i in order], alone)


def centred(vectors: Vectors) -> Vectors:
    """Less their mean and of unit length again, (n, D); what equals the mean is left at 0."""
    apart = vectors - vectors.mean(axis=0)
    length = np.linalg.norm(apart, axis=1, keepdims=True)
    unit: Vectors = np.where(length > 1e-6, apart / np.maximum(length, 1e-6), 0)
    return unit


def standard(values: Real, group: Int) -> Real:
    """Robust standard scores within each group, (P,), beyond `LIMIT` by logarithm; NaN where `values` is."""
    found = np.full(len(values), np.nan)
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        members = members[~np.isnan(values[members])]
        if len(members):
            apart = values[members] - np.median(values[members])
            spread = 1.4826 * np.median(np.abs(apart))
            # More than half of the values equal: those that differ stand out, by no scale of their own.
            found[members] = apart / spread if spread > 1e-6 else np.sign(np.round(apart, 6)) * LIMIT
    beyond = np.maximum(np.abs(found) - LIMIT, 0)
    tamed: Real = np.sign(found) * (np.abs(found) - beyond + np.log1p(beyond))
    return tamed


def _by_similarity(subject: Subject, vectors: Vectors, evidence: list[list[str]]) -> Real:
    rows = subject.distinct
    similarity, margin = np.zeros(len(rows)), np.zeros(len(rows))
    other, side = np.zeros((2, len(rows)), dtype=np.int64)
    for part, judged in spaces(subject, vectors):
        of_part = replace(subject, distinct=rows[part])
        similarity[part] = cosine(of_part, judged)
        margin[part], other[part], side[part] = margins(of_part, judged)
    claimed = [_claimed(subject, subject.relation[row]) for row in rows]
    names, relation = np.unique(claimed, return_inverse=True)
    pair = standard(-similarity, _groups(relation, subject.category.codes[rows]))
    fit = standard(margin, relation)
    titles = _titles(subject)
    for kind in range(len(names)):
        members = np.flatnonzero(relation == kind)
        greater = _share_greater(similarity[members])
        for i, share in zip(members, greater, strict=True):
            if pair[i] > 1:
                evidence[i].append(f"less alike than {_percent(share)} of pairs")
            if margin[i] > 0 and fit[i] > 1:
                image, own = ("anchor", "partner")[side[i]], subject.meaning.codes[rows[i]]
                evidence[i].append(f"{image} is nearer to “{titles[other[i]]}” than to “{titles[own]}”")
    both = np.where(np.isnan(fit), pair, (pair + np.nan_to_num(fit)) / np.sqrt(2))
    return np.asarray(both, dtype=np.float64)


def _by_labels(subject: Subject, evidence: list[list[str]]) -> Real:
    rows = subject.distinct
    anchor, partner = subject.anchor[rows], subject.partner[rows]
    score = np.zeros(len(rows))
    for column, what in (("category", "categories"), ("concept", "concepts")):
        labels = subject.pairs.index.labels(column)
        called = (column == "concept" and subject.text("name")) or labels.texts()
        a, b = labels.codes[anchor], labels.codes[partner]
        differs = ((a != b) & (a >= 0) & (b >= 0)).astype(float)
        surprise = _surprise(differs)
        score += surprise
        for i in np.flatnonzero(surprise > 0.5):
            evidence[i].append(f"{what} differ: “{called[anchor[i]]}” and “{called[partner[i]]}”")
    for column in NAMES:
        texts = subject.text(column)
        if texts is None or not _varies(texts, subject.meaning_of):
            continue
        words = [frozenset(_words(text)) if text else frozenset() for text in texts]
        apart = np.array([_apart(words[a], words[b]) for a, b in zip(anchor, partner, strict=True)])
        surprise = _surprise(apart)
        score += surprise
        for i in np.flatnonzero(surprise > 0.5):
            evidence[i].append(f"{column}: “{texts[anchor[i]]}” and “{texts[partner[i]]}”")
    return score


def _claimed(subject: Subject, relation: str) -> str:
    """Pairs corrupted on purpose are judged among those they pass for."""
    return subject.pairs.config.label if relation == CORRUPTED else relation


def _groups(relation: Int, category: Int) -> Int:
    """Relation and class, or the relation alone where the class is unknown or has few pairs."""
    base = int(category.max(initial=-1)) + 2
    group = relation * base + category + 1
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    return np.where((counts[inverse] >= SMALL_CLASS) & (category >= 0), group, relation * base)


def _surprise(apart: Real) -> Real:
    """-ln(share of pairs that are at least as far apart), at most `SURPRISE`; 0 for those not apart."""
    share = 1 - _share_below(apart)
    found: Real = np.where(apart > 0, np.minimum(-np.log(share), SURPRISE), 0.0)
    return found


def _share_below(values: Real) -> Real:
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, side="left") / len(values)


def _share_greater(values: Real) -> Real:
    """The share of values that are greater than each."""
    return 1 - np.searchsorted(np.sort(values), values, side="right") / len(values)


def _varies(texts: list[str | None], meaning: Labels) -> bool:
    """Whether images of one meaning are called differently: else the name says what the meaning says."""
    seen: dict[int, str] = {}
    for code, text in zip(meaning.codes, texts, strict=True):
        if code >= 0 and text and seen.setdefault(int(code), text) != text:
            return True
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("_", " "))


def _apart(one: frozenset[str], other: frozenset[str]) -> float:
    return 1 - len(one & other) / len(one | other) if one and other else 0.0


def _titles(subject: Subject) -> list[str]:
    """What each meaning is called: the name that its images have, if it is one, else the meaning itself."""
    names: list[set[str]] = [set() for _ in subject.meaning_of.names]
    for code, text in zip(subject.meaning_of.codes, subject.text("name") or (), strict=False):
        if code >= 0 and text:
            names[code].add(text)
    return [
        min(given) if len(given) == 1 else meaning
        for given, meaning in zip(names, subject.meaning_of.names, strict=True)
    ]


def _sigmoid(values: Real) -> Real:
    found: Real = 1 / (1 + np.exp(-values))
    return found


def _percent(share: float) -> str:
    return f"{100 * min(share, 0.999):.1f}%"
