"""Convolutions that leave small maps: the gradient of their weights as one matrix product, on CPUs.

oneDNN is slow at that gradient where maps are small. A product of gradients and patches makes the whole
backward pass of such a layer up to three times faster in bf16 (`benchmarks/small_maps.py`), and it is right
for a single pixel, where oneDNN's kernel for stride 2 leaves what only padding reached unset: whatever was in
memory, mostly finite (seen with torch 2.15). Outputs and the gradient of the inputs are torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

#: Positions of an output map up to which the product is faster (1 x 1 kernels in float32 can lose a little).
LARGEST = {torch.bfloat16: 16, torch.float32: 4}


def use_matrix_products(model: nn.Module) -> None:
    """Makes every plain convolution of `model` a `Conv2d` as below, in place; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = Conv2d


def _is_plain(module: nn.Conv2d) -> bool:
    whole = module.groups == 1 and module.dilation == (1, 1)
    return whole and module.padding_mode == "zeros" and not isinstance(module.padding, str)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, with another way to the weights' gradient where output maps are small."""

    def forward(self, input: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu") and input.dtype is not torch.float64  # as autocast itself
        dtype = torch.get_autocast_dtype("cpu") if half else input.dtype
        small = (
            input.device.type == "cpu" and input.ndim == 4 and self._positions(input) <= LARGEST.get(dtype, 0)
        )
        if not (small and torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(input)
        weight, bias = self.weight.to(dtype), self.bias
        out: Tensor = _Convolution.apply(input.to(dtype), weight, self.stride, self.padding)
        return out if bias is None else out + bias.to(dtype)[:, None, None]

    def _positions(self, x: Tensor) -> int:
        """Of the output map."""
        assert not isinstance(self.padding, str)
        (high, wide), (down, right), (above, left) = self.kernel_size, self.stride, self.padding
        return ((x.shape[-2] + 2 * above - high) // down + 1) * ((x.shape[-1] + 2 * left - wide) // right + 1)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = conv2d_input(x.shape, weight, gradient, ctx.stride, ctx.padding)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            (out, channels, height, width), (down, right) = weight.shape, ctx.stride
            above, left = ctx.padding
            seen = functional.pad(x, (left, left, above, above))
            seen = seen.unfold(2, height, down).unfold(3, width, right)  # (B, C, H', W', height, width)
            patches = seen.permute(0, 2, 3, 4, 5, 1).reshape(-1, height * width * channels)
            product = gradient.permute(0, 2, 3, 1).reshape(-1, out).T @ patches
            of_weight = product.view(out, height, width, channels).permute(0, 3, 1, 2)
        return of_x, of_weight, None, None
