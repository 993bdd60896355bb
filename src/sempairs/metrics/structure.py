"""What features keep of meanings: LiDAR, class collapse, and how alike two encoders see."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sempairs.metrics import _arrays

Float = NDArray[np.float64]


def lidar(features: ArrayLike, meanings: ArrayLike, *, delta: float = 1e-4) -> float:
    """LiDAR, Thilak et al. 2023, arXiv:2312.04000, section 4: how many directions tell meanings apart.

    The exponential of the entropy of the eigenvalues of W^(-1/2) B W^(-1/2), where B is the covariance of the
    meanings' means and W that within meanings, with `delta` on the diagonal. features: (N, D); meanings:
    (N,), the same where images mean the same (the paper's "surrogate classes" are views of one image; here
    the true meanings are known). From 1 to min(D, meanings - 1). Meanings of a single image are left out;
    each other one weighs alike, as the paper's do by having equally many samples.
    Raises: ValueError if fewer than two meanings have two images.
    """
    rows, labels = _labelled(features, meanings)
    within, means = [], []
    for label in np.unique(labels):
        own = rows[labels == label]
        if len(own) < 2:
            continue
        means.append(own.mean(axis=0))
        spread = own - own.mean(axis=0)
        within.append(spread.T @ spread / len(own))
    if len(means) < 2:
        raise ValueError("LiDAR needs at least two meanings of two images each")
    between = np.cov(np.stack(means), rowvar=False, bias=True)
    inside = np.mean(within, axis=0) + delta * np.eye(rows.shape[1])
    values, vectors = np.linalg.eigh(inside)
    root = vectors / np.sqrt(values)
    spectrum = np.maximum(np.linalg.eigvalsh(root.T @ np.atleast_2d(between) @ root), 0)
    if spectrum.sum() == 0:
        return 1.0
    shares = spectrum / spectrum.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def class_distance_normalised_variance(features: ArrayLike, labels: ArrayLike) -> float:
    """CDNV, Galanti et al. 2022, arXiv:2112.15121, Eq. 2, averaged over pairs of classes.

    (v_i + v_j) / (2 ‖m_i − m_j‖²) with a class's mean m and variance v, of unit features (N, D): 0 when every
    class has collapsed to a point, large when classes overlap. Raises: ValueError for fewer than two classes
    or two that coincide.
    """
    rows, groups = _labelled(features, labels)
    rows = _arrays.unit(rows)
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("class-distance normalised variance needs at least two classes")
    means = np.stack([rows[groups == name].mean(axis=0) for name in names])
    spread = np.array(
        [np.sum((rows[groups == n] - m) ** 2, axis=1).mean() for n, m in zip(names, means, strict=True)]
    )
    apart = np.sum((means[:, None] - means[None]) ** 2, axis=2)
    upper = np.triu_indices(len(names), 1)
    if (apart[upper] == 0).any():
        raise ValueError("two classes have one mean")
    ratio = (spread[:, None] + spread[None]) / (2 * np.where(apart > 0, apart, 1))
    return float(ratio[upper].mean())


def linear_cka(left: ArrayLike, right: ArrayLike) -> float:
    """Linear centred kernel alignment of two encoders' features of the same N images, (N, D) and (N, E).

    Kornblith et al. 2019, arXiv:1905.00414, Eq. 3-4: 1 when one is a rotation and scaling of the other.
    Raises: ValueError if the rows differ in number, or one encoder gives every image the same features.
    """
    x, y = (_arrays.features(side, name) for side, name in ((left, "left"), (right, "right")))
    if len(x) != len(y):
        raise ValueError(f"left and right must have the same rows, got {len(x)} and {len(y)}")
    x, y = x.astype(np.float64), y.astype(np.float64)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    if scale == 0:
        raise ValueError("features that are the same for every image have no alignment")
    return float(np.linalg.norm(y.T @ x) ** 2 / scale)


def _labelled(features: ArrayLike, labels: ArrayLike) -> tuple[Float, NDArray[np.int64]]:
    rows = _arrays.features(features, "features").astype(np.float64)
    return rows, np.unique(_arrays.labels(labels, "labels", len(rows)), return_inverse=True)[1]
