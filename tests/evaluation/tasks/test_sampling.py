"""Subsets, folds and holdouts: whole units, every class, and the same for any order of the images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sempairs.evaluation.tasks import sampling


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, list[str], list[str]]:
    """Labels, units and ids of some images; a unit's images share a label."""
    units = draw(st.lists(st.integers(1, 3), min_size=1, max_size=40))
    label_of = draw(st.lists(st.integers(0, 4), min_size=len(units), max_size=len(units)))
    of = np.repeat(np.arange(len(units)), units)
    names = [f"unit {u}" for u in of]
    return np.array(label_of)[of], names, [f"image {i}" for i in range(len(of))]


def shuffled(seed: int, *columns: Any) -> tuple[np.ndarray, list[Any]]:
    order = np.random.default_rng(seed).permutation(len(columns[0]))
    return order, [np.asarray(column)[order] for column in columns]


@given(labelled(), st.integers(1, 60), st.integers(0, 5), st.integers(0, 99))
def test_subset_has_n_images_and_loses_no_class(data: Any, n: int, seed: int, shuffle: int) -> None:
    labels, _, ids = data
    mask = sampling.subset(labels, ids, n, seed=seed)
    assert mask.sum() == min(n, len(ids))
    if n >= len(set(labels)):
        assert set(labels[mask]) == set(labels)
    for label, size in Counter(
        labels.tolist()
    ).items():  # in proportion, to a whole image and the first of each
        share = n * size / len(ids)
        assert (labels[mask] == label).sum() <= max(1, np.ceil(share) + 1)
    order, (moved_labels, moved_ids) = shuffled(shuffle, labels, ids)
    assert np.array_equal(sampling.subset(moved_labels, moved_ids.tolist(), n, seed=seed), mask[order])


def test_subset_keeps_proportions_and_rare_classes() -> None:
    strata, ids = np.repeat([0, 1, 2], [300, 96, 4]), [f"{i}" for i in range(400)]
    counts = np.bincount(strata[sampling.subset(strata, ids, 40, seed=0)])
    assert counts.tolist() == [29, 10, 1]


def test_a_larger_subset_holds_the_smaller_one() -> None:
    labels, ids = np.repeat([0, 1, 2], [50, 30, 5]), [f"{i}" for i in range(85)]
    small, large = (sampling.subset(labels, ids, n, seed=3) for n in (20, 50))
    assert not (small & ~large).any()


@given(labelled(), st.integers(3, 5), st.integers(0, 3), st.integers(0, 99))
def test_folds_keep_units_whole_and_classes_even(data: Any, count: int, repeat: int, shuffle: int) -> None:
    labels, units, _ = data
    place = sampling.folds(labels, units, count, seed=0, repeat=repeat)
    folds_of: dict[str, set[int]] = {}
    for unit, fold in zip(units, place.tolist(), strict=True):
        folds_of.setdefault(unit, set()).add(fold)
    assert all(len(found) == 1 for found in folds_of.values())
    first = {unit: int(label) for unit, label in zip(units, labels, strict=True)}
    for label in set(first.values()):
        per_fold = Counter(next(iter(folds_of[u])) for u, own in first.items() if own == label)
        spread = [per_fold[k] for k in range(count)]
        assert max(spread) - min(spread) <= 1
    order, (moved_labels, moved_units) = shuffled(shuffle, labels, units)
    moved = sampling.folds(moved_labels, moved_units.tolist(), count, seed=0, repeat=repeat)
    assert np.array_equal(moved, place[order])


def test_repeats_and_seeds_give_other_folds() -> None:
    labels, units = np.zeros(60, dtype=np.int64), [f"{i}" for i in range(60)]
    made = [sampling.folds(labels, units, 5, seed=s, repeat=r) for s, r in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@given(labelled(), st.floats(0.05, 0.6), st.integers(0, 99))
def test_holdout_takes_whole_units_and_leaves_every_class(data: Any, fraction: float, shuffle: int) -> None:
    labels, units, _ = data
    mask = sampling.holdout(labels, units, fraction, seed=0)
    inside = {unit for unit, held in zip(units, mask, strict=True) if held}
    assert not inside & {unit for unit, held in zip(units, mask, strict=True) if not held}
    assert set(labels[~mask]) == set(labels)
    for label in set(labels.tolist()):
        several = len({u for u, own in zip(units, labels, strict=True) if own == label}) >= 2
        assert (mask & (labels == label)).any() == several
    order, (moved_labels, moved_units) = shuffled(shuffle, labels, units)
    assert np.array_equal(sampling.holdout(moved_labels, moved_units.tolist(), fraction, seed=0), mask[order])
