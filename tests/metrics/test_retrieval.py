"""Retrieval against scikit-learn's average precision, query by query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sempairs.metrics import _arrays, average_precision, retrieval_scores


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_average_precision_equals_scikit_learn_ties_included(items):
    scores = np.array([score for score, _ in items], dtype=float)
    relevant = np.array([flag for _, flag in items])
    if relevant.any():
        expected = average_precision_score(relevant, scores)
        assert average_precision(scores, relevant) == pytest.approx(expected, rel=1e-12)
    else:
        with pytest.raises(ValueError, match="relevant"):
            average_precision(scores, relevant)


def test_average_precision_done_by_hand():
    assert average_precision([0.9, 0.8, 0.7, 0.6], [True, False, True, False]) == pytest.approx(
        (1 + 2 / 3) / 2
    )


def draw(seed=0, queries=20, gallery=50):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, 6)), rng.integers(0, 8, queries),
        rng.normal(size=(gallery, 6)), rng.integers(0, 7, gallery),
    )  # fmt: skip


def test_scores_equal_scikit_learn_and_a_sort_per_query(monkeypatch):
    queries, wanted, gallery, labels = draw()
    monkeypatch.setattr(_arrays, "CHUNK_BYTES", 50 * 8 * 3)
    scores = retrieval_scores(queries, wanted, gallery, labels)
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    expected, hits = [], []
    for query, label in zip(queries, wanted, strict=True):
        cosines = unit @ query / np.linalg.norm(query)
        if label in labels:
            expected.append(average_precision_score(labels == label, cosines))
            hits.append(labels[np.argmax(cosines)] == label)
    assert scores.scored == len(expected) < len(queries)
    assert scores.mean_average_precision == pytest.approx(np.mean(expected), rel=1e-10)
    assert scores.top1 == pytest.approx(np.mean(hits))
    alone = wanted == 7  # no gallery item has this label
    assert np.isnan(scores.average_precision[alone]).all()
    assert np.isnan(scores.hit[alone]).all()


def test_a_query_left_out_of_its_own_gallery_is_not_found():
    gallery = np.array([[1.0, 0], [0.9, 0.1], [0, 1]])
    labels = np.array(["x", "y", "x"])
    itself = retrieval_scores(gallery, labels, gallery, labels)
    assert itself.top1 == 1.0
    others = retrieval_scores(gallery, labels, gallery, labels, leave_out=[0, 1, 2])
    assert others.scored == 2  # nothing else is a "y"
    assert others.top1 == 0.0
    assert others.mean_average_precision == pytest.approx(0.5)  # each "x" finds the other second


def test_perfect_and_worst_retrieval():
    gallery, labels = np.eye(4), np.arange(4)
    assert retrieval_scores(gallery, labels, gallery, labels).mean_average_precision == 1.0
    worst = retrieval_scores(-gallery, labels, gallery, labels)
    assert worst.top1 == 0.0
    assert worst.mean_average_precision == pytest.approx(1 / 4)


def test_unusable_input_is_refused():
    queries, wanted, gallery, labels = draw()
    with pytest.raises(ValueError, match="one width"):
        retrieval_scores(queries[:, :3], wanted, gallery, labels)
    with pytest.raises(ValueError, match="gallery_labels"):
        retrieval_scores(queries, wanted, gallery, labels[1:])
    with pytest.raises(ValueError, match="leave_out"):
        retrieval_scores(queries, wanted, gallery, labels, leave_out=np.full(20, 50))
    with pytest.raises(ValueError, match="no query"):
        retrieval_scores(queries, np.full(20, 99), gallery, labels)
