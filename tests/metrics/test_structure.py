"""LiDAR, class collapse and CKA: known answers, and other ways to work them out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sempairs.metrics import class_distance_normalised_variance, lidar, linear_cka

Float = NDArray[np.float64]


def clusters(seed: int, groups: int, each: int, width: int) -> tuple[Float, NDArray[np.int64]]:
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), each)
    centres = draws.normal(size=(groups, width)) * 3
    return centres[labels] + draws.normal(size=(len(labels), width)), labels


@given(st.integers(0, 1000), st.integers(2, 7), st.integers(2, 4), st.integers(2, 6))
@settings(max_examples=40)
def test_lidar_equals_the_definition_by_matrix_roots(seed: int, groups: int, each: int, width: int) -> None:
    rows, labels = clusters(seed, groups, each, width)
    means = np.array([rows[labels == g].mean(0) for g in range(groups)])
    inside = sum(np.outer(r - means[g], r - means[g]) for r, g in zip(rows, labels, strict=True)) / len(rows)
    inside = inside + 1e-4 * np.eye(width)
    between = (means - means.mean(0)).T @ (means - means.mean(0)) / groups
    root = np.real(scipy.linalg.inv(scipy.linalg.sqrtm(inside)))
    values = np.clip(scipy.linalg.eigvals(root @ between @ root).real, 1e-300, None)
    shares = values / values.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert lidar(rows, labels) == pytest.approx(expected, rel=1e-6)


def test_lidar_counts_directions_that_tell_meanings_apart() -> None:
    corners = np.concatenate([np.eye(4), -np.eye(4)])  # eight meanings, alike in four directions
    labels = np.repeat(np.arange(8), 8)
    rows = corners[labels] + 0.01 * np.tile(corners, (8, 1))
    assert lidar(rows, labels) == pytest.approx(4, rel=0.01)
    flat = rows.copy()
    flat[:, 1:] = 0
    assert lidar(flat, labels) == pytest.approx(1)
    assert lidar(np.tile([1.0, 2.0], (6, 1)), [0, 0, 1, 1, 2, 2]) == 1.0


def test_lidar_leaves_lone_images_out() -> None:
    rows, labels = clusters(1, 4, 3, 5)
    extra = np.concatenate([rows, [[50.0, 0, 0, 0, 0]]]), np.append(labels, 9)
    assert lidar(*extra) == lidar(rows, labels)
    with pytest.raises(ValueError, match="two meanings"):
        lidar(rows, np.zeros(len(rows)))


def test_collapsed_classes_have_no_variance() -> None:
    rows = np.repeat(np.eye(3), 4, axis=0)
    labels = np.repeat(np.arange(3), 4)
    assert class_distance_normalised_variance(rows, labels) == 0
    noisy = rows + np.random.default_rng(0).normal(scale=0.3, size=rows.shape)
    noisier = rows + np.random.default_rng(0).normal(scale=3, size=rows.shape)
    one, two = (class_distance_normalised_variance(r, labels) for r in (noisy, noisier))
    assert 0 < one < two


def test_class_distance_by_hand() -> None:
    # On the unit circle: one class at angles 0 and 90 degrees, the other at 180.
    rows, labels = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-2.0, 0.0]], [0, 0, 1, 1]
    # Means (.5, .5) and (-1, 0), variances .5 and 0, squared distance 2.5.
    assert class_distance_normalised_variance(rows, labels) == pytest.approx(0.5 / (2 * 2.5))
    with pytest.raises(ValueError, match="two classes"):
        class_distance_normalised_variance(rows, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="one mean"):
        class_distance_normalised_variance([[1.0, 0.0], [1.0, 0.0]], [0, 1])


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_cka_is_blind_to_rotation_scale_and_offset(seed: int) -> None:
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(20, 5))
    turn = np.linalg.qr(draws.normal(size=(5, 5)))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    y = draws.normal(size=(20, 3))
    # The definition on kernels: HSIC with centred Gram matrices.
    centre = np.eye(20) - 1 / 20
    k, other = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = np.sum(k * other) / np.sqrt(np.sum(k * k) * np.sum(other * other))
    assert linear_cka(x, y) == pytest.approx(expected)
    assert linear_cka(y, x) == pytest.approx(expected)


def test_cka_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="same rows"):
        linear_cka(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="every image"):
        linear_cka(np.ones((3, 2)), np.eye(3))
