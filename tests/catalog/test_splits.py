"""Splits: keyed, stratified, groups whole, independent of row order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.splits import assign_splits
from sempairs.errors import UserError


def catalog_of(categories: Sequence[str | None], **more: Any) -> Catalog:
    n = len(categories)
    return Catalog.from_columns(
        {
            "image_id": [f"set/{i:04d}" for i in range(n)],
            "file_hash": [f"hash-{i}" for i in range(n)],
            "uri": [str(i) for i in range(n)],
            "width": [1] * n,
            "height": [1] * n,
            "source": ["x"] * n,
            "category": list(categories),
            **more,
        }
    )


def by_id(catalog: Catalog) -> dict[str, str]:
    return dict(zip(catalog.column("image_id"), catalog.column("split"), strict=True))


def test_fractions_hold_in_each_category() -> None:
    split = assign_splits(catalog_of(["a"] * 100 + ["b"] * 20 + [None] * 40))
    counts = Counter(zip(split.column("category"), split.column("split"), strict=True))
    assert [counts["a", s] for s in ("train", "validation", "test")] == [70, 15, 15]
    assert [counts["b", s] for s in ("train", "validation", "test")] == [14, 3, 3]
    assert [counts[None, s] for s in ("train", "validation", "test")] == [28, 6, 6]


@pytest.mark.parametrize("each", [2, 3, 4, 5, 7, 11])
def test_fractions_hold_over_small_categories(each: int) -> None:
    split = assign_splits(catalog_of([f"c{i}" for i in range(200) for _ in range(each)]))
    counts = Counter(split.column("split"))
    n = 200 * each
    for name, fraction in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        assert abs(counts[name] - fraction * n) <= 2
    # Every category can be learnt.
    assert (
        len({c for c, s in zip(split.column("category"), split.column("split"), strict=True) if s == "train"})
        == 200
    )


def test_single_images_are_for_training() -> None:
    split = assign_splits(catalog_of([f"c{i}" for i in range(50)]))
    assert set(split.column("split")) == {"train"}


def test_other_fractions_and_seeds() -> None:
    catalog = catalog_of(["a"] * 40)
    assert Counter(assign_splits(catalog, (0.5, 0, 0.5)).column("split")) == {"train": 20, "test": 20}
    assert Counter(assign_splits(catalog, (0, 0, 1)).column("split")) == {"test": 40}
    assert Counter(assign_splits(catalog_of(["a"]), (0, 0, 1)).column("split")) == {"test": 1}
    assert by_id(assign_splits(catalog, seed=1)) == by_id(assign_splits(catalog, seed=1))
    assert by_id(assign_splits(catalog, seed=1)) != by_id(assign_splits(catalog, seed=2))


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_fractions_that_are_none(fractions: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="three numbers from 0 that add up to 1"):
        assign_splits(catalog_of(["a"] * 4), fractions)


def test_given_splits_are_left_alone() -> None:
    catalog = catalog_of(["a"] * 10, split=["test"] + [None] * 9)
    assert assign_splits(catalog) is catalog
    assert len(assign_splits(catalog_of([]))) == 0


def test_images_that_belong_together_stay_together() -> None:
    # 0-1 by group, 1-2 by file, 2-3 by pixels: one set, over two categories.
    catalog = catalog_of(
        ["a", "a", "b", "b"] + ["a"] * 20 + ["b"] * 20,
        split_group=["g", "g"] + [None] * 42,
        file_hash=["f0", "f1", "f1", "f3"] + [f"h{i}" for i in range(40)],
        pixel_hash=[None, None, "p", "p"] + [f"q{i}" for i in range(40)],
    )
    seen = set()
    for seed in range(20):
        split = assign_splits(catalog, seed=seed).column("split")
        assert len(set(split[:4])) == 1
        seen.add(split[0])
    assert len(seen) > 1


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]),
        st.none() | st.integers(0, 4).map(str),
        st.integers(0, 60).map(str),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(rows, st.randoms(use_true_random=False), st.integers(0, 3))
def test_order_of_rows_does_not_matter_and_groups_are_whole(
    content: list[tuple[str | None, str | None, str]], random: Any, seed: int
) -> None:
    categories, groups, hashes = zip(*content, strict=True)
    catalog = catalog_of(categories, split_group=list(groups), file_hash=list(hashes))
    order = list(range(len(catalog)))
    random.shuffle(order)
    split = assign_splits(catalog, seed=seed)
    assert by_id(assign_splits(catalog.select(order), seed=seed)) == by_id(split)
    for name in ("split_group", "file_hash"):
        values = split.column(name)
        for value in set(values) - {None}:
            assert len(set(split.column("split")[values == value])) == 1
    # Nothing else has changed.
    assert split.with_column("split", [None] * len(split)) == catalog


def test_large_groups_are_not_favoured() -> None:
    catalog = catalog_of(["a"] * 60, split_group=["g"] * 10 + [None] * 50)
    drawn = Counter(assign_splits(catalog, seed=seed).column("split")[0] for seed in range(200))
    # Where the middle of the group falls: on average in the same place as any image's.
    assert 0.6 < drawn["train"] / 200 < 0.8
    assert min(drawn["validation"], drawn["test"]) > 10


def test_the_draw_is_fixed_for_good() -> None:
    """Splits are part of what a number was measured on: this must never change."""
    split = assign_splits(catalog_of(["a"] * 12, split_group=["g"] * 3 + [None] * 9), seed=7)
    code = {"train": "t", "validation": "v", "test": "e"}
    assert "".join(code[s] for s in split.column("split")) == "eeetttttvttt"


def test_large_groups_do_not_empty_the_other_splits() -> None:
    catalog = catalog_of(["a"] * 60, split_group=[f"g{i // 6}" for i in range(60)])
    counts = Counter(assign_splits(catalog).column("split"))
    assert all(np.array(list(counts.values())) % 6 == 0)
    assert set(counts) == {"train", "validation", "test"}
