"""Agreement against scikit-learn and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_reference

from sempairs.metrics.agreement import cohen_kappa, fleiss_kappa, pairwise_agreement, percent_agreement

WORDS = st.sampled_from(["yes", "no", "unsure"])
COUPLES = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40)


@given(COUPLES)
def test_two_raters_as_in_scikit_learn(couples):
    first, second = ([couple[i] for couple in couples] for i in (0, 1))
    assert percent_agreement(first, second) == pytest.approx(np.mean([a == b for a, b in couples]))
    ours = cohen_kappa(first, second)
    if len({*first, *second}) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@given(
    st.integers(2, 5).flatmap(
        lambda m: st.lists(st.lists(WORDS, min_size=m, max_size=m), min_size=1, max_size=30)
    )
)
def test_many_raters_as_in_statsmodels(rows):
    counts = np.array([[row.count(word) for word in ("yes", "no", "unsure")] for row in rows])
    ours = fleiss_kappa(counts)
    if (counts.sum(0) > 0).sum() == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(fleiss_reference(counts, method="fleiss"), abs=1e-12)


@given(st.lists(st.lists(WORDS, max_size=5), min_size=1, max_size=20))
def test_couples_counted_one_by_one(rows):
    counts = np.array([[row.count(word) for word in ("yes", "no", "unsure")] for row in rows])
    equal = [a == b for row in rows for i, a in enumerate(row) for b in row[i + 1 :]]
    assert pairwise_agreement(counts) == (pytest.approx(np.mean(equal)) if equal else None)


def test_known_values():
    # Chance agreement of 0.5 from even margins; 3 of 4 agree.
    assert cohen_kappa(["y", "y", "n", "n"], ["y", "y", "n", "y"]) == pytest.approx(0.5)
    assert cohen_kappa([1, 0], [0, 1]) == -1
    # Each rater always says one thing, but not the same one: chance explains all of it.
    assert cohen_kappa([1, 1], [0, 0]) == 0
    assert fleiss_kappa([[2, 0], [0, 2]]) == 1


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_unequal_or_empty_labels_are_refused(first, second):
    for metric in (percent_agreement, cohen_kappa):
        with pytest.raises(ValueError, match="one length"):
            metric(first, second)


def test_counts_that_are_none_are_refused():
    with pytest.raises(ValueError, match="same number of raters"):
        fleiss_kappa([[2, 0], [1, 0]])
    with pytest.raises(ValueError, match="same number of raters"):
        fleiss_kappa([[1, 0]])
    for counts in ([[0.5, 1.5]], [[-1, 3]], [1, 2]):
        with pytest.raises(ValueError, match="whole numbers"):
            pairwise_agreement(counts)
