"""The pairs that audits and curation speak of, and the random sample of them that people review.

A pair has one canonical key, the smaller image id first, whatever its row or direction. A redrawn pool has no
pairs of its own until they are drawn: what is audited and judged is then the draw of epoch 0, draw seed 0.
"""

from __future__ import annotations

import numpy as np

from sempairs import keyed
from sempairs.pairs.index import Int
from sempairs.pairs.plan import PairPlan
from sempairs.pairs.saved import pool_of
from sempairs.pairs.table import PairSet

STREAM = "audit-sample"


def partner_items(pairs: PairSet) -> Int:
    """The partner of each row as an item of `pairs.index`, (N,): as stored or, in a pool, as drawn first."""
    partner = pairs.partner
    free = partner < 0
    if not free.any():
        return partner
    selection = pool_of(pairs, pairs.index)
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
    anchor, partner = pairs.anchor, partner_items(pairs)
    ids = pairs.index.ids  # sorted, so the smaller item has the smaller id
    low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
    return [(ids[a], ids[b]) for a, b in zip(low, high, strict=True)]


def audit_sample(pairs: PairSet, size: int, *, seed: int = 0) -> Int:
    """Rows of a uniform random sample of distinct pairs of two images, (min(size, such pairs),), in the order
    in which they are to be reviewed.

    A smaller sample is a prefix of a larger one, and which pairs are in it depends on their ids and `seed`
    only, never on the order of rows. Images paired with themselves cannot be false and are left out.
    Raises: UserError if `seed` is not in [0, 2**32).
    """
    assert size >= 0
    keys = pair_key(pairs)
    # Ids may hold any character but NUL-joined ones stay apart: the length of the first goes in front.
    draws = keyed.text_key(seed, STREAM, [f"{len(a)}\0{a}\0{b}" for a, b in keys])
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(keys):
        if key[0] != key[1]:
            first.setdefault(key, row)
    rows = sorted(first.values(), key=lambda row: (int(draws[row]), keys[row]))
    return np.array(rows[:size], dtype=np.int64)
