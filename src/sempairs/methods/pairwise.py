"""Methods whose loss is one of two views, and the engine that makes an objective's loss of it.

Such a method says three things: what its encoders give for crops (`features`), what its heads make of that
(`project`), and its loss of what two crops gave (`compare`). The objective (`objectives/`) says which crops
there are and which of them are compared: the first with each of the others. With `objective: {name: pair}`
that is the method as published.

With two heads the second is a method of the same config around no encoder at all: it has heads, targets of
heads and queues of its own, steps along, and gets the features that the first one's encoders gave.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sempairs.methods.base import Levels, Method, MethodConfig, StepOutput
from sempairs.methods.objectives.base import ObjectiveConfig, Term
from sempairs.methods.objectives.pair import PairObjective
from sempairs.views.records import Views


class Compared(NamedTuple):
    """loss: a scalar whose mean over processes is that of the whole batch. logs: detached scalars."""

    loss: Tensor
    logs: Mapping[str, Tensor]


class PairMethod(Method):
    """A method whose loss is one of two views, whichever views of a pair these are."""

    objective: ObjectiveConfig
    second: PairMethod | None

    def __init__(self, config: MethodConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config: Any = config
        self.objective = PairObjective()
        self.needs_domains = getattr(config, "negatives", "all") == "same_domain"
        self.second = None
        self.compared = len(self.slots)  # how many crops, local ones apart, this head gets
        self._progress = 0.0

    @abstractmethod
    def features(self, crops: Sequence[Tensor], views: Views) -> list[Any]:
        """For each of crops (B, 3, S, S) what the encoders give, rows (B, width): a tuple whose first item,
        for the first crop, is what `encoder` gave."""

    @abstractmethod
    def project(self, features: Sequence[Any], views: Views) -> list[Any]:
        """Give for each crop what the heads make of its features: all that the loss needs to know of it.

        views: these crops'.
        """

    @abstractmethod
    def compare(self, left: Any, right: Any, views: Views, local: Sequence[Any] = ()) -> Compared:
        """Compute the loss of two crops.

        Args:
            left: What `project` gave for the one crop.
            right: What it gave for the other.
            views: The views of the two.
            local: What it gave for local crops.

        Returns:
            The loss, a scalar, and numbers to log.
        """

    def compare_several(self, anchor: Any, partners: Sequence[Any], views: Views) -> Compared:
        """Compute the loss of an anchor's crop with crops of several partners; here their mean."""
        pairs = (views.of_crops([0, place]) for place in range(1, 1 + len(partners)))
        every = [self.compare(anchor, *both) for both in zip(partners, pairs, strict=True)]
        means = {name: torch.stack([of.logs[name] for of in every]).mean() for name in every[0].logs}
        return Compared(torch.stack([of.loss for of in every]).mean(), means)

    def term_levels(self, pairs: int, crops: int) -> Levels | None:
        """Tell `levels` of the loss of so many crops of each pair: the anchor's, and one or more others."""
        return None

    def levels(self, pairs: int) -> Levels | None:
        terms = self.objective.terms(self._progress)
        found = [self.term_levels(pairs, 1 + len(term.others)) for term in terms]
        known = [(term.weight, of) for term, of in zip(terms, found, strict=True) if of is not None]
        if len(known) < len(terms):
            return None
        return Levels(*(sum(weight * of[i] for weight, of in known) for i in range(2)))

    def through(self, network: nn.Module, parts: Sequence[Tensor]) -> list[Tensor]:
        """Give what `network` makes of each part, all in one batch where `joint_forward`, else one by one."""
        if self.joint_forward:
            return list(network(torch.cat(list(parts))).chunk(len(parts)))
        return [network(part) for part in parts]

    def pursue(self, objective: ObjectiveConfig, width: int) -> None:
        self.objective, self.slots = objective, objective.slots
        self.takes_local = self.takes_local and objective.takes_local
        others: list[set[int]] = [set(), set()]
        for term in objective.terms(0.0):
            others[term.head].update(term.others)
        self.compared = 1 + len(others[0])
        if others[1]:
            self.second = type(self)(self.config, nn.Identity(), width)
            self.second.slots, self.second.compared = objective.slots, 1 + len(others[1])

    def before_step(self, progress: float) -> None:
        self._progress = progress
        if self.second is not None:
            self.second.before_step(progress)

    def after_step(self, progress: float) -> None:
        if self.second is not None:
            self.second.after_step(progress)

    def forward(self, views: Views) -> StepOutput:
        crops = self.crops(views)
        features = self.features(crops, views)
        terms = self.objective.terms(self._progress)
        local = range(len(self.slots), len(crops))
        found: dict[Term, Compared] = {}
        for number, head in enumerate((self, self.second)):
            own = [term for term in terms if term.head == number]
            if head is None or not own:
                continue
            # Crops that no term of this head compares do not pass it.
            places = [0, *sorted({place for term in own for place in term.others}), *local]
            given = head.project([features[place] for place in places], views.of_crops(places))
            projected = dict(zip(places, given, strict=True))
            beside = [projected[place] for place in local]
            for term in own:
                first, *more = (projected[place] for place in term.others)
                compared = views.of_crops([0, *term.others])
                if more:
                    found[term] = head.compare_several(projected[0], [first, *more], compared)
                else:
                    found[term] = head.compare(projected[0], first, compared, beside)
        loss, logs = _weighted([(term, found[term]) for term in terms])
        return StepOutput(loss, logs, features[0][0].detach())


def _weighted(terms: Sequence[tuple[Term, Compared]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the terms' losses times their weights, and the numbers of all of them.

    The first term's numbers go by their plain names. Of several terms, each one's loss and weight are there.
    """
    if len(terms) == 1:
        return terms[0][1].loss, dict(terms[0][1].logs)
    loss = torch.stack([term.weight * compared.loss for term, compared in terms]).sum()
    logs: dict[str, Tensor] = {}
    for number, (term, compared) in enumerate(terms):
        logs[f"{term.name}_loss"] = compared.loss.detach()
        logs[f"{term.name}_weight"] = loss.new_full((), term.weight).detach()
        prefix = f"{term.name}_" if number else ""
        logs |= {f"{prefix}{name}": value for name, value in compared.logs.items()}
    return loss, logs
