"""Networks that follow another by an exponential moving average, and what no gradient reaches."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from sempairs.errors import UserError


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy with the same values that no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


def freeze_patch_embedding(encoder: nn.Module) -> None:
    """Takes the first layer of a ViT out of training, in place.

    Raises: UserError if no module of the encoder is called `patch_embed`, as in timm's ViTs.
    """
    found = [m for name, m in encoder.named_modules() if name.rpartition(".")[2] == "patch_embed"]
    if not found:
        rule = "needs an encoder with a patch embedding, such as vit_small_patch16_224"
        raise UserError("method.freeze_patch_embedding", rule, True)
    for module in found:
        module.requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """target ← momentum · target + (1 − momentum) · source, for the parameters.

    Buffers stay the target's own: its batch normalisation keeps the statistics of what it saw itself.
    """
    following: list[torch.Tensor] = list(target.parameters())
    if following:
        torch._foreach_lerp_(following, list(source.parameters()), 1.0 - momentum)


def warmed(momentum: float, progress: float, warm_up: float) -> float:
    """`momentum`, rising to it from 0 along a straight line over the first share `warm_up` of the steps.

    A target then holds an average of what has been since the start, not its first weights for long: heads
    begin anew beside an encoder that goes on. Tarvainen & Valpola 2017, arXiv:1703.01780, whose code rises as
    1 − 1/(t + 1).
    """
    return momentum * min(1.0, progress / warm_up) if warm_up else momentum


def cosine_momentum(start: float, end: float, progress: float) -> float:
    """From `start` at progress 0 to `end` at 1 along half a cosine. Grill et al. 2020, section 3.2."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2
