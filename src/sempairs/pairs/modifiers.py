"""False pairs and missing pairs, on purpose: `corrupted(p)` and `mixed(p)`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.errors import UserError
from sempairs.pairs.draw import GroupDraws
from sempairs.pairs.index import ImageIndex, Int, Labels, Mask, components, runs
from sempairs.pairs.matching import CORRUPT, FALSE_PARTNER, MIX, STREAM, TRADE, exchange


def corrupt(
    index: ImageIndex, anchor: Int, partner: Int, category: Labels, *, share: float, seed: int
) -> tuple[Int, Mask]:
    """Gives exactly round(share · N) anchors, chosen by key, a partner of another category.

    The false partner has the anchor's split, and neither its category nor its concept nor its picture. Fixed
    pairs trade partners among themselves, so the images shown stay the same, each as often as before; where
    one category is too common for that, and for redrawn pairs, it is drawn from all images of the set.
    anchor, partner: (N,) items, partner -1 where it is drawn anew every epoch. category: by item, the finest
    one that true pairs share.
    Returns: partners (N,), and which are false (N,).
    Raises: UserError if the images have no category, or too few anchors have an image of another one.
    """
    wanted = round(share * len(anchor))
    partner, false = partner.copy(), np.zeros(len(anchor), dtype=bool)
    if not category.known.any():
        raise UserError("pairs.corrupted", "needs a category for the images, and the catalogue has none")
    if not wanted:
        return partner, false
    alike = components(len(index), index.picture, index.labels("concept").codes)
    shown = np.zeros(len(index), dtype=bool)
    shown[anchor] = shown[partner[partner >= 0]] = True
    others = GroupDraws(np.where(shown & category.known, index.split + 1, -1), category.codes, alike)
    possible = np.flatnonzero(others.count[anchor] > 0)
    if len(possible) < wanted:
        raise UserError(
            "pairs.corrupted",
            f"asks for {wanted} pairs across categories, but only {len(possible)} anchors have an image of "
            "another category in their split",
            share,
            "lower it, or give images of more categories",
        )
    draw = keyed.uniform(seed, STREAM, occurrence=possible, slot=CORRUPT)[:, 0]
    chosen = np.sort(possible[np.argsort(draw, kind="stable")[:wanted]])

    def true(a: Int, b: Int) -> Mask:
        barred = (index.split[a] != index.split[b]) | (category.codes[b] < 0)
        same: Mask = barred | (category.codes[a] == category.codes[b]) | (alike[a] == alike[b])
        return same

    a, b = anchor[chosen], partner[chosen]
    left = np.arange(wanted)
    if (b >= 0).all():
        b = b[_other_category(index.split[a], category.codes[a])]
        b = exchange(a, b, index.split[a], true, seed=seed, slot=TRADE, turn=False)[1]
        left = np.flatnonzero(true(a, b))
    high = others.count[a[left]]
    k = keyed.integers(seed, STREAM, high=high, occurrence=chosen[left], slot=FALSE_PARTNER)
    b[left] = others.pick(a[left], k)
    partner[chosen], false[chosen] = b, True
    return partner, false


def _other_category(split: Int, category: Int) -> Int:
    """For each of K pairs another one of the same split, a permutation (K,); of another category wherever
    no category has more than half of the split's pairs, and for as many as possible in any case."""
    order = np.lexsort((category, split))
    start, n = runs(split[order])
    sizes = runs(split[order], category[order])[1]
    largest = np.zeros(len(order), dtype=np.int64)
    np.maximum.at(largest, start, sizes)
    other = np.empty_like(order)
    other[order] = order[start + (np.arange(len(order)) - start + largest[start]) % n]
    return other


def kept(n: int, *, share: float, seed: int) -> Mask:
    """Which of n fixed pairs stay semantic under `mixed(share)`; those a lower share keeps are among them."""
    return np.asarray(coins(np.arange(n), seed=seed) < share)


def coins(occurrence: Int, *, seed: int) -> NDArray[np.float64]:
    """(B,) draws in [0, 1) of fixed pairs: one is semantic while the share of semantic pairs lies above."""
    return keyed.uniform(seed, STREAM, occurrence=occurrence, slot=MIX)[:, 0]
