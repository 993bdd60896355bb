"""What `precision: auto` takes: bf16 where the device has instructions for it, else float32.

Processors: AVX512-BF16 and AMX (x86), BF16 (Arm), as the operating system lists them and as far as oneDNN,
which computes the products, is let use them (`ONEDNN_MAX_CPU_ISA`). Elsewhere bf16 is emulated, slower than
float32.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Literal

Precision = Literal["float32", "bf16"]

#: Names of instruction sets, as Linux and then macOS list them, in the order they are told in.
_NAMES = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16",
    "asimd": "NEON", "sve": "SVE", "bf16": "BF16",
    "hw.optional.avx2_0": "AVX2", "hw.optional.avx512f": "AVX-512", "hw.optional.AdvSIMD": "NEON",
    "hw.optional.arm.FEAT_BF16": "BF16",
}  # fmt: skip
_WITH_BF16 = {"AVX512-BF16", "AMX-BF16", "BF16"}


def instruction_sets() -> tuple[str, ...]:
    """Those of this processor that decide how fast it trains, without what `ONEDNN_MAX_CPU_ISA` forbids."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    found = dict.fromkeys(name for flag, name in _NAMES.items() if flag in _flags())
    return tuple(name for name in found if not _forbidden(name, limit))


def native_bf16(device: str) -> bool:
    """Whether "cpu" or "cuda" has instructions for bf16, and torch a library that uses them."""
    import torch

    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    usable: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return usable and not _WITH_BF16.isdisjoint(instruction_sets())


def auto_precision(device: str) -> Precision:
    """What `auto` takes on "auto", "cpu" or "cuda"; "auto" is the GPU where there is one."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return "bf16" if native_bf16(device) else "float32"


def emulation_note(device: str) -> str | None:
    """What to say where bf16 is asked for and `device` emulates it: the cost, measured now. Else None."""
    if native_bf16(device):
        return None
    whose = "processor" if device == "cpu" else "GPU"
    factor = _seconds(device, half=True) / _seconds(device, half=False)
    measured = (
        f"a convolution and its gradients just took {factor:.1f} times as long as in float32"
        if factor >= 1
        else f"a convolution and its gradients just took {factor:.2f} of the time of float32 even so"
    )
    return f"bf16 is emulated on this {whose}: {measured}; precision auto takes float32 here"


def _seconds(device: str, *, half: bool) -> float:
    """Of a 3 x 3 convolution of 64 channels, 32 images of 16 x 16, forward and backward: the fastest of 4."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 64, 16, 16, generator=generator).to(device, memory_format=torch.channels_last)
    weight = nn.Parameter(torch.randn(64, 64, 3, 3, generator=generator).to(device))
    best = float("inf")
    for _ in range(4):
        began = perf_counter()
        with torch.enable_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            loss = nn.functional.conv2d(x.requires_grad_(), weight, padding=1).float().sum()
        torch.autograd.grad(loss, (x, weight))[1].sum().item()
        best = min(best, perf_counter() - began)
    return best


def _forbidden(name: str, limit: str) -> bool:
    """By an upper limit on x86, such as AVX2 or AVX512_CORE_BF16."""
    if limit in ("", "ALL", "DEFAULT"):
        return False
    wide = limit.startswith(("AVX512", "AVX10"))
    return {
        "AVX2": limit in ("SSE41", "AVX"),
        "AVX-512": not wide,
        "AVX512-BF16": not wide or limit in ("AVX512_CORE", "AVX512_CORE_VNNI"),
        "AMX-BF16": "AMX" not in limit,
    }.get(name, False)


def _flags() -> frozenset[str]:
    """As the operating system lists them; none where it does not."""
    if platform.system() == "Darwin":
        return frozenset(name for name in _NAMES if name.startswith("hw.") and _sysctl(name) == "1")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    listed = (flags for key, _, flags in lines if key.strip() in ("flags", "Features"))
    return frozenset(next(listed, "").split())


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
