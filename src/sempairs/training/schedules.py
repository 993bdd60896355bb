"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def warm_up_cosine(step: int, *, total: int, warm_up: int, final: float = 0.0) -> float:
    """Factor on the peak learning rate at `step` (from 0): linear rise, then half a cosine down.

    The first `warm_up` steps rise as (step + 1) / warm_up, so that no step has a zero rate and step
    warm_up - 1 reaches 1; the rest follows Loshchilov and Hutter 2017, arXiv:1608.03983, Eq. 5, from 1 to
    `final`.
    """
    assert 0 <= step < total
    assert 0 <= warm_up <= total
    assert 0 <= final <= 1
    if step < warm_up:
        return (step + 1) / warm_up
    fraction = (step - warm_up) / max(1, total - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * fraction))
