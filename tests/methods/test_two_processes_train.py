"""Every method trained in two processes ends where one ends: weights, targets and queues, in float64."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .conftest import VARIANTS

SCRIPT = Path(__file__).with_name("two_processes_train.py")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("two_processes_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    target = tmp_path_factory.mktemp("training") / "out"
    command = [sys.executable, SCRIPT, target]
    processes = [subprocess.Popen([*command, str(r)], stderr=subprocess.PIPE, text=True) for r in (0, 1)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(f"{target}.{rank}") for rank in (0, 1)]


@pytest.mark.parametrize("shares", ["equal", "unequal"])
@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_end_where_one_does(script, runs, name, shares):
    alone = script.trained(name, slice(None), processes=1)
    for part in runs:
        assert part[shares][name].keys() == alone.keys()
        torch.testing.assert_close(part[shares][name], alone, rtol=1e-9, atol=1e-11)
