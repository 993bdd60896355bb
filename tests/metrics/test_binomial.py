from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from sempairs.metrics.binomial import clopper_pearson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_it_is_scipys_exact_interval(counts: tuple[int, int], confidence: float) -> None:
    hits, n = counts
    ours = clopper_pearson(hits, n, confidence=confidence)
    theirs = binomtest(hits, n).proportion_ci(confidence, method="exact")
    assert ours[:3] == (hits, n, hits / n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_its_ends_are_where_the_tails_hold_half_of_the_rest() -> None:
    found = clopper_pearson(7, 60)
    assert found.low is not None and found.high is not None
    assert binom.sf(6, 60, found.low) == pytest.approx(0.025)
    assert binom.cdf(7, 60, found.high) == pytest.approx(0.025)


def test_nothing_and_everything_and_no_trial() -> None:
    assert clopper_pearson(0, 0) == (0, 0, None, None, None)
    assert clopper_pearson(0, 10).low == 0 and clopper_pearson(10, 10).high == 1
    assert clopper_pearson(0, 100).high == pytest.approx(1 - 0.025 ** (1 / 100))
