"""What the views stage hands to a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

Member = Literal["anchor", "partner"]
Kind = Literal["global", "local", "original"]


@dataclass(frozen=True)
class Slot:
    """A crop that a method wants of every pair; local ones are the recipe's to ask for.

    original: the whole image, resized and otherwise as it is, on white. number: which of several partners.
    opposite: in recipes of two sides, it has the side that the anchor's first crop has not; others draw one.
    """

    member: Member
    kind: Kind = "global"
    number: int = 0
    opposite: bool = False


#: A global crop of either member.
PAIR = (Slot("anchor"), Slot("partner"))


@dataclass(frozen=True)
class Crop:
    """One view of each pair of a batch.

    pixels: (B, 3, S, S) float32, normalised by the recipe's mean and standard deviation; local ones smaller.
    """

    pixels: Tensor
    member: Member
    kind: Kind = "global"


@dataclass(frozen=True)
class Views:
    """The crops of a batch of pairs, rows aligned.

    pair_id: (B,) int64, the occurrence each pair has in its plan. meaning: (B,) int64, equal for pairs that
    share a meaning (concept or category, as the relation has it). distinct: (B,) bool, whether the partner is
    another image than the anchor; None where that is not known. domain: (V, B) int64, for each crop the
    number of the domain its image is of, -1 where it has none; None where no method asked.
    """

    crops: tuple[Crop, ...]
    pair_id: Tensor
    meaning: Tensor
    distinct: Tensor | None = None
    domain: Tensor | None = None

    def of_crops(self, places: Sequence[int]) -> Views:
        """The same pairs, with the crops at `places` only."""
        chosen = list(places)
        domain = None if self.domain is None else self.domain[chosen]
        return replace(self, crops=tuple(self.crops[place] for place in chosen), domain=domain)

    def __len__(self) -> int:
        return len(self.pair_id)
