"""The contract of everything the engine drives: kill -9 at any moment changes nothing in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sempairs.config import save_config
from sempairs.runs.trackers import read_metrics

# Least numbers of killed sessions, by scenario.
KILLS = {
    "sum": {"calls": 20, "torn": 4},
    "pretrain": {"moments": 4, "calls": 8, "torn": 4},
    "detect": {"calls": 3, "torn": 3},
    "fine-tune": {"calls": 3, "torn": 4},
}
# What holds a time, a place or the name of a folder.
VARYING = {"environment.json", "provenance.json", "finished.json", "resolved.json", "state.json"}
TIMINGS = ("data_seconds", "step_seconds", "pairs_per_second")


def outcome(out: Path) -> dict[str, Any]:
    """All that equal runs have in common: every file but caches, the record without timings."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        if path.name in VARYING or path.suffix == ".csv" or path.name == ".lock" or name.startswith("cache"):
            continue
        found[name] = path.read_bytes()
        if path.name == "metrics.jsonl":
            found[name] = [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(path)]
    return found


@pytest.fixture
def job(
    request: pytest.FixtureRequest, tmp_path: Path, make_recipe: Callable[..., Any], images: Path,
    devkit: Path, encoder: Path, quick: list[str],
) -> dict[str, Any]:  # fmt: skip
    user = request.param
    if user == "pretrain":
        recipe = make_recipe(
            speed__precision="bf16-mixed", checkpoint__every="2 steps", schedule__duration="6 steps"
        )
        save_config(recipe, tmp_path / "recipe.yaml")
        return {"user": user, "stride": 5, "moments": True, "recipe": str(tmp_path / "recipe.yaml")}
    more = {
        "sum": {"stride": 1},
        "detect": {"stride": 12, "devkit": str(devkit), "overrides": [*quick, "pictures=0"]},
        "fine-tune": {"stride": 25, "data": f"folder:{images}"},
    }[user]
    return {"user": user, "moments": False, "encoder": str(encoder), **more}


@pytest.mark.parametrize("job", KILLS, indirect=True)
def test_kill_minus_nine_changes_nothing(job: dict[str, Any], tmp_path: Path) -> None:
    """At random moments, before calls that change the file system, and in the middle of checkpoint files."""
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "job.json"), str(tmp_path)],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    kills, whole = json.loads(done.stdout.splitlines()[-1]), outcome(tmp_path / "whole")
    assert whole and "going on from step" in done.stderr
    for scenario, least in KILLS[job["user"]].items():
        assert kills[scenario] >= least, (scenario, kills)
        assert outcome(tmp_path / scenario) == whole
        assert not list((tmp_path / scenario).rglob(".partial-*"))
        assert not list((tmp_path / scenario / "cache").glob("unfinished/*"))
