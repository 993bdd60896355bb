"""Keyed draws of one scene, taken one after another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed

STREAM = "scenes"


class SceneDraws:
    """The draws of scene `number` of a set: the n-th call gives the same whatever other scenes do."""

    def __init__(self, seed: int, part: int, number: int) -> None:
        self._key = (seed, part, number)
        self._calls = 0

    def uniform(self, n: int = 1) -> NDArray[np.float64]:
        """(n,) in [0, 1)."""
        seed, part, number = self._key
        slot, operation = divmod(self._calls, 1 << 16)
        self._calls += 1
        drawn = keyed.uniform(
            seed, STREAM, epoch=part, occurrence=[number], slot=slot, operation=operation, n=n
        )
        return np.asarray(drawn[0])

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * float(self.uniform()[0])

    def integer(self, low: int, high: int) -> int:
        """Uniform in low, …, high, both included."""
        return min(low + int(self.uniform()[0] * (high - low + 1)), high)

    def colour(self) -> NDArray[np.float64]:
        """(3,) in [0, 255): R, G, B."""
        return np.asarray(255 * self.uniform(3))
