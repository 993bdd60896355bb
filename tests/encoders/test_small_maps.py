"""The weights' gradient as a matrix product, against torch's own convolution and against float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.encoders.small_maps import LARGEST, Conv2d, _Convolution, use_matrix_products

SHAPES = [  # channels in and out, side of the input, kernel, stride, padding
    (16, 24, 4, 3, 1, 1), (16, 24, 8, 3, 2, 1), (16, 24, 8, 1, 2, 0), (16, 24, 2, 3, 1, 1),
    (16, 24, 1, 3, 1, 1),
    (16, 24, 1, 3, 2, 1), (16, 24, 1, 5, 2, 2), (16, 24, 1, 7, 2, 3), (3, 8, 9, 4, 4, 0), (5, 7, 2, 1, 1, 0),
]  # fmt: skip


def gradients(layer: nn.Module, x: Tensor, *, half: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients of input and weights of a loss that weighs every output differently."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = layer(x)
    (out.double() * torch.linspace(-1.0, 1.0, out.numel()).view(out.shape)).sum().backward()
    assert x.grad is not None and isinstance(layer.weight.grad, Tensor)
    return out.detach(), x.grad, layer.weight.grad


def pair(shape: tuple[int, ...], **more: Any) -> tuple[nn.Conv2d, nn.Conv2d, Tensor]:
    """A layer, the same one as torch has it, and a batch for them."""
    torch.manual_seed(0)
    before, after, side, kernel, stride, padding = shape
    plain = nn.Conv2d(before, after, kernel, stride, padding, **more)
    layer = copy.deepcopy(plain)
    use_matrix_products(nn.Sequential(layer))
    assert type(layer) is Conv2d
    return layer, plain, torch.randn(6, before, side, side)


def distance(one: Tensor, other: Tensor) -> float:
    """Of `one` from `other`, as a share of its length."""
    return float((one.double() - other).norm() / other.norm().clamp(min=1e-9))


def is_ours(out: Tensor) -> bool:
    seen, waiting = set(), [out.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return "_ConvolutionBackward" in {node.name() for node in seen}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_float64(
    shape: tuple[int, ...], half: bool, bias: bool, layout: torch.memory_format
) -> None:
    layer, plain, x = pair(shape, bias=bias)
    layer.to(memory_format=layout)  # type: ignore[call-overload]
    x = x.to(memory_format=layout)
    expected = gradients(plain.double(), x.double())
    for _ in range(3):
        for size in (1_000, 70_000, 150_000):
            torch.full((size,), torch.nan)  # what a kernel that leaves its output unset would show
        found = gradients(layer, x, half=half)
        for one, other in zip(found, expected, strict=True):
            assert distance(one, other) < (0.01 if half else 1e-6)
    if layer.bias is not None and plain.bias is not None:
        assert layer.bias.grad is not None and plain.bias.grad is not None
        assert distance(layer.bias.grad, plain.bias.grad) < (0.01 if half else 1e-6)


def test_the_function_passes_gradcheck() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: _Convolution.apply(a, b, (1, 2), (2, 1)), (x, weight))


@pytest.mark.parametrize("half", [False, True])
def test_outputs_are_torchs_own_and_so_is_the_inputs_gradient(half: bool) -> None:
    layer, plain, x = pair((64, 64, 2, 3, 1, 1), bias=False)
    ours, torchs = gradients(layer, x, half=half), gradients(plain, x, half=half)
    assert torch.equal(ours[0], torchs[0]) and torch.equal(ours[1], torchs[1])


def test_only_small_maps_that_are_trained_go_another_way() -> None:
    layer, plain, _ = pair((4, 4, 4, 3, 1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert is_ours(layer(torch.randn(2, 4, 4, 4)))
        assert not is_ours(layer(torch.randn(2, 4, 5, 4)))
    assert LARGEST[torch.float32] == 4
    assert is_ours(layer(torch.randn(2, 4, 2, 2)))
    assert not is_ours(layer(torch.randn(2, 4, 3, 2)))
    alone = torch.randn(4, 2, 2)
    assert not is_ours(layer(alone)) and torch.equal(layer(alone), plain(alone))
    with torch.no_grad():
        assert layer(torch.randn(2, 4, 2, 2)).grad_fn is None
    layer.weight.requires_grad_(False)
    assert not is_ours(layer(torch.randn(2, 4, 2, 2, requires_grad=True)))
    layer.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        wide = layer(torch.randn(2, 4, 2, 2, dtype=torch.float64))
    assert wide.dtype is torch.float64 and not is_ours(wide)


def test_other_layers_stay_as_they_are() -> None:
    class Own(nn.Conv2d):
        pass

    others = nn.ModuleList(
        [
            nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, 3, padding="same"),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), Own(4, 4, 3), nn.Conv1d(4, 4, 3),
        ]
    )  # fmt: skip
    kinds = [type(other) for other in others]
    use_matrix_products(others)
    assert [type(other) for other in others] == kinds


def test_every_encoder_has_it_and_its_copies_train_their_own_weights() -> None:
    encoder = build_encoder(EncoderConfig(), seed=0)
    assert not any(type(module) is nn.Conv2d for module in encoder.modules())
    other = copy.deepcopy(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        other(torch.randn(4, 3, 32, 32)).float().sum().backward()
    assert all(weight.grad is not None for weight in other.parameters())
    assert all(weight.grad is None for weight in encoder.parameters())
