"""Which images a run takes, and how its pairs are cut into batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog.table import Catalog
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.pairs.config import PairsSection
from sempairs.pairs.plan import PairPlan, plan_pairs
from sempairs.training.data import Batch, batches, load_data, read_ahead, select_rows
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain
from sempairs.training.samplers import steps_per_epoch
from sempairs.views.maker import ViewMaker


def catalogue(count: int, **columns: Any) -> Catalog:
    return Catalog.from_columns(
        {
            "image_id": [f"i{n:03}" for n in range(count)],
            "file_hash": [f"f{n}" for n in range(count)],
            "uri": [f"u{n}" for n in range(count)],
            "width": [8] * count,
            "height": [8] * count,
            "source": ["s"] * count,
            "category": [f"c{n % 2}" for n in range(count)],
            **columns,
        }
    )


def redrawn(count: int) -> PairPlan:
    config = validate(PairsSection, {"pairs": {"relation": "same_category", "mode": "redrawn"}}).pairs
    return plan_pairs(catalogue(count), config, draw_seed=5)


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 40), st.integers(1, 3), st.integers(0, 2**32 - 1), st.data())
def test_batches_cut_each_epoch_into_disjoint_pieces(
    count: int, world: int, seed: int, data: st.DataObject
) -> None:
    plan = redrawn(count)
    size = world * data.draw(st.integers(1, plan.n // world))
    per_epoch = steps_per_epoch(plan.n, size)
    whole = list(batches(plan, seed=seed, batch_size=size, start=0, stop=3 * per_epoch))
    for epoch in range(3):
        pieces = whole[epoch * per_epoch : (epoch + 1) * per_epoch]
        shown = np.concatenate([batch.occurrence for batch in pieces])
        assert len(shown) == len(set(shown.tolist())) == per_epoch * size
        assert plan.n - len(shown) < size
        expected = plan.epoch(epoch)
        for batch in pieces:
            assert batch.epoch == epoch
            assert (batch.anchor == expected.anchor[batch.occurrence]).all()
            assert (batch.partner == expected.partner[batch.occurrence]).all()
            assert (batch.meaning == plan.meaning[batch.occurrence]).all()
    # A resumed run sees what follows, and ranks share a batch without overlap.
    start = data.draw(st.integers(0, 3 * per_epoch))
    rest = list(batches(plan, seed=seed, batch_size=size, start=start, stop=3 * per_epoch))
    ranks = [
        list(batches(plan, seed=seed, batch_size=size, start=start, stop=3 * per_epoch, rank=r, world=world))
        for r in range(world)
    ]
    for k, batch in enumerate(whole[start:]):
        assert (rest[k].occurrence == batch.occurrence).all()
        together = np.concatenate([of_rank[k].occurrence for of_rank in ranks])
        assert (together == batch.occurrence).all()


def test_the_dropped_pairs_differ_by_epoch_and_the_order_by_seed() -> None:
    plan = redrawn(20)

    def shown(seed: int, epoch: int) -> list[int]:
        steps = batches(plan, seed=seed, batch_size=12, start=epoch, stop=epoch + 1)
        return next(steps).occurrence.tolist()

    assert len({frozenset(shown(0, epoch)) for epoch in range(6)}) > 1
    assert shown(0, 0) != shown(1, 0)


def test_a_batch_larger_than_an_epoch_is_refused() -> None:
    assert steps_per_epoch(20, 20) == 1
    with pytest.raises(UserError, match=r"batch_size must be at most the 20 pairs of an epoch, got 21"):
        steps_per_epoch(20, 21)


def selection(make: Callable[..., PretrainRecipe], table: Catalog, **changes: Any) -> tuple[list[str], int]:
    chosen, n_train = select_rows(make(**changes), table)
    return chosen.column("image_id").tolist(), n_train


def test_training_images_first_then_validation(make_recipe: Callable[..., PretrainRecipe]) -> None:
    table = catalogue(
        6,
        split=["validation", "train", "test", None, "train", "validation"],
        held_out=[False, False, False, False, True, True],
        domain=["a", "a", "b", "b", "b", "b"],
    )
    assert selection(make_recipe, table) == (["i001", "i004", "i000", "i005"], 2)
    assert selection(make_recipe, table, data__where={"held_out": [False]}) == (["i001", "i000"], 1)
    assert selection(make_recipe, table, data__where={"domain": ["b"]}) == (["i004", "i005"], 1)
    assert selection(make_recipe, table, data__split="test") == (["i002", "i000", "i005"], 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__where": {"domian": ["a"]}}, r"data\.where is unknown, got 'domian'; did you mean 'domain'"),
        ({"data__where": {"domain": ["z"]}}, r"data\.where must leave some images"),
        ({"data__split": "trian"}, r"data\.split is unknown, got 'trian'; did you mean 'train'"),
        ({"data__split": "validation"}, r"monitor\.split must differ from data\.split"),
    ],
)
def test_what_is_not_there_is_told(
    make_recipe: Callable[..., PretrainRecipe], changes: dict[str, Any], message: str
) -> None:
    table = catalogue(4, split=["train", "train", "validation", "test"], domain=["a"] * 4)
    with pytest.raises(UserError, match=message):
        selection(make_recipe, table, **changes)


def test_a_source_without_splits_gets_the_same_ones_for_every_seed(
    make_recipe: Callable[..., PretrainRecipe],
) -> None:
    ids, n_train = selection(make_recipe, catalogue(40), seed=1)
    assert 20 <= n_train < len(ids) < 40
    assert selection(make_recipe, catalogue(40), seed=2) == (ids, n_train)
    assert selection(make_recipe, catalogue(40), data__split_seed=1) != (ids, n_train)


def test_the_pixel_cache_is_shared_and_changes_nothing(
    make_recipe: Callable[..., PretrainRecipe], tmp_path: Path
) -> None:
    plain = load_data(make_recipe())
    cached = load_data(make_recipe(), pixel_cache=tmp_path)
    (store,) = (path for path in tmp_path.iterdir() if not path.name.startswith("."))
    written = store.stat().st_mtime_ns
    again = load_data(make_recipe(seed=9), pixel_cache=tmp_path)
    assert store.stat().st_mtime_ns == written
    assert (cached.store.pixels == plain.store.pixels).all()
    assert (again.store.pixels == plain.store.pixels).all()
    load_data(make_recipe(data__store_size=8), pixel_cache=tmp_path)
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 2


def test_pixels_stay_in_their_files_where_they_do_not_fit(make_recipe: Callable[..., PretrainRecipe]) -> None:
    def kept(**changes: Any) -> str:
        return load_data(make_recipe(**changes)).pixels

    data = load_data(make_recipe())
    needed = len(data.catalog) * 3 * 16 * 16 / 2**30
    assert data.pixels == "memory"
    assert kept(data__memory=needed) == kept(data__memory=needed / 2, data__store="memory") == "memory"
    assert kept(data__memory=needed / 2) == kept(data__store="files") == "files"


def test_training_from_files_gives_the_weights_of_training_from_memory(
    make_recipe: Callable[..., PretrainRecipe], tmp_path: Path
) -> None:
    # The drawings are PNG, so that the pixels are the same.
    runs = {kind: pretrain(make_recipe(data__store=kind), tmp_path / kind) for kind in ("memory", "files")}
    assert runs["memory"].weight_hash == runs["files"].weight_hash
    assert runs["memory"].probe == runs["files"].probe
    for kind in runs:
        resolved = json.loads((tmp_path / kind / "resolved.json").read_text())
        assert resolved["data"]["pixels"] == resolved["data"]["store"] == kind


def test_batches_are_read_one_ahead() -> None:
    class Maker(ViewMaker):
        def __init__(self) -> None:
            self.asked: list[int] = []

        def prefetch(self, anchor: Any, partner: Any) -> None:
            self.asked.append(int(anchor[0]))

    maker, rows = Maker(), [np.array([i]) for i in range(4)]
    supplied = iter(Batch(0, row, row, row, row) for row in rows)
    seen = [(int(batch.anchor[0]), list(maker.asked)) for batch in read_ahead(supplied, maker)]
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3]), (3, [0, 1, 2, 3])]
    assert list(read_ahead(iter(()), maker)) == []
