"""What an objective is: which crops of a pair are compared, and how much each comparison weighs.

An objective is one file: a config that is registered (`@OBJECTIVES.register`), with the crops it wants
(`slots`) and its `terms`. A method says what its loss of two views is (`pairwise.PairMethod`); the engine
there adds the terms up, so that an objective works with each of these methods, and knows none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from sempairs.config import Config
from sempairs.registry import Registry, Section
from sempairs.views.records import PAIR, Slot


@dataclass(frozen=True)
class Term:
    """A comparison of the first crop, an anchor's, with those at places `others` of the objective's slots.

    head: 0, the method's own head, or 1, a second one. name: in the log, of this term's loss and weight.
    """

    name: str
    others: tuple[int, ...]
    weight: float = 1.0
    head: int = 0


class ObjectiveConfig(Config):
    """Settings of an objective, and what follows from them. Each narrows `name` to a literal."""

    name: str

    @property
    def shown_partners(self) -> int:
        """How many partners of each anchor the slots show."""
        return 1 + max(slot.number for slot in self.slots)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The crops of each pair, the first of them compared with each of the others."""
        return PAIR

    @property
    def takes_local(self) -> bool:
        """Whether local crops may follow, where the method takes them."""
        return False

    def terms(self, progress: float) -> Sequence[Term]:
        """What the loss is the weighted sum of, when the share `progress` of the steps has been taken.

        Their number, crops and heads are the same for every progress: only weights may change.
        """
        raise NotImplementedError


#: The objectives, by their names.
OBJECTIVES: Registry[type[ObjectiveConfig]] = Registry("objective", "sempairs.methods.objectives")
#: A recipe's section `objective`: the objective that its `name` says.
AnyObjectiveConfig = Annotated[ObjectiveConfig, Section(OBJECTIVES)]
