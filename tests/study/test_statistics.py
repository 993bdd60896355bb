"""Paired statistics against hand-worked cases, SciPy, statsmodels, and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from sempairs.study.statistics import (
    ALPHA,
    BCA_COVERAGE,
    bca,
    compare,
    false_claims,
    group_coverage,
    holm,
    iqm,
    over_groups,
    paired_t,
    probability_of_improvement,
    seeds_needed,
    seeds_then_tasks,
    sign_flip,
    simulated_coverage,
    skewness,
    smallest_p,
)

rows = st.lists(st.floats(-20, 20, allow_nan=False), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([3.0], 1.0),  # one seed: both signs are as extreme
        ([1.0, 2.0], 0.5),  # sums 3 1 -1 -3: two of four
        ([1.0, 2.0, 3.0], 0.25),
        ([2.0, 2.0, -1.0], 0.5),  # observed 3; sums 5 3 1 1 -1 -1 -3 -5: four of eight
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2 / 64),
        ([5.0, 4.0, 3.0, 2.0, 1.0, -0.5], 4 / 64),  # only flipping .5 to + gives more
        ([0.0, 0.0, 0.0], 1.0),
        ([-1.0, -2.0, -3.0], 0.25),  # two-sided
        ([0.1, 0.2, -0.3], 1.0),  # sums to 0 but for the last bit
    ],
)
def test_sign_flip_by_hand(differences, p):
    assert sign_flip(differences) == pytest.approx(p, abs=1e-12)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=8))
def test_sign_flip_counts_every_assignment_of_signs(differences):
    total = abs(sum(differences))
    flips = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    expected = np.mean([s >= total for s in sums])
    # Eighths are not exact in tenths: ties must survive rounding.
    assert sign_flip([d / 10 for d in differences]) == pytest.approx(expected)


def test_sign_flip_equals_scipys_permutation_test():
    values = np.random.default_rng(3).normal(0.5, 1, 9)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip(values) == pytest.approx(theirs.pvalue)


@given(rows)
def test_p_is_symmetric_and_never_below_the_smallest(differences):
    assert sign_flip(differences) == pytest.approx(sign_flip([-d for d in differences]))
    assert smallest_p(len(differences)) <= sign_flip(differences) <= 1


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=9).filter(lambda d: np.std(d) > 1e-6))
def test_paired_t_equals_scipys(differences):
    ours = paired_t(differences)
    theirs = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(tuple(multipletests(p_values, method="holm")[1]))


def test_holm_by_hand():
    # .01*3, .03*2 and .04*1 raised to .06, as adjusted values never fall
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([]) == ()


def test_seeds_needed():
    assert smallest_p(3) == 0.25
    assert [smallest_p(n) for n in (5, 6, 8)] == [0.0625, 0.03125, 0.0078125]
    assert smallest_p(1) == 1.0
    assert seeds_needed() == 6
    assert seeds_needed(tests=7) == 9


def test_iqm_and_probability_of_improvement_by_hand():
    assert iqm([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]]) == 3.5  # the middle four: 2 3 4 5
    assert probability_of_improvement([[1.0, 0.0], [-1.0, 2.0]]) == 0.625


def test_intervals_are_none_where_undefined():
    one, same = compare([2.0]), compare([2.0, 2.0, 2.0])
    assert (one.t, one.bca, one.sd, one.p) == (None, None, None, 1.0)
    assert same.bca is None
    assert (same.t.low, same.t.high) == pytest.approx((2.0, 2.0))


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [[1.0, 2.0]]])
def test_what_is_no_row_of_numbers_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        sign_flip(bad)


def test_too_many_seeds_for_the_exact_test():
    with pytest.raises(ValueError, match="too many"):
        sign_flip(np.ones(25))


def test_paired_t_covers_as_promised_and_bca_as_documented():
    coverage = simulated_coverage(6, paired_t, trials=4000, seed=1)
    assert coverage == pytest.approx(0.95, abs=0.015)  # 4 standard errors
    for n in (3, 6):
        short = simulated_coverage(n, lambda d: bca(d, resamples=499), trials=400, seed=n)
        assert short == pytest.approx(BCA_COVERAGE[n], abs=0.08)


def test_the_claim_rule_keeps_its_error():
    """Without an effect, interval and exact test together claim one in at most 20 studies of eight seeds."""
    rng = np.random.default_rng(8)
    draws = rng.normal(0, 1, (3000, 8))
    claims = [sign_flip(d) < ALPHA and paired_t(d).excludes_zero() for d in draws]
    assert 0.02 < np.mean(claims) < 0.06
    # Five seeds can never claim, however large the effect.
    assert not any(sign_flip(d + 5) < ALPHA for d in rng.normal(0, 1, (50, 5)))


def test_power_at_a_large_effect():
    rng = np.random.default_rng(9)
    claims = [sign_flip(d) < ALPHA and paired_t(d).excludes_zero() for d in rng.normal(2.0, 1, (300, 8))]
    assert np.mean(claims) > 0.97


def test_resampling_whole_seeds_is_wider_where_seeds_differ():
    rng = np.random.default_rng(0)
    by_seed = rng.normal(0, 3, (8, 1)) + rng.normal(0, 0.1, (8, 5))
    independent = rng.permuted(by_seed, axis=0)
    wide = seeds_then_tasks(by_seed, lambda g: float(g.mean()), resamples=500)
    narrow = seeds_then_tasks(independent, lambda g: float(g.mean()), resamples=500)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_over_groups_is_the_jackknife_by_hand():
    # Means of pairs of 1, 2 and 6 are 4, 3.5 and 1.5: deviation sqrt(2/3 · 3.5) = 1.5275, t of two is 4.3027.
    found = over_groups([1.0, 2.0, 6.0], [1, 1, 1])
    assert (found.low, found.high) == pytest.approx((3 - 4.30265 * 1.52753, 3 + 4.30265 * 1.52753), abs=1e-4)
    # With groups of one size it is Student's interval of their means.
    values = np.random.default_rng(1).normal(0, 1, 12)
    ours, theirs = over_groups(7 * values, np.full(12, 7)), paired_t(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("groups", [5, 10])
def test_over_groups_covers_as_documented(groups):
    """Where it holds the truth least (very unequal groups, few of which gain), and most (equal, even)."""
    rng = np.random.default_rng(groups)
    held = np.zeros(2)
    for _ in range(600):
        counts = np.ceil(np.exp(rng.normal(2, 1, groups)))
        few = counts * np.where(rng.random(groups) < 0.15, 0.2, 0.0)
        even = counts.mean() * rng.normal(0.03, 0.1, groups)
        noise = rng.normal(0, 1, groups) * np.sqrt(counts / 30)
        cases = over_groups(few + noise, counts), over_groups(even, np.full(groups, counts.mean()))
        held += [interval.low <= 0.03 <= interval.high for interval in cases]
    least, most = group_coverage(groups)
    assert held / 600 == pytest.approx([least, most], abs=0.05)  # 4 standard errors
    assert group_coverage(7) == group_coverage(5) == group_coverage(2)
    assert group_coverage(1000) == group_coverage(100)


def test_false_claims_of_skewed_differences():
    """At most 5% where they are even; 6 to 10% where they are exponential."""
    for seeds in (6, 8, 12):
        assert false_claims(seeds, 0.0) < 0.06
        assert 0.05 < false_claims(seeds, 2.0) < 0.11
    assert false_claims(14, 2.0) > 1.3 * false_claims(14, 0.0)  # without the exact test
    assert false_claims(8, -2.0) == false_claims(8, 2.0)  # the rule knows no side


def test_skewness_of_few():
    assert skewness([1.0, 2.0]) is None
    assert skewness([2.0, 2.0, 2.0 + 1e-14]) is None
    assert skewness([0.0, 0.0, 3.0]) == pytest.approx(scipy.stats.skew([0, 0, 3], bias=False))


def test_over_groups_covers_the_choice_of_groups():
    """Groups drawn from a population of known ratio: the interval holds it about as often as it says."""
    rng = np.random.default_rng(4)
    held = []
    for _ in range(200):
        counts = rng.integers(1, 9, 60)
        sums = counts * (0.3 + rng.normal(0, 0.2, 60))
        found = over_groups(sums, counts)
        held.append(found.low <= 0.3 <= found.high)
    assert 0.89 < np.mean(held) < 0.985
    assert over_groups([1.0], [2]) is None
    same = over_groups([1.0, 2.0, 3.0], [2, 4, 6])
    assert (same.low, same.high) == (0.5, 0.5)
