"""Which of the valid partners are drawn: by a column, and the nearest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs import progress
from sempairs.catalog import Catalog
from sempairs.config import validate
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.pairs import select
from sempairs.pairs.choices.base import CHOICES
from sempairs.pairs.config import PairsConfig, PairsSection
from sempairs.pairs.plan import PairPlan, plan_pairs
from sempairs.pairs.table import PairSet

DIFFER = {"name": "column", "column": "domain"}
EQUAL = {**DIFFER, "must": "equal"}


@pytest.fixture(scope="module")
def catalog(make: Any) -> Catalog:
    """48 images of 6 categories, in the domains a to c and one unknown; with a colour beside."""
    n = 48
    return make(
        [f"i{k:02d}" for k in range(n)],
        category=[f"k{k % 6}" for k in range(n)],
        domain=[(*"abcabc", "a", None)[k // 6] for k in range(n)],
        colour=[("red", "blue")[k % 4 // 2] for k in range(n)],
        split=["train"] * n,
    )


@pytest.fixture
def table(catalog: Catalog, embedded: Callable[..., str], tmp_path: Path) -> str:
    vectors = np.random.default_rng(5).normal(size=(len(catalog), 7))
    return embedded(catalog, vectors, tmp_path / "features.parquet")


def planned(catalog: Catalog, *choices: dict[str, Any], seed: int = 2, **more: Any) -> PairPlan:
    settings = {"relation": "same_category", "mode": "redrawn", "choices": choices, **more}
    return plan_pairs(catalog, PairsConfig(**settings), draw_seed=seed)


def partners(plan: PairPlan, progress: float = 1.0, epochs: int = 150) -> dict[int, Counter[int]]:
    """What each anchor's row was drawn with, and how often."""
    drawn: dict[int, Counter[int]] = {}
    for epoch in range(epochs):
        found = plan.epoch(epoch, progress)
        for a, b in zip(found.anchor.tolist(), found.partner.tolist(), strict=True):
            drawn.setdefault(a, Counter())[b] += 1
    return drawn


@pytest.mark.parametrize("must", ["differ", "equal"])
@pytest.mark.parametrize("column", ["domain", "colour"])
def test_partners_by_a_column_are_those_of_a_plain_search(catalog: Catalog, column: str, must: str) -> None:
    plan = planned(catalog, {"name": "column", "column": column, "must": must})
    category, values = catalog.column("category"), catalog.column(column)
    expected = {
        a: {
            b
            for b in range(48)
            if a != b and category[a] == category[b] and values[a] is not None and values[b] is not None
            and (values[a] == values[b]) == (must == "equal")
        }
        for a in range(48)
    }  # fmt: skip
    drawn = partners(plan)
    assert {a: set(times) for a, times in drawn.items()} == {a: b for a, b in expected.items() if b}


def test_several_choices_leave_what_all_leave(catalog: Catalog) -> None:
    plan = planned(catalog, DIFFER, {"name": "column", "column": "colour", "must": "equal"})
    for a, times in partners(plan, epochs=20).items():
        for b in times:
            assert catalog.column("domain")[a] != catalog.column("domain")[b]
            assert catalog.column("colour")[a] == catalog.column("colour")[b]


def order_of(catalog: Catalog, path: str, a: int) -> list[int]:
    """The candidates of an image, the nearest first, in float64."""
    table, category = Embeddings.open(path), catalog.column("category")
    vectors = np.array([table.vectors[table.image_ids.index(i)] for i in catalog.column("image_id")], float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    others = [b for b in range(48) if b != a and category[a] == category[b]]
    return sorted(others, key=lambda b: -float(vectors[a] @ vectors[b]))


@pytest.mark.parametrize(
    ("share", "progress", "kept"),
    [(0.1, 0.5, 1), (0.5, 0.5, 4), (1.0, 0.0, 7), ([[0, 0.15], [1, 1]], 0.0, 2),
     ([[0, 0.15], [1, 1]], 1.0, 7), ([[0, 1], [1, 0.1]], 0.0, 7), ([[0, 1], [1, 0.1]], 1.0, 1),
     (3 / 7, 0.0, 3)],
)  # fmt: skip
@pytest.mark.parametrize("first", ["nearest", "farthest"])
def test_the_first_of_the_order_are_drawn_equally_often(
    catalog: Catalog, table: str, share: Any, progress: float, kept: int, first: str
) -> None:
    plan = planned(catalog, {"name": "nearest", "embeddings": table, "share": share, "first": first})
    drawn = partners(plan, progress)
    assert len(drawn) == 48
    for a, times in drawn.items():
        order = order_of(catalog, table, a)
        assert set(times) == set(order[:kept] if first == "nearest" else order[::-1][:kept])
    counts = np.array([n for times in drawn.values() for n in times.values()])
    assert abs(counts - 150 / kept).max() <= 5 * (150 / kept) ** 0.5 * (kept > 1)


def test_a_choice_that_opens_everything_changes_no_number_of_draws(catalog: Catalog, table: str) -> None:
    """Anchors, their order, meanings and keys are those without a choice."""
    plain, chosen = planned(catalog), planned(catalog, {"name": "nearest", "embeddings": table})
    assert np.array_equal(plain.epoch(1).anchor, chosen.epoch(1).anchor)
    assert np.array_equal(plain.meaning, chosen.meaning) and plain.anchor_hash == chosen.anchor_hash
    augmented = planned(catalog, {"name": "nearest", "embeddings": table}, arm="augmented")
    assert np.array_equal(augmented.epoch(1).partner, chosen.epoch(1).anchor)
    assert augmented.semantic_hash == chosen.semantic_hash


def test_the_draw_does_not_depend_on_the_order_of_rows(catalog: Catalog, table: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).permutation(48)
    shuffled = catalog.select(rows)
    old = Embeddings.open(table)
    Embeddings(
        tuple(old.image_ids[i] for i in rows[::-1]), tuple(old.file_hashes[i] for i in rows[::-1]),
        old.vectors[rows[::-1]], old.about,
    ).save(tmp_path / "other.parquet")  # fmt: skip
    choice = {"name": "nearest", "share": [[0, 0.2], [1, 1]]}
    one = planned(catalog, DIFFER, {**choice, "embeddings": table})
    two = planned(shuffled, DIFFER, {**choice, "embeddings": str(tmp_path / "other.parquet")})
    for share in (0.0, 0.6):
        named = [
            [p.catalog.column("image_id")[rows].tolist() for rows in p.epoch(1, share)[:2]]
            for p in (one, two)
        ]
        assert named[0] == named[1]
    assert one.manifest_hash == two.manifest_hash


def test_anchors_left_without_a_partner_are_told(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_told", set())
    plan = planned(catalog, EQUAL)
    assert "pairs.choices leaves 6 of 48 anchors without a partner: left out" in capsys.readouterr().err
    assert plan.n == len(plan.meaning) == 42 and len(plan.epoch(0).anchor) == 42
    assert sum(plan.class_histogram().values()) == 42


def test_several_partners_differ_while_enough_are_open(catalog: Catalog, table: str) -> None:
    plan = planned(catalog, {"name": "nearest", "embeddings": table, "share": 3 / 7})
    found = np.column_stack([plan.epoch(0).partner, plan.further(0, 2)])
    for a, row in zip(plan.epoch(0).anchor.tolist(), found.tolist(), strict=True):
        assert set(row) == set(order_of(catalog, table, a)[:3])


def test_the_record_names_the_features_and_hashes_differ(
    catalog: Catalog, table: str, embedded: Callable[..., str], tmp_path: Path
) -> None:
    near = {"name": "nearest", "embeddings": table}
    other = embedded(catalog, np.random.default_rng(6).normal(size=(48, 7)), tmp_path / "other.parquet")
    plans = [
        planned(catalog), planned(catalog, DIFFER), planned(catalog, EQUAL), planned(catalog, near),
        planned(catalog, {**near, "share": 0.5}), planned(catalog, {**near, "embeddings": other}),
    ]  # fmt: skip
    assert len({plan.manifest_hash for plan in plans}) == len(plans)
    mining = plans[3].selection.mining
    assert mining is not None and mining["chosen_by"]["embeddings"] == Embeddings.open(table).hash
    assert mining["chosen_by"]["encoder"] == "e" * 64
    # Without a record beside the table it is said that what its encoder was shown is not known.
    unknown = plans[3].config.inherited_by_all().unknown
    assert len(unknown) == 1 and "features.parquet" in unknown[0]
    assert plans[1].config.inherited_by_all().unknown == ()


def test_a_list_is_chosen_from_too(catalog: Catalog, table: str, embedded: Callable[..., str]) -> None:
    near = {"relation": "neighbour", "embeddings": table, "top_k": 20, "min_similarity": -1, "mutual": False}
    plain, chosen = planned(catalog, **near), planned(catalog, DIFFER, **near)
    domain = catalog.column("domain")
    listed = partners(plain, epochs=300)
    for a, times in partners(chosen, epochs=300).items():
        known = {b for b in listed[a] if domain[b] is not None and domain[b] != domain[a]}
        assert set(times) <= known and len(times) >= len(known) - 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mode": "fixed", "choices": [DIFFER]}, "pairs.choices must be left out for fixed pairs"),
        ({"corrupted": 0.2, "choices": [DIFFER]}, "pairs.choices must be left out where corrupted is given"),
        ({"choices": [{"name": "nearest", "embeddings": "x"}] * 2}, "pairs.choices must hold one at most"),
        ({"choices": [{"name": "nearest", "embeddings": "x", "share": [[0, 0], [1, 1]]}]},
         "pairs.choices.0.share must be above 0 and at most 1 all through training"),
        ({"choices": [{"name": "nearst"}]}, "did you mean 'nearest'"),
        ({"choices": [{**DIFFER, "colum": "x"}]}, "did you mean 'column'"),
        ({"choices": [{"name": "column"}]}, "pairs.choices.0.column is required"),
        ({"choices": DIFFER}, "pairs.choices must be a list"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        validate(PairsSection, {"pairs": {"relation": "same_category", "mode": "redrawn", **settings}})
    assert line in str(error.value)


def test_choices_that_do_not_fit_the_images_are_one_line(
    catalog: Catalog, make: Any, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"pairs.choices.column is unknown.*did you mean 'domain'"):
        planned(catalog, {"name": "column", "column": "domian"})
    with pytest.raises(UserError, match=r"pairs.choices \(column\) leaves none of 48 anchors a partner"):
        planned(catalog, {"name": "column", "column": "category"})
    with pytest.raises(UserError, match="does not exist"):
        planned(catalog, {"name": "nearest", "embeddings": str(tmp_path / "none.parquet")})
    more = make([f"i{k:02d}" for k in range(50)], category=["k"] * 50, split=["train"] * 50)
    with pytest.raises(UserError, match="lacks 2 of 50 images"):
        planned(more, {"name": "nearest", "embeddings": table})
    with pytest.raises(UserError, match=r"^pairs.choices must be left out for a set on disk, got 'column'"):
        PairSet.build(catalog, PairsConfig(relation="same_category", mode="redrawn", choices=[DIFFER]))
    monkeypatch.setattr(select, "MOST_CANDIDATES", 100)
    with pytest.raises(UserError, match=r"must have at most 100 candidates to choose from.*got '336'"):
        planned(catalog, DIFFER)


def test_pieces_change_nothing(catalog: Catalog, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planned(catalog, DIFFER, {"name": "nearest", "embeddings": table, "share": 0.4}).epoch(0)
    monkeypatch.setattr(select, "_LISTED", 20)
    small = planned(catalog, DIFFER, {"name": "nearest", "embeddings": table, "share": 0.4}).epoch(0)
    assert all(np.array_equal(a, b) for a, b in zip(whole, small, strict=True))


def test_every_choice_has_a_file_of_its_name() -> None:
    for name in CHOICES.names():
        assert CHOICES.get(name).__module__ == f"sempairs.pairs.choices.{name}"
