"""Losses over several processes equal those of one process that holds all rows, in float64."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sempairs.methods.distributed import layout_of

SCRIPT = Path(__file__).with_name("two_processes.py")
SPEC = importlib.util.spec_from_file_location("two_processes", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
LOSSES = list(script.losses(torch.eye(2), torch.eye(2), torch.arange(2)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The rows, what one process computes on them, and what each of two does."""
    folder = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(3)
    data = {
        "left": torch.randn(8, 6, generator=generator, dtype=torch.float64),
        "right": torch.randn(8, 6, generator=generator, dtype=torch.float64),
        "weight": torch.randn(6, 4, generator=generator, dtype=torch.float64),
        "meaning": torch.arange(8) % 3,
    }
    torch.save(data, folder / "data")
    command = [sys.executable, SCRIPT, folder / "data", folder / "out"]
    processes = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return data, script.measure(data, slice(None)), [torch.load(folder / f"out.{rank}") for rank in (0, 1)]


@pytest.mark.parametrize("shares", ["equal", "unequal"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_mean_over_processes_equals_one_process(runs, shares, loss, what):
    _, alone, parts = runs
    mean = (parts[0][shares][f"{loss} {what}"] + parts[1][shares][f"{loss} {what}"]) / 2
    torch.testing.assert_close(mean, alone[f"{loss} {what}"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shares", ["equal", "unequal"])
def test_every_process_gathers_all_rows_in_order_of_rank(runs, shares):
    data, _, parts = runs
    assert all(torch.equal(part[shares]["gathered"], data["left"]) for part in parts)


@pytest.mark.parametrize("shares", ["equal", "unequal"])
def test_a_queue_is_the_same_on_every_process_and_in_one(runs, shares):
    data, _, parts = runs
    alone = script.queued(data, slice(None))
    for part in parts:
        assert part[shares]["queue"].keys() == alone.keys()
        assert all(torch.equal(value, alone[name]) for name, value in part[shares]["queue"].items())


def test_one_process_gathers_by_handing_back_the_same_tensor():
    rows = torch.randn(4, 3)
    layout = layout_of(rows)
    assert layout.gather(rows) is rows
    assert (layout.first, layout.total) == (0, 4)
