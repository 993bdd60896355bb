"""Two classifiers on the same images: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sempairs import keyed
from sempairs.metrics import _arrays

_CHUNK = 250  # resamples at once: bounded memory


@dataclass(frozen=True)
class McNemar:
    """first_only, second_only: images that one alone has right. p: exact, two-sided; 1 where neither has."""

    first_only: int
    second_only: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's exact test (binomial with one half) on hits, (N,) booleans of the same images.

    McNemar 1947, Psychometrika 12; exact as in Dietterich 1998, Neural Computation 10. Images are taken as
    independent. Raises: ValueError if the shapes differ.
    """
    from scipy.stats import binomtest

    a = np.asarray(first, dtype=bool)
    b = _arrays.labels(second, "second", len(a)).astype(bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def unit_bootstrap(
    values: ArrayLike, units: ArrayLike, *, draws: int = 4000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Compute the percentile interval of a mean, whole units drawn with replacement.

    For differences of paired scores: images of one unit (a concept, a group of near-copies) stay together.

    Args:
        values: (N,).
        units: The unit of each value, (N,).
        draws: How many samples are drawn, by key.
        level: The share of the draws within the interval.
        seed: Of the draws.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: if there is nothing, or the shapes differ.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"values must be (N,) with N at least 1, got {array.shape}")
    _, of = np.unique(_arrays.labels(units, "units", len(array)), return_inverse=True)
    total, count = np.bincount(of, array), np.bincount(of)
    means = []
    for start in range(0, draws, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, draws))
        u = keyed.uniform(seed, "bootstrap", occurrence=rows, n=len(count))
        chosen = (u * len(count)).astype(np.int64)
        means.append(total[chosen].sum(axis=1) / count[chosen].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
