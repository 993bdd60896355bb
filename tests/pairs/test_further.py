"""Further partners of an anchor: drawn by key, valid, different while there are enough."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import PairPlan, plan_pairs


def table(sizes: list[int]) -> Catalog:
    names = [f"c{number}" for number, size in enumerate(sizes) for _ in range(size)]
    n = len(names)
    return Catalog.from_columns(
        {
            "image_id": [f"i{i:04}" for i in range(n)], "file_hash": [f"f{i}" for i in range(n)],
            "uri": [f"u{i}" for i in range(n)], "width": [8] * n, "height": [8] * n, "source": ["s"] * n,
            "category": names,
        }
    )  # fmt: skip


def planned(catalog: Catalog, seed: int = 1, **changes: object) -> PairPlan:
    config = {"relation": "same_category", "mode": "redrawn", **changes}
    return plan_pairs(catalog, PairsConfig(**config), draw_seed=seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=6), st.integers(1, 9), st.integers(0, 3))
def test_partners_are_valid_and_differ_while_there_are_enough(
    sizes: list[int], count: int, epoch: int
) -> None:
    catalog = table(sizes)
    plan = planned(catalog)
    category = catalog.column("category")
    first, further = plan.epoch(epoch), plan.further(epoch, count)
    assert further.shape == (plan.n, count)
    for row in range(plan.n):
        anchor = int(first.anchor[row])
        partners = [int(first.partner[row]), *further[row].tolist()]
        assert all(partner != anchor and category[partner] == category[anchor] for partner in partners)
        # As often as can be, each: no two differ by more than one.
        others = sizes[int(category[anchor][1:])] - 1
        times = Counter(partners)
        assert len(times) == min(others, count + 1)
        assert max(times.values()) - min(times[p] if len(times) == others else 1 for p in times) <= 1
    assert (plan.further(epoch, max(1, count - 1))[:, : count - 1] == further[:, : count - 1]).all()


def test_every_partner_comes_equally_often() -> None:
    plan = planned(table([6]))
    draws = Counter()
    for epoch in range(1000):
        draws.update((0, int(partner)) for partner in plan.further(epoch, 2)[0])
    counts = [draws[0, other] for other in range(1, 6)]
    assert sum(counts) == 2000
    assert max(abs(count - 400) for count in counts) < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_the_draw_depends_on_seed_and_epoch_and_not_on_what_was_asked_before() -> None:
    catalog = table([9, 9])
    plan = planned(catalog)
    once = plan.further(4, 3)
    plan.further(1, 2)
    assert (planned(catalog).further(4, 3) == once).all()
    assert (plan.further(5, 3) != once).any()
    assert (planned(catalog, seed=2).further(4, 3) != once).any()


def test_in_the_augmented_arm_every_partner_is_the_anchor() -> None:
    plan = planned(table([5, 5]), arm="augmented")
    found = plan.epoch(3)
    assert (plan.further(3, 2) == found.anchor[:, None]).all()


def test_mixed_pairs_mix_each_partner_by_itself() -> None:
    plan = planned(table([20] * 20), mixed=0.5)
    found = plan.epoch(0)
    own = np.column_stack([found.partner, plan.further(0, 2)]) == found.anchor[:, None]
    assert abs(own.mean(axis=0) - 0.5).max() < 0.1
    assert 0 < own.all(axis=1).mean() < 0.25


def test_false_partners_stay_the_ones_they_are() -> None:
    plan = planned(table([10] * 4), corrupted=1.0)
    assert (plan.further(0, 2) == plan.epoch(0).partner[:, None]).all()


def test_fixed_pairs_have_one_partner() -> None:
    with pytest.raises(UserError, match=r"^pairs\.mode must be redrawn for several partners an anchor"):
        planned(table([4, 4]), mode="fixed").further(0, 1)
