"""What holds for every catalogue, relation and mode, checked against a definition written anew."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.draw import GroupDraws
from sempairs.pairs.plan import PairPlan, plan_pairs
from sempairs.pairs.table import PairSet, save_with_baselines

RELATIONS = ("same_category", "sibling", "cross_domain", "random_same_category")
Row = dict[str, Any]

hostile = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ["../x", "a\nb", 'a","b', "\x00", "a/b", "A", "a", "é", "é", "-1", "null", " "]
)
images = st.fixed_dictionaries(
    {
        "category": st.sampled_from([None, "a/x", "a/y", "a/y", "b/x", "b", "a/y/z"]),
        "concept": st.sampled_from([None, "c1", "c2", "c3", "c3"]),
        "domain": st.sampled_from([None, "d1", "d2", "d2", "d3"]),
        "split": st.sampled_from(["train", "train", "train", "test", None]),
        "pixel_hash": st.none() | st.sampled_from([f"p{i}" for i in range(20)]),
        "file_hash": st.sampled_from([f"f{i}" for i in range(60)]),
    }
)
catalogs = st.lists(hostile, unique=True, min_size=4, max_size=12).flatmap(
    lambda ids: st.lists(images, min_size=len(ids), max_size=len(ids)).map(
        lambda rows: [{"image_id": i, **row} for i, row in zip(ids, rows, strict=True)]
    )
)
configs = st.fixed_dictionaries(
    {
        "relation": st.sampled_from(RELATIONS),
        "mode": st.sampled_from(["fixed", "redrawn"]),
        "seed": st.integers(0, 3),
        "count": st.none() | st.integers(2, 6),
        "per_class": st.none() | st.integers(2, 4),
    }
)
# (category, domain, file): the last two are a pair, as categories stand in where no image has a concept.
WITHOUT_CONCEPTS: list[Row] = [
    {
        "image_id": str(i), "category": category, "concept": None, "domain": domain, "split": "train",
        "pixel_hash": None, "file_hash": file,
    }
    for i, (category, domain, file) in enumerate(
        [(None, None, "f0"), (None, None, "f0"), ("a/y", "d1", "f0"), ("a/y", "d2", "f1")]
    )
]  # fmt: skip
several = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def catalog_of(rows: list[Row]) -> Catalog:
    base = {"uri": "u", "width": 1, "height": 1, "source": "s"}
    full = [base | row for row in rows]
    return Catalog.from_columns({name: [row[name] for row in full] for name in full[0]})


def planned(rows: list[Row], draw_seed: int = 0, **config: Any) -> PairPlan:
    """The plan, where there is one."""
    try:
        return plan_pairs(catalog_of(rows), PairsConfig(**config), draw_seed=draw_seed)
    except UserError:
        assume(False)
        raise


def same_picture(rows: list[Row], i: int, j: int) -> bool:
    """By files and pixels, over as many steps as it takes."""
    reached, size = {i}, 0
    while size != len(reached):
        size = len(reached)
        for k, row in enumerate(rows):
            if any(
                row["file_hash"] == rows[r]["file_hash"]
                or (row["pixel_hash"] is not None and row["pixel_hash"] == rows[r]["pixel_hash"])
                for r in reached
            ):
                reached.add(k)
    return j in reached


def valid(rows: list[Row], relation: str, i: int, j: int) -> bool:
    """The definition of a pair, one rule after another."""
    a, b = rows[i], rows[j]
    if i == j or a["split"] != b["split"] or same_picture(rows, i, j):
        return False
    if relation == "cross_domain":
        # The category where no image has a concept, if any has a category.
        filled = {name for name in ("concept", "category") if any(row[name] is not None for row in rows)}
        shared = "category" if filled == {"category"} else "concept"
        known = None not in (a[shared], a["domain"], b["domain"])
        return known and a[shared] == b[shared] and a["domain"] != b["domain"]
    one, other = a["category"], b["category"]
    if one is None or other is None:
        return False
    if relation == "same_category":
        return bool(one == other)
    if relation == "sibling":
        above = one.rpartition("/")[0], other.rpartition("/")[0]
        return one != other and above[0] == above[1] != ""
    known = a["concept"] is not None and b["concept"] is not None
    return known and one.split("/")[0] == other.split("/")[0] and a["concept"] != b["concept"]


def most_pairs(edges: list[tuple[int, int]], n: int) -> int:
    """The size of a maximum matching, by trying everything."""

    @cache
    def best(free: int) -> int:
        if not free:
            return 0
        first = (free & -free).bit_length() - 1
        rest = free & ~(1 << first)
        found = best(rest)
        for i, j in edges:
            other = j if i == first else i if j == first else None
            if other is not None and rest >> other & 1:
                found = max(found, 1 + best(rest & ~(1 << other)))
        return found

    return best((1 << n) - 1)


@several
@given(catalogs, configs, st.integers(0, 5))
def test_every_pair_is_valid(rows: list[Row], config: Row, epoch: int) -> None:
    plan = planned(rows, **config)
    found = plan.epoch(epoch)
    for i, j in zip(found.anchor.tolist(), found.partner.tolist(), strict=True):
        assert valid(rows, config["relation"], i, j)
    assert plan.n == len(found.anchor) == len(plan.meaning)
    assert found.occurrence.tolist() == list(range(plan.n))
    assert len(set(found.anchor.tolist())) == plan.n
    assert set(found.anchor.tolist()) | set(found.partner.tolist()) <= set(plan.images.tolist())
    if config["count"] is not None:
        assert plan.n <= config["count"]
    if config["per_class"] is not None:
        assert max(plan.class_histogram().values()) <= config["per_class"]
    assert sum(plan.class_histogram().values()) == plan.n


@several
@given(catalogs, st.sampled_from(RELATIONS), st.integers(0, 3))
@example(WITHOUT_CONCEPTS, "cross_domain", 0)
def test_fixed_pairs_are_disjoint_and_as_many_as_can_be(rows: list[Row], relation: str, seed: int) -> None:
    edges = [(i, j) for i, j in combinations(range(len(rows)), 2) if valid(rows, relation, i, j)]
    if not edges:
        with pytest.raises(UserError):
            plan_pairs(catalog_of(rows), PairsConfig(relation=relation, seed=seed))
        return
    plan = plan_pairs(catalog_of(rows), PairsConfig(relation=relation, seed=seed))
    found = plan.epoch(0)
    used = [*found.anchor.tolist(), *found.partner.tolist()]
    assert len(used) == len(set(used)) == 2 * plan.n
    assert sorted(used) == plan.images.tolist()
    free = set(range(len(rows))) - set(used)
    assert not [edge for edge in edges if set(edge) <= free]
    pictures = {same_picture(rows, i, j) for i, j in combinations(range(len(rows)), 2)}
    if relation == "same_category" or True not in pictures:
        assert plan.n == most_pairs(edges, len(rows))


@several
@given(catalogs, st.sampled_from(RELATIONS))
def test_a_pool_is_every_image_with_a_partner_and_draws_are_over_all_of_them(
    rows: list[Row], relation: str
) -> None:
    plan = planned(rows, relation=relation, mode="redrawn")
    partners = {i: {j for j in range(len(rows)) if valid(rows, relation, i, j)} for i in range(len(rows))}
    assert plan.images.tolist() == [i for i, found in partners.items() if found]
    assert sorted(plan.epoch(0).anchor.tolist()) == plan.images.tolist()
    draws = plan.selection.draws
    assert isinstance(draws, GroupDraws)
    # Numbering each partner once is what makes an even draw of the number an even draw of the partner.
    for item in plan.selection.anchor.tolist():
        count = int(draws.count[item])
        listed = plan.rows[draws.pick(np.full(count, item), np.arange(count))]
        assert sorted(listed.tolist()) == sorted(partners[int(plan.rows[item])])


@several
@given(catalogs, configs, st.sampled_from([{}, {"mixed": 0.5}, {"corrupted": 0.5}]), st.randoms())
def test_nothing_depends_on_the_order_of_rows(rows: list[Row], config: Row, change: Row, random: Any) -> None:
    plan = planned(rows, 3, **config, **change)
    other = planned(random.sample(rows, len(rows)), 3, **config, **change)

    def named(p: PairPlan) -> list[list[Any]]:
        ids = p.catalog.column("image_id")
        found = p.epoch(2)
        return [ids[found.anchor].tolist(), ids[found.partner].tolist(), p.meaning.tolist()]

    assert named(plan) == named(other)
    for field in ("manifest_hash", "semantic_hash", "anchor_hash", "class_histogram_hash"):
        assert getattr(plan, field) == getattr(other, field)
    ids = plan.catalog.column("image_id")[plan.images], other.catalog.column("image_id")[other.images]
    assert set(ids[0]) == set(ids[1])


@several
@given(catalogs, configs, st.sampled_from([{}, {"mixed": 0.5}, {"corrupted": 0.5}]))
def test_arms_differ_in_what_is_shown_and_in_nothing_else(rows: list[Row], config: Row, change: Row) -> None:
    semantic = planned(rows, **config, **change)
    augmented = planned(rows, **config, **change, arm="augmented")
    arms = [semantic, augmented]
    if config["mode"] == "fixed":
        matched = planned(rows, **config, **change, arm="image_matched")
        arms.append(matched)
        one, two = matched.epoch(4), matched.epoch(5)
        assert (one.anchor == one.partner).all() and (two.anchor == two.partner).all()
        # Two epochs show each image of each semantic pair, in the place of that pair.
        base = planned(rows, **config, **{k: v for k, v in change.items() if k != "corrupted"}).epoch(0)
        low, high = np.minimum(one.anchor, two.anchor), np.maximum(one.anchor, two.anchor)
        assert low.tolist() == np.minimum(base.anchor, base.partner).tolist()
        assert high.tolist() == np.maximum(base.anchor, base.partner).tolist()
        assert matched.images.tolist() == sorted({*low.tolist(), *high.tolist()})
    for arm in arms:
        assert arm.n == semantic.n
        assert arm.meaning.tolist() == semantic.meaning.tolist()
        assert arm.semantic_hash == semantic.manifest_hash
        assert arm.class_histogram_hash == semantic.class_histogram_hash
    shown = augmented.epoch(1)
    assert shown.anchor.tolist() == shown.partner.tolist() == semantic.epoch(1).anchor.tolist()
    assert augmented.anchor_hash == semantic.anchor_hash
    assert augmented.images.tolist() == sorted(shown.anchor.tolist())


@several
@given(catalogs, configs, st.lists(st.integers(0, 6), min_size=2, max_size=5), st.integers(0, 3))
def test_an_epoch_is_a_function_of_draw_seed_and_number(
    rows: list[Row], config: Row, order: list[int], seed: int
) -> None:
    arm = "image_matched" if config["mode"] == "fixed" else "semantic"
    plan = planned(rows, seed, **config, arm=arm)
    once = {e: [a.tolist() for a in plan.epoch(e)] for e in order}
    fresh = planned(rows, seed, **config, arm=arm)
    for e in reversed(order):
        assert [a.tolist() for a in fresh.epoch(e)] == once[e]
    other = planned(rows, seed + 1, **config, arm=arm)
    assert other.manifest_hash == plan.manifest_hash
    assert other.epoch(0).occurrence.tolist() == plan.epoch(0).occurrence.tolist()


def test_one_picture_by_way_of_an_image_outside_the_pool() -> None:
    blank: Row = {"concept": None, "domain": None, "split": "train"}
    seen = [(None, "p0", "f0"), ("a/x", None, "f0"), ("a/x", None, "f2"), ("a/x", "p0", "f1")]
    rows: list[Row] = [
        {"image_id": str(i), "category": c, "pixel_hash": p, "file_hash": f, **blank}
        for i, (c, p, f) in enumerate(seen)
    ]
    config = PairsConfig(relation="same_category", mode="redrawn")
    plan = planned(rows, 2, relation="same_category", mode="redrawn")
    with tempfile.TemporaryDirectory() as place:
        save_with_baselines(Path(place) / "pairs", plan.catalog, config)
        again = planned(rows, 2, relation="listed", mode="redrawn", file=str(Path(place) / "pairs"))
        for e in range(20):
            drawn = again.epoch(e)
            assert {1, 3} not in [{a, b} for a, b in zip(drawn.anchor, drawn.partner, strict=True)]
            assert drawn.partner.tolist() == plan.epoch(e).partner.tolist()


@pytest.mark.parametrize(
    ("relation", "files", "categories"),
    [
        ("sibling", "f0 f1 f2 f1 f0", [None, None, "a/x", "a/x", "a/y"]),
        ("same_category", "f0 f1 f2 f1 f3", [None, None, "a/x", "a/x", "a/x"]),
    ],
)
def test_a_saved_pool_draws_alike_whatever_else_the_catalogue_holds(
    relation: str, files: str, categories: list[str | None]
) -> None:
    # The picture f1 is first met in an image without a category: in the catalogue, but not in the pool.
    labels = zip("01234", files.split(), categories, strict=True)
    blank: Row = {"concept": None, "domain": None, "split": "train", "pixel_hash": None}
    rows: list[Row] = [{"image_id": i, "file_hash": f, "category": c, **blank} for i, f, c in labels]
    plan = planned(rows, 2, relation=relation, mode="redrawn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pairs"
        save_with_baselines(folder, plan.catalog, PairsConfig(relation=relation, mode="redrawn"))
        again = planned(rows, 2, relation="listed", mode="redrawn", file=str(folder))
        for e in range(20):
            assert again.epoch(e).partner.tolist() == plan.epoch(e).partner.tolist()


@settings(several, max_examples=30)
@given(catalogs, configs, st.sampled_from([{}, {"mixed": 0.5}, {"corrupted": 0.5}]))
def test_a_saved_set_opens_equal_and_trains_alike(rows: list[Row], config: Row, change: Row) -> None:
    plan = planned(rows, 2, **config, **change)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pairs"
        written = save_with_baselines(folder, plan.catalog, PairsConfig(**config, **change))
        opened = PairSet.open(folder)
        assert opened.manifest_hash == written.manifest_hash == plan.manifest_hash
        assert opened.table.equals(written.table)
        again = planned(rows, 2, relation="listed", mode=config["mode"], file=str(folder))
        assert [a.tolist() for a in again.epoch(3)] == [a.tolist() for a in plan.epoch(3)]
        assert again.meaning.tolist() == plan.meaning.tolist()
        assert again.images.tolist() == plan.images.tolist()
        for field in ("manifest_hash", "anchor_hash", "class_histogram_hash"):
            assert getattr(again, field) == getattr(plan, field)
        if config["mode"] == "fixed":
            for arm in ("augmented", "image_matched"):
                baseline = planned(rows, **config, **change, arm=arm)
                assert PairSet.open(folder / arm).manifest_hash == baseline.manifest_hash


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_seed_changes_the_set(drawings: Catalog, relation: Any) -> None:
    hashes = {plan_pairs(drawings, PairsConfig(relation=relation, seed=s)).manifest_hash for s in range(5)}
    assert len(hashes) == 5
