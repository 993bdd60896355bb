"""Category paths as a tree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.taxonomy import Taxonomy, ancestor, codes, depth, parent, segments, top
from sempairs.errors import UserError

PATHS = ["animal/mammal/cat", "animal/mammal/dog", "animal/bird/owl", "animal", "plant/rose", "stone"]
paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


def of_categories(categories: list[str | None]) -> Catalog:
    n = len(categories)
    names = [str(i) for i in range(n)]
    return Catalog.from_columns(
        {
            "image_id": names,
            "file_hash": names,
            "uri": names,
            "width": [1] * n,
            "height": [1] * n,
            "source": ["x"] * n,
            "category": categories,
        }
    )


def test_steps_up() -> None:
    assert segments(PATHS[0]) == ("animal", "mammal", "cat")
    assert depth(PATHS[0]) == 3
    assert parent(PATHS[0]) == "animal/mammal"
    assert parent("stone") == ""
    assert top(PATHS[0]) == "animal"
    assert [ancestor(PATHS[0], at) for at in range(5)] == ["", "animal", "animal/mammal", PATHS[0], PATHS[0]]


@pytest.mark.parametrize("path", ["", "/", "a//b", "/a", "a/", "a/ /b"])
def test_paths_with_empty_names_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="category must be a path of names"):
        Taxonomy.of([path])


def test_negative_depth_is_refused() -> None:
    with pytest.raises(UserError, match="depth must be 0 or more, got -1"):
        ancestor("a", -1)


def test_nodes_and_leaves() -> None:
    tree = Taxonomy.of([*PATHS, None, *PATHS])
    assert tree.leaves == tuple(sorted(PATHS))
    assert len(tree) == 6
    assert tree.nodes(0) == ("",)
    assert tree.nodes(1) == ("animal", "plant", "stone")
    assert tree.under("animal/mammal") == ("animal/mammal/cat", "animal/mammal/dog")
    assert tree.under("animal") == ("animal", "animal/bird/owl", "animal/mammal/cat", "animal/mammal/dog")
    assert tree.under("anim") == ()
    assert tree.under("") == tree.leaves


def test_siblings() -> None:
    tree = Taxonomy.of(PATHS)
    assert tree.siblings()["animal/mammal/cat"] == ("animal/mammal/dog",)
    assert tree.siblings()["animal/bird/owl"] == ()
    assert tree.siblings()["stone"] == ("animal",)
    assert tree.siblings(1)["animal/mammal/cat"] == ("animal/bird/owl", "animal/mammal/dog")
    assert tree.siblings(1)["animal"] == ()
    assert tree.siblings(2)["plant/rose"] == ()
    assert len(tree.siblings(0)["stone"]) == 5


@settings(deadline=None)
@given(st.lists(paths, max_size=12), st.integers(0, 4) | st.none())
def test_siblings_are_symmetric_and_share_their_ancestor(leaves: list[str], at: int | None) -> None:
    siblings = Taxonomy.of(leaves).siblings(at)
    assert sorted(siblings) == sorted(set(leaves))
    for leaf, others in siblings.items():
        assert leaf not in others
        for other in others:
            assert leaf in siblings[other]
            if at is None:
                assert parent(leaf) == parent(other)
            else:
                assert ancestor(leaf, at) == ancestor(other, at)


@settings(deadline=None)
@given(st.lists(st.none() | paths, max_size=12), st.integers(0, 4) | st.none())
def test_codes_number_the_names(categories: list[str | None], at: int | None) -> None:
    numbers, names = codes(of_categories(categories), at)
    assert numbers.dtype == np.int64
    assert list(names) == sorted(set(names))
    for category, number in zip(categories, numbers, strict=True):
        if category is None:
            assert number == -1
        else:
            assert names[number] == (category if at is None else ancestor(category, at))


def test_of_a_catalogue() -> None:
    make: Callable[[list[str | None]], Catalog] = of_categories
    assert Taxonomy.of(make(["b", None, "a", "b"])).leaves == ("a", "b")
    assert Taxonomy.of(make([None])).leaves == ()
