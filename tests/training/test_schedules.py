from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.training.schedules import warm_up_cosine


@given(st.integers(1, 5000), st.data())
def test_it_rises_to_one_and_falls_to_the_final_factor(total: int, data: st.DataObject) -> None:
    warm_up = data.draw(st.integers(0, total))
    final = data.draw(st.floats(0, 1))
    step = data.draw(st.integers(0, total - 1))
    value = warm_up_cosine(step, total=total, warm_up=warm_up, final=final)
    assert min(final, 1 / max(1, warm_up)) - 1e-12 <= value <= 1
    assert value > 0 or final == 0
    if step:
        before = warm_up_cosine(step - 1, total=total, warm_up=warm_up, final=final)
        assert value >= before if step <= warm_up else value <= before
    if warm_up:
        assert warm_up_cosine(warm_up - 1, total=total, warm_up=warm_up, final=final) == 1


def test_values_by_hand() -> None:
    got = [warm_up_cosine(step, total=6, warm_up=2) for step in range(6)]
    want = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    assert got == pytest.approx(want, abs=1e-15)
    assert warm_up_cosine(9, total=10, warm_up=0, final=1.0) == 1.0
