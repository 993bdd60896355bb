"""The crops a method asked for, out of a batch of views."""

from __future__ import annotations

from torch import Tensor

from sempairs.errors import UserError
from sempairs.methods.base import Method
from sempairs.views.records import Slot, Views


def wanted(views: Views, method: Method) -> tuple[Tensor, ...]:
    """The pixels (B, 3, S, S) of each of `method.slots`, of a batch that holds exactly these crops.

    Raises: UserError otherwise.
    """
    slots = tuple(Slot(crop.member, crop.kind) for crop in views.crops)
    if slots != method.slots:
        raise UserError("views", f"must be {_listed(method.slots)} for {method.name}", _listed(slots))
    return tuple(crop.pixels for crop in views.crops)


def _listed(slots: tuple[Slot, ...]) -> str:
    return ", ".join(f"{slot.kind} of {slot.member}" for slot in slots)
