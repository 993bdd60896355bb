"""What one run is shown, epoch by epoch.

All arms derive from one semantic set: occurrence i has the same meaning, and the same key of every draw, in
each of them. An epoch is N anchors, once each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import stable_hash
from sempairs.pairs import fingerprint, modifiers
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex, Int
from sempairs.pairs.select import Selection, select

STREAM = "pairing"
_PIECE = 1 << 14  # pairs drawn at once
PARTNER, MIX, SIDE = range(3)


class EpochPairs(NamedTuple):
    """The pairs of an epoch, (N,) each: catalogue rows, and the occurrence, which keys every draw."""

    anchor: Int
    partner: Int
    occurrence: Int


@dataclass(frozen=True, eq=False)
class PairPlan:
    """The pairs of every epoch, a pure function of catalogue, configuration and `draw_seed`.

    meaning: (N,) by occurrence: numbers that are equal where two pairs of the semantic set share concept or
    category, as the relation has it. images: sorted catalogue rows that can be shown.
    """

    catalog: Catalog
    config: PairsConfig
    draw_seed: int
    meaning: Int
    images: Int
    selection: Selection = field(repr=False)
    rows: Int = field(repr=False)  # catalogue row of each item of the selection

    @property
    def n(self) -> int:
        """Pairs an epoch."""
        return len(self.selection)

    def epoch(self, e: int, progress: float = 1.0) -> EpochPairs:
        """The pairs of epoch e >= 0, in occurrence order; independent of what was asked before.

        progress: the share of the steps taken, in [0, 1], where the recipe lets pairs change with it.
        """
        return self.draw(e, np.arange(self.n), progress)

    def draw(self, e: int, occurrence: Int, progress: float) -> EpochPairs:
        """The pairs of epoch e at some occurrences (B,), in their order. Each is a pure function of epoch,
        occurrence and progress."""
        chosen = self.selection
        anchor, partner = chosen.anchor[occurrence], chosen.partner[occurrence]
        alone = anchor  # shown twice where the pair is not semantic
        if self.config.arm == "image_matched":
            # Each pair shows one of its images in one epoch and the other in the next, twice augmented. So an
            # epoch has the classes of the semantic one, and two epochs show every image as often as there.
            draw = keyed.uniform(self.draw_seed, STREAM, occurrence=occurrence, slot=SIDE)[:, 0]
            anchor = np.where((e + (draw < 0.5)) % 2 == 1, chosen.true_partner[occurrence], anchor)
        if self.config.arm != "semantic":
            partner = anchor
        elif chosen.draws is not None:
            partner = self._drawn(e, occurrence, progress)
        if self.config.phased is not None and self.config.arm != "augmented":
            semantic = self._coins(e, occurrence) < self.config.phased.at(progress)
            anchor, partner = np.where(semantic, anchor, alone), np.where(semantic, partner, alone)
        return EpochPairs(self.rows[anchor], self.rows[partner], occurrence)

    def further(self, e: int, count: int, *, occurrence: Int | None = None, progress: float = 1.0) -> Int:
        """(B, count) catalogue rows: partners 1 to `count` of each anchor in epoch e, beside that of `draw`;
        of all N anchors, or of those at `occurrence`.

        Partners of one anchor are different images as long as it has so many; then they come again, each as
        often as can be. A pair that is not drawn (of two views of one image, or a false one) shows the same
        partner each time. Raises: UserError for fixed pairs, where an anchor has one partner.
        """
        if self.config.mode != "redrawn":
            raise UserError("pairs.mode", "must be redrawn for several partners an anchor", self.config.mode)
        chosen = self.selection
        occurrence = np.arange(self.n) if occurrence is None else occurrence
        if self.config.arm != "semantic" or chosen.draws is None:
            return np.repeat(self.draw(e, occurrence, progress).partner[:, None], count, axis=1)
        pieces = range(0, len(occurrence), _PIECE)
        return np.concatenate([self._several(e, occurrence[i : i + _PIECE], count, progress) for i in pieces])

    def _several(self, e: int, occurrence: Int, count: int, progress: float) -> Int:
        """`further` of the anchors at `occurrence` (B,), of a redrawn pool."""
        chosen, draws, seed = self.selection, self.selection.draws, self.draw_seed
        assert draws is not None
        anchor, given = chosen.anchor[occurrence], chosen.partner[occurrence]
        free = np.flatnonzero(given < 0)
        keys, high = occurrence[free], self._open(anchor[free], progress)
        out = np.repeat(given[:, None], count, axis=1)
        numbers = np.empty((len(free), 0), dtype=np.int64)  # drawn so far, of all that each anchor has
        for j in range(count + 1):
            turn = j % high  # how many were drawn since all had been
            k = keyed.integers(
                seed, STREAM, epoch=e, occurrence=keys, slot=PARTNER, operation=j, high=high - turn
            )
            # Number k of those that are left in this turn: one up for each that is not, the least first.
            gone = np.where(np.arange(j) >= (j - turn)[:, None], numbers, high[:, None])
            for column in np.sort(gone, axis=1).T:
                k = k + (column <= k)
            numbers = np.concatenate([numbers, k[:, None]], axis=1)
            if j:
                partner = draws.pick(anchor[free], k)
                share = self._share(progress)
                if share is not None:
                    coin = keyed.uniform(seed, STREAM, epoch=e, occurrence=keys, slot=MIX, operation=j)[:, 0]
                    partner = np.where(coin < share, partner, anchor[free])
                out[free, j - 1] = partner
        return np.asarray(self.rows[out], dtype=np.int64)

    def _share(self, progress: float) -> float | None:
        """The share of semantic pairs of a redrawn pool; None for all."""
        if self.config.phased is not None:
            return self.config.phased.at(progress)
        return self.selection.config.mixed_always

    def _coins(self, e: int, occurrence: Int) -> NDArray[np.float64]:
        """(B,) A pair is semantic while the share of semantic pairs lies above its coin: one for all epochs
        for fixed pairs, one an epoch for redrawn ones."""
        if self.selection.draws is None:
            return modifiers.coins(occurrence, seed=self.selection.config.seed)
        return keyed.uniform(self.draw_seed, STREAM, epoch=e, occurrence=occurrence, slot=MIX)[:, 0]

    def _open(self, anchor: Int, progress: float) -> Int:
        """(B,) how many candidates of each anchor are drawn from: all, or the first of those in order."""
        draws = self.selection.draws
        assert draws is not None
        count = draws.count[anchor].astype(np.int64)
        for choice in self.config.choices:
            share = choice.open.at(progress)
            if share < 1:
                count = np.clip(np.ceil(share * count - 1e-9).astype(np.int64), 1, count)
        return count

    def _drawn(self, e: int, occurrence: Int, progress: float) -> Int:
        """Partners of a redrawn pool: uniform over the valid images, not first over domains or leaves."""
        chosen, draws, always = self.selection, self.selection.draws, self.selection.config.mixed_always
        assert draws is not None
        partner = chosen.partner[occurrence]
        for start in range(0, len(partner), _PIECE):
            free = start + np.flatnonzero(partner[start : start + _PIECE] < 0)
            keys, anchor = occurrence[free], chosen.anchor[occurrence[free]]
            high = self._open(anchor, progress)
            k = keyed.integers(self.draw_seed, STREAM, epoch=e, occurrence=keys, slot=PARTNER, high=high)
            partner[free] = draws.pick(anchor, k)
            if always is not None and self.config.phased is None:
                partner[free] = np.where(self._coins(e, keys) < always, partner[free], anchor)
        return partner

    @cached_property
    def manifest_hash(self) -> str:
        """The hash of this arm's pairs (or pool), as in a saved `PairSet`."""
        return fingerprint.manifest_hash(self.selection, self.config.arm)

    @cached_property
    def semantic_hash(self) -> str:
        """The manifest hash of the semantic set this arm derives from: equal in all arms of one set."""
        if self.config.arm == "semantic":
            return self.manifest_hash
        return fingerprint.manifest_hash(self.selection, "semantic")

    @cached_property
    def anchor_hash(self) -> str:
        """A hash of the ids of the anchors of two epochs, in whatever order."""
        items = [self.selection.anchor, self.selection.anchor]
        if self.config.arm == "image_matched":
            items[1] = self.selection.true_partner
        ids, both = fingerprint.Ids(self.selection.index), np.concatenate(items)
        both.sort()
        return fingerprint.coded_hash({"anchors": 1}, (both, ids))

    def class_histogram(self) -> dict[str, int]:
        """How many pairs an epoch has of each class, the same in every arm: the finest category that both
        images of the semantic pair share, or the concept where no category is known, or ""."""
        category = self.selection.category
        found = Counter(category.counts())
        found[""] += int((~category.known).sum())
        return {name: count for name, count in sorted(found.items()) if count}

    @cached_property
    def class_histogram_hash(self) -> str:
        return stable_hash(self.class_histogram())


def plan_pairs(catalog: Catalog, config: PairsConfig, *, draw_seed: int = 0) -> PairPlan:
    """Plan the pairs of one arm over the images of `catalog`.

    draw_seed: of partners drawn anew and of the image-matched anchors; which set it is follows `config.seed`.
    Raises: UserError if there is no pair, or a column, list or class that is needed is not there.
    """
    index = ImageIndex(catalog)
    selection = select(index, config)
    # A pool from a folder has an index of its own images only.
    rows = index.rows if selection.index is index else catalog.rows_of(selection.index.ids)
    meaning = _numbered(selection.meaning.codes)
    images = np.sort(rows[selection.shown(config.arm)])
    return PairPlan(catalog, config, draw_seed, meaning, images, selection, rows)


def _numbered(codes: Int) -> Int:
    """The codes (N,), each at least -1, as numbers from 0 without gaps, in the same order."""
    present = np.bincount(codes + 1, minlength=1) > 0
    return np.asarray((np.cumsum(present) - 1)[codes + 1], dtype=np.int64)
