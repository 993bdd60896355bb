"""Losses stay what they were, unless `tools/capture_golden.py --write` says otherwise."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from sempairs.methods import METHODS, PairMethod

PAIRWISE = [name for name in METHODS.names() if issubclass(METHODS.get(name), PairMethod)]
ROOT = Path(__file__).resolve().parents[2]
KEPT: dict[str, list[float]] = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.fixture(scope="module")
def today() -> dict[str, list[float]]:
    spec = importlib.util.spec_from_file_location("capture_golden", ROOT / "tools" / "capture_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, list[float]] = module.capture()
    return found


@pytest.mark.parametrize("method", [*METHODS.names(), *(f"{name} with joint" for name in PAIRWISE)])
def test_golden_losses(today: dict[str, list[float]], method: str) -> None:
    """In float64, where the rounding of another processor is too small to be magnified to these bounds."""
    assert len(today[method]) == 20
    # RINCE's loss crosses zero, where nothing is near in proportion.
    assert today[method] == pytest.approx(KEPT[method], rel=1e-4, abs=1e-5)
