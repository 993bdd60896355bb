"""The pairs that audits and curation speak of, and the random sample of them that people review.

A pair has one canonical key, the smaller image id first, whatever its row or direction. A redrawn pool has no
pairs of its own until they are drawn: what is audited and judged is then the draw of epoch 0, draw seed 0.
"""

from __future__ import annotations

import numpy as np

from sempairs import keyed
from sempairs.pairs.index import Int
from sempairs.pairs.plan import PairPlan
from sempairs.pairs.table import PairSet

STREAM = "audit-sample"
SAMPLE = 400
"""Pairs that people review, and whose verdicts an audit counts, unless told: at a false-pair rate of 2% the
interval is about 0.9% to 3.9%."""


def partner_items(pairs: PairSet) -> Int:
    """The partner of each row as an item of `pairs.index`, (N,): as stored or, in a pool, as drawn first."""
    partner = pairs.partner
    free = partner < 0
    if not free.any():
        return partner
    selection = pairs.selection(pairs.index)
    everything = np.arange(len(pairs.index))
    plan = PairPlan(
        pairs.catalog, pairs.config, 0, selection.meaning.codes, everything, selection, everything
    )
    first = plan.epoch(0)
    drawn = np.full(len(everything), -1, dtype=np.int64)
    drawn[first.anchor] = first.partner
    return np.where(free, drawn[pairs.anchor], partner)


def pair_key(pairs: PairSet) -> list[tuple[str, str]]:
    """The canonical key of each row: its two image ids, the smaller first."""
    ids = pairs.index.ids
    low, high = _ordered(pairs)
    return [(ids[a], ids[b]) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def audit_sample(pairs: PairSet, size: int, *, seed: int = 0) -> Int:
    """Rows of a uniform random sample of distinct pairs of two images, (min(size, such pairs),), in the order
    in which they are to be reviewed.

    A smaller sample is a prefix of a larger one, and which pairs are in it depends on their ids and `seed`
    only, never on the order of rows. Images paired with themselves cannot be false and are left out.
    Raises: UserError if `seed` is not in [0, 2**32).
    """
    assert size >= 0
    low, high = _ordered(pairs)
    _, first = np.unique(low * len(pairs.index) + high, return_index=True)
    row = np.sort(first[low[first] != high[first]])
    ids, low, high = pairs.index.ids, low[row], high[row]
    # Ids may hold any character but NUL-joined ones stay apart: the length of the first goes in front.
    texts = [f"{len(ids[a])}\0{ids[a]}\0{ids[b]}" for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    # Equal draws, hardly ever: in the order of ids, which is that of items.
    order = np.lexsort((high, low, keyed.text_key(seed, STREAM, texts)))
    return row[order[:size]].astype(np.int64)


def _ordered(pairs: PairSet) -> tuple[Int, Int]:
    """The two items of each row, the smaller first, (N,) each; items are sorted by their images' ids."""
    anchor, partner = pairs.anchor, partner_items(pairs)
    return np.minimum(anchor, partner), np.maximum(anchor, partner)
