"""Instance and semantic discrimination at once: two crops of the anchor and one of its partner.

    loss = (1 − λ) · L(anchor, another crop of the anchor) + λ · L(anchor, partner),     λ = `weight`,
with L the method's loss of two views. The first crop of the anchor stands in both terms. What one image alone
teaches is kept, and its meaning is taught beside it, as in Islam et al. 2021, arXiv:2103.13517 (supervised
and self-supervised terms), and Grafit, Touvron et al. 2021, arXiv:2011.12982.

Control of equal crops and compute: `pairs.arm: augmented`. There the partner is the anchor itself, and its
crop a third view of the anchor: the crops of a pair have draws of their own, whatever image they show.

`heads`: one head for both terms; or two, the second, of the same shape, for the instance term, as LooC has it
(Xiao et al. 2021, arXiv:2008.05659). `partners`: so many of each anchor in the semantic term (see `several`).
`weight` may change over training (`config.Ramp`); both terms are worked out whatever it is, so that compute
does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from sempairs.config import Ramp
from sempairs.methods.objectives.base import OBJECTIVES, ObjectiveConfig, Term
from sempairs.methods.objectives.several import further_partners
from sempairs.views.records import PAIR, Slot


@OBJECTIVES.register
class JointObjective(ObjectiveConfig):
    """weight: λ, the share of the semantic term, from 0 to 1, fixed or changing with progress.

    heads: one for both terms, or two. partners: how many each anchor has.
    """

    name: Literal["joint"] = "joint"
    weight: Ramp = Ramp(((0.0, 0.5),))
    heads: Literal["one", "two"] = "one"
    partners: int = Field(1, ge=1, le=16)

    @field_validator("weight")
    @classmethod
    def _share(cls, weight: Ramp) -> Ramp:
        if not 0 <= min(weight.values) <= max(weight.values) <= 1:
            raise ValueError("must be from 0 to 1")
        return weight

    @property
    def slots(self) -> tuple[Slot, ...]:
        # In both terms the two crops have both sides of a recipe that has two, such as BYOL's.
        return (*PAIR, Slot("anchor", opposite=True), *further_partners(self.partners))

    def terms(self, progress: float) -> Sequence[Term]:
        semantic = self.weight.at(progress)
        head = 1 if self.heads == "two" else 0
        partners = (1, *range(3, 2 + self.partners))
        return Term("semantic", partners, semantic), Term("instance", (2,), 1 - semantic, head)
