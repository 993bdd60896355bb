"""Draws of methods that treat the two views of a pair differently: sides, and the order keys go through.

Without drawn sides anchors alone would be queries and partners alone keys, so that what sets anchors apart
from partners would decide what a method learns. Each draw is a pure function of the pair and a `turn`, a
number that differs from step to step, such as how many rows a queue has been given: computed on their device,
so that nobody waits, and the same after resuming and with any number of processes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

# Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators": SplitMix64, as signed numbers.
_GAMMA, _M1, _M2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def draw_sides(pair_id: Tensor, turn: Tensor | int) -> Tensor:
    """(B,) True where a pair's members change sides: a fair coin for each pair (B,) int64 and turn."""
    return (_bits(pair_id, turn) & 1).bool()


def on_sides(left: Tensor, right: Tensor, swap: Tensor) -> tuple[Tensor, Tensor]:
    """Both (B, ...) with the rows exchanged where `swap` (B,)."""
    mask = swap.view(-1, *[1] * (left.ndim - 1))
    return torch.where(mask, right, left), torch.where(mask, left, right)


def in_groups(network: nn.Module, images: Tensor, groups: int, order: Tensor | None = None) -> Tensor:
    """What `network` gives for images (B, ...) that pass it in `groups` groups, as near equal as can be.

    Batch normalisation in training takes its statistics over each group, of at least two images, by itself.
    `order` (B,): the order in which images are dealt out to groups; rows come back in their own.
    """
    groups = max(1, min(groups, len(images) // 2))
    if groups == 1:
        return cast(Tensor, network(images))
    if order is None:
        return torch.cat([network(part) for part in images.tensor_split(groups)])
    rows = torch.cat([network(part) for part in images[order].tensor_split(groups)])
    return rows[order.argsort()]


def draw_order(pair_id: Tensor, turn: Tensor | int) -> Tensor:
    """(B,) a random order of pairs (B,) int64."""
    return (_bits(pair_id, turn) >> 1).argsort(stable=True)


def _bits(pair_id: Tensor, turn: Tensor | int) -> Tensor:
    turns = torch.as_tensor(turn, dtype=torch.int64, device=pair_id.device)
    return _mixed(_mixed(pair_id) ^ (turns * _GAMMA))


def _mixed(value: Tensor) -> Tensor:
    """SplitMix64's output function; products wrap around as they should."""
    value = value + _GAMMA
    value = (value ^ _shifted(value, 30)) * _M1
    value = (value ^ _shifted(value, 27)) * _M2
    return value ^ _shifted(value, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; that of signed tensors would drag the sign along."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
