"""The hashes of a plan, made without its tables, are those of the tables; large catalogues give the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog, table
from sempairs.config import validate
from sempairs.pairs import fingerprint, index
from sempairs.pairs.config import PairsSection
from sempairs.pairs.index import ImageIndex, components
from sempairs.pairs.manifest import rows_hash
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.select import select
from sempairs.pairs.table import PairSet

Make = Callable[..., Catalog]
# Blanks, quotes, backslashes, control characters and ids that begin others: what sorts otherwise in JSON.
ODD = ["a", "a b", "a!", 'a"', "a#", "a\\", "a\n", "aa", "ä", "a€", "z", "\x7f", "Z 1", "~", "a\u2028", "a𝄞"]
SETS: list[dict[str, Any]] = [
    {"relation": "same_category"},
    {"relation": "same_category", "corrupted": 0.5},
    {"relation": "same_category", "mixed": 0.5},
    {"relation": "same_category", "mode": "redrawn"},
    {"relation": "same_category", "mode": "redrawn", "count": 8},
    {"relation": "same_category", "mode": "redrawn", "corrupted": 0.25},
    {"relation": "same_category", "mode": "redrawn", "corrupted": 1.0},
    {"relation": "sibling", "mode": "redrawn"},
    {"relation": "cross_domain", "mode": "redrawn", "mixed": 0.5},
    {"relation": "cross_domain"},
    {"relation": "random_same_category", "mode": "redrawn"},
    {"relation": "augmented"},
    {"relation": "augmented", "mode": "redrawn"},
]


@pytest.fixture(params=["plain", "blanks", "odd"])
def images(request: pytest.FixtureRequest, make: Make, drawings: Catalog) -> Catalog:
    if request.param == "plain":
        return drawings
    names = ODD if request.param == "odd" else [f"{a}{b}" for a in "xyz" for b in ("", " a", "!", "a", "#")]
    names = names[: len(names) // 2 * 2]
    labels = {"category": [f'top {i % 2}/"leaf" {i % 4}' for i in range(len(names))]}
    labels |= {"concept": [f"c{i // 2}" for i in range(len(names))], "domain": ["x", "y"] * (len(names) // 2)}
    return make(names, **labels)


@pytest.mark.parametrize("given", SETS, ids=str)
def test_the_manifest_hash_is_that_of_the_table(images: Catalog, given: dict[str, Any]) -> None:
    config = validate(PairsSection, {"pairs": given}).pairs
    selection = select(ImageIndex(images), config)
    arms = ["semantic", "augmented"] + ["image_matched"] * (config.mode == "fixed")
    found = {arm: fingerprint.manifest_hash(selection, arm) for arm in arms}
    assert found == {arm: PairSet.of(selection, arm).manifest_hash for arm in arms}
    plan = plan_pairs(images, config)
    ids = ImageIndex(images).ids
    anchors = [[ids[item]] for item in np.tile(plan.selection.anchor, 2)]
    assert plan.anchor_hash == rows_hash({"anchors": 1}, anchors)
    classes = [name or "" for name in plan.selection.category.texts()]
    assert plan.class_histogram() == {name: classes.count(name) for name in sorted(set(classes))}


def test_lists_are_hashed_as_their_tables(tmp_path: Path, drawings: Catalog) -> None:
    ids = drawings.column("image_id")
    lines = ["anchor,partner", *(f"{ids[i]},{ids[i + 3]}" for i in range(20))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    for mode in ("fixed", "redrawn"):
        given = {"relation": "listed", "file": str(tmp_path / "list.csv"), "mode": mode}
        selection = select(ImageIndex(drawings), validate(PairsSection, {"pairs": given}).pairs)
        for arm in ("semantic", "augmented"):
            assert fingerprint.manifest_hash(selection, arm) == PairSet.of(selection, arm).manifest_hash


@pytest.mark.parametrize("given", SETS, ids=str)
def test_a_large_catalogue_left_on_disk_gives_the_same_plan(
    drawings: Catalog, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = validate(PairsSection, {"pairs": given}).pairs
    order = np.random.default_rng(0).permutation(len(drawings))
    small = plan_pairs(drawings.select(order[:30]), config, draw_seed=1)
    drawings.save(tmp_path / "catalog.arrow")
    for module in (table, fingerprint):
        monkeypatch.setattr(module, "_PIECE", 7)
    monkeypatch.setattr(table, "_LAZY_ROWS", 0)
    chosen = Catalog.open(tmp_path / "catalog.arrow").select(order[:30])
    assert chosen.rows is not None and "table" not in vars(chosen)
    large = plan_pairs(chosen, config, draw_seed=1)
    assert (large.manifest_hash, large.anchor_hash) == (small.manifest_hash, small.anchor_hash)
    assert large.class_histogram() == small.class_histogram()
    for epoch in range(2):
        for one, other in zip(small.epoch(epoch), large.epoch(epoch), strict=True):
            assert np.array_equal(one, other) and one.dtype == other.dtype == np.int64
    assert np.array_equal(small.meaning, large.meaning) and np.array_equal(small.images, large.images)
    assert "table" not in vars(chosen)  # nothing has copied it into memory


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from(["x", "y", None]), max_size=12)
)
def test_pictures_are_found_by_what_is_repeated(files: list[str], pixels: list[str | None]) -> None:
    n = min(len(files), len(pixels))
    columns = {
        "image_id": [f"{i:02d}" for i in range(n)], "file_hash": files[:n], "pixel_hash": pixels[:n],
        "uri": ["u"] * n, "width": [1] * n, "height": [1] * n, "source": ["s"] * n,
    }  # fmt: skip
    images = ImageIndex(Catalog.from_columns(columns))
    by_label = [images.labels(name).codes for name in ("file_hash", "pixel_hash")]
    assert np.array_equal(images.picture, components(n, *by_label))
    groups = [{i} for i in range(n)]
    for i in range(n):
        for j in range(i):
            if files[i] == files[j] or (pixels[i] is not None and pixels[i] == pixels[j]):
                joined = groups[i] | groups[j]
                for item in joined:
                    groups[item] = joined
    assert images.picture.tolist() == [min(group) for group in groups]
    assert index.small_int(2**31 - 1) is np.int32 and index.small_int(2**31) is np.int64
