from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sempairs import keyed
from sempairs.catalog import Catalog
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.sample import audit_sample, pair_key, partner_items
from sempairs.pairs.table import PairSet


def _pairs(catalog: Catalog, **given: Any) -> PairSet:
    return PairSet.build(catalog, PairsConfig(**{"relation": "cross_domain", **given}))


def _shuffled(pairs: PairSet, seed: int) -> PairSet:
    order = np.random.default_rng(seed).permutation(len(pairs))
    table = pairs.table.take(order)
    swap = pairs.table.schema.names
    # Direction is no matter either: every pair is turned round.
    columns = [table.column({"anchor": "partner", "partner": "anchor"}.get(name, name)) for name in swap]
    turned = table.from_arrays(columns, schema=pairs.table.schema)
    facts = pairs.config, pairs.pairs_per_epoch, pairs.catalog_hash, pairs.catalog_images
    rows = np.random.default_rng(seed).permutation(len(pairs.catalog))
    return PairSet(turned, pairs.catalog.select(rows), *facts)


def test_keys_are_the_ids_in_order_for_every_row(drawings: Catalog) -> None:
    pairs = _pairs(drawings)
    rows = zip(*(pairs.table.column(name).to_pylist() for name in ("anchor", "partner")), strict=True)
    assert pair_key(pairs) == [tuple(sorted(row)) for row in rows]


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_a_smaller_sample_is_the_beginning_of_a_larger_one(
    drawings: Catalog, one: int, other: int, seed: int
) -> None:
    pairs = _pairs(drawings)
    less, more = (audit_sample(pairs, size, seed=seed) for size in sorted((one, other)))
    assert len(set(more.tolist())) == len(more) == min(max(one, other), len(pairs))
    assert more[: len(less)].tolist() == less.tolist()


@given(st.integers(0, 1000))
def test_the_order_of_rows_images_and_directions_does_not_matter(drawings: Catalog, seed: int) -> None:
    pairs = _pairs(drawings)
    other = _shuffled(pairs, seed)
    ours, theirs = pair_key(pairs), pair_key(other)
    assert [ours[r] for r in audit_sample(pairs, 7)] == [theirs[r] for r in audit_sample(other, 7)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_the_sample_is_that_of_a_plain_loop(drawings: Catalog, seed: int, size: int) -> None:
    pairs = _pairs(drawings, mode="redrawn")  # every pair of two images comes up in both directions
    keys = pair_key(pairs)
    draws = keyed.text_key(seed, "audit-sample", [f"{len(a)}\0{a}\0{b}" for a, b in keys])
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(keys):
        if key[0] != key[1]:
            first.setdefault(key, row)
    rows = sorted(first.values(), key=lambda row: (int(draws[row]), keys[row]))
    assert audit_sample(pairs, size, seed=seed).tolist() == rows[:size]


def test_every_pair_is_as_likely(drawings: Catalog) -> None:
    pairs = _pairs(drawings)
    drawn = Counter(int(row) for seed in range(1200) for row in audit_sample(pairs, 3, seed=seed))
    assert len(drawn) == len(pairs)
    assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_images_paired_with_themselves_are_no_question(drawings: Catalog) -> None:
    pairs = _pairs(drawings, mixed=0.5)
    keys = pair_key(pairs)
    own = {row for row, key in enumerate(keys) if key[0] == key[1]}
    assert own and set(audit_sample(pairs, 100).tolist()) == set(range(len(pairs))) - own


def test_a_pool_is_sampled_as_it_is_drawn_first_and_each_pair_once(drawings: Catalog) -> None:
    pairs = _pairs(drawings, mode="redrawn")
    assert (pairs.partner < 0).all()
    partner = partner_items(pairs)
    concept, domain = pairs.index.labels("concept").codes, pairs.index.labels("domain").codes
    assert (concept[partner] == concept[pairs.anchor]).all()
    assert (domain[partner] != domain[pairs.anchor]).all()
    assert partner.tolist() == partner_items(_pairs(drawings, mode="redrawn")).tolist()
    keys = pair_key(pairs)
    sampled = [keys[row] for row in audit_sample(pairs, 1000)]
    assert len(sampled) == len(set(sampled)) and set(sampled) == set(keys)
    assert len(keys) > len(set(keys))  # some pairs are drawn from both ends


def test_a_corrupted_pool_keeps_its_planted_partners(drawings: Catalog) -> None:
    pairs = _pairs(drawings, mode="redrawn", corrupted=0.5)
    given = pairs.partner >= 0
    assert given.any() and not given.all()
    assert (partner_items(pairs)[given] == pairs.partner[given]).all() and (partner_items(pairs) >= 0).all()
