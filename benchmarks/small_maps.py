"""A convolution's backward pass on the CPU: the weights' gradient as a matrix product, against torch's own.

    python benchmarks/small_maps.py [--batches 128 512] [--rounds 7] [--threads 2]

Layers of a tiny-resnet at 32 px, a ResNet-18 and a ResNet-50 whose output maps are small enough for the
product (encoders/small_maps.py); last, for each precision, two that are not, with the bound lifted. Times are
of the whole backward pass, for input and weights, in turns, in channels_last.

Figures are medians over rounds. Writes benchmarks/results/small_maps.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from sempairs.encoders import small_maps
from sempairs.files import write_json
from sempairs.runs.sessions import environment

RESULTS = Path(__file__).parent / "results" / "small_maps.json"
# Channels in and out, side of the input, kernel, stride.
LAYERS = {
    "bf16": [
        (128, 256, 4, 3, 2), (256, 256, 2, 3, 1), (128, 256, 4, 1, 2), (128, 128, 4, 3, 1),
        (64, 128, 8, 3, 2), (512, 512, 1, 3, 1), (512, 512, 4, 3, 1), (512, 512, 3, 3, 1),
        (2048, 512, 3, 1, 1), (512, 2048, 4, 1, 1), (64, 64, 8, 3, 1), (256, 256, 7, 3, 1),
    ],
    "float32": [
        (128, 256, 4, 3, 2), (256, 256, 2, 3, 1), (128, 256, 4, 1, 2), (512, 512, 1, 3, 1),
        (256, 512, 4, 3, 2), (128, 128, 4, 3, 1), (64, 64, 8, 3, 1),
    ],
}  # fmt: skip


def backward(layer: nn.Conv2d, x: Tensor) -> float:
    """Seconds of one backward pass."""
    out = layer(x)
    gradient = torch.ones_like(out).contiguous(memory_format=torch.channels_last)
    began = perf_counter()
    out.backward(gradient)
    return perf_counter() - began


def measure(precision: str, shape: tuple[int, ...], batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of both ways, and how many times the product is faster."""
    before, after, side, kernel, stride = shape
    dtype = getattr(torch, "bfloat16" if precision == "bf16" else precision)
    ways: dict[str, nn.Conv2d] = {}
    for name, kind in (("torch", nn.Conv2d), ("ours", small_maps.Conv2d)):
        layer = kind(before, after, kernel, stride, kernel // 2, bias=False)
        ways[name] = layer.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, before, side, side).to(dtype, memory_format=torch.channels_last)
    x.requires_grad_()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with mock.patch.object(small_maps, "LARGEST", {dtype: 10**9}):
        for turn in range(rounds + 1):
            for name in ways if turn % 2 else reversed(ways):
                taken = backward(ways[name], x)
                if turn:  # the first warms up
                    seconds[name].append(taken)
    middle = {f"{name}_ms": 1e3 * statistics.median(times) for name, times in seconds.items()}
    ratio = statistics.median(a / b for a, b in zip(seconds["torch"], seconds["ours"], strict=True))
    positions = ((side + 2 * (kernel // 2) - kernel) // stride + 1) ** 2
    used = positions <= small_maps.LARGEST[dtype]
    return {
        "precision": precision, "batch": batch, "layer": shape, "positions": positions, "used": used,
        **middle, "times": ratio,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="The backward pass of convolutions that leave small maps.")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    print("| precision | batch | in, out, side, kernel, stride | map | torch, ms | ours, ms | times | used |")
    print("|---|---|---|---|---|---|---|---|")
    for precision, layers in LAYERS.items():
        for batch in options.batches:
            for shape in layers:
                row = measure(precision, shape, batch, options.rounds)
                found.append(row)
                side = round(row["positions"] ** 0.5)
                print(
                    f"| {precision} | {batch} | {', '.join(map(str, shape))} | {side} x {side} "
                    f"| {row['torch_ms']:.2f} | {row['ours_ms']:.2f} | {row['times']:.2f} "
                    f"| {'yes' if row['used'] else 'no'} |",
                    flush=True,
                )
    machine = environment(torch.device("cpu"))
    write_json(
        options.out,
        {"command": "python benchmarks/small_maps.py", "rounds": options.rounds, "environment": machine,
         "results": found},
    )  # fmt: skip


if __name__ == "__main__":
    main()
