"""What paired differences over seeds can say, and what they cannot.

The unit of the study is a seed: seed k of two arms shares initial weights, anchor order and view draws, so
the difference of their scores is one observation. All functions are pure; SciPy loads when called.

Sources: Student's paired interval; BCa bootstrap (Efron 1987); exact sign-flip permutation test (Fisher 1935,
The Design of Experiments, section 21); Holm (1979); interquartile mean and probability of improvement
(Agarwal et al. 2021, arXiv:2108.13264), the latter in its paired form; jackknife over tested groups.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

LEVEL = 0.95
ALPHA = 0.05
RESAMPLES = 9999

# Share of 95% BCa intervals that held the true mean: normal differences, 10,000 draws for each number of
# seeds (`simulated_coverage`; a test repeats it in small). Paired t intervals hold it in 95% by construction.
BCA_COVERAGE = {
    2: 0.49, 3: 0.72, 4: 0.79, 5: 0.84, 6: 0.85, 7: 0.87, 8: 0.88, 9: 0.89, 10: 0.91, 11: 0.90, 12: 0.91,
}  # fmt: skip

# Least and greatest share of 95% intervals of `over_groups` that held the truth, by number of groups: groups
# of equal and of unequal sizes, gains that spread evenly, skewed ones, and ones that few groups have.
# `benchmarks/intervals.py` prints them. The percentile bootstrap held it in 77 to 84% with 5 groups.
GROUP_COVERAGE = {5: (0.89, 0.95), 10: (0.88, 0.95), 20: (0.89, 0.96), 50: (0.89, 0.95), 100: (0.92, 0.96)}


@dataclass(frozen=True)
class Interval:
    """A confidence interval in the unit of the differences."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """Paired differences (treatment − control, one a seed) and what follows from them.

    `t` and `bca` are None where the number or the spread of the differences does not define them.
    """

    differences: tuple[float, ...]
    mean: float
    sd: float | None
    t: Interval | None
    bca: Interval | None
    p: float

    @property
    def n(self) -> int:
        return len(self.differences)


def compare(differences: ArrayLike) -> Comparison:
    """All that is said about one row of paired differences, shape (seeds,). Raises: ValueError if empty."""
    values = _vector(differences)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Comparison(
        tuple(values.tolist()),
        float(values.mean()),
        sd,
        paired_t(values),
        bca(values),
        sign_flip(values),
    )


def paired_t(differences: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Student's interval for the mean difference; None for fewer than two seeds."""
    from scipy.stats import t

    values = _vector(differences)
    n = len(values)
    if n < 2:
        return None
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def bca(
    differences: ArrayLike, level: float = LEVEL, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """Bias-corrected and accelerated bootstrap interval for the mean; None where it is undefined.

    It is too narrow for few seeds: see `BCA_COVERAGE`.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    values = _vector(differences)
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # said by returning None
        found = bootstrap(
            (values,), np.mean, n_resamples=resamples, confidence_level=level, method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
    low, high = float(found.low), float(found.high)
    return Interval(low, high) if math.isfinite(low) and math.isfinite(high) else None


def sign_flip(differences: ArrayLike) -> float:
    """Exact two-sided p of the mean under all 2ⁿ sign flips; 2/2ⁿ is the least it can be.

    Each assignment of signs is equally likely if swapping the two arms of a seed changes nothing.
    Raises: ValueError for no seed or more than 24.
    """
    values = _vector(differences)
    if len(values) > 24:
        raise ValueError(f"the exact test counts 2**n sign flips; n = {len(values)} is too many")
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    observed = abs(float(values.sum()))
    # Equal sums may differ in the last bits by the order of addition; they count as ties, against the claim.
    tolerance = 1e-12 * float(np.abs(values).sum())
    return float(np.mean(np.abs(sums) >= observed - tolerance))


def smallest_p(seeds: int) -> float:
    """The least two-sided p the exact sign-flip test can give with this many seeds."""
    return min(1.0, 0.5 ** (seeds - 1))


def seeds_needed(tests: int = 1, alpha: float = ALPHA) -> int:
    """The fewest seeds whose smallest p, times `tests` (Holm's first step), lies below `alpha`."""
    n = 1
    while smallest_p(n) * tests >= alpha:
        n += 1
    return n


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))).clip(max=1.0)
    return tuple(adjusted.tolist())


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all scores, any shape."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(scores, dtype=np.float64), 0.25, axis=None))


def probability_of_improvement(gains: ArrayLike) -> float:
    """Share of paired gains above zero, ties half, averaged over tasks; gains: (seeds, tasks)."""
    values = np.asarray(gains, dtype=np.float64)
    return float(np.mean((values > 0) + 0.5 * (values == 0)))


def seeds_then_tasks(
    gains: ArrayLike,
    statistic: Callable[[Vector], float],
    level: float = LEVEL,
    *,
    resamples: int = 1999,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of `statistic` of a (seeds, tasks) table.

    Tasks of a seed come from one encoder and are not independent, so seeds are resampled, then tasks.
    """
    values = np.asarray(gains, dtype=np.float64)
    n_seeds, n_tasks = values.shape
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for i in range(resamples):
        rows = rng.integers(n_seeds, size=n_seeds)
        columns = rng.integers(n_tasks, size=(n_seeds, n_tasks))
        draws[i] = statistic(np.take_along_axis(values[rows], columns, axis=1))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def over_groups(sums: ArrayLike, counts: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Interval of Σ sums / Σ counts when groups, such as tested concepts, are redrawn: Student's t with the
    deviation of the jackknife, which leaves out one group at a time.

    sums, counts: (groups,). None where leaving one out leaves nothing. How often it holds the truth:
    `GROUP_COVERAGE`. Source: Efron and Stein 1981, doi:10.1214/aos/1176345462.
    """
    from scipy.stats import t

    totals, sizes = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    n, total, size = len(totals), totals.sum(), sizes.sum()
    if n < 2 or (size - sizes <= 0).any():
        return None
    without = (total - totals) / (size - sizes)
    deviation = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    half, ratio = float(t.ppf((1 + level) / 2, n - 1)) * deviation, float(total / size)
    return Interval(ratio - half, ratio + half)


def group_coverage(groups: int) -> tuple[float, float]:
    """How often intervals of `over_groups` hold the truth with so many groups: at least, at most."""
    return GROUP_COVERAGE[max((n for n in GROUP_COVERAGE if n <= groups), default=min(GROUP_COVERAGE))]


def skewness(differences: ArrayLike) -> float | None:
    """Of a sample, adjusted for its size; None for fewer than three values, or hardly any spread."""
    from scipy.stats import skew

    values = _vector(differences)
    if len(values) < 3 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return None
    return float(skew(values, bias=False))


@lru_cache(maxsize=64)
def false_claims(seeds: int, skewed: float, *, trials: int = 4000) -> float:
    """How often the claim rule of `verdict.judge` finds a gain or a loss where the true mean is 0.

    skewed: the skewness of the gamma distribution that differences are drawn from; 0: normal. For more than
    12 seeds the exact test is left out, which differs from the t interval in few studies then.
    """
    from scipy.stats import t

    rng, shape = np.random.default_rng(seeds), 4 / max(abs(skewed), 1e-9) ** 2
    normal = abs(skewed) < 0.05
    draws = rng.normal(size=(trials, seeds)) if normal else rng.gamma(shape, size=(trials, seeds)) - shape
    bound = float(t.ppf((1 + LEVEL) / 2, seeds - 1)) / math.sqrt(seeds)
    claimed = np.abs(draws.mean(axis=1)) > bound * draws.std(axis=1, ddof=1)
    if seeds <= 12:
        claimed[claimed] = [sign_flip(row) < ALPHA for row in draws[claimed]]
    return float(claimed.mean())


def simulated_coverage(
    seeds: int, interval: Callable[[Vector], Interval | None], *, trials: int, seed: int = 0
) -> float:
    """Share of intervals that hold the true mean, for normal differences with mean 1 and deviation 1."""
    rng = np.random.default_rng(seed)
    found = (interval(rng.normal(1.0, 1.0, seeds)) for _ in range(trials))
    return float(np.mean([i is not None and i.low <= 1.0 <= i.high for i in found]))


def _vector(differences: ArrayLike) -> Vector:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("paired differences must be a non-empty row of finite numbers")
    return values
