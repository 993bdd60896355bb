"""How features lie in space: collapse, effective rank, alignment and uniformity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sempairs.metrics import _arrays


def rankme(features: ArrayLike) -> float:
    """RankMe, Garrido et al. 2023, arXiv:2210.02885, Eq. 1: exp of the entropy of singular values σ / Σσ.

    From 1 (one direction) to min(N, D); of the features (N, D) as they are, not centred. All zero gives 1.
    Departure: the paper adds 1e-7 to each share; here 0 log 0 is 0, so k equal directions give exactly k.
    """
    import torch

    array = _arrays.features(features, "features").astype(np.float64)
    values = torch.linalg.svdvals(torch.from_numpy(array)).numpy()
    if values[0] == 0:
        return 1.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def feature_std(features: ArrayLike) -> float:
    """Mean over dimensions of the standard deviation of unit features (N, D).

    Chen & He 2021, arXiv:2011.10566, section 4.1: about 1/√D when healthy, 0 when collapsed.
    """
    rows = _arrays.unit(_arrays.features(features, "features").astype(np.float64))
    return float(rows.std(axis=0).mean())


def alignment(left: ArrayLike, right: ArrayLike) -> float:
    """Mean squared distance of paired unit vectors (N, D). Wang & Isola 2020, arXiv:2005.10242, Eq. 2, α = 2.

    0 when pairs coincide, at most 4. Raises: ValueError unless the shapes are one.
    """
    x, y = _arrays.features(left, "left"), _arrays.features(right, "right")
    if x.shape != y.shape:
        raise ValueError(f"left and right must have one shape, got {x.shape} and {y.shape}")
    difference = _arrays.unit(x.astype(np.float64)) - _arrays.unit(y.astype(np.float64))
    return float(np.mean(np.sum(difference**2, axis=1)))


def uniformity(features: ArrayLike, *, t: float = 2.0) -> float:
    """Log of the mean of exp(−t‖x − y‖²) over pairs of different rows, on unit vectors (N, D).

    Wang & Isola 2020, Eq. 3: from 0 (collapsed) down; lower is more uniform. Raises: ValueError for N < 2.
    """
    rows = _arrays.unit(_arrays.features(features, "features").astype(np.float64))
    count = len(rows)
    if count < 2:
        raise ValueError("uniformity needs at least 2 rows")
    total = 0.0
    for start, block in _arrays.similarities(rows, rows):
        # ‖x − y‖² = 2 − 2cos on the unit sphere; a row's pair with itself is left out.
        heat = np.exp(np.minimum(2 * t * (block - 1), 0.0))
        heat[np.arange(len(block)), start + np.arange(len(block))] = 0.0
        total += float(heat.sum())
    return float(np.log(total / (count * (count - 1))))
