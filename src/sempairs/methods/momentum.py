"""Networks that follow another by an exponential moving average."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy with the same values that no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """target ← momentum · target + (1 − momentum) · source, for the parameters.

    Buffers stay the target's own: its batch normalisation keeps the statistics of what it saw itself.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1.0 - momentum)


def cosine_momentum(start: float, end: float, progress: float) -> float:
    """From `start` at progress 0 to `end` at 1 along half a cosine. Grill et al. 2020, section 3.2."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2
