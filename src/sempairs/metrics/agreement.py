"""Agreement of reviewers: percent, Cohen's kappa, Fleiss' kappa.

A kappa is None where it is undefined, 0/0: all judgements are of one category, so chance agrees as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def percent_agreement(first: ArrayLike, second: ArrayLike) -> float:
    """Of two raters' labels, (N,) each, the share of equal ones. Raises: ValueError for unequal shapes or
    none."""
    left, right = _couple(first, second)
    return float(np.mean(left == right))


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float | None:
    """(observed - chance) / (1 - chance), chance from each rater's own frequencies, for labels (N,) each.

    Cohen 1960, "A coefficient of agreement for nominal scales". Raises: ValueError as `percent_agreement`.
    """
    left, right = _couple(first, second)
    names, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    n, k = len(left), len(names)
    table = np.bincount(codes[:n] * k + codes[n:], minlength=k * k).reshape(k, k)
    # In whole numbers, so that 0/0 is seen exactly.
    observed, chance = int(table.trace()) * n, int(table.sum(0) @ table.sum(1))
    return None if chance == n * n else (observed - chance) / (n * n - chance)


def pairwise_agreement(counts: ArrayLike) -> float | None:
    """Of all couples of judgements about one subject, the share of equal ones; None without a couple.

    counts: (N, K), how many raters put subject i into category k; their number may differ. For two raters it
    is `percent_agreement`. Raises: ValueError if `counts` holds anything but whole numbers from 0.
    """
    table = _counts(counts)
    raters = table.sum(1)
    couples = int((raters * (raters - 1)).sum())
    return int((table * (table - 1)).sum()) / couples if couples else None


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss 1971, "Measuring nominal scale agreement among many raters", for counts (N, K) as above.

    Raises: ValueError unless every subject has the same number of raters, at least 2.
    """
    table = _counts(counts)
    raters = table.sum(1)
    if not len(table) or raters.min() < 2 or raters.min() != raters.max():
        raise ValueError("every subject must have the same number of raters, at least 2")
    n, m = len(table), int(raters[0])
    observed = int((table * (table - 1)).sum()) / (n * m * (m - 1))
    totals = table.sum(0)
    if totals.max() == n * m:
        return None
    chance = float(((totals / (n * m)) ** 2).sum())
    return (observed - chance) / (1 - chance)


def _couple(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    left, right = np.asarray(first), np.asarray(second)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"labels must be (N,) of one length, got {left.shape} and {right.shape}")
    return left, right


def _counts(counts: ArrayLike) -> NDArray[np.int64]:
    table = np.asarray(counts)
    if table.ndim != 2 or table.dtype.kind not in "iu" or (table < 0).any():
        raise ValueError("counts must be (N, K) whole numbers from 0")
    return table.astype(np.int64)
