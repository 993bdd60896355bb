"""kNN against a plain loop and scikit-learn; ties, memory, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from sempairs.metrics import KNN_SETTINGS, _arrays, knn_accuracy, knn_predict, nearest_neighbours


def draw(seed: int, n: int, m: int, d: int = 5, classes: int = 4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, classes, n), rng.normal(size=(m, d))


def brute_force(train, labels, test, k, temperature):
    """Each test row by itself: sort by (cosine descending, index ascending), add up votes."""
    predicted = []
    for query in test:
        cosines = [float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in train]
        order = sorted(range(len(train)), key=lambda i: (-cosines[i], i))[:k]
        votes: dict[int, float] = {}
        for i in order:
            weight = 1.0 if temperature is None else math.exp(cosines[i] / temperature)
            votes[labels[i]] = votes.get(labels[i], 0.0) + weight
        predicted.append(min(votes, key=lambda c: (-votes[c], c)))
    return np.array(predicted)


@pytest.mark.parametrize("temperature", [0.07, 0.1, None])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_predictions_equal_a_plain_loop(k, temperature):
    train, labels, test = draw(0, 60, 40)
    got = knn_predict(train, labels, test, k=k, temperature=temperature)
    assert np.array_equal(got, brute_force(train, labels, test, k, temperature))


@pytest.mark.parametrize("k", [1, 5, 20])
def test_uniform_votes_equal_scikit_learn(k):
    train, labels, test = draw(1, 80, 50)
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train, labels).predict(test)
    assert np.array_equal(knn_predict(train, labels, test, k=k, temperature=None), theirs)


@pytest.mark.parametrize("k", [5, 20])
def test_weighted_votes_equal_scikit_learn_with_the_same_weights(k):
    train, labels, test = draw(2, 80, 50)

    def weights(distances):
        return np.exp((1 - distances) / 0.07)

    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights).fit(train, labels)
    assert np.array_equal(knn_predict(train, labels, test, k=k, temperature=0.07), model.predict(test))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), m=st.integers(1, 10), data=st.data())
def test_neighbours_with_many_ties_come_in_the_stated_order(seed, n, m, data):
    # Axis-aligned rows: cosines are exactly -1, 0 or 1, so nearly all are tied.
    rng = np.random.default_rng(seed)
    eye = np.concatenate([np.eye(3), -np.eye(3)])
    train, test = eye[rng.integers(0, 6, n)], eye[rng.integers(0, 6, m)]
    k = data.draw(st.integers(1, n))
    indices, cosines = nearest_neighbours(train, test, k=k)
    for row, query in enumerate(test):
        exact = train @ query
        expected = sorted(range(n), key=lambda i: (-exact[i], i))[:k]
        assert indices[row].tolist() == expected
        assert cosines[row].tolist() == exact[expected].tolist()


def test_small_chunks_give_the_same_neighbours(monkeypatch):
    train, _, test = draw(3, 50, 33)
    whole = nearest_neighbours(train, test, k=6)
    monkeypatch.setattr(_arrays, "CHUNK_BYTES", 50 * 8 * 4)
    chunked = nearest_neighbours(train, test, k=6)
    assert np.array_equal(chunked[0], whole[0])
    np.testing.assert_allclose(chunked[1], whole[1], rtol=1e-14)


def test_a_chunk_never_exceeds_the_budget(monkeypatch):
    monkeypatch.setattr(_arrays, "CHUNK_BYTES", 1000)
    left, right = np.ones((40, 2)), np.ones((30, 2))
    blocks = [block for _, block in _arrays.similarities(left, right)]
    assert max(block.nbytes for block in blocks) <= 1000
    assert sum(len(block) for block in blocks) == 40


def test_equal_votes_go_to_the_smaller_label():
    train = np.array([[1.0, 0], [1, 0], [0, 1]])
    assert knn_predict(train, [7, 3, 1], [[1.0, 0]], k=2, temperature=0.07).tolist() == [3]


def test_labels_may_be_text():
    train, labels, test = draw(4, 40, 20)
    names = np.array(["ant", "bee", "cat", "dog"])
    got = knn_predict(train, names[labels], test, k=5, temperature=0.1)
    assert np.array_equal(got, names[knn_predict(train, labels, test, k=5, temperature=0.1)])


def test_lengths_of_features_do_not_matter_and_tiny_temperatures_do_not_overflow():
    train, labels, test = draw(5, 40, 20)
    scaled = train * np.linspace(1e-3, 1e3, 40)[:, None]
    first = knn_predict(train, labels, test, k=5, temperature=1e-5)
    assert np.array_equal(first, knn_predict(scaled, labels, test * 50, k=5, temperature=1e-5))
    assert np.array_equal(first, knn_predict(train, labels, test, k=1, temperature=None))


def test_accuracy_on_separated_classes_and_the_settings_in_use():
    centres = np.eye(4)[np.arange(400) % 4]
    features = (centres + np.random.default_rng(0).normal(scale=0.05, size=centres.shape)).astype(np.float32)
    labels = np.arange(400) % 4
    for k, temperature in KNN_SETTINGS.values():
        assert knn_accuracy(features, labels, features, labels, k=k, temperature=temperature) == 1.0
    assert KNN_SETTINGS == {"knn20": (20, 0.07), "knn200": (200, 0.1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be in"),
        ({"k": 11}, "k must be in"),
        ({"temperature": 0.0}, "temperature"),
        ({"test": np.ones((3, 4))}, "one width"),
        ({"train": np.full((10, 5), np.nan)}, "finite"),
        ({"train_labels": np.ones(9)}, "train_labels"),
        ({"train": np.ones(10)}, "train must be"),
        ({"test": np.ones((0, 5))}, "at least 1"),
    ],
)
def test_unusable_input_is_refused(change, message):
    rows = {"train": np.ones((10, 5)), "train_labels": np.ones(10), "test": np.ones((3, 5))}
    arguments = {**rows, "k": 2, "temperature": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        knn_predict(**arguments)
