"""Linear SVMs on frozen features, one a class, for images that show several things: VOC07. Goyal et al. 2019,
arXiv:1905.01235, and its fair_self_supervision_benchmark (train_svm_kfold.py).

Features of unit length (x / (‖x‖ + 1e-5)); scikit-learn's LinearSVC: squared hinge, L2, dual, at most 2,000
iterations, positives weighing twice; for each class the cost, of .01, .1 and 2^-4 ... 2^-19, of the best
average precision in 3-fold cross-validation on training and validation images (ties: the first listed); then
fitted on all of them. The value is the mean over classes of the 11-point interpolated average precision of
VOC2007 (Everingham et al. 2010, Eq. 1); `mean_average_precision` beside it takes every threshold. An image
that does not count for a class ("difficult") is neither fitted nor scored for it, as in VISSL. Departures:
the folds are stratified in the order of the images' names; of the features that the paper scores, only the
encoder's output.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig
from sempairs.evaluation.scores import Score
from sempairs.evaluation.tasks.base import MultiLabel
from sempairs.metrics import average_precision
from sempairs.progress import track

COSTS = (0.01, 0.1, *(0.5**power for power in range(4, 20)))
FOLDS, MAX_ITERATIONS, POSITIVE_WEIGHT = 3, 2000, 2
Int = NDArray[np.int64]
Values = NDArray[np.float64]


class VocSVMConfig(ProtocolConfig):
    """The costs that one is chosen among."""

    svm_costs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = COSTS


@PROTOCOLS.register
class VocSVM(Protocol):
    """Mean over classes of the 11-point average precision, and of the whole one."""

    name = "voc07-svm-1"
    takes = (MultiLabel,)
    metrics = ("mean_average_precision_11", "mean_average_precision")
    summary = "a linear SVM a class, cost by 3-fold cross-validation, 11-point mAP (Goyal et al.)"
    Config = VocSVMConfig
    restated = ("svm_costs",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """Costs, folds, the SVM's own."""
        return {
            "costs": list(config.of(VocSVMConfig).svm_costs),
            "cross_validation": FOLDS,
            "loss": "squared hinge",
            "max_iterations": MAX_ITERATIONS,
            "positive_weight": POSITIVE_WEIGHT,
            "scaling": "unit length",
        }

    def check(self, problem: MultiLabel, config: EvaluationConfig) -> None:
        """Raises: UserError for a class with fewer than three images, or none to score."""
        for fold in problem.folds:
            fitted, scored = problem.labels[np.r_[fold.fit, fold.validation]], problem.labels[fold.test]
            for k, name in enumerate(problem.classes):
                if min((fitted[:, k] == 1).sum(), (fitted[:, k] == 0).sum()) < FOLDS:
                    raise UserError(f"class {name}", f"needs {FOLDS} images to fit on with it and without it")
                if not (scored[:, k] == 1).any():
                    raise UserError(f"class {name}", "needs an image to score that shows it")

    def score(self, context: Context, problem: MultiLabel) -> list[Score]:
        """extra: by class the average precisions and, by fold, the costs; values are means over folds."""
        features = context.features(np.union1d(problem.fitted, problem.scored))
        names = context.catalog.column("image_id").astype(str)
        grid = context.config.of(VocSVMConfig).svm_costs
        found = np.empty((2, len(problem.folds), len(problem.classes)))
        costs: list[list[float]] = []
        for i, fold in enumerate(problem.folds):
            rows = np.concatenate([fold.fit, fold.validation])
            rows = rows[np.argsort(names[rows], kind="stable")]
            fitted, held = unit(features.at(rows)), unit(features.at(fold.test))
            costs.append([])
            for k in track(range(len(problem.classes)), what=self.name, unit="class"):
                known, asked = problem.labels[rows, k] >= 0, problem.labels[fold.test, k] >= 0
                model, cost = fit(fitted[known], problem.labels[rows, k][known], grid)
                margins = model.decision_function(held[asked])
                truth = problem.labels[fold.test, k][asked] == 1
                found[:, i, k] = eleven_point(margins, truth), average_precision(margins, truth)
                costs[-1].append(cost)
        by_class = found.mean(1)
        scores = []
        for metric, each in zip(self.metrics, by_class, strict=True):
            named = dict(zip(problem.classes, each.round(6).tolist(), strict=True))
            extra = {"by_class": named, "costs": costs}
            n = len(problem.scored)
            chosen = "cost by cross-validation" if len(grid) > 1 else "none: one cost given"
            scores.append(Score(metric, float(each.mean()), n, chosen, extra))
        return scores


def unit(values: NDArray[np.float32]) -> Values:
    """Rows divided by their length, as the benchmark's own code does."""
    wide = values.astype(np.float64)
    return np.asarray(wide / (np.linalg.norm(wide, axis=1, keepdims=True) + 1e-5))


def fit(values: Values, labels: Int, costs: Sequence[float]) -> tuple[Any, float]:
    """The SVM of the best cost by cross-validated average precision, and that cost. labels: (N,) 0 or 1."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import LinearSVC

    def made(cost: float) -> Any:
        return LinearSVC(
            C=cost, class_weight={1: POSITIVE_WEIGHT, 0: 1}, dual=True, max_iter=MAX_ITERATIONS,
            random_state=0,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are part of the protocol
        best, chosen = -1.0, costs[0]
        if len(costs) > 1:
            folds = list(StratifiedKFold(FOLDS).split(values, labels))
            for cost in costs:
                reached = np.mean([
                    average_precision(
                        made(cost).fit(values[part], labels[part]).decision_function(values[rest]),
                        labels[rest] == 1,
                    )
                    for part, rest in folds
                ])  # fmt: skip
                if reached > best:
                    best, chosen = float(reached), cost
        return made(chosen).fit(values, labels), chosen


def eleven_point(scores: ArrayLike, relevant: ArrayLike) -> float:
    """Mean over recalls 0, .1, ..., 1 of the largest precision at that recall or more; (N,) each.

    Equal scores share a threshold, so that order does not matter. Ericsson's code, on scikit-learn's curve,
    has precision 1 at recall 0 whatever comes first; VOC's own has not, nor has this.
    Raises: ValueError if nothing is relevant.
    """
    values, positive = np.asarray(scores), np.asarray(relevant, dtype=np.bool_)
    if values.ndim != 1 or values.shape != positive.shape or not positive.any():
        raise ValueError("scores and relevant must be (N,) of one length, with something relevant")
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(positive[order])[ends]
    precision = np.maximum.accumulate((hits / (ends + 1))[::-1])[::-1]
    # In whole numbers: a recall of exactly .3 must not miss the point .3 by rounding.
    first = [np.searchsorted(10 * hits, point * positive.sum()) for point in range(11)]
    return float(np.mean(precision[first]))
