"""Losses stay what they were, unless `tools/capture_golden.py --write METHOD` says otherwise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sempairs.errors import UserError
from sempairs.methods import METHODS

FOLDER = Path(__file__).with_name("golden")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capture_golden", ROOT / "tools" / "capture_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_golden_losses(tool: ModuleType, method: str) -> None:
    """In float64, where the rounding of another processor is too small to be magnified to these bounds."""
    kept = tool.kept(method)
    today = tool.capture([method])[method]
    assert today.keys() == kept.keys()
    for objective, losses in today.items():
        assert len(losses) == 20
        # RINCE's loss crosses zero, where nothing is near in proportion.
        assert losses == pytest.approx(kept[objective], rel=1e-4, abs=1e-5)


def test_every_method_of_this_package_is_kept() -> None:
    """A method of a plugin, or a file beside it, needs no golden values; one of ours does."""
    ours = {name for name in METHODS.names() if METHODS.get(name).__module__.startswith("sempairs.methods.")}
    assert {path.stem for path in FOLDER.glob("*.json")} == ours


def test_the_tool_writes_only_the_methods_asked_for(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "KEPT", tmp_path / "golden")
    monkeypatch.setattr(tool, "losses", lambda method, objective, folder: [float(len(method))] * 20)
    monkeypatch.setattr(sys, "argv", ["capture_golden.py", "dino", "simclr"])
    tool.main()
    assert not (tmp_path / "golden").exists()
    assert "simclr, joint: last loss 6.0" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["capture_golden.py", "--write", "simclr"])
    tool.main()
    assert [path.name for path in (tmp_path / "golden").iterdir()] == ["simclr.json"]
    assert tool.kept("simclr") == {"pair": [6.0] * 20, "joint": [6.0] * 20} and tool.kept("dino") == {}
    monkeypatch.setattr(sys, "argv", ["capture_golden.py", "simcrl"])
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        tool.main()
