"""What a choice among partners is.

A relation says which images may be an anchor's partner; a choice, which of them are drawn. It is one file in
this folder: a config that is registered. It leaves some of the candidates (`allowed`), or ranks them
(`order`), or both. Of ranked ones the first share (`open`) is drawn from, uniformly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.exposure import Inherited
from sempairs.config import Config, Ramp
from sempairs.registry import Registry, Section

if TYPE_CHECKING:
    from sempairs.pairs.index import ImageIndex

Int = NDArray[np.int64]
ALL = Ramp(((0.0, 1.0),))


class ChoiceConfig(Config):
    """Settings of a choice. Each narrows `name` to a literal."""

    #: Whether candidates are ranked, so that `share` counts.
    ranks: ClassVar[bool] = False

    name: str

    @property
    def open(self) -> Ramp:
        """The share of the ranked candidates that partners are drawn from."""
        return ALL

    def about(self, index: ImageIndex) -> Mapping[str, Any]:
        """What was read to choose by, for the record of the run. Raises: UserError if it cannot be used."""
        return {}

    def allowed(self, index: ImageIndex) -> Callable[[Int, Int], NDArray[np.bool_]] | None:
        """Tells of pairs of items, anchors (E,) and candidates (E,), which may be drawn; None: all.

        Raises: UserError for a column that is not there.
        """
        return None

    def order(self, index: ImageIndex) -> Callable[[Int, Int], NDArray[np.float64]] | None:
        """Gives for pairs of items (E,) numbers that order an anchor's candidates, the least first; None
        where they are not ranked. Raises: UserError for a feature that is not there."""
        return None

    def inherited(self) -> Inherited:
        """What an encoder whose features decide was shown. Raises: UserError if its record is missing."""
        return Inherited()


#: One choice a file; the key `name` of a section of `pairs.choices` names one.
CHOICES: Registry[type[ChoiceConfig]] = Registry("choice", "sempairs.pairs.choices")

#: One section of a recipe's list `pairs.choices`.
AnyChoice = Annotated[ChoiceConfig, Section(CHOICES)]
