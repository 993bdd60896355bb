"""The multi-label SVM: 11-point precision by scikit-learn's curve, and the whole against its search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.protocols.voc_svm import COSTS, eleven_point, fit, unit
from sempairs.evaluation.scores import Features, Score
from sempairs.evaluation.tasks import Fold, MultiLabel

SVM = PROTOCOLS.get("voc07-svm-1")


def by_curve(scores: np.ndarray, truth: np.ndarray) -> float:
    """From scikit-learn's curve, without the point of precision 1 at recall 0 that it adds."""
    precision, recall = (values[:-1] for values in precision_recall_curve(truth, scores)[:2])
    return float(np.mean([precision[recall >= point / 10 - 1e-12].max() for point in range(11)]))


@given(st.integers(1, 60), st.integers(0, 1000), st.booleans())
def test_eleven_points_are_the_curves(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    truth[rng.integers(n)] = True
    scores = rng.integers(0, 4, n).astype(float) if ties else rng.normal(size=n)
    assert eleven_point(scores, truth) == pytest.approx(by_curve(scores, truth))
    order = rng.permutation(n)
    assert eleven_point(scores[order], truth[order]) == eleven_point(scores, truth)


def test_eleven_points_by_hand() -> None:
    """Right, wrong, right, wrong, wrong: precision 1 up to recall .5, then 2/3: (6 * 1 + 5 * 2/3) / 11."""
    assert eleven_point([5, 4, 3, 2, 1], [1, 0, 1, 0, 0]) == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert eleven_point([1, 2], [0, 1]) == 1.0
    # The third of ten positives reaches recall .3 exactly, though 3 / 10 is not .3 in binary.
    assert eleven_point(-np.arange(20.0), np.arange(20) < 10) == 1.0
    with pytest.raises(ValueError, match="something relevant"):
        eleven_point([1.0, 2.0], [0, 0])


def made(seed: int, n: int = 150, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, classes)) < 0.35).astype(np.int64)
    values = labels @ rng.normal(size=(classes, 6)) + 0.7 * rng.normal(size=(n, 6))
    return values.astype(np.float32), labels


def scored(values: np.ndarray, labels: np.ndarray, ends: tuple[int, int], **settings: object) -> list[Score]:
    n = len(labels)
    names = [f"{i:04d}" for i in range(n)]
    columns: dict[str, Any] = dict.fromkeys(("image_id", "file_hash", "uri", "source"), names)
    catalog = Catalog.from_columns({**columns, "width": [1] * n, "height": [1] * n})
    parts = np.split(np.arange(n), ends)
    asked = MultiLabel(labels, tuple("abcdefgh"[: labels.shape[1]]), (Fold(*parts),), np.array(names))
    known: dict[object, object] = {"features": Features(np.arange(n), values)}
    config = EvaluationConfig(**settings)
    SVM.check(asked, config)
    return SVM.score(Context(None, None, catalog, config=config, known=known), asked)  # type: ignore


def test_the_whole_is_scikit_learns_search() -> None:
    values, labels = made(0)
    costs = (0.01, 1.0, 0.0625)
    points, area = scored(values, labels, (60, 90), svm_costs=costs)
    x = unit(values)
    expected = []
    for k in range(3):
        svm = LinearSVC(class_weight={1: 2, 0: 1}, dual=True, max_iter=2000, random_state=0)
        search = GridSearchCV(svm, {"C": costs}, scoring="average_precision", cv=StratifiedKFold(3))
        search.fit(x[:90], labels[:90, k])
        assert points.extra["costs"][0][k] == search.best_params_["C"]
        margins = search.decision_function(x[90:])
        expected.append((by_curve(margins, labels[90:, k]), average_precision_score(labels[90:, k], margins)))
    assert [points.value, area.value] == pytest.approx(np.mean(expected, 0).tolist())
    assert points.extra["by_class"]["b"] == pytest.approx(expected[1][0], abs=1e-6)
    assert (points.metric, area.metric, points.n) == (*SVM.metrics, 60)


def test_what_does_not_count_for_a_class_is_neither_fitted_nor_scored() -> None:
    values, labels = made(1)
    hidden = labels.copy()
    hidden[::7, 0] = -1
    kept = [scored(values, labels, (60, 90), svm_costs=(0.1,)), None]
    kept[1] = scored(values, hidden, (60, 90), svm_costs=(0.1,))
    assert kept[0][0].extra["by_class"]["b"] == kept[1][0].extra["by_class"]["b"]
    rows = np.flatnonzero(hidden[:, 0] >= 0)
    fitted, held = rows[rows < 90], rows[rows >= 90]
    model, _ = fit(unit(values)[fitted], hidden[fitted, 0], (0.1,))
    expected = by_curve(model.decision_function(unit(values)[held]), hidden[held, 0])
    assert kept[1][0].extra["by_class"]["a"] == pytest.approx(expected, abs=1e-6)


def test_separable_is_perfect_and_random_labels_are_their_share() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 2)) < 0.5).astype(np.int64)
    clean = (2.0 * labels - 1).astype(np.float32)
    assert scored(clean, labels, (100, 200), svm_costs=(1.0,))[0].value == pytest.approx(1.0)
    noise = rng.normal(size=(400, 4)).astype(np.float32)
    assert scored(noise, labels, (100, 200), svm_costs=(1.0,))[1].value == pytest.approx(0.5, abs=0.1)


def test_the_settings_are_those_published() -> None:
    assert COSTS[:3] == (0.01, 0.1, 0.0625)
    assert (len(COSTS), COSTS[-1]) == (18, 2.0**-19)
    settings = SVM.settings(EvaluationConfig())
    assert (settings["cross_validation"], settings["positive_weight"], settings["max_iterations"]) == (
        3,
        2,
        2000,
    )


def test_one_cost_is_given_and_several_are_chosen_among() -> None:
    values, labels = made(0)
    assert scored(values, labels, (60, 90), svm_costs=(0.1,))[0].selection == "none: one cost given"
    chosen = scored(values, labels, (60, 90), svm_costs=(0.1, 1.0))[0].selection
    assert chosen == "cost by cross-validation"


def test_a_class_with_too_few_images_is_refused() -> None:
    values, labels = made(0)
    few = labels.copy()
    few[:90, 1] = 0
    few[:2, 1] = 1
    with pytest.raises(UserError, match="class b needs 3 images to fit on"):
        scored(values, few, (60, 90))
    none = labels.copy()
    none[90:, 2] = 0
    with pytest.raises(UserError, match="class c needs an image to score"):
        scored(values, none, (60, 90))
