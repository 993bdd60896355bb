"""As many disjoint pairs as the rule allows: no image in two of them.

A group whose largest block has L of its n images holds at most min(n // 2, n - L) pairs across blocks. Sorted
by block, with the surplus of the largest one left out, position j and position j + half differ in block: that
bound is reached. Such pairs follow the order of the blocks, so pairs of one group then exchange partners at
random, never raising the number of pairs that show one picture twice. Any such pairs left are dissolved and
their images paired again where possible.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.pairs.index import Int, Mask, runs

STREAM = "pairs"
# Slots of the stream, one for each thing that is drawn: what is drawn for one never moves another.
EXCHANGE, SIDE, LIMIT, MIX, CORRUPT, TRADE, FALSE_PARTNER = range(7)
# After this many exchanges a pair of 100,000 of a group is as good as random; small groups need fewer.
ROUNDS = 16

Unfit = Callable[[Int, Int], Mask]


def disjoint_pairs(
    group: Int, block: Int, picture: Int, key: NDArray[np.uint64], *, seed: int
) -> tuple[Int, Int]:
    """Anchors and partners, (N,) each, sorted by anchor; which of the two is the anchor is drawn by key.

    group, block, picture: (n,) numbers; a pair has one group, two blocks, two pictures, and group -1 is no
    group. key: (n,) random numbers that belong to the images. N is the largest possible where no picture
    occurs in two blocks of a group; in any case no valid pair is left over.
    """
    left, right = _across_blocks(group, block, key)

    def unfit(a: Int, b: Int) -> Mask:
        alike: Mask = (block[a] == block[b]) | (picture[a] == picture[b])
        return alike

    left, right = exchange(left, right, group[left], unfit, seed=seed, slot=EXCHANGE, turn=True)
    bad = unfit(left, right)
    if bad.any():
        broken = np.unique(group[left[bad]])
        left, right = left[~bad], right[~bad]
        free = np.setdiff1d(np.flatnonzero(np.isin(group, broken)), np.concatenate([left, right]))
        more = [_one_by_one(part, unfit) for part in _by_group(free, group, key)]
        left = np.concatenate([left, *(a for a, _ in more)])
        right = np.concatenate([right, *(b for _, b in more)])
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.argsort(low)
    low, high = low[order], high[order]
    turned = keyed.uniform(seed, STREAM, occurrence=np.arange(len(low)), slot=SIDE)[:, 0] < 0.5
    anchor, partner = np.where(turned, high, low), np.where(turned, low, high)
    order = np.argsort(anchor)
    return anchor[order], partner[order]


def _across_blocks(group: Int, block: Int, key: NDArray[np.uint64]) -> tuple[Int, Int]:
    """The largest number of pairs of one group and two blocks."""
    member = np.flatnonzero(group >= 0)
    order = member[np.lexsort((key[member], block[member], group[member]))]
    start, size = runs(group[order], block[order])
    # The largest block first, the others in an order of their own in every group.
    order = order[np.lexsort((block[order], key[order][start], -size, group[order]))]
    start, n = runs(group[order])
    largest = runs(group[order], block[order])[1][start]
    half = np.minimum(n // 2, n - largest)
    place = np.arange(len(order)) - start - (n - 2 * half)
    left = np.flatnonzero((place >= 0) & (place < half))
    return order[left], order[left + half[left]]


def exchange(
    left: Int, right: Int, group: Int, unfit: Unfit, *, seed: int, slot: int, turn: bool
) -> tuple[Int, Int]:
    """Pairs of one group exchange partners at random, round by round, so that no exchange adds an unfit pair.

    left, right, group: (N,). turn: whether an image may change from left to right.
    """
    left, right = left.copy(), right.copy()
    if not len(left) or (runs(np.sort(group))[1] < 2).all():
        return left, right
    pairs = np.arange(len(left))
    for round_ in range(ROUNDS):
        draw = keyed.uniform(seed, STREAM, epoch=round_, occurrence=pairs, slot=slot, n=2)
        order = np.lexsort((draw[:, 0], group))
        start = runs(group[order])[0]
        even = (pairs - start) % 2 == 0
        meets = np.flatnonzero(even[:-1] & (start[1:] == start[:-1]))
        i, j = order[meets], order[meets + 1]
        a, b, c, d = left[i], right[i], left[j], right[j]
        # (a, b), (c, d) become (a, d), (c, b) or, turned, (a, c), (b, d).
        turned = (draw[i, 1] < 0.5) if turn else np.zeros(len(i), dtype=bool)
        new_i, new_left, new_right = np.where(turned, c, d), np.where(turned, b, c), np.where(turned, d, b)
        before = unfit(a, b).astype(int) + unfit(c, d)
        good = unfit(a, new_i).astype(int) + unfit(new_left, new_right) <= before
        right[i[good]] = new_i[good]
        left[j[good]], right[j[good]] = new_left[good], new_right[good]
    return left, right


def _by_group(items: Int, group: Int, key: NDArray[np.uint64]) -> list[Int]:
    order = items[np.lexsort((key[items], group[items]))]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _one_by_one(free: Int, unfit: Unfit) -> tuple[Int, Int]:
    """Pairs each image with the first free one that fits."""
    left, right = [], []
    while len(free) > 1:
        first, free = free[:1], free[1:]
        fits = np.flatnonzero(~unfit(np.broadcast_to(first, free.shape), free))
        if len(fits):
            left.append(first[0])
            right.append(free[fits[0]])
            free = np.delete(free, fits[0])
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)
