"""1 x 1 convolutions with strides and few channels: the same numbers, and no write out of bounds."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn

from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.encoders.narrow_strides import avoid_narrow_strides

# Errors of the kind write behind a block of memory; these find that when the block is given back.
CHECKS = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "7"}
SMALLEST = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# Writes behind the end of a block, as a check of the checks.
BROKEN = """
import ctypes
block = ctypes.create_string_buffer(10_000)
ctypes.memset(block, 1, 10_001)
del block
"""
# Layers that aborted without the guard, and neighbours of theirs; then whole encoders, as they are trained.
SOUND = """
import copy, torch
from torch import nn
from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.encoders.narrow_strides import avoid_narrow_strides

def train(model, x):
    for layout in (torch.channels_last, torch.contiguous_format):
        model.to(memory_format=layout)
        x = x.detach().to(memory_format=layout).requires_grad_()
        for _ in range(2):
            model(x).square().sum().backward()

torch.set_num_threads(1)
torch.manual_seed(0)
for before in (1, 3, 4, 6, 7, 8, 12):
    for after in (1, 8, 12):
        for stride in (2, 3, (1, 2)):
            layer = nn.Sequential(nn.Conv2d(before, after, 1, stride))
            avoid_narrow_strides(layer)
            for side in (6, 8, 9):
                train(layer, torch.randn(6, before, side, side))
for channels in ([4, 4, 4, 4], [6, 4, 8, 16]):
    encoder = build_encoder(EncoderConfig(options={"channels": channels}), seed=0)
    train(copy.deepcopy(encoder), torch.randn(6, 3, 32, 32))
print("sound")
"""


def checked(script: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, on the smallest processor, under the checks."""
    environment = os.environ | SMALLEST | CHECKS | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the checks are glibc's")
def test_nothing_is_written_behind_the_end_of_memory() -> None:
    if checked(BROKEN).returncode == 0:
        pytest.skip("glibc's checks of memory are not installed: they did not see a write behind the end")
    done = checked(SOUND)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "sound\n"


def gradients(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = layer(x)
    (out * torch.linspace(-1.0, 1.0, out.numel()).view(out.shape)).sum().backward()
    assert x.grad is not None and isinstance(layer.weight, Tensor) and layer.weight.grad is not None
    return out.detach(), x.grad, layer.weight.grad


@pytest.mark.parametrize("side", [(8, 8), (7, 5), (1, 4)])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 1, 2), nn.Conv2d(7, 3, 1, (1, 3)), nn.Conv2d(3, 6, 1, 2, padding=1),
        nn.Conv2d(3, 6, 1, 2, padding=(0, 2)), nn.Conv2d(3, 6, 1, 2, padding="valid"),
        nn.Conv2d(3, 6, 1, 3, padding=(0, 1), padding_mode="circular"), nn.Conv2d(12, 8, 1, 2, groups=4),
        nn.Conv2d(6, 6, 1, 2, groups=6), nn.Conv2d(4, 6, 1, 2, dilation=2), Conv2dSame(5, 4, 1, 2),
        StdConv2d(4, 6, 1, stride=2),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_are_those_of_the_stride(layer: nn.Conv2d, side: tuple[int, int]) -> None:
    layer = copy.deepcopy(layer).double()
    guarded = copy.deepcopy(layer)
    x = torch.randn(3, layer.in_channels, *side, dtype=torch.float64, generator=torch.manual_seed(0))
    avoid_narrow_strides(guarded)
    assert guarded.stride == (1, 1) and list(guarded.state_dict()) == list(layer.state_dict())
    again = copy.deepcopy(guarded)
    for one in (guarded, again):
        for found, expected in zip(gradients(one, x), gradients(layer, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        layer.zero_grad()


def test_other_layers_keep_their_stride() -> None:
    wide = [
        nn.Conv2d(8, 4, 1, 2),
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(16, 4, 1, 2, groups=2),
    ]
    strides = [layer.stride for layer in wide]
    avoid_narrow_strides(nn.ModuleList(wide))
    assert [layer.stride for layer in wide] == strides
    assert not any(layer._forward_pre_hooks for layer in wide)


@pytest.mark.parametrize("arch", ["tiny-resnet", "resnet18"])
def test_no_built_encoder_has_such_a_layer(arch: str) -> None:
    options = {"channels": [4, 5, 6, 16]}
    encoder = build_encoder(EncoderConfig(arch=arch, options=options), seed=0)
    layers = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    narrow = [layer for layer in layers if layer.kernel_size == (1, 1) and layer.in_channels < 8]
    assert narrow and all(layer.stride == (1, 1) for layer in narrow)
    images = torch.randn(2, 3, 32, 32)
    assert encoder(images).shape == (2, encoder.width)
