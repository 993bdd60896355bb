"""kNN against a plain loop and scikit-learn; ties, memory, errors."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from sempairs.metrics import KNN_SETTINGS, _arrays, knn_accuracy, knn_predict, nearest_neighbours, neighbours


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


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e19, 1e30, 3e37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_of_any_length_have_the_neighbours_scikit_learn_finds_at_length_one(scale, dtype):
    train, labels, test = draw(7, 90, 40, d=6)
    theirs = KNeighborsClassifier(9, metric="cosine", algorithm="brute").fit(train, labels)
    big, other = ((array * scale).astype(dtype) for array in (train, test))
    if scale > 1e-39 or dtype is np.float64:  # below, float32 has few digits left
        indices, cosines = nearest_neighbours(big, other, k=9)
        distance, expected = theirs.kneighbors(test, 9)
        assert np.array_equal(indices, expected)
        np.testing.assert_allclose(cosines, 1 - distance, atol=1e-5)
    got = knn_predict(big, labels, other, k=9, temperature=None)
    assert (got == theirs.predict(test)).mean() > 0.9


def test_a_huge_row_is_as_near_as_its_direction_and_a_row_of_zeros_is_far():
    limit = np.finfo(np.float32).max
    train = np.array([[limit, 0], [0, limit], [0, 0], [1e-45, 1e-45]], dtype=np.float32)
    indices, cosines = nearest_neighbours(train, np.array([[1, 1e-3], [limit, limit]], np.float32), k=4)
    assert indices[:, 0].tolist() == [0, 3]
    np.testing.assert_allclose(cosines[1], [1, 2**-0.5, 2**-0.5, 0], atol=1e-6)


@pytest.mark.parametrize("k", [1, 8, 50])
def test_rows_in_blocks_give_the_neighbours_of_all_at_once(monkeypatch, k):
    train, labels, test = draw(8, 50, 23, d=7)
    train[[4, 17, 49]] = train[3]  # ties over the borders of blocks
    whole = nearest_neighbours(train, test, k=k)
    votes = knn_predict(train, labels, test, k=k, temperature=0.1)
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 6 * 7 * 8)
    monkeypatch.setattr(_arrays, "CHUNK_BYTES", 256)
    parts = nearest_neighbours(train, test, k=k)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-12, atol=1e-12)
    same = np.sort(parts[0], axis=1) == np.sort(whole[0], axis=1)
    assert same.all()
    assert np.array_equal(knn_predict(train, labels, test, k=k, temperature=0.1), votes)


def test_many_columns_and_classes_take_bounded_memory():
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 40_000)).astype(np.float32) for n in (300, 40))
    labels = rng.integers(0, 10**6, 300)
    tracemalloc.start()
    knn_predict(train, labels, test, k=20, temperature=0.07)
    many = rng.normal(size=(20_000, 4)).astype(np.float32)
    knn_predict(many, np.arange(20_000), many[:5000], k=20, temperature=0.07)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 2**20
