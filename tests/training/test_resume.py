"""A run that was interrupted ends like one that was not, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sempairs.config import save_config
from sempairs.encoders import load_encoder
from sempairs.errors import UserError
from sempairs.files import read_json, write_json
from sempairs.methods import METHODS
from sempairs.runs.checkpoint import load_checkpoint
from sempairs.runs.sessions import package_sha256
from sempairs.runs.signals import Interrupted
from sempairs.runs.trackers import Trackers, read_metrics
from sempairs.training.provenance import Provenance
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

MakeRecipe = Callable[..., PretrainRecipe]
TIMINGS = ("data_seconds", "step_seconds", "pairs_per_second")


def outcome(out: Path) -> tuple[str, list[dict[str, Any]], bytes]:
    """All that two equal runs have in common: weights, record (timings apart) and exposure."""
    lines = [
        {k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(out / "metrics.jsonl")
    ]
    return load_encoder(out).spec.weight_hash, lines, (out / "exposure.parquet").read_bytes()


def contents(out: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


# Objectives and samplers beside the usual ones, and methods that carry queues, targets and codes under them.
OTHER: dict[str, dict[str, Any]] = {
    "": {},
    "joint": {"objective": {"name": "joint", "weight": [[0, 0], [0.9, 1]]}},
    "two heads": {"objective": {"name": "joint", "heads": "two"}},
    "several": {"objective": {"name": "several", "partners": 3}},
    "distinct meanings": {"sampler": {"name": "distinct_meanings"}, "batch_size": 4},
}
WITH = [
    *((name, "two heads") for name in ("moco_v2", "byol", "swav")),
    ("simclr", "joint"), ("simclr", "several"), ("nnclr", "joint"), ("simclr", "distinct meanings"),
]  # fmt: skip


class Stop(Exception):  # noqa: N818
    """Raised in the place of a crash."""


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [
        *((name, "adamw") for name in METHODS.names()), ("byol", "lars"), ("byol", "sgd"),
        *((f"{name} with {other}", "adamw") for name, other in WITH),
    ],
)  # fmt: skip
def test_every_method_and_optimiser_resumes(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, optimiser: str
) -> None:
    from sempairs.runs import engine

    method, _, other = method.partition(" with ")
    recipe = make_recipe(
        method={"name": method}, **OTHER[other], optimiser__name=optimiser, optimiser__lr=0.05,
        speed__channels_last=True,
        schedule__duration="4 steps", checkpoint__every="1 steps", monitor__every="0 steps",
        monitor__log_every=3,
    )  # fmt: skip
    whole = pretrain(recipe, tmp_path / "whole")
    real = engine.save_checkpoint

    def crash_after_two(folder: Path, step: int, *rest: Any) -> Path:
        path = real(folder, step, *rest)
        if step == 2:
            raise Stop
        return path

    monkeypatch.setattr(engine, "save_checkpoint", crash_after_two)
    with pytest.raises(Stop):
        pretrain(recipe, tmp_path / "cut")
    monkeypatch.undo()
    resumed = pretrain(recipe, tmp_path / "cut", resume=True)
    assert resumed.resumed_from == 2
    assert resumed.weight_hash == whole.weight_hash
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_resume_where_there_is_nothing_starts_afresh(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(schedule__duration="2 steps")
    whole = pretrain(recipe, tmp_path / "plain")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "checkpoint").mkdir(parents=True)
    (tmp_path / "begun" / "recipe.yaml").write_text("left by a run that was killed early")
    (tmp_path / "begun" / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 9}\n{"torn')
    (tmp_path / "begun" / "notes.txt").write_text("mine")
    for name in ("absent", "empty", "begun"):
        summary = pretrain(recipe, tmp_path / name, resume=True)
        assert (summary.resumed_from, summary.already_finished) == (None, False)
        assert outcome(tmp_path / name) == outcome(tmp_path / "plain")
        assert summary.weight_hash == whole.weight_hash
    assert (tmp_path / "begun" / "notes.txt").read_text() == "mine"


def test_resume_of_a_finished_run_changes_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(schedule__duration="2 steps")
    first = pretrain(recipe, tmp_path / "run")
    before = contents(tmp_path / "run")
    again = pretrain(recipe, tmp_path / "run", resume=True)
    assert again.already_finished
    assert (again.steps, again.loss, again.weight_hash) == (first.steps, first.loss, first.weight_hash)
    assert contents(tmp_path / "run") == before


def test_a_used_folder_and_another_recipe_are_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    pretrain(make_recipe(schedule__duration="2 steps"), tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match=r"output folder in use.*--resume"):
        pretrain(make_recipe(schedule__duration="2 steps"), tmp_path / "run")
    with pytest.raises(UserError, match=r"method\.temperature \(0\.2 -> 0\.5\), schedule\.duration"):
        pretrain(make_recipe(method__temperature=0.5), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_files_that_no_run_of_ours_left_are_not_touched(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "encoder.json").write_text("{}")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"output folder in use by other things.*choose another"):
            pretrain(make_recipe(), tmp_path / "mine", resume=resume)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["encoder.json"]


def test_other_images_are_refused_on_resume(
    make_recipe: MakeRecipe, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copied = tmp_path / "images"
    shutil.copytree(images, copied)
    recipe = make_recipe(data__source=f"folder:{copied}", schedule__duration="4 steps")
    pretrain(recipe, tmp_path / "run")
    (tmp_path / "run" / "finished.json").unlink()
    for path in sorted((copied / "class0").iterdir())[:3]:
        path.unlink()
    with pytest.raises(UserError, match="than when the run began"):
        pretrain(recipe, tmp_path / "run", resume=True)


def test_other_pixels_under_the_same_names_are_refused_on_resume(
    make_recipe: MakeRecipe, images: Path, tmp_path: Path
) -> None:
    import shutil

    copied = tmp_path / "images"
    shutil.copytree(images, copied)
    recipe = make_recipe(data__source=f"folder:{copied}", schedule__duration="4 steps")
    pretrain(recipe, tmp_path / "run")
    (tmp_path / "run" / "finished.json").unlink()
    one, other = sorted(copied.rglob("*.png"))[:2]
    shutil.copyfile(other, one)
    with pytest.raises(UserError, match="data gives another images_hash than when the run began"):
        pretrain(recipe, tmp_path / "run", resume=True)


def test_a_corrupt_checkpoint_is_announced_and_the_one_before_is_used(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(schedule__duration="6 steps", checkpoint__every="2 steps")
    pretrain(recipe, tmp_path / "whole")
    pretrain(recipe, tmp_path / "run")
    (tmp_path / "run" / "finished.json").unlink()
    file = tmp_path / "run" / "checkpoint" / "step-00000006" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    capsys.readouterr()
    summary = pretrain(recipe, tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "step-00000006 is corrupt" in said
    assert "using the previous one, of step 4" in said
    assert summary.resumed_from == 4
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_two_processes_do_not_share_a_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from sempairs.files import folder_lock

    with folder_lock(tmp_path / "run"), pytest.raises(UserError, match="in use by another process"):
        pretrain(make_recipe(), tmp_path / "run", resume=True)


ENDLESS = {
    "schedule__duration": "100000 steps",
    "checkpoint__every": "100000 steps",
    "monitor__log_every": 1,
}


def wait_for_a_step(out: Path) -> None:
    until = time.monotonic() + 100
    while not any(line["kind"] == "train" for line in read_metrics(out / "metrics.jsonl")):
        assert time.monotonic() < until, "no step was taken"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_first(
    make_recipe: MakeRecipe, tmp_path: Path, number: signal.Signals
) -> None:
    out, before = tmp_path / "run", signal.getsignal(number)

    def ask() -> None:
        wait_for_a_step(out)
        os.kill(os.getpid(), number)

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(Interrupted) as stopped:
        pretrain(make_recipe(**ENDLESS), out)
    asking.join()
    step = read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert f"after step {step} of 100000" in str(stopped.value) and "--resume" in str(stopped.value)
    assert load_checkpoint(out / "checkpoint" / f"step-{step:08d}").step == step
    assert signal.getsignal(number) == before


def test_a_run_begun_before_code_was_hashed_goes_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", make_recipe()
    write = Trackers.write

    def stop(self: Trackers, kind: str, step: int, values: Any) -> None:
        write(self, kind, step, values)
        if kind == "train" and step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trackers, "write", stop)
        with pytest.raises(Interrupted):
            pretrain(recipe, out)
    record, machine = (read_json(out / f"{name}.json") for name in ("provenance", "environment"))
    del record["sessions"], machine["sessions"][0]["code"]["package_sha256"]
    write_json(out / "provenance.json", record | {"format": 1})
    write_json(out / "environment.json", machine)
    pretrain(recipe, out, resume=True)
    first, second = Provenance.parse(read_json(out / "provenance.json")).sessions
    assert (first.code.package_sha256, second.code.package_sha256) == ("unknown", package_sha256())
    assert second.from_step == 5


def test_ctrl_c_on_the_command_line(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    save_config(make_recipe(**ENDLESS), tmp_path / "recipe.yaml")
    command = ["pretrain", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sempairs", *command], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_for_a_step(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume" in said.strip().splitlines()[-1]
