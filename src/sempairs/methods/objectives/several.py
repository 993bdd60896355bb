"""Several partners of each anchor: k images of one meaning, drawn by key, and one crop of each.

The loss is the method's of several positives (`PairMethod.compare_several`). For a method that has no form of
its own it is the mean of the losses of the anchor with each partner; SimCLR and DCL count each crop of a pair
as a positive of each other. Partners of one anchor differ as long as there are enough (`PairPlan.further`),
so pairs have to be redrawn. Control of equal crops and compute: `pairs.arm: augmented`, which makes k + 1
views of the anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sempairs.methods.objectives.base import OBJECTIVES, ObjectiveConfig, Term
from sempairs.views.records import PAIR, Slot


def further_partners(count: int) -> tuple[Slot, ...]:
    """Crops of partners 1 to `count` - 1; partner 0 is one of the usual two."""
    return tuple(Slot("partner", number=number) for number in range(1, count))


@OBJECTIVES.register
class SeveralObjective(ObjectiveConfig):
    """partners: how many each anchor has."""

    name: Literal["several"] = "several"
    partners: int = Field(2, ge=1, le=16)

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (*PAIR, *further_partners(self.partners))

    def terms(self, progress: float) -> Sequence[Term]:
        return (Term("several", tuple(range(1, 1 + self.partners))),)
