"""1 x 1 convolutions that step over pixels and read few channels, computed without oneDNN's kernel for them.

On processors with AVX2 alone (seen with torch 2.15, float32, channels_last) oneDNN's backward pass of such a
layer writes a whole vector of 8 channels for every pixel. With fewer than 8 input channels the last write
lies behind the end of its memory, and the process aborts later and elsewhere, or goes on with damaged
numbers. A 1 x 1 kernel never sees the pixels it steps over, so they are left out first, and a layer of
stride 1 does the rest: the same numbers, by a kernel that is sound. It is done on every machine, so that all
compute the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

#: Input channels of a group from which the kernel is sound: the floats in a vector of AVX2.
SOUND = 8


def avoid_narrow_strides(model: nn.Module) -> None:
    """Makes every such convolution of `model`, of any class that is an `nn.Conv2d`, read what it needs only.

    In place; names, weights and outputs stay, and copies of the model keep it. The layer itself then has
    stride 1 and no padding.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _is_narrow(module):
            module.register_forward_pre_hook(
                partial(_leave_out, stride=module.stride, padding=_padding(module), mode=module.padding_mode)
            )
            module.stride, module.padding, module.padding_mode = (1, 1), (0, 0), "zeros"


def _is_narrow(module: nn.Conv2d) -> bool:
    steps = module.kernel_size == (1, 1) and module.stride != (1, 1)
    return steps and module.in_channels // module.groups < SOUND


def _padding(module: nn.Conv2d) -> tuple[int, ...]:
    """Left, right, above, below. "valid" is the one word that torch accepts together with a stride."""
    if isinstance(module.padding, str):
        return 0, 0, 0, 0
    above, left = module.padding
    return left, left, above, above


def _leave_out(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    mode: Literal["zeros", "reflect", "replicate", "circular"],
) -> tuple[Any, ...]:
    x, *others = inputs
    if any(padding):
        x = functional.pad(x, padding, "constant" if mode == "zeros" else mode)
    return x[..., :: stride[0], :: stride[1]], *others
