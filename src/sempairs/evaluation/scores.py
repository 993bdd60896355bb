"""What a protocol measures on a problem, before it becomes a result: values, spread and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.evaluation.tasks.base import Classification
from sempairs.metrics import accuracy, mean_per_class_accuracy

Int = NDArray[np.int64]

MAX_GROUPS = 2000
"""Scores of groups are kept with a result up to this number of groups."""


@dataclass(frozen=True)
class Features:
    """Features of some rows of a catalogue. rows: (M,), increasing; values: (M, D)."""

    rows: Int
    values: NDArray[np.float32]

    def at(self, rows: Int) -> NDArray[np.float32]:
        """Features of the given rows of the catalogue, all among `self.rows`."""
        place = np.searchsorted(self.rows, rows)
        assert np.array_equal(self.rows[place], rows)
        return self.values[place]


@dataclass(frozen=True)
class Score:
    """One number. settings: the protocol's own, for the settings hash; extra: for `Result.extra`."""

    protocol: str
    metric: str
    value: float
    n: int
    selection: str
    settings: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)


def classification_scores(
    protocol: str,
    problem: Classification,
    predicted: Sequence[Int],
    metrics: Sequence[str],
    *,
    selection: str,
    settings: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> list[Score]:
    """Scores of the predictions for each fold's scored rows. `accuracy` comes with its spread."""
    rows = np.concatenate([fold.test for fold in problem.folds])
    labels, guess = problem.labels[rows], np.concatenate(predicted)
    images, of = np.unique(rows, return_inverse=True)
    share = np.bincount(of, guess == labels) / np.bincount(of)
    values = {
        "accuracy": (accuracy(guess, labels), spread(share, problem.units[images])),
        "mean_per_class_accuracy": (mean_per_class_accuracy(guess, labels), {}),
    }
    return [
        Score(protocol, name, value, len(images), selection, settings, {**extra, **more})
        for name in metrics
        for value, more in (values[name],)
    ]


def spread(values: NDArray[np.floating[Any]], units: NDArray[np.str_]) -> dict[str, Any]:
    """How far the mean of `values` (n,) may lie off, when units (n,) were drawn at random, as JSON.

    standard_error: of the ratio of sums over units. groups: [sum, count] of each unit in the order of their
    names, so that another run's can be paired with them; absent above `MAX_GROUPS`.
    """
    _, of = np.unique(units, return_inverse=True)
    total, count = np.bincount(of, values), np.bincount(of)
    off = total - values.mean() * count
    n = len(count)
    error = float(np.sqrt(n / (n - 1) * np.sum(off**2)) / len(values)) if n > 1 else None
    out: dict[str, Any] = {"standard_error": error, "units": n}
    if n <= MAX_GROUPS:
        out["groups"] = [[round(float(s), 6), int(c)] for s, c in zip(total, count, strict=True)]
    return out
