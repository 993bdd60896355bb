"""Geometry of features with known answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sempairs.metrics import _arrays, alignment, feature_std, rankme, uniformity


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_equal_orthogonal_directions_is_their_number(rank):
    rng = np.random.default_rng(rank)
    left, _ = np.linalg.qr(rng.normal(size=(50, rank)))
    right, _ = np.linalg.qr(rng.normal(size=(12, rank)))
    assert rankme(5 * left @ right.T) == pytest.approx(rank, rel=1e-9)


def test_rankme_equals_the_papers_formula():
    features = np.random.default_rng(0).normal(size=(40, 6)) * [5, 4, 3, 2, 1, 0.1]
    values = np.sqrt(np.linalg.eigvalsh(features.T @ features))
    shares = [value / sum(values) for value in values]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert rankme(features) == pytest.approx(expected, rel=1e-9)
    assert rankme(features * 1e3) == pytest.approx(expected, rel=1e-9)


def test_rankme_of_collapsed_features_is_one():
    assert rankme(np.ones((20, 5), dtype=np.float32)) == pytest.approx(1, rel=1e-6)
    assert rankme(np.zeros((20, 5))) == 1.0


def test_feature_std_is_one_over_root_d_when_healthy_and_zero_when_collapsed():
    healthy = np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32)
    assert feature_std(healthy) == pytest.approx(1 / 8, rel=0.02)
    collapsed = np.random.default_rng(0).uniform(0.1, 1, size=(50, 1)) * np.arange(1, 8)
    assert feature_std(collapsed) == pytest.approx(0, abs=1e-9)


def test_alignment_from_coincident_to_opposed_ignores_lengths():
    rows = np.random.default_rng(0).normal(size=(30, 4))
    assert alignment(rows, 3 * rows) == pytest.approx(0, abs=1e-15)
    assert alignment(rows, -rows) == pytest.approx(4, rel=1e-12)
    assert alignment(np.eye(4)[:2], np.eye(4)[2:]) == pytest.approx(2, rel=1e-12)


def test_uniformity_equals_the_mean_over_pairs(monkeypatch):
    rows = np.random.default_rng(1).normal(size=(17, 3))
    unit = [row / np.linalg.norm(row) for row in rows]
    heat = [math.exp(-2 * float((x - y) @ (x - y))) for x, y in itertools.combinations(unit, 2)]
    expected = math.log(sum(heat) / len(heat))
    assert uniformity(rows) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(_arrays, "CHUNK_BYTES", 17 * 8 * 4)
    assert uniformity(rows) == pytest.approx(expected, rel=1e-10)


def test_uniformity_of_collapsed_features_is_zero():
    assert uniformity(np.ones((9, 4))) == pytest.approx(0, abs=1e-12)


def test_unusable_features_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        alignment(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="at least 2"):
        uniformity(np.ones((1, 2)))
    for metric in (rankme, feature_std, uniformity):
        with pytest.raises(ValueError, match="finite"):
            metric(np.full((3, 2), np.inf))
