"""What a protocol measures on a problem, before it becomes a result: values, spread and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

    def joined(self, rows: Int, values: NDArray[np.float32]) -> Features:
        """With those of further rows, none of them held yet."""
        every = np.concatenate([self.rows, rows])
        order = np.argsort(every)
        return Features(every[order], np.concatenate([self.values, values])[order])


@dataclass(frozen=True)
class Outcome:
    """What a score is the mean of, by image: rows (n,) of the catalogue, values (n,) in [0, 1], units (n,).

    said: what was predicted for each image, in words, where something was. weights: (n,), of mean one, where
    images do not weigh alike: the score is the mean of values times weights.
    """

    rows: Int
    values: NDArray[np.float64]
    units: NDArray[np.str_]
    said: tuple[str, ...] | None = None
    weights: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Score:
    """One number. n: distinct images scored. selection: how what was chosen was chosen. extra: for
    `Result.extra`. outcome: for comparing two encoders image by image; not written."""

    metric: str
    value: float
    n: int
    selection: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = field(default=None, compare=False, repr=False)


def classification_scores(
    problem: Classification,
    predicted: Sequence[Int],
    metrics: Sequence[str],
    *,
    selection: str,
    extra: Mapping[str, Any],
) -> list[Score]:
    """Scores of the predictions for each fold's scored rows. `accuracy` comes with its spread."""
    rows = np.concatenate([fold.test for fold in problem.folds])
    labels, guess = problem.labels[rows], np.concatenate(predicted)
    images, first, of = np.unique(rows, return_index=True, return_inverse=True)
    times = np.bincount(of)
    share = np.bincount(of, guess == labels) / times
    said = tuple(problem.classes[int(k)] for k in guess[first])  # where an image is first scored
    # How much an image weighs in a mean over classes: the less, the more of its class there are.
    classes, own = np.unique(labels[first], return_inverse=True)
    weights = len(images) / len(classes) * times / np.bincount(own, times)[own]
    plain = Outcome(images, share, problem.units[images], said)
    values = {
        "accuracy": (accuracy(guess, labels), spread(share, problem.units[images]), plain),
        "mean_per_class_accuracy": (
            mean_per_class_accuracy(guess, labels), {}, replace(plain, weights=weights),
        ),
    }  # fmt: skip
    return [
        Score(name, value, len(images), selection, {**extra, **more}, outcome)
        for name in metrics
        for value, more, outcome in (values[name],)
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
