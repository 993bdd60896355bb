"""Gradients of strided convolutions of a single pixel, in bf16 on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.encoders.one_pixel import widen_single_pixels


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_the_gradient_is_that_of_float64(kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 128, kernel, stride=2, padding=kernel // 2)
    widen_single_pixels(layer)
    exact = nn.Conv2d(64, 128, kernel, stride=2, padding=kernel // 2).double()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    x = torch.randn(16, 64, 1, 1)
    for _ in range(4):
        layer.zero_grad()
        exact.zero_grad()
        for size in (1_000, 70_000, 150_000, 600_000):
            torch.full((size,), torch.nan)  # what a kernel that leaves its output unset would show
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.shape == (16, 128, 1, 1)
        out.float().square().sum().backward()
        exact(x.double()).square().sum().backward()
        assert layer.weight.grad is not None and exact.weight.grad is not None
        error = (layer.weight.grad.double() - exact.weight.grad).norm() / exact.weight.grad.norm()
        assert error < 0.02


def test_outputs_and_other_layers_stay_as_they_are() -> None:
    layer = nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False)
    x = torch.randn(2, 4, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(x)
        widen_single_pixels(layer)
        assert torch.equal(layer(x), before)
    others = [nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 1, 2), nn.Conv2d(4, 4, 2, 2), nn.Conv2d(4, 4, 3, 2)]
    widen_single_pixels(nn.ModuleList(others[::2]))
    assert not any(other._forward_pre_hooks for other in others)


def test_every_encoder_has_it() -> None:
    encoder = build_encoder(EncoderConfig(), seed=0)
    strided = [
        m
        for m in encoder.modules()
        if isinstance(m, nn.Conv2d) and m.stride == (2, 2) and m.padding == (1, 1)
    ]
    assert strided and all(m._forward_pre_hooks for m in strided)
