"""Each example of the page "Add your own" is a file outside the package that passes the package's checks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "add-your-own.md").read_text()
EXAMPLE = re.compile(r"<!-- file: (\w+\.py) -->\n```python\n(.*?)```\n+```python\n(.*?)```", re.DOTALL)
EXAMPLES = {name: (code, check) for name, code, check in EXAMPLE.findall(PAGE)}


def python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_there_is_one_example_of_each_kind():
    assert set(EXAMPLES) == {
        "year_pairs.py", "hypersphere.py", "odd_digits.py", "nearest_mean.py", "npy_source.py",
    }  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_the_checks(name, tmp_path):
    code, check = EXAMPLES[name]
    (tmp_path / name).write_text(code)
    done = python(check, tmp_path, SEMPAIRS_PLUGINS=name)
    assert done.returncode == 0, done.stderr[-3000:]
    without = python(check, tmp_path, SEMPAIRS_PLUGINS="")
    assert "is unknown" in without.stderr


def test_recipes_name_plugins_and_settings_of_plugins(tmp_path):
    """A run of the example's relation and method, by `plugins:` of the recipe alone."""
    for name in ("year_pairs.py", "hypersphere.py"):
        (tmp_path / name).write_text(EXAMPLES[name][0])
    overrides = [
        "plugins=[year_pairs.py, hypersphere.py]", "pairs={relation: other_time, time: set, mode: redrawn}",
        "method={name: hypersphere, out: 16}", "schedule.duration=2 steps", "schedule.warm_up=0 steps",
        "monitor.every=0 steps", "batch_size=64",
    ]  # fmt: skip
    arguments = [text for override in overrides for text in ("--set", override)]
    command = [sys.executable, "-m", "sempairs", "pretrain", "pretrain-debug", "--out", "run", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = subprocess.run(
        [*command[:-2], "--set", "pairs={relation: other_time, tme: set}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "error: pretrain-debug: pairs.tme is not a known key; did you mean 'time'?" in wrong.stderr


def test_settings_of_a_plugin_are_options(tmp_path):
    (tmp_path / "year_pairs.py").write_text(EXAMPLES["year_pairs.py"][0])
    command = [sys.executable, "-m", "sempairs", "pairs", "build", "emoji-pairs", "--out", "pairs"]
    done = subprocess.run(
        [*command, "--relation", "other_time", "--time", "set", "--count", "20"],
        cwd=tmp_path, env={**os.environ, "SEMPAIRS_PLUGINS": "year_pairs.py"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "other_time" in done.stdout


def test_settings_of_a_protocol_of_a_plugin(tmp_path):
    """By `--set`, in the settings hash, and a wrong one in one line."""
    (tmp_path / "nearest_mean.py").write_text(EXAMPLES["nearest_mean.py"][0])

    def score(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sempairs", "evaluate", "random:tiny-resnet@16", "--out", "r.jsonl"]
        command += ["--task", "digits", "--protocol", "nearest-mean-1", "--set", "repeats=1", "--cache", "c"]
        return subprocess.run(
            [*command, "--set", "precision=float32", *options],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "SEMPAIRS_PLUGINS": "nearest_mean.py"},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    for options in ((), ("--set", "centred=false"), ("--set", "centred=true")):
        done = score(*options)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    plain, same, centred = rows
    assert plain["settings_hash"] == same["settings_hash"] != centred["settings_hash"]
    assert plain["value"] == same["value"] != centred["value"]
    wrong = score("--set", "centered=true")
    assert "error: --set: centered is not a known key; did you mean 'centred'?" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('broken')", "fails while it is imported (RuntimeError: broken)"),
        (None, "plugins must be existing files, got 'mine.py'"),
        (
            "from sempairs.methods import METHODS\nMETHODS.register(METHODS.get('simclr'))",
            "method 'simclr' is registered already",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(text, said, tmp_path):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "sempairs", "pairs", "relations"],
        cwd=tmp_path, env={**os.environ, "SEMPAIRS_PLUGINS": "mine.py"}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1
