"""Whether an image fits the meaning its pair claims, or another one better: centres of unit vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.index import Int

LIMIT = 5000
STREAM = "audit-centres"
_CHUNK = 1024
_NOTHING = 1e-4  # a sum of unit vectors this short has no direction
_LEFT_OUT = -2.0  # below every cosine

Real = NDArray[np.float64]
Vectors = NDArray[np.float32]


class Margins(NamedTuple):
    """For each distinct pair, of its worse fitting image, (P,) each.

    margin: cosine with the nearest other centre less that with the centre of the claimed meaning; NaN where
    no other image has that meaning, or there is no other. other: the other centre's meaning, a code.
    side: 0 where the image is the anchor, 1 for the partner.
    """

    margin: Real
    other: Int
    side: Int


def margins(subject: Subject, vectors: Vectors) -> Margins:
    """vectors: (n, D) by item, unit length.

    An image never counts towards a centre it is compared with, nor does its mate towards the claimed one. Of
    more than 5,000 meanings a keyed sample of 5,000 are the others.
    """
    meaning, rows = subject.meaning_of, subject.distinct
    known = meaning.codes >= 0
    sums = np.zeros((len(meaning.names), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, meaning.codes[known], vectors[known])
    used = np.unique(meaning.codes[known])
    if len(used) > LIMIT:
        draw = keyed.text_key(0, STREAM, [meaning.names[code] for code in used])
        used = np.sort(used[np.argsort(draw, kind="stable")[:LIMIT]])
    sides = subject.anchor[rows], subject.partner[rows]
    found, other = np.full((2, len(rows)), np.nan), np.zeros((2, len(rows)), dtype=np.int64)
    for side in range(2):
        for start in range(0, len(rows), _CHUNK):
            at = slice(start, start + _CHUNK)
            image, mate, claim = sides[side][at], sides[1 - side][at], subject.meaning.codes[rows[at]]
            own = _own(sums, vectors, meaning.codes, image, mate, claim)
            best, code = _others(sums, used, vectors, meaning.codes, image, claim)
            found[side, at], other[side, at] = best - own, code
    worse = np.where(np.isnan(found), -np.inf, found).argmax(axis=0)
    pair = np.arange(len(rows))
    return Margins(found[worse, pair], other[worse, pair], worse.astype(np.int64))


def _own(sums: Vectors, vectors: Vectors, codes: Int, image: Int, mate: Int, claim: Int) -> Vectors:
    """Cosine of each image with the centre of the claimed meaning, without the pair's own images, (B,)."""
    x = vectors[image]
    rest = sums[claim] - x * (codes[image] == claim)[:, None]
    rest -= vectors[mate] * ((codes[mate] == claim) & (mate != image))[:, None]
    return _cosine(x, rest, np.nan)


def _others(
    sums: Vectors, used: Int, vectors: Vectors, codes: Int, image: Int, claim: Int
) -> tuple[Vectors, Int]:
    """Cosine with the nearest centre of another meaning, NaN without one, and that meaning, (B,) each."""
    x, line = vectors[image], np.arange(len(image))
    cosines = x @ _unit(sums[used]).T
    place = np.full(len(sums) + 1, -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    label = codes[image]
    elsewhere = (label >= 0) & (label != claim) & (place[label] >= 0)
    without = _cosine(x[elsewhere], sums[label[elsewhere]] - x[elsewhere], _LEFT_OUT)
    cosines[line[elsewhere], place[label[elsewhere]]] = without
    claimed = (claim >= 0) & (place[claim] >= 0)
    cosines[line[claimed], place[claim[claimed]]] = _LEFT_OUT
    nearest = cosines.argmax(axis=1)
    best = cosines[line, nearest]
    return np.where(best > _LEFT_OUT / 2 - 0.5, best, np.nan).astype(np.float32), used[nearest]


def _cosine(unit: Vectors, sums: Vectors, otherwise: float) -> Vectors:
    length = np.linalg.norm(sums, axis=1)
    dot = (unit * sums).sum(axis=1)
    found: Vectors = np.where(length > _NOTHING, dot / np.maximum(length, _NOTHING), otherwise)
    return found.astype(np.float32)


def _unit(vectors: Vectors) -> Vectors:
    found: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _NOTHING)
    return found
