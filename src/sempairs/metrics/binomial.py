"""Exact interval of a proportion."""

from __future__ import annotations

from typing import NamedTuple


class Proportion(NamedTuple):
    """hits of n, their share, and the exact interval low to high; all three None where n is 0."""

    hits: int
    n: int
    rate: float | None
    low: float | None
    high: float | None


def clopper_pearson(hits: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """The exact two-sided binomial interval. Clopper and Pearson 1934, "The use of confidence or fiducial
    limits illustrated in the case of the binomial".

    Covers the true share with at least the probability `confidence`, whatever that share is.
    """
    assert 0 <= hits <= n and 0 < confidence < 1
    if n == 0:
        return Proportion(0, 0, None, None, None)
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Proportion(hits, n, hits / n, low, high)
