"""What the intervals and the claim rule of a study do in simulations where the truth is known.

Prints how often 95% intervals hold the truth, over seeds by number of seeds (paired t, BCa) and over tested
groups by number of groups (the percentile bootstrap, and the jackknife with Student's t that reports show),
and how often the rule claims a gain or a loss where there is none, by seeds and skewness. The tables
`BCA_COVERAGE` and `GROUP_COVERAGE` in `study/statistics.py` are from here. Draws are seeded, so that the
numbers come out the same; about four minutes on one core.

    .venv/bin/python benchmarks/intervals.py [--trials 2000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sempairs.files import write_json
from sempairs.study.statistics import (
    Interval,
    Vector,
    bca,
    false_claims,
    over_groups,
    paired_t,
    simulated_coverage,
)

RESULTS = Path(__file__).parent / "results" / "intervals.json"
SEEDS, GROUPS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), (5, 10, 20, 50, 100)
SKEWNESS = (0.0, 1.0, 1.5, 2.0, 3.0)
GAIN, SPREAD = 0.03, 0.1  # of a group's own gain, mean and deviation, as a fraction
NOISE = 0.1 / 3  # variance of one image's gain averaged over three seeds

SIZES: dict[str, Callable[[np.random.Generator, int], Vector]] = {
    "equal": lambda rng, n: np.full(n, 10.0),
    "geometric": lambda rng, n: rng.geometric(0.1, n).astype(float),
    "lognormal": lambda rng, n: np.ceil(np.exp(rng.normal(2, 1, n))),
}
GAINS: dict[str, Callable[[np.random.Generator, int], Vector]] = {
    "normal": lambda rng, n: rng.normal(GAIN, SPREAD, n),
    "skewed": lambda rng, n: GAIN + SPREAD * (rng.exponential(1, n) - 1),
    "few": lambda rng, n: np.where(rng.random(n) < 0.15, 0.2, 0.0),  # 15% of the groups gain 20 points
}


def percentile(sums: Vector, counts: Vector, rng: np.random.Generator, resamples: int = 999) -> Interval:
    """The percentile bootstrap over groups, for comparison."""
    chosen = rng.integers(len(sums), size=(resamples, len(sums)))
    draws = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(low), float(high))


def group_coverage(groups: int, sizes: str, gains: str, trials: int) -> tuple[float, float]:
    """Shares of intervals that held the truth: percentile bootstrap, jackknife."""
    rng = np.random.default_rng([groups, list(SIZES).index(sizes), list(GAINS).index(gains)])
    held = np.zeros(2)
    for _ in range(trials):
        counts = SIZES[sizes](rng, groups)
        sums = counts * GAINS[gains](rng, groups) + rng.normal(0, 1, groups) * np.sqrt(counts * NOISE)
        jackknife = over_groups(sums, counts)
        assert jackknife is not None
        found = percentile(sums, counts, rng), jackknife
        held += [interval.low <= GAIN <= interval.high for interval in found]
    share = held / trials
    return float(share[0]), float(share[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials

    print("over seeds, normal differences: paired t, BCa")
    over_seeds = {}
    for n in SEEDS:
        t = simulated_coverage(n, paired_t, trials=trials, seed=n)
        bootstrap = simulated_coverage(n, lambda d: bca(d, resamples=999), trials=trials, seed=n)
        over_seeds[n] = {"paired_t": t, "bca": bootstrap}
        print(f"  {n:3} seeds   {t:.3f}  {bootstrap:.3f}", flush=True)

    print("over groups: percentile bootstrap, jackknife; sizes, gains")
    found: dict[int, dict[str, dict[str, float]]] = {}
    for n in GROUPS:
        rows = {
            f"{sizes} sizes, {gains} gains": group_coverage(n, sizes, gains, trials)
            for sizes in SIZES
            for gains in GAINS
        }
        for name, (old, new) in rows.items():
            print(f"  {n:3} groups  {old:.3f}  {new:.3f}  {name}", flush=True)
        found[n] = {name: {"percentile": old, "jackknife": new} for name, (old, new) in rows.items()}
        for way in ("percentile", "jackknife"):
            values = [row[way] for row in found[n].values()]
            print(f"  {n:3} groups  {way}: {min(values):.2f} to {max(values):.2f}")

    print("claims where there is nothing, by skewness " + " ".join(f"{g:g}" for g in SKEWNESS))
    claims = {n: {str(g): false_claims(n, g, trials=5 * trials) for g in SKEWNESS} for n in range(6, 13)}
    for n, row in claims.items():
        print(f"  {n:3} seeds   " + "  ".join(f"{100 * rate:4.1f}%" for rate in row.values()), flush=True)
    record = {"trials": trials, "over_seeds": over_seeds, "over_groups": found, "false_claims": claims}
    write_json(RESULTS, record)


if __name__ == "__main__":
    main()
