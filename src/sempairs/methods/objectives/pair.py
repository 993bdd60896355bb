"""The objective of every published method: anchor and partner, and the method's loss of these two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sempairs.methods.objectives.base import OBJECTIVES, ObjectiveConfig, Term


@OBJECTIVES.register
class PairObjective(ObjectiveConfig):
    """The method's loss of anchor and partner."""

    name: Literal["pair"] = "pair"

    @property
    def takes_local(self) -> bool:
        return True

    def terms(self, progress: float) -> Sequence[Term]:
        return (Term("pair", (1,)),)
