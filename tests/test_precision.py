"""What `auto` takes, on processors as their operating systems describe them."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from sempairs import precision

ZEN3 = "flags\t\t: fpu sse4_1 avx avx2 fma"
ZEN4 = ZEN3 + " avx512f avx512bw avx512_bf16"
SKYLAKE = ZEN3 + " avx512f avx512bw avx512_vnni"
SAPPHIRE = ZEN4 + " amx_bf16 amx_tile"
GRAVITON3 = "Features\t: fp asimd sve bf16 i8mm"
GRAVITON2 = "Features\t: fp asimd aes"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what /proc/cpuinfo and ONEDNN_MAX_CPU_ISA say."""

    def say(line: str, limit: str | None = None) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(
            Path, "read_text", lambda *a, **k: f"processor\t: 0\n{line}\nbugs\t: none\n\n" * 2
        )
        monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        if limit is not None:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return say


@pytest.mark.parametrize(
    ("line", "limit", "sets", "taken"),
    [
        (ZEN3, None, ("AVX2",), "float32"),
        (ZEN4, None, ("AVX2", "AVX-512", "AVX512-BF16"), "bf16"),
        (ZEN4, "ALL", ("AVX2", "AVX-512", "AVX512-BF16"), "bf16"),
        (ZEN4, "avx2", ("AVX2",), "float32"),
        (ZEN4, "AVX512_CORE", ("AVX2", "AVX-512"), "float32"),
        (ZEN4, "AVX512_CORE_BF16", ("AVX2", "AVX-512", "AVX512-BF16"), "bf16"),
        (SAPPHIRE, None, ("AVX2", "AVX-512", "AVX512-BF16", "AMX-BF16"), "bf16"),
        (SAPPHIRE, "AVX512_CORE_FP16", ("AVX2", "AVX-512", "AVX512-BF16"), "bf16"),
        (SAPPHIRE, "AVX512_CORE_AMX", ("AVX2", "AVX-512", "AVX512-BF16", "AMX-BF16"), "bf16"),
        (SAPPHIRE, "SSE41", (), "float32"),
        (SKYLAKE, None, ("AVX2", "AVX-512"), "float32"),
        (GRAVITON3, None, ("NEON", "SVE", "BF16"), "bf16"),
        (GRAVITON2, None, ("NEON",), "float32"),
        ("model name\t: of another kind", None, (), "float32"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    processor: Any, line: str, limit: str | None, sets: tuple[str, ...], taken: str
) -> None:
    processor(line, limit)
    assert precision.instruction_sets() == sets
    assert precision.auto_precision("cpu") == taken


def test_without_a_list_of_the_system_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", absent)
    assert precision.auto_precision("cpu") == "float32"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", absent)
    assert precision.auto_precision("cpu") == "float32"


def test_macos_is_asked_by_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctl(command: list[str], **_: Any) -> Any:
        known = {"hw.optional.AdvSIMD": "1\n", "hw.optional.arm.FEAT_BF16": "1\n"}
        return subprocess.CompletedProcess(command, 0, known.get(command[-1], ""), "")

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", sysctl)
    assert precision.instruction_sets() == ("NEON", "BF16")


def test_a_gpu_is_asked_whether_it_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, has=has: has or including_emulation,
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        taken = "bf16" if has else "float32"
        assert precision.auto_precision("cuda") == precision.auto_precision("auto") == taken


def test_emulated_bf16_is_told_with_a_measured_factor(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(ZEN3)
    monkeypatch.setattr(precision, "_seconds", lambda device, *, half: 3.0 if half else 0.5)
    note = precision.emulation_note("cpu")
    assert note is not None and "bf16 is emulated on this processor" in note and " 6.0 times" in note
    processor(ZEN4)
    assert precision.emulation_note("cpu") is None


def test_the_measure_is_of_this_machine() -> None:
    assert precision._seconds("cpu", half=False) > 0 and precision._seconds("cpu", half=True) > 0
