"""The table of the reproduction benchmark: differences paired by seed, their intervals and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

OURS, THEIRS, RANDOM = "sempairs", "lightly", "random"
SCORES = {"knn": "kNN-20", "linear": "linear"}


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The mean difference and half the width of its 95 % paired-t interval (infinite for one pair)."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    n = len(differences)
    if n < 2:
        return statistics.fmean(differences), math.inf
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return statistics.fmean(differences), half


def verdict(mean: float, half: float) -> str:
    """ "better", "worse" or "within noise", as the head of reproduction.py says."""
    if mean - half > 0:
        return "better"
    return "worse" if mean + half < 0 else "within noise"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line for each method and score; only seeds that both sides have count."""
    found = {(row["method"], row["side"], row["seed"]): row for row in rows}
    lines = [
        "| method | score | random | lightly | sempairs | difference [95 %] | seeds | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows if row["side"] != RANDOM):
        seeds = sorted({seed for name, side, seed in found if name == method and side == OURS})
        seeds = [seed for seed in seeds if (method, THEIRS, seed) in found]
        if not seeds:
            continue
        for key, shown in SCORES.items():
            ours, theirs = ([found[method, side, s][key] for s in seeds] for side in (OURS, THEIRS))
            floor = [found[RANDOM, RANDOM, s][key] for s in seeds if (RANDOM, RANDOM, s) in found]
            mean, half = paired(ours, theirs)
            middle = f"{statistics.fmean(theirs):.2f} | {statistics.fmean(ours):.2f}"
            interval = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
            known = f"{statistics.fmean(floor):.2f}" if floor else ""
            lines.append(
                f"| {method} | {shown} | {known} | {middle} | {interval} | {len(seeds)} "
                f"| {verdict(mean, half)} |"
            )
    return "\n".join(lines)
