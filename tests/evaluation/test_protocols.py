"""kNN, retrieval and the spread of scores, on constructed features and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from sempairs.evaluation import EvaluationConfig
from sempairs.evaluation.probes import linear
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.scores import Features, Score, classification_scores, spread
from sempairs.evaluation.tasks import Classification, Fold, Retrieval


def clusters(per_class: int, classes: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(classes), per_class)
    features = np.eye(classes, 8)[labels] + noise * rng.normal(size=(len(labels), 8))
    return features.astype(np.float32), labels


def scored(name: str, values: np.ndarray, problem: object, **settings: object) -> list[Score]:
    """A protocol's scores on features in place of an encoder's."""
    known: dict[object, object] = {"features": Features(np.arange(len(values)), values.astype(np.float32))}
    context = Context(None, None, None, config=EvaluationConfig(**settings), known=known)  # type: ignore
    return PROTOCOLS.get(name).score(context, problem)


def split_problem(labels: np.ndarray, *ends: int) -> Classification:
    parts = np.split(np.arange(len(labels)), ends)
    units = np.array([f"{i:04d}" for i in range(len(labels))])
    return Classification(labels, tuple("abcdefgh"[: labels.max() + 1]), (Fold(*parts),), units)


@pytest.mark.parametrize("name", ["knn-20-0.07", "knn-200-0.1"])
def test_knn_is_scikit_learns_with_these_weights(name: str) -> None:
    setting = PROTOCOLS.get(name)
    features, labels = clusters(150, 4, noise=1.0)
    problem = split_problem(labels, 300, 400)
    (score,) = scored(name, features, problem)
    reference = KNeighborsClassifier(
        setting.k, metric="cosine", weights=lambda d: np.exp((1 - d) / setting.temperature)
    )
    reference.fit(features[:400], labels[:400])
    assert score.value == pytest.approx(reference.score(features[400:], labels[400:]), abs=1e-9)
    assert (score.n, score.metric, score.extra["k"]) == (200, "accuracy", setting.k)


def test_knn_takes_validation_images_into_its_bank() -> None:
    """The only neighbours of the right class are validation images."""
    features = np.array([[1, 0], [1, 0.1], [0, 1], [0, 1]], dtype=np.float32)
    problem = split_problem(np.array([0, 0, 1, 1]), 2, 3)
    (score,) = scored("knn-20-0.07", features, problem)
    assert score.value == 1.0
    assert score.extra["k"] == 3  # all there is, and it is said


def test_knn_20_and_200_differ_as_they_must() -> None:
    """Ten near neighbours of class 1 among 300 farther ones of class 0."""
    near = np.tile([1.0, 0.02], (10, 1))
    far = np.tile([0.9, np.sqrt(1 - 0.81)], (300, 1))
    features = np.concatenate([near, far, [[1.0, 0.0]]]).astype(np.float32)
    labels = np.concatenate([np.ones(10), np.zeros(300), np.ones(1)]).astype(np.int64)
    problem = split_problem(labels, 309, 310)
    assert scored("knn-20-0.07", features, problem)[0].value == 1.0
    assert scored("knn-200-0.1", features, problem)[0].value == 0.0


def test_linear_scores_what_a_plane_can_and_cannot_tell() -> None:
    features, labels = clusters(60, 3, noise=0.05)
    shuffled = np.random.default_rng(1).permutation(labels)
    for truth, low, high in ((labels, 1.0, 1.0), (shuffled, 0.15, 0.55)):
        problem = split_problem(truth, 60, 100)
        plain, balanced = scored("linear-1", features, problem, lambdas=(100.0, 1.0, 0.01))
        assert low <= plain.value <= high
        assert (plain.metric, balanced.metric) == ("accuracy", "mean_per_class_accuracy")
        assert plain.extra["validation"][0] == sorted(plain.extra["validation"][0])
        assert plain.n == 80


def test_tasks_that_fit_the_same_images_share_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clusters(20, 3, noise=0.3)
    first = split_problem(labels, 20, 30)
    fold = first.folds[0]
    second = Classification(
        labels, first.classes, (Fold(fold.fit, fold.validation, fold.test[:5]),), first.units
    )
    calls: list[int] = []
    fit = linear.choose_and_refit
    monkeypatch.setattr(linear, "choose_and_refit", lambda *a, **k: calls.append(1) or fit(*a, **k))
    known: dict[object, object] = {"features": Features(np.arange(60), features)}
    config = EvaluationConfig(lambdas=(1.0, 0.1))
    context = Context(None, None, None, config=config, known=known)  # type: ignore
    both = [PROTOCOLS.get("linear-1").score(context, problem)[0] for problem in (first, second)]
    assert len(calls) == 1
    assert both[1].value == scored("linear-1", features, second, lambdas=(1.0, 0.1))[0].value


@given(st.integers(0, 50))
def test_retrieval_is_scikit_learns_average_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 5)).astype(np.float32)
    meaning = np.concatenate([np.arange(4), np.arange(4), rng.integers(0, 9, 32)])
    units = np.array([f"{m}" for m in meaning])
    problem = Retrieval(np.arange(4), np.arange(4, 40), meaning, units)
    top, mean = scored("retrieval-1", features, problem)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = [
        (meaning[4 + np.argmax(unit[q] @ unit[4:].T)] == meaning[q],
         average_precision_score(meaning[4:] == meaning[q], unit[q] @ unit[4:].T))
        for q in range(4)
    ]  # fmt: skip
    assert top.value == pytest.approx(np.mean([hit for hit, _ in expected]))
    assert mean.value == pytest.approx(np.mean([precision for _, precision in expected]), abs=1e-6)
    assert (top.metric, mean.metric, top.n) == ("top_1", "mean_average_precision", 4)


def test_retrieval_by_hand() -> None:
    """Query at 0°; gallery at 10° (wrong), 20° (right), 30° (wrong), 40° (right): AP = (1/2 + 2/4) / 2."""
    angle = np.deg2rad([0, 10, 20, 30, 40])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32) * [[5], [1], [2], [3], [4]]
    problem = Retrieval(np.array([0]), np.arange(1, 5), np.array([7, 1, 7, 2, 7]), np.array(list("abcde")))
    top, mean = scored("retrieval-1", features, problem)
    assert (top.value, mean.value) == (0.0, 0.5)


def test_an_image_scored_in_several_folds_counts_once() -> None:
    labels = np.array([0, 1, 0, 1])
    units = np.array(list("aabb"))
    empty = np.empty(0, dtype=np.int64)
    folds = tuple(Fold(empty, empty, np.array(rows)) for rows in ([0, 1], [2, 3], [0, 2], [1, 3]))
    problem = Classification(labels, ("x", "y"), folds, units)
    right, wrong = labels, 1 - labels
    predicted = [right[[0, 1]], right[[2, 3]], wrong[[0, 2]], right[[1, 3]]]
    plain, balanced = classification_scores(
        problem, predicted, ("accuracy", "mean_per_class_accuracy"), selection="none", extra={},
    )  # fmt: skip
    assert (plain.value, plain.n) == (0.75, 4)
    assert balanced.value == pytest.approx((0.5 + 1.0) / 2)
    assert plain.extra["groups"] == [[1.5, 2], [1.5, 2]]


def test_spread_is_the_standard_error_when_every_image_is_a_unit() -> None:
    values = np.array([1.0, 0, 0, 1, 1, 0, 1])
    found = spread(values, np.array(list("abcdefg")))
    assert found["standard_error"] == pytest.approx(values.std(ddof=1) / np.sqrt(7))
    assert found["units"] == 7


def test_spread_grows_when_units_are_correlated_and_names_order_the_groups() -> None:
    values = np.array([1.0, 1, 0, 0, 1, 1])
    units = np.array(list("ccaabb"))
    found = spread(values, units)
    assert found["groups"] == [[0.0, 2], [2.0, 2], [2.0, 2]]
    assert found["standard_error"] > spread(values, np.array(list("abcdef")))["standard_error"]
    assert spread(values, np.array(["a"] * 6))["standard_error"] is None


def test_many_units_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sempairs.evaluation.scores.MAX_GROUPS", 2)
    found = spread(np.ones(3), np.array(list("abc")))
    assert "groups" not in found
    assert found["standard_error"] == 0.0


def test_features_are_asked_by_catalogue_row() -> None:
    rows = Features(np.array([2, 5, 9]), np.array([[2.0], [5.0], [9.0]], dtype=np.float32))
    assert rows.at(np.array([9, 2, 9])).ravel().tolist() == [9.0, 2.0, 9.0]
    with pytest.raises(AssertionError):
        rows.at(np.array([3]))
