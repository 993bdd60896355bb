"""Drawing, matching and labels on numbers, against slow definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs import keyed
from sempairs.pairs.draw import GroupDraws, ListDraws
from sempairs.pairs.index import Labels, components, runs
from sempairs.pairs.matching import _across_blocks, disjoint_pairs, exchange

triples = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=60
).map(lambda rows: tuple(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)))
quick = settings(max_examples=100, deadline=None)


@quick
@given(triples)
def test_group_draws_number_exactly_the_valid_partners(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    group, block, picture = columns
    draws = GroupDraws(group, block, picture)
    for i in range(len(group)):
        fits = (group == group[i]) & (block != block[i]) & (picture != picture[i]) & (group >= 0)
        expected = np.flatnonzero(fits).tolist() if group[i] >= 0 else []
        assert draws.count[i] == len(expected)
        picked = draws.pick(np.full(len(expected), i), np.arange(len(expected)))
        assert sorted(picked.tolist()) == expected


def test_drawn_partners_are_uniform() -> None:
    # Six images in three blocks, one copy across blocks: item 0 may go with 2, 4 and 5.
    group, block = np.zeros(6, dtype=np.int64), np.array([0, 0, 1, 1, 2, 2])
    picture = np.array([0, 1, 2, 0, 3, 4])
    draws = GroupDraws(group, block, picture)
    items = np.zeros(30_000, dtype=np.int64)
    k = keyed.integers(1, "pairing", high=draws.count[items], occurrence=np.arange(len(items)))
    counts = np.bincount(draws.pick(items, k), minlength=6)
    assert counts[[0, 1, 3]].tolist() == [0, 0, 0]
    assert (np.abs(counts[[2, 4, 5]] - 10_000) < 400).all()


@quick
@given(triples, st.integers(0, 5))
def test_matching_is_disjoint_valid_and_leaves_no_valid_pair(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> None:
    group, block, picture = columns
    key = keyed.text_key(seed, "pairs", [str(i) for i in range(len(group))])
    anchor, partner = disjoint_pairs(group, block, picture, key, seed=seed)
    used = np.concatenate([anchor, partner])
    assert len(np.unique(used)) == len(used)
    assert (np.diff(anchor) > 0).all()
    assert (group[anchor] == group[partner]).all() and (group[anchor] >= 0).all()
    assert (block[anchor] != block[partner]).all() and (picture[anchor] != picture[partner]).all()
    free = np.setdiff1d(np.flatnonzero(group >= 0), used)
    for i in free:
        fits = (group[free] == group[i]) & (block[free] != block[i]) & (picture[free] != picture[i])
        assert not fits.any()
    for g in set(group.tolist()) - {-1}:
        n, largest = int((group == g).sum()), int(np.bincount(block[group == g]).max())
        if len(set(picture[group == g].tolist())) == n:
            assert int((group[anchor] == g).sum()) == min(n // 2, n - largest)


@quick
@given(triples)
def test_pairs_across_blocks_reach_the_bound_before_any_exchange(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    group, block, _ = columns
    left, right = _across_blocks(
        group, block, keyed.text_key(0, "pairs", [str(i) for i in range(len(group))])
    )
    assert (block[left] != block[right]).all() and (group[left] == group[right]).all()
    used = np.concatenate([left, right])
    assert len(np.unique(used)) == len(used)
    for g in set(group.tolist()) - {-1}:
        n, largest = int((group == g).sum()), int(np.bincount(block[group == g]).max())
        assert int((group[left] == g).sum()) == min(n // 2, n - largest)


def test_a_placeholder_picture_in_every_block_costs_only_its_own_pairs() -> None:
    # Twenty blocks; in each the same picture and one of its own: still everything is paired.
    group, block = np.zeros(40, dtype=np.int64), np.repeat(np.arange(20), 2)
    picture = np.where(np.arange(40) % 2 == 0, 100, np.arange(40))
    key = keyed.text_key(0, "pairs", [str(i) for i in range(40)])
    anchor, partner = disjoint_pairs(group, block, picture, key, seed=0)
    assert len(anchor) == 20
    assert (picture[anchor] != picture[partner]).all()


@quick
@given(triples, st.booleans())
def test_exchanges_keep_the_images_and_never_add_an_unfit_pair(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray], turn: bool
) -> None:
    group, block, _ = columns
    order = np.argsort(group, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order) if group[a] == group[b]][::2]
    left, right = (
        np.array(side, dtype=np.int64) for side in (zip(*pairs, strict=True) if pairs else ((), ()))
    )
    bad = lambda a, b: block[a] == block[b]  # noqa: E731
    new_left, new_right = exchange(left, right, group[left], bad, seed=0, slot=0, turn=turn)
    assert bad(new_left, new_right).sum() <= bad(left, right).sum()
    assert sorted([*new_left, *new_right]) == sorted([*left, *right])
    assert (group[new_left] == group[new_right]).all()
    if not turn:
        assert new_left.tolist() == left.tolist()


def test_list_draws_go_both_ways() -> None:
    draws = ListDraws(4, np.array([0, 1]), np.array([1, 3]))
    assert draws.count.tolist() == [1, 2, 0, 1]
    assert draws.pick(np.array([0, 1, 1, 3]), np.array([0, 0, 1, 0])).tolist() == [1, 0, 3, 1]


def test_components_follow_links_to_the_end() -> None:
    none = np.array([-1] * 5)
    assert components(5).tolist() == [0, 1, 2, 3, 4] == components(5, none).tolist()
    linked = components(5, np.array([7, -1, 7, -1, 3]), np.array([-1, 0, 0, -1, -1]))
    assert linked.tolist() == [0, 0, 0, 3, 4]
    assert components(5, edges=[(np.array([3]), np.array([4]))]).tolist() == [0, 1, 2, 3, 3]


def test_runs_and_labels() -> None:
    start, length = runs(np.array([1, 1, 2, 2, 2]), np.array([0, 0, 0, 1, 1]))
    assert start.tolist() == [0, 0, 2, 3, 3]
    assert length.tolist() == [2, 2, 1, 2, 2]
    labels = Labels(np.array([1, -1, 0, 1]), ("a/b", "a/c"))
    assert labels.renamed(lambda name: name.split("/")[0]).codes.tolist() == [0, -1, 0, 0]
    assert labels.counts() == {"a/b": 1, "a/c": 2}
    other = Labels(np.array([0, 0, 0, 0]), ("zz",))
    assert labels.otherwise(other).texts() == ["a/c", "zz", "a/b", "a/c"]
