"""Partners drawn uniformly, for millions of anchors at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sempairs.pairs.index import Int, Whole, runs, small_int


class Draws(Protocol):
    """The valid partners of each of n items, numbered: item i has `count[i]` of them."""

    count: Int

    def pick(self, items: Int, k: Int) -> Int:
        """Partner number k[j] of items[j], (B,); 0 <= k < count[items]."""
        ...


class GroupDraws:
    """Partners by rule: the same group, another block and another picture.

    group, block, picture: (n,) numbers; an item with group -1 has no partner. `block` may be `picture`.
    Nothing is listed: items are sorted by group, block and picture, and the k-th valid partner is found by
    stepping over what is left out, in memory O(n) and time O(log n) a draw.
    """

    def __init__(self, group: Int, block: Int, picture: Int) -> None:
        most = max(len(group), int(group.max(initial=0)), int(block.max(initial=0)))
        small = small_int(most)
        member = np.flatnonzero(group >= 0).astype(small)
        # A picture is known by its first item within the group: images outside must not change the order.
        alike = member[np.lexsort((picture[member], group[member]))]
        known = np.full(len(group), -1, dtype=small)
        known[alike] = alike[runs(group[alike], picture[alike])[0]]
        own_block = block is picture
        if own_block:
            block = known
        order = member[np.lexsort((known[member], block[member], group[member]))]
        del alike, member
        g, b, p = group[order].astype(small), block[order].astype(small), known[order]
        del known
        self._order = order
        self._place = np.full(len(group), -1, dtype=small)
        self._place[order] = np.arange(len(order))
        self._group, sizes = (of.astype(small) for of in runs(g))
        self._block, self._block_size = (of.astype(small) for of in runs(g, b))
        valid = sizes - self._block_size
        # Copies of a picture lie in its own block, if the block is the picture.
        self._elsewhere: Int | None = None if own_block else self._find_copies(g, b, p, small)
        self.count = np.zeros(len(group), dtype=small)
        self.count[order] = valid if self._elsewhere is None else valid - self._elsewhere

    def _find_copies(self, g: Int, b: Int, p: Int, small: Whole) -> Int | None:
        """How many copies of each image, in sorted order, lie in other blocks; None where none does."""
        # Positions sorted by group and picture. Those of one picture ascend, so the part that lies in the
        # anchor's own block, which is left out anyway, is one stretch of them.
        same = np.lexsort((p, g)).astype(small)
        stretch = np.empty(len(same), dtype=small)
        stretch[same] = np.arange(len(same))
        own_start, own_size = (of.astype(small) for of in runs(g, b, p))
        start, length = (of.astype(small) for of in runs(g[same], p[same]))
        elsewhere: Int = length[stretch] - own_size
        if not elsewhere.any():
            return None
        self._same, self._first, self._own_size = same, start[stretch], own_size
        self._own = stretch[own_start] - self._first
        return elsewhere

    def pick(self, items: Int, k: Int) -> Int:
        at = self._place[items]
        place = k + self._before(at, k)
        # `place` counts within the group without the anchor's block; step over the block.
        block = self._block[at] - self._group[at]
        place += np.where(place >= block, self._block_size[at], 0)
        return self._order[self._group[at] + place].astype(np.int64)

    def _before(self, at: Int, k: Int) -> Int:
        """How many copies of the anchor's picture, in other blocks, lie before its k-th valid partner.

        Copy t at place e[t] lies before it if and only if e[t] - t <= k; e[t] - t never falls, so bisect.
        """
        low = np.zeros(len(at), dtype=np.int64)
        if self._elsewhere is None:
            return low
        some = np.flatnonzero(self._elsewhere[at] > 0)
        at, k = at[some], k[some]
        lo, hi = np.zeros(len(at), dtype=np.int64), self._elsewhere[at].copy()
        while (lo < hi).any():
            middle = (lo + hi) // 2
            open_ = lo < hi
            # Where the search is over, `middle` may be one past the last copy.
            t = np.minimum(middle, self._elsewhere[at] - 1)
            before = open_ & (self._copy(at, t) - t <= k)
            lo = np.where(before, middle + 1, lo)
            hi = np.where(open_ & ~before, middle, hi)
        low[some] = lo
        return low

    def _copy(self, at: Int, t: Int) -> Int:
        """Place of copy t of the anchor's picture, within the group without the anchor's block."""
        nth = self._first[at] + t + np.where(t >= self._own[at], self._own_size[at], 0)
        position = self._same[nth]
        block: Int = np.where(position >= self._block[at], self._block_size[at], 0)
        place: Int = position - self._group[at] - block
        return place


class RankedDraws:
    """The candidates of each of n items in a given order. item, candidate: (E,), sorted by item and then by
    that order."""

    def __init__(self, n: int, item: Int, candidate: Int) -> None:
        self.count = np.bincount(item, minlength=n).astype(np.int64)
        self._start = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        self._candidate = candidate

    def pick(self, items: Int, k: Int) -> Int:
        found: Int = self._candidate[self._start[items] + k].astype(np.int64)
        return found


class ListDraws:
    """Partners by list: those an item is listed with. left, right: (E,) items of each pair, listed once; an
    item that is listed with itself is a partner of its own."""

    def __init__(self, n: int, left: Int, right: Int) -> None:
        apart = left != right
        source, target = np.concatenate([left, right[apart]]), np.concatenate([right, left[apart]])
        order = np.lexsort((target, source))
        self.count = np.bincount(source, minlength=n).astype(np.int64)
        self._start = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        self._partner = target[order]

    def pick(self, items: Int, k: Int) -> Int:
        found: Int = self._partner[self._start[items] + k]
        return found
