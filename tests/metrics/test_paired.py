"""McNemar and the bootstrap over units: against other implementations, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from sempairs.metrics import mcnemar, unit_bootstrap


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_statsmodels(hits: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(side) for side in zip(*hits, strict=True))
    found = mcnemar(a, b)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    if found.first_only + found.second_only:
        assert found.p == pytest.approx(float(reference(table, exact=True).pvalue))
    else:
        assert found.p == 1
    assert mcnemar(b, a) == type(found)(found.second_only, found.first_only, found.p)


def test_mcnemar_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="second"):
        mcnemar([True, False], [True])


@given(st.integers(0, 20))
@settings(max_examples=10)
def test_intervals_of_lone_units_are_near_the_normal_ones(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=300)
    low, high = unit_bootstrap(values, np.arange(300), draws=2000)
    half = stats.norm.ppf(0.975) * values.std() / np.sqrt(300)
    assert low == pytest.approx(values.mean() - half, abs=0.25 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.25 * half)
    assert unit_bootstrap(values, np.arange(300), draws=2000) == (low, high)


def test_units_that_go_together_make_the_interval_wider() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=30), 10)
    alone, together = (
        unit_bootstrap(values, np.arange(300)),
        unit_bootstrap(values, np.repeat(np.arange(30), 10)),
    )
    ratio = (together[1] - together[0]) / (alone[1] - alone[0])
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)
    assert unit_bootstrap(np.ones(4), [0, 0, 1, 2]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        unit_bootstrap([], [])
