"""Few-shot episodes: constructed features, the interval, and which images an episode has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from sempairs.errors import UserError
from sempairs.evaluation import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.protocols.few_shot import _eligible, draw
from sempairs.evaluation.scores import Features, Score
from sempairs.evaluation.tasks import Classification, Fold

FEW_SHOT = PROTOCOLS.get("few-shot-5-5")


def problem(classes: int, each: int) -> Classification:
    labels = np.repeat(np.arange(classes), each)
    rows, nothing = np.arange(len(labels)), np.empty(0, dtype=np.int64)
    names = tuple(f"class {k:02d}" for k in range(classes))
    return Classification(labels, names, (Fold(nothing, nothing, rows),), rows.astype(str))


def scored(values: np.ndarray, asked: Classification, **settings: int) -> Score:
    known: dict[object, object] = {"features": Features(np.arange(len(values)), values.astype(np.float32))}
    context = Context(None, None, None, config=EvaluationConfig(**settings), known=known)  # type: ignore
    (score,) = FEW_SHOT.score(context, asked)
    return score


def test_perfect_clusters_are_told_apart_always() -> None:
    asked = problem(8, 25)
    values = np.eye(8)[asked.labels] * 10 + np.random.default_rng(0).normal(size=(200, 8)) * 0.1
    score = scored(values, asked, episodes=50)
    assert (score.value, score.extra["interval"], score.extra["few_shot_classes"]) == (1.0, 0.0, 8)
    assert score.n > 190  # of 200 images nearly all are a query in some episode


def test_noise_is_a_fifth_within_its_interval_and_labels_shuffled_too() -> None:
    asked = problem(8, 1000)  # few images of a class would differ from another's by chance
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(8000, 6)), np.eye(8)[rng.permutation(asked.labels)]):
        score = scored(values, asked)
        assert abs(score.value - 0.2) < 2 * score.extra["interval"]
        assert 0 < score.extra["interval"] < 0.01
        assert score.extra["episodes"] == 600


def test_an_episode_by_scikit_learns_nearest_centroid() -> None:
    asked = problem(7, 30)
    rng = np.random.default_rng(1)
    values = (np.eye(7, 5)[asked.labels] + rng.normal(size=(210, 5))).astype(np.float32)
    hits = []
    for episode in range(20):
        rows = draw(_eligible(asked), episode, seed=3)
        support, queries = rows[:, :5].ravel(), rows[:, 5:].ravel()
        model = NearestCentroid().fit(values[support].astype(np.float64), asked.labels[support])
        hits.append(model.score(values[queries].astype(np.float64), asked.labels[queries]))
    score = scored(values, asked, episodes=20, seed=3)
    assert score.value == pytest.approx(np.mean(hits))
    assert score.extra["interval"] == pytest.approx(1.96 * np.std(hits) / np.sqrt(20))


def test_an_episode_is_five_classes_of_twenty_different_images() -> None:
    asked = problem(9, 21)
    episodes = [draw(_eligible(asked), episode, seed=0) for episode in range(200)]
    for rows in episodes:
        assert rows.shape == (5, 20)
        assert len(np.unique(rows)) == 100
        assert (asked.labels[rows] == asked.labels[rows[:, :1]]).all()
        assert len(np.unique(asked.labels[rows[:, 0]])) == 5
    drawn = np.bincount(asked.labels[np.stack(episodes)[:, :, 0]].ravel(), minlength=9)
    assert drawn.min() > 200 * 5 / 9 * 0.75
    assert any((a != b).any() for a, b in pairwise(episodes))


def test_classes_too_small_are_left_out_and_too_few_refused() -> None:
    labels = np.concatenate([np.repeat(np.arange(5), 20), np.full(19, 5)])
    rows, nothing = np.arange(len(labels)), np.empty(0, dtype=np.int64)
    asked = Classification(labels, tuple("abcdef"), (Fold(nothing, nothing, rows),), rows.astype(str))
    FEW_SHOT.check(asked, EvaluationConfig())
    assert len(_eligible(asked)) == 5
    with pytest.raises(UserError, match="needs 5 classes of at least 20 scored images, got 4"):
        FEW_SHOT.check(problem(4, 30), EvaluationConfig())
