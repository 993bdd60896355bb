"""Whitened features: no direction counts for more because an encoder happens to stretch it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
SHRINKAGE = 0.01
"""Share of the mean variance added to every direction, for those that hold next to nothing."""


@dataclass(frozen=True)
class Whitening:
    """mean: (D,); turn: (D, D), with which centred features have covariance one but for the shrinkage."""

    mean: Float
    turn: Float

    @classmethod
    def fitted(cls, features: NDArray[np.float32]) -> Whitening:
        """On reference features (R, D). Encoders that collapsed altogether are left as they are."""
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0)
        covariance = np.atleast_2d(np.cov(rows - mean, rowvar=False, bias=True))
        values, vectors = np.linalg.eigh(covariance)
        floor = SHRINKAGE * float(np.trace(covariance)) / len(covariance)
        if floor <= 0:
            return cls(mean, np.eye(len(covariance)))
        return cls(mean, vectors / np.sqrt(np.maximum(values, 0) + floor))

    def unit(self, features: NDArray[np.float32]) -> Float:
        """Whitened rows of length one, (N, D); a row at the mean stays zero."""
        rows = (features.astype(np.float64) - self.mean) @ self.turn
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(length > 0, length, 1))
