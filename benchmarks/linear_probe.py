"""The linear probe's whole path of λ, against scikit-learn doing the same.

    python benchmarks/linear_probe.py [--images 10000] [--width 512] [--classes 100] [--lambdas 45]

Made features (overlapping classes, correlated, of falling variance) with Ericsson's grid, λ in
logspace(-6, 5, n): each fit on 60% of the images starts from the last, from strong to weak; the λ of the best
accuracy on 20% is fitted again on both; the other 20% are scored. In turns, on an otherwise idle machine:

ours          `linear.choose_and_refit`, float32
scikit-learn  LogisticRegression(C=1/λ, warm_start=True, max_iter=50000), its own solver (lbfgs), on the same
              scaled features, float32: once by its default tolerance of 1e-4, which stops short of the
              minimum, and once by 1e-5, where its accuracies are about as near to the minimum's as ours

Figures are seconds for everything, the median over rounds, and the median over rounds of the ratio within a
round (the aim is for equal accuracy); test accuracies; and how far validation accuracies lie, over all λ,
from those of `fit_path` run on to a hundredth of our tolerance.
Writes benchmarks/results/linear_probe.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs.evaluation.probes import linear
from sempairs.evaluation.probes.logistic import fit_path
from sempairs.files import write_json
from sempairs.runs.sessions import environment

RESULTS = Path(__file__).parent / "results" / "linear_probe.json"
AIM = 10.0
EQUAL = "scikit-learn 1e-5"


@dataclass(frozen=True)
class Data:
    """features: (N, D) float32; labels: (N,); rows of three parts."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """seconds for the path and the refit; accuracies."""

    seconds: float
    chosen: float
    validation: list[float]
    test: float


def made(images: int, width: int, classes: int, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    centres = rng.normal(size=(classes, width))
    mixing = rng.normal(size=(width, width)) / np.sqrt(np.arange(1, width + 1))
    # The clusters stand as far apart as makes the best probe right more often than wrong.
    raw = centres[labels] * (6 / np.sqrt(width)) + rng.normal(size=(images, width))
    features = np.maximum(raw @ mixing.T, 0).astype(np.float32)
    fit, validation, test = np.split(np.arange(images), [images * 6 // 10, images * 8 // 10])
    return Data(features, labels, fit, validation, test)


def ours(data: Data, classes: int, penalties: list[float]) -> Outcome:
    began = perf_counter()
    choice = linear.choose_and_refit(
        data.features, data.labels, classes, penalties, fit=data.fit, validation=data.validation
    )
    guess = choice.model.predict(data.features[data.test])
    seconds = perf_counter() - began
    accuracy = float((guess == data.labels[data.test]).mean())
    return Outcome(seconds, choice.penalty, [choice.validation[p] for p in penalties], accuracy)


def scikit_learn(data: Data, classes: int, penalties: list[float], *, tolerance: float) -> Outcome:
    from sklearn.linear_model import LogisticRegression

    began = perf_counter()

    def scaled(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        deviation = float(np.sqrt(data.features[rows].var(0, dtype=np.float64).mean()))
        return np.asarray(data.features / deviation, dtype=np.float32)

    x = scaled(data.fit)
    model = LogisticRegression(warm_start=True, max_iter=50_000, tol=tolerance)
    found = []
    for penalty in penalties:
        model.set_params(C=1 / penalty).fit(x[data.fit], data.labels[data.fit])
        found.append(float(model.score(x[data.validation], data.labels[data.validation])))
    best = penalties[int(np.argmax(found))]
    both = np.concatenate([data.fit, data.validation])
    x = scaled(both)
    final = LogisticRegression(C=1 / best, max_iter=50_000, tol=tolerance).fit(x[both], data.labels[both])
    test = float(final.score(x[data.test], data.labels[data.test]))
    return Outcome(perf_counter() - began, best, found, test)


Contender = Callable[[Data, int, list[float]], Outcome]


def minimum(data: Data, classes: int, penalties: list[float]) -> list[float]:
    """Validation accuracies where the path's fits are run on to a hundredth of their tolerance."""
    path = fit_path(
        data.features[data.fit], data.labels[data.fit], classes, penalties,
        tolerance=linear.PATH_TOLERANCE / 100,
    )  # fmt: skip
    truth = data.labels[data.validation]
    return [float((model.predict(data.features[data.validation]) == truth).mean()) for model in path]


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds for the linear probe's path of lambda.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--lambdas", type=int, default=45)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = made(options.images, options.width, options.classes)
    penalties = sorted((float(p) for p in np.logspace(-6, 5, options.lambdas)), reverse=True)
    contenders: dict[str, Contender] = {
        "ours": ours,
        "scikit-learn 1e-4": partial(scikit_learn, tolerance=1e-4),
        EQUAL: partial(scikit_learn, tolerance=1e-5),
    }
    ours(data, options.classes, penalties[:2])  # warm
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for turn in range(options.rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            outcomes[name].append(contenders[name](data, options.classes, penalties))
        said = ", ".join(f"{name} {found[-1].seconds:,.1f} s" for name, found in outcomes.items())
        print(f"round {turn + 1}: {said}", flush=True)
    seconds = {name: [one.seconds for one in found] for name, found in outcomes.items()}
    others = [name for name in contenders if name != "ours"]
    ratios = {
        name: statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name], strict=True))
        for name in others
    }
    exact = minimum(data, options.classes, penalties)
    first = {name: found[0] for name, found in outcomes.items()}
    apart = {name: np.abs(np.subtract(one.validation, exact)) for name, one in first.items()}
    result: dict[str, Any] = {
        "sizes": {name: getattr(options, name) for name in ("images", "width", "classes", "lambdas")},
        "threads": options.threads,
        "seconds": seconds,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ours_to": ratios,
        "aims": {EQUAL: AIM},
        "aims_met": {EQUAL: ratios[EQUAL] >= AIM},
        "chosen": {name: one.chosen for name, one in first.items()},
        "test_accuracy": {name: one.test for name, one in first.items()},
        "validation_from_minimum": {
            name: {"most": float(off.max()), "mean": float(off.mean())} for name, off in apart.items()
        },
    }
    print(f"\n{'':<20}{'seconds':>9}{'times':>7}{'test':>8}{'lambda':>10}{'off, mean':>11}{'most':>8}")
    for name, one in first.items():
        times = f"{ratios[name]:.1f}" if name in ratios else ""
        print(
            f"{name:<20}{result['median_seconds'][name]:>9.1f}{times:>7}{one.test:>8.4f}{one.chosen:>10.3g}"
            f"{apart[name].mean():>11.5f}{apart[name].max():>8.4f}"
        )
    machine = environment(torch.device("cpu"))
    machine["versions"] |= {"scikit-learn": version("scikit-learn")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/linear_probe.py"
    write_json(options.out, {"command": command, "environment": machine, "results": [result]})


if __name__ == "__main__":
    main()
