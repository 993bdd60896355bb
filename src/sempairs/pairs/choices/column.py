"""Partners that differ from the anchor in a column of the catalogue, or are equal to it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sempairs.errors import UserError, unknown
from sempairs.pairs.choices.base import CHOICES, ChoiceConfig, Int
from sempairs.pairs.index import ImageIndex


@CHOICES.register
class Column(ChoiceConfig):
    """column: any of texts or numbers. An image without a value is no partner: neither can be said of it."""

    name: Literal["column"] = "column"
    column: str
    must: Literal["differ", "equal"] = "differ"

    def allowed(self, index: ImageIndex) -> Callable[[Int, Int], NDArray[np.bool_]]:
        if self.column not in index.catalog.names:
            raise unknown("pairs.choices.column", self.column, index.catalog.names)
        try:
            codes = index.labels(self.column).codes
        except pa.ArrowException:
            kind = str(index.catalog.base.schema.field(self.column).type)
            rule = f"must hold texts or numbers to choose by {self.column}"
            raise UserError("pairs.choices.column", rule, kind) from None

        def fit(anchor: Int, candidate: Int) -> NDArray[np.bool_]:
            a, b = codes[anchor], codes[candidate]
            equal = a == b
            found: NDArray[np.bool_] = (a >= 0) & (b >= 0) & (equal if self.must == "equal" else ~equal)
            return found

        return fit
