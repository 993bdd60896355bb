"""How an epoch is cut into batches, and that no batch holds a meaning twice where that is asked for."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.config import Config, validate
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.training.data import batches
from sempairs.training.run import pretrain
from sempairs.training.samplers import AnySampler, DistinctMeanings, Shuffled

from .test_data import catalogue

meanings = st.lists(st.integers(0, 9), min_size=2, max_size=60).map(np.array)
DISTINCT = DistinctMeanings()


class Recipe(Config):
    sampler: AnySampler


def most_steps(meaning: np.ndarray, size: int) -> int:
    """The most disjoint batches without a repeated meaning, by always taking the meanings most is left of."""
    left, steps = Counter(meaning.tolist()), 0
    while True:
        taken = [m for m, count in left.most_common(size) if count]
        if len(taken) < size:
            return steps
        left.subtract(taken)
        steps += 1


@settings(max_examples=200, deadline=None)
@given(meanings, st.integers(2, 6), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_no_batch_holds_a_meaning_twice_and_there_are_as_many_as_can_be(
    meaning: np.ndarray, size: int, epoch: int, seed: int
) -> None:
    expected = most_steps(meaning, size)
    if not expected:
        with pytest.raises(UserError, match="batch_size must be at most the"):
            DISTINCT.steps(meaning, size)
        return
    steps = DISTINCT.steps(meaning, size)
    assert steps == expected
    order = DISTINCT.order(meaning, size, seed=seed, epoch=epoch)
    assert len(order) == len(set(order.tolist())) == steps * size
    for batch in order.reshape(steps, size):
        assert len(set(meaning[batch].tolist())) == size
    assert (DISTINCT.order(meaning, size, seed=seed, epoch=epoch) == order).all()


def test_what_is_left_out_differs_by_epoch_and_every_pair_has_its_turn() -> None:
    """One meaning of 30 pairs among ten of 3: batches of 5 take each time other ones of it."""
    meaning = np.array([0] * 30 + [1 + n // 3 for n in range(30)])
    steps = DISTINCT.steps(meaning, 5)
    assert steps == 7  # 7 of the frequent meaning and 28 of the 30 others
    shown = [frozenset(DISTINCT.order(meaning, 5, seed=1, epoch=epoch).tolist()) for epoch in range(60)]
    assert len(set(shown)) == 60
    assert frozenset.union(*shown) == frozenset(range(60))
    counts = Counter(pair for epoch in shown for pair in epoch)
    frequent = [counts[pair] for pair in range(30)]
    others = [counts[pair] for pair in range(30, 60)]
    assert pytest.approx(np.mean(frequent), rel=0.1) == 60 * 7 / 30
    assert min(frequent) >= 4 and min(others) >= 48


def test_pairs_of_two_meanings_meet_about_as_often_as_by_chance() -> None:
    meaning, size, epochs = np.arange(24), 6, 400
    together = np.zeros((24, 24))
    for epoch in range(epochs):
        for batch in DISTINCT.order(meaning, size, seed=3, epoch=epoch).reshape(-1, size):
            together[np.ix_(batch, batch)] += 1
    off = together[~np.eye(24, dtype=bool)] / epochs
    expected = (size - 1) / 23
    assert off.mean() == pytest.approx(expected, rel=1e-9)
    assert abs(off - expected).max() < 5 * (expected * (1 - expected) / epochs) ** 0.5


@pytest.mark.parametrize("sampler", [Shuffled(), DISTINCT])
def test_batches_are_the_same_in_both_arms_for_each_rank_and_after_a_resume(sampler: Any) -> None:
    table = catalogue(40, category=[f"c{n % 9}" for n in range(40)])
    plans = [
        plan_pairs(table, PairsConfig(relation="same_category", mode="redrawn", arm=arm), draw_seed=2)
        for arm in ("semantic", "augmented")
    ]
    per_epoch = sampler.steps(plans[0].meaning, 6)

    def made(plan: Any, **more: Any) -> list[Any]:
        return list(batches(plan, seed=4, batch_size=6, sampler=sampler, **{"start": 0, **more}))

    semantic, augmented = (made(plan, stop=3 * per_epoch) for plan in plans)
    for one, other in zip(semantic, augmented, strict=True):
        assert one.anchor.tolist() == other.anchor.tolist() == other.partner.tolist()
        assert one.occurrence.tolist() == other.occurrence.tolist()
        if sampler is DISTINCT:
            assert len(set(one.meaning.tolist())) == 6
    later = made(plans[0], start=per_epoch + 1, stop=3 * per_epoch)
    assert [b.occurrence.tolist() for b in later] == [
        b.occurrence.tolist() for b in semantic[per_epoch + 1 :]
    ]
    ranks = [made(plans[0], stop=3 * per_epoch, rank=rank, world=2) for rank in range(2)]
    for whole, *parts in zip(semantic, *ranks, strict=True):
        assert np.concatenate([part.occurrence for part in parts]).tolist() == whole.occurrence.tolist()


def test_too_large_a_batch_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^batch_size must be at most the 3 meanings of an epoch.*got 4"):
        DISTINCT.steps(np.array([0, 0, 1, 1, 2, 2]), 4)


def test_names_are_checked() -> None:
    assert validate(Recipe, {"sampler": {"name": "distinct_meanings"}}).sampler == DISTINCT
    with pytest.raises(UserError, match=r"sampler\.name is unknown, got 'shufled'; did you mean 'shuffled'"):
        validate(Recipe, {"sampler": {"name": "shufled"}})


def test_a_run_says_how_many_pairs_an_epoch_shows(
    make_recipe: Callable[..., Any], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve drawings of one class and few of three: most of the twelve have no batch in an epoch."""
    for folder in sorted(images.iterdir()):
        (tmp_path / "few" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[: 12 if folder.name == "class0" else 4]:
            shutil.copy(path, tmp_path / "few" / folder.name)
    changes = {"data__source": f"folder:{tmp_path / 'few'}", "batch_size": 3}
    recipe = make_recipe(sampler={"name": "distinct_meanings"}, schedule__duration="1 epochs", **changes)
    summary = pretrain(recipe, tmp_path / "run")
    pairs = json.loads((tmp_path / "run" / "resolved.json").read_text())["pairs"]["per_epoch"]
    assert summary.steps * 3 + 3 <= pairs
    said = capsys.readouterr().err
    assert f"sampler: an epoch shows {summary.steps * 3} of the {pairs} pairs, other ones each time" in said
