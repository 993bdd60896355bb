"""What is claimed, and in which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.study.statistics import compare
from sempairs.study.verdict import judge, p_text, points, skew_texts


def verdict(differences):
    return judge(compare(differences), treatment="semantic", control="augmented", equivalence=0.5)


def test_three_seeds_are_too_few_whatever_they_say():
    said = verdict([10.8, 9.3, 13.5])
    assert said.kind == "too few seeds"
    assert not said.claims
    assert said.headline == (
        "semantic scored 11.2 points above augmented, but 3 seeds are too few to claim a difference"
    )
    assert "2/2³ = 0.250" in said.detail
    assert "at least 6 seeds" in said.detail


def test_one_seed():
    said = verdict([1.0])
    assert said.kind == "too few seeds"
    assert "no interval from one seed" in said.detail


def test_a_gain_and_a_loss():
    gain, loss = verdict([2.1, 2.4, 3.2, 1.9, 2.2, 2.8]), verdict([-2.1, -2.4, -3.2, -1.9, -2.2, -2.8])
    assert (gain.kind, loss.kind) == ("gain", "loss")
    assert gain.headline == "semantic beats augmented by 2.4 points"
    assert loss.headline == "semantic falls behind augmented by 2.4 points"
    assert "p = 0.031" in gain.detail
    assert "+1.9 to +2.9" in gain.detail


def test_no_claim_says_what_is_excluded():
    said = verdict([2.0, -1.5, 1.0, -0.5, 0.8, -1.2])
    assert said.kind == "no claim"
    assert "exclude (95%) a difference above +1.5 or below −1.3" in said.detail
    assert "equivalent" not in said.detail


def test_practically_the_same():
    said = verdict([0.1, -0.1, 0.05, -0.02, 0.04, -0.08])
    assert said.kind == "no claim"
    assert "practically equivalent (within ±0.5 points)" in said.detail


def test_an_interval_alone_is_not_enough():
    # t: 2.4 ± 1.5. Only flipping the last sign gives as much: p = 4/64.
    said = verdict([3.0, 3.0, 3.0, 3.0, 3.0, -0.5])
    assert said.kind == "no claim"
    assert "above 0, but the exact test does not reach p < 0.05" in said.detail


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9))
def test_a_claim_needs_both_interval_and_test(differences):
    c = compare(differences)
    said = judge(c, treatment="a", control="b", equivalence=0.5)
    both = c.t is not None and c.t.excludes_zero() and c.p < 0.05
    assert said.claims == both
    if said.kind == "gain":
        assert c.mean > 0


@pytest.mark.parametrize(
    ("value", "text"), [(2.64, "+2.6"), (-0.44, "−0.4"), (0.04, "±0.0"), (-0.01, "±0.0")]
)
def test_points(value, text):
    assert points(value) == text


def test_small_p_is_not_rounded_to_zero():
    assert p_text(0.0002) == "< 0.001"


def test_a_claim_comes_with_what_skewness_does_to_it():
    skewed = compare([0.2, 0.3, 0.3, 0.4, 0.2, 0.3, 2.9, 0.5])
    claimed = judge(skewed, treatment="a", control="b", equivalence=0.5)
    (said,) = skew_texts(skewed)
    assert "skewness of the 8 differences is +2.8" in said
    rates = [float(rate) for rate in re.findall(r"(\d+\.\d)%", said)]
    assert 8 < rates[1] < rates[0] < 16
    even = compare([2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    assert judge(even, treatment="a", control="b", equivalence=0.5).caveats[-1] == skew_texts(even)[0]
    assert "is +0.0" in skew_texts(even)[0]
    assert (said in claimed.caveats) == claimed.claims
    assert not any(
        "skewness" in caveat
        for caveat in judge(
            compare([1.0, -1.0, 0.5, -0.4, 0.2, -0.3]), treatment="a", control="b", equivalence=0.5
        ).caveats
    )
