"""Strided convolutions of a single pixel, whose gradients torch gets wrong in bf16 on CPUs.

A convolution of stride 2 may be given 1 x 1 maps, as in the last stage of a ResNet for small crops.
oneDNN's bf16 kernel then leaves the weights' gradient unset where only padding was seen: whatever was in
memory, mostly finite (seen with torch 2.15). For 2 x 2 maps it is right, and a row and a column of zeros
are what padding is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def widen_single_pixels(model: nn.Module) -> None:
    """Has every convolution of stride 2 see 2 x 2 maps instead of 1 x 1 ones, with the same outputs."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _same_outputs(module):
            module.register_forward_pre_hook(_widen)


def _same_outputs(module: nn.Conv2d) -> bool:
    """Whether a row and a column of zeros more change no output: "same" padding with zeros, stride 2."""
    halves = tuple((size - 1) // 2 for size in module.kernel_size)
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1) and module.padding == halves
    return plain and module.stride == (2, 2) and all(size % 2 for size in module.kernel_size)


def _widen(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
    (x,) = inputs
    if x.device.type != "cpu" or x.shape[-2:] != (1, 1) or not torch.is_autocast_enabled("cpu"):
        return None
    return (functional.pad(x, (0, 1, 0, 1)),)
