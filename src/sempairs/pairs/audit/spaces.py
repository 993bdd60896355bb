"""A space for each pair in which images of one meaning lie close, learned from the other meanings alone.

Five folds by meaning. For the pairs of a fold the scatter within the meanings of the other four is made round
(linear discriminant analysis without the labels of the fold; Hastie, Tibshirani, Friedman, Elements of
Statistical Learning, 4.3), shrunk by a tenth towards a multiple of the identity. So no pair, nor any other
image of its meaning, has a part in the measure it is judged by, as in confident learning (Northcutt et al.
2021, arXiv:1911.00068); what differs within every meaning, style above all, counts less.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.index import Int

FOLDS = 5
#: Main directions of the images that are kept, and what is taken of the identity.
WIDTH, SHRUNK = 256, 0.1
#: Fewer differences from a meaning's mean than this many times the width say nothing of their scatter.
ENOUGH = 3
STREAM = "audit-folds"

Vectors = NDArray[np.float32]


def spaces(subject: Subject, vectors: Vectors) -> Iterator[tuple[Int, Vectors]]:
    """Positions in `subject.distinct`, and vectors (n, D') of all images, of unit length, to judge these
    pairs by; together all pairs, once each.

    vectors: (n, D), of unit length. Where the meanings hold too few images, all pairs and `vectors` as given.
    """
    meaning = subject.meaning_of
    known = np.flatnonzero(meaning.codes >= 0)
    counts = np.bincount(meaning.codes[known], minlength=len(meaning.names))
    used = known[counts[meaning.codes[known]] >= 2]
    freedom = len(used) - len(np.unique(meaning.codes[used]))
    pairs = np.arange(len(subject.distinct))
    width = min(WIDTH, vectors.shape[1])
    if freedom < ENOUGH * width * FOLDS / (FOLDS - 1) or (counts >= 2).sum() < 2 * FOLDS:
        yield pairs, vectors
        return
    reduced = _main(vectors, width)
    draw = keyed.text_key(0, STREAM, list(meaning.names))
    fold_of = np.argsort(np.argsort(draw, kind="stable")) % FOLDS
    claimed = meaning.codes[subject.anchor[subject.distinct]]
    sums = np.zeros((len(meaning.names), width), dtype=np.float64)
    np.add.at(sums, meaning.codes[used], reduced[used])
    apart = reduced[used] - (sums[meaning.codes[used]] / counts[meaning.codes[used]][:, None])
    for fold in range(FOLDS):
        others = apart[fold_of[meaning.codes[used]] != fold]
        scatter = others.T @ others / len(others)
        scatter = (1 - SHRUNK) * scatter + SHRUNK * np.trace(scatter) / width * np.eye(width)
        spread, axes = np.linalg.eigh(scatter)
        round_ = reduced @ (axes / np.sqrt(spread)).astype(np.float32)
        length = np.linalg.norm(round_, axis=1, keepdims=True)
        yield pairs[fold_of[claimed] == fold], (round_ / np.maximum(length, 1e-6)).astype(np.float32)


def _main(vectors: Vectors, width: int) -> Vectors:
    """The main directions of the images, (n, width)."""
    if vectors.shape[1] <= width:
        return vectors
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    found: Vectors = vectors @ axes[:, -width:]
    return found
