"""The share of semantic pairs as a function of progress: keyed, monotone, the same in every arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs.catalog import Catalog
from sempairs.config import Ramp, validate
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig, PairsSection
from sempairs.pairs.plan import PairPlan, plan_pairs
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.training.data import batches

MODES = ("fixed", "redrawn")
RISES = [[0.2, 0], [0.8, 1]]


@pytest.fixture(scope="module")
def catalog(make: Any) -> Catalog:
    """400 images, eight a category: enough that a share is met."""
    names = [f"i{n:03d}" for n in range(400)]
    return make(names, category=[f"k{n // 8:02d}" for n in range(400)], split=["train"] * 400)


def planned(catalog: Catalog, mode: str, seed: int = 3, **more: Any) -> PairPlan:
    config = PairsConfig(relation="same_category", mode=mode, **more)
    return plan_pairs(catalog, config, draw_seed=seed)


def semantic(plan: PairPlan, epoch: int, progress: float) -> np.ndarray:
    found = plan.epoch(epoch, progress)
    return found.anchor != found.partner


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_share_is_mixed(catalog: Catalog, mode: str) -> None:
    """Two points of one height, and a ramp where it has that height, show what the number shows."""
    constant = planned(catalog, mode, mixed=0.4)
    flat = planned(catalog, mode, mixed=[[0, 0.4], [1, 0.4]])
    ramp = planned(catalog, mode, mixed=[[0, 0], [1, 0.8]])
    for epoch in range(3):
        expected = constant.epoch(epoch)
        for found in (flat.epoch(epoch, 0.1), ramp.epoch(epoch, 0.5)):
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert flat.manifest_hash == constant.manifest_hash
    assert (constant.further(1, 2) == ramp.further(1, 2, progress=0.5)).all() if mode == "redrawn" else True


@pytest.mark.parametrize("mode", MODES)
def test_the_share_is_met_and_what_is_semantic_stays_so(catalog: Catalog, mode: str) -> None:
    plan = planned(catalog, mode, mixed=RISES)
    without = planned(catalog, mode)
    for epoch in range(2):
        before = np.zeros(plan.n, dtype=bool)
        for progress, share in ((0, 0), (0.2, 0), (0.35, 0.25), (0.5, 0.5), (0.65, 0.75), (0.8, 1), (1, 1)):
            now = semantic(plan, epoch, progress)
            assert (now | ~before).all()
            assert abs(now.mean() - share) < 4 * (0.25 / plan.n) ** 0.5 + 1e-9
            assert share not in (0, 1) or now.mean() == share
            before = now
            # A semantic pair is the one that a plan without a share has.
            partners = plan.epoch(epoch, progress).partner[now], without.epoch(epoch).partner[now]
            assert np.array_equal(*partners)
    same = np.array_equal(semantic(plan, 0, 0.5), semantic(plan, 1, 0.5))
    assert same == (mode == "fixed")  # a coin for all epochs, or one an epoch


@pytest.mark.parametrize("mode", MODES)
def test_arms_have_the_same_anchors_keys_and_meanings(catalog: Catalog, mode: str) -> None:
    one = planned(catalog, mode, mixed=RISES)
    other = planned(catalog, mode, mixed=RISES, arm="augmented")
    for progress in (0.0, 0.5, 1.0):
        a, b = one.epoch(2, progress), other.epoch(2, progress)
        assert np.array_equal(a.anchor, b.anchor) and np.array_equal(b.anchor, b.partner)
        assert np.array_equal(a.occurrence, b.occurrence)
    assert np.array_equal(one.meaning, other.meaning)
    assert one.semantic_hash == other.semantic_hash and one.anchor_hash == other.anchor_hash


def test_image_matched_shows_the_images_of_the_semantic_arm(catalog: Catalog) -> None:
    one = planned(catalog, "fixed", mixed=RISES)
    other = planned(catalog, "fixed", mixed=RISES, arm="image_matched")
    for progress in (0.0, 0.3, 0.6, 1.0):
        shown = one.epoch(0, progress)
        two = [other.epoch(e, progress) for e in (0, 1)]
        assert all(np.array_equal(e.anchor, e.partner) for e in two)
        # Over two epochs: the anchor and the partner of a semantic pair, the anchor twice of another.
        both = np.sort(np.stack([e.anchor for e in two]), axis=0)
        assert np.array_equal(both, np.sort(np.stack([shown.anchor, shown.partner]), axis=0))


@pytest.mark.parametrize("mode", MODES)
def test_batches_follow_progress_for_each_rank_and_after_a_resume(catalog: Catalog, mode: str) -> None:
    plan = planned(catalog, mode, mixed=[[0, 0], [1, 1]])

    def made(start: int = 0, **more: Any) -> list[Any]:
        return list(batches(plan, seed=1, batch_size=40, start=start, stop=20, total=20, **more))

    whole = made()
    shares = [(b.anchor != b.partner).mean() for b in whole]
    assert shares[0] == 0 and np.mean(shares[:10]) < 0.35 < 0.65 < np.mean(shares[10:])
    for step, batch in enumerate(whole):
        expected = plan.epoch(batch.epoch, step / 20)
        assert np.array_equal(batch.partner, expected.partner[batch.occurrence])
    ranks = [made(rank=rank, world=2) for rank in range(2)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert np.array_equal(batch.partner, np.concatenate([p.partner for p in parts]))
    assert all(np.array_equal(a.partner, b.partner) for a, b in zip(whole[7:], made(7), strict=True))


def test_several_partners_are_mixed_each_by_itself(catalog: Catalog) -> None:
    plan = planned(catalog, "redrawn", mixed=RISES)
    anchor = plan.epoch(0).anchor[:, None]
    own = [(plan.further(0, 3, progress=p) == anchor).mean(axis=0) for p in (0.0, 0.5, 1.0)]
    assert (own[0] == 1).all() and (own[2] == 0).all() and (abs(own[1] - 0.5) < 0.1).all()


def test_a_step_counts_from_its_progress_on(catalog: Catalog) -> None:
    plan = planned(catalog, "redrawn", mixed=[[0.5, 0], [0.5, 1]])
    assert not semantic(plan, 0, 0.49).any() and semantic(plan, 0, 0.5).all()


def test_the_mean_over_steps() -> None:
    assert Ramp.parse([[0, 0], [1, 1]]).mean(4) == pytest.approx((0 + 0.25 + 0.5 + 0.75) / 4)
    assert Ramp.parse(0.3).mean(7) == 0.3


@pytest.mark.parametrize("mixed", [1.7, -0.1, [[0, 0], [1, 1.2]]])
def test_a_share_outside_is_one_line(mixed: Any) -> None:
    with pytest.raises(UserError, match=r"^pairs.mixed must be in \[0, 1\] all through training"):
        validate(PairsSection, {"pairs": {"relation": "same_category", "mixed": mixed}})


def test_a_set_on_disk_holds_no_ramp_but_runs_on_it_may_have_one(catalog: Catalog, tmp_path: Path) -> None:
    phased = PairsConfig(relation="same_category", mode="redrawn", mixed=RISES)
    for build in (PairSet.build, lambda *given: save_with_baselines(tmp_path / "never", *given)):
        with pytest.raises(UserError, match=r"^pairs.mixed must be one number for a set on disk"):
            build(catalog, phased)
    assert not (tmp_path / "never").exists()
    for mode in MODES:
        save_with_baselines(tmp_path / mode, catalog, PairsConfig(relation="same_category", mode=mode))
        given = PairsConfig(relation="listed", file=str(tmp_path / mode), mode=mode, mixed=RISES)
        plan, direct = plan_pairs(catalog, given, draw_seed=3), planned(catalog, mode, mixed=RISES)
        for progress in (0.3, 0.7):
            assert np.array_equal(plan.epoch(1, progress).partner, direct.epoch(1, progress).partner)
