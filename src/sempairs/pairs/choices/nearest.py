"""The nearest first, by a table of features: the nearest only, or from them to all as training goes on.

Features are those of any encoder (`sempairs embed`), so another eye than the one in training. A cosine is
summed in float64 and rounded to a millionth, and ties go by key: the order is the same on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import field_validator

from sempairs.catalog.exposure import Inherited
from sempairs.config import Ramp
from sempairs.embeddings import Embeddings
from sempairs.pairs.choices.base import ALL, CHOICES, ChoiceConfig, Int
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.inherited import of_features

_CELLS = 1 << 22  # numbers of features that are gathered at once


@CHOICES.register
class Nearest(ChoiceConfig):
    """embeddings: the table that `sempairs embed` wrote of these images.

    share: of an anchor's candidates, in their order, those that partners are drawn from, rounded up: a
    number, or points of progress and share. first: which end of the order comes first.
    """

    ranks = True

    name: Literal["nearest"] = "nearest"
    embeddings: str
    share: Ramp = ALL
    first: Literal["nearest", "farthest"] = "nearest"

    @field_validator("share")
    @classmethod
    def _a_share(cls, share: Ramp) -> Ramp:
        if not all(0 < value <= 1 for value in share.values):
            raise ValueError("must be above 0 and at most 1 all through training")
        return share

    @property
    def open(self) -> Ramp:
        return self.share

    def about(self, index: ImageIndex) -> Mapping[str, Any]:
        table = _table(self.embeddings)
        known = {key: table.about[key] for key in ("encoder", "data", "exposure") if key in table.about}
        return {"embeddings": table.hash, **known}

    def order(self, index: ImageIndex) -> Callable[[Int, Int], NDArray[np.float64]]:
        """Raises: UserError if an image is not in the table, or was another file when it was made."""
        files = index.catalog.table.column("file_hash").take(pa.array(index.rows)).to_pylist()
        vectors = _table(self.embeddings).of(index.ids, files, where=self.embeddings)
        step = max(1, _CELLS // vectors.shape[1])

        def distance(anchor: Int, candidate: Int) -> NDArray[np.float64]:
            cosine = np.empty(len(anchor))
            for start in range(0, len(anchor), step):
                part = slice(start, start + step)
                both = vectors[anchor[part]].astype(float), vectors[candidate[part]].astype(float)
                cosine[part] = np.einsum("ed,ed->e", *both)
            rounded = np.round(cosine, 6)
            return -rounded if self.first == "nearest" else rounded

        return distance

    def inherited(self) -> Inherited:
        return of_features(self.embeddings)


def _table(path: str) -> Embeddings:
    place = Path(path)
    state = place.stat() if place.is_file() else None
    return _opened(path, state and (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=1)
def _opened(path: str, state: tuple[int, int] | None) -> Embeddings:
    return Embeddings.open(path)
