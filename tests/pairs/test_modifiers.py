"""mixed(p) and corrupted(p)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs

RELATIONS = ("same_category", "sibling", "cross_domain", "random_same_category", "augmented")
LEVEL: dict[str, Any] = {
    "sibling": 1,
    "random_same_category": 1,
}  # segments of the category that true pairs share


def levels(catalog: Catalog, relation: str) -> np.ndarray:
    segments = LEVEL.get(relation, 2)
    return np.array(["/".join(c.split("/")[:segments]) for c in catalog.column("category")])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RELATIONS), st.sampled_from(["fixed", "redrawn"]), st.floats(0, 1), st.integers(0, 3))
def test_corrupted_is_exact_and_lasting(
    drawings: Catalog, relation: Any, mode: Any, share: float, seed: int
) -> None:
    config = {"relation": relation, "mode": mode, "seed": seed}
    clean = plan_pairs(drawings, PairsConfig(**config), draw_seed=1)
    plan = plan_pairs(drawings, PairsConfig(**config, corrupted=share), draw_seed=1)
    level, concept = levels(drawings, relation), drawings.column("concept")
    false = None
    for epoch in (0, 1, 7):
        was, now = clean.epoch(epoch), plan.epoch(epoch)
        assert now.anchor.tolist() == was.anchor.tolist()
        across = level[now.anchor] != level[now.partner]
        assert int(across.sum()) == round(share * plan.n)
        assert (concept[now.anchor][across] != concept[now.partner][across]).all()
        assert now.partner[~across].tolist() == was.partner[~across].tolist()
        lasting = [across.tolist(), now.partner[across].tolist()]
        assert false in (None, lasting)
        false = lasting
    other = plan_pairs(drawings, PairsConfig(**config, corrupted=share), draw_seed=2).epoch(0)
    assert (level[other.anchor] != level[other.partner]).tolist() == false[0]


def test_corrupted_fixed_pairs_show_the_same_images(drawings: Catalog) -> None:
    for share in (0.5, 0.9, 1.0):
        config = {"relation": "cross_domain", "seed": 3}
        clean = plan_pairs(drawings, PairsConfig(**config))
        plan = plan_pairs(drawings, PairsConfig(**config, corrupted=share))
        assert sorted(plan.epoch(0).partner.tolist()) == sorted(clean.epoch(0).partner.tolist())
        assert plan.images.tolist() == clean.images.tolist()
        assert plan.manifest_hash != clean.manifest_hash


def test_two_equally_common_categories_trade_all_their_partners(make: Any) -> None:
    catalog = make([f"{i:03d}" for i in range(400)], category=[f"k{i % 2}" for i in range(400)])
    clean = plan_pairs(catalog, PairsConfig(relation="same_category")).epoch(0)
    false = plan_pairs(catalog, PairsConfig(relation="same_category", corrupted=1.0)).epoch(0)
    assert (false.anchor % 2 != false.partner % 2).all()
    assert sorted(false.partner.tolist()) == sorted(clean.partner.tolist())


def test_false_partners_are_spread_over_the_other_categories(make: Any) -> None:
    ids = [f"{i:03d}" for i in range(400)]
    catalog = make(ids, category=[f"k{i % 4}" for i in range(400)])
    plan = plan_pairs(catalog, PairsConfig(relation="same_category", corrupted=1.0))
    found = plan.epoch(0)
    kinds = Counter(zip((found.anchor % 4).tolist(), (found.partner % 4).tolist(), strict=True))
    assert len(kinds) == 12
    assert all(5 <= count <= 35 for count in kinds.values())


def test_where_one_category_is_too_common_partners_are_drawn_from_the_others(make: Any) -> None:
    catalog = make([f"{i:02d}" for i in range(20)], category=["big"] * 18 + ["small"] * 2)
    plan = plan_pairs(catalog, PairsConfig(relation="same_category", corrupted=1.0))
    found, category = plan.epoch(0), catalog.column("category")
    assert plan.n == 10
    assert (category[found.anchor] != category[found.partner]).all()


def test_a_single_false_pair_needs_no_other_to_trade_with(drawings: Catalog) -> None:
    plan = plan_pairs(drawings, PairsConfig(relation="cross_domain", corrupted=1 / 12))
    found, category = plan.epoch(0), drawings.column("category")
    assert int((category[found.anchor] != category[found.partner]).sum()) == 1


@pytest.mark.parametrize("mode", ["fixed", "redrawn"])
def test_corruption_that_cannot_be_is_refused(make: Any, mode: Any) -> None:
    one = make("a b c d", category=["k"] * 4)
    with pytest.raises(UserError, match=r"pairs.corrupted asks for . pairs across categories, but only 0"):
        plan_pairs(one, PairsConfig(relation="same_category", mode=mode, corrupted=0.5))
    none = make("a b", concept=["c", "c"], domain=["x", "y"])
    with pytest.raises(UserError, match="needs a category"):
        plan_pairs(none, PairsConfig(relation="cross_domain", mode=mode, corrupted=0.5))


def test_mixed_keeps_each_pair_or_makes_it_the_anchor_twice(make: Any) -> None:
    ids = [f"{i:04d}" for i in range(4000)]
    catalog = make(ids, category=[f"k{i % 10}" for i in range(4000)])
    clean = plan_pairs(catalog, PairsConfig(relation="same_category")).epoch(0)
    before = np.zeros(len(clean.anchor), dtype=bool)
    for share in (0.0, 0.3, 0.7, 1.0):
        plan = plan_pairs(catalog, PairsConfig(relation="same_category", mixed=share))
        now = plan.epoch(0)
        kept = now.partner != now.anchor
        assert now.anchor.tolist() == clean.anchor.tolist()
        assert now.partner[kept].tolist() == clean.partner[kept].tolist()
        assert abs(kept.mean() - share) < 0.04
        assert (kept | ~before).all()  # what a lower share keeps, a higher one keeps too
        assert plan.epoch(5).partner.tolist() == now.partner.tolist()
        before = kept


def test_mixed_is_drawn_anew_each_epoch_where_partners_are(make: Any) -> None:
    ids = [f"{i:04d}" for i in range(2000)]
    catalog = make(ids, category=[f"k{i % 10}" for i in range(2000)])
    clean = plan_pairs(catalog, PairsConfig(relation="same_category", mode="redrawn"))
    plan = plan_pairs(catalog, PairsConfig(relation="same_category", mode="redrawn", mixed=0.25))
    kept = [plan.epoch(e).partner != plan.epoch(e).anchor for e in range(3)]
    assert all(abs(k.mean() - 0.25) < 0.05 for k in kept)
    assert (kept[0] != kept[1]).any()
    both = plan.epoch(2).partner[kept[2]], clean.epoch(2).partner[kept[2]]
    assert both[0].tolist() == both[1].tolist()
