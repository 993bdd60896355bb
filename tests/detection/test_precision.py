"""`precision: auto` in detection: what it takes, what keeps it, and what it changes."""

from __future__ import annotations

import pytest

from sempairs import precision
from sempairs.config import save_config
from sempairs.detection.config import PROTOCOLS, make_recipe
from sempairs.detection.run import _settled


@pytest.mark.parametrize(("bf16", "taken"), [(True, "bf16"), (False, "float32")])
def test_a_run_settles_it_once_under_the_name_of_the_protocol(tmp_path, monkeypatch, bf16, taken):
    monkeypatch.setattr(precision, "native_bf16", lambda device: bf16)
    asked = make_recipe("random:tiny-resnet", data="voc:none", protocol="small-c4-1")
    made = _settled(asked, tmp_path, "cpu", resume=False)
    assert made.settings.precision == taken and made.protocol_name == "small-c4-1"
    assert made.measured()["precision"] == taken
    save_config(made, tmp_path / "recipe.yaml")
    (tmp_path / "checkpoint" / "step-1").mkdir(parents=True)
    monkeypatch.setattr(precision, "native_bf16", lambda device: not bf16)
    assert _settled(asked, tmp_path, "cpu", resume=True) == made
    assert _settled(asked, tmp_path, "cpu", resume=False) != made


def test_published_protocols_stay_in_float32():
    assert {PROTOCOLS[name].precision for name in ("voc-c4-1", "voc-fpn-1")} == {"float32"}
