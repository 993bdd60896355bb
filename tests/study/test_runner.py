"""A real study, small: interrupted, resumed, with a cell that breaks, finished, and left alone after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.files import folder_lock, read_json
from sempairs.study import runner
from sempairs.study.cell import one_line, run_cell
from sempairs.study.folder import Outcome, read_outcome, write_outcome
from sempairs.study.gathered import gather
from sempairs.study.plan import freeze, load_plan
from sempairs.study.recipe import StudyRecipe
from sempairs.study.runner import run_cells, run_study

from .conftest import study_recipe, synthetic_plan, toy_list, toy_study

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sempairs.cli.main import main; main()", *arguments]


def children_of(study: Path) -> list[str]:
    """Command lines of living processes that work on this study."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "sempairs.study.cell" in line and str(study) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three cells and a reference, stopped by Ctrl-C in the middle; then run to its end."""
    place = tmp_path_factory.mktemp("study")
    recipe = toy_study(f"csv:{toy_list(place / 'images')}", jobs=2)
    # An arm that breaks while it runs: its loss is not finite.
    recipe["arms"]["wild"] = {"pairs.arm": "semantic", "optimiser.lr": 1e38}
    recipe["contrasts"].append(
        {"treatment": "wild", "control": "augmented", "may_differ": ["pairs.arm", "optimiser.lr"]}
    )
    # Long enough to be met in the middle.
    recipe["base"]["schedule"]["duration"] = "30 steps"
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = place / "out"
    arguments = command("study", "run", str(place / "recipe.yaml"), "--out", str(out))
    metrics = out / "runs" / "simclr_augmented_seed0" / "metrics.jsonl"
    first = subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and '"step": 6,' in metrics.read_text()):
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    left = children_of(out)
    states = {cell.id: read_outcome(out, cell).state for cell in load_plan(out).cells}
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return {
        "recipe": recipe, "out": out, "stopped": (first.returncode, said),
        "left": left, "states": states, "done": done,
    }  # fmt: skip


def test_a_folder_in_use_is_refused(study):
    with folder_lock(study["out"]), pytest.raises(UserError, match="in use by another process"):
        run_study(validate(StudyRecipe, study["recipe"]), study["out"])


def test_ctrl_c_ends_the_children_and_says_how_to_go_on(study):
    status, said = study["stopped"]
    assert status == 130
    last = said.splitlines()[-1]
    assert last.startswith("error: stopped")
    assert last.endswith(f"sempairs study run {study['out'].parent / 'recipe.yaml'} --out {study['out']}")
    assert study["left"] == []
    assert study["states"]["simclr_augmented_seed0"] == "interrupted"


def test_the_next_run_goes_on_and_finishes(study):
    done, out = study["done"], study["out"]
    assert done.returncode == 1, done.stderr  # as a cell broke
    sessions = read_json(out / "runs" / "simclr_augmented_seed0" / "environment.json")["sessions"]
    assert sessions[-1]["from_step"] >= 6
    steps = [
        json.loads(line)["step"]
        for line in (out / "runs" / "simclr_augmented_seed0" / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert steps == list(range(2, 31, 2))
    assert "too few to claim" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {out.resolve() / 'report.html'}"


def test_a_broken_cell_is_recorded_and_the_others_go_on(study):
    gathered = gather(study["out"])
    assert {name: o.state for name, o in gathered.outcomes.items()} == {
        "random-init_seed0": "finished",
        "simclr_augmented_seed0": "finished",
        "simclr_semantic_seed0": "finished",
        "simclr_wild_seed0": "broken",
    }
    (line,) = gathered.broken
    assert line.startswith("simclr_wild_seed0: loss must be finite")
    assert line in study["done"].stderr
    assert "Traceback" in (study["out"] / "runs" / "simclr_wild_seed0" / "log.txt").read_text()


def test_real_arms_are_certified(study):
    """What training and evaluation really record: all of it matched but for the partner."""
    gathered = gather(study["out"])
    (check,) = gathered.checks
    assert check.undeclared == {}
    assert set(check.allowed) == {"pairs.arm", "pairs.manifest_hash"}
    for fact in (
        "pairs.anchor_hash", "pairs.per_epoch", "schedule.steps", "views.recipe", "optimiser.lr", "threads",
        "initial_weights.encoder", "initial_weights.method", "versions.torch", "hardware.cpu", "images_shown",
    ):  # fmt: skip
        assert fact in check.matched
    assert any(fact.startswith("scored.") for fact in check.matched)
    assert any(fact.startswith("pairs.class_histogram.") for fact in check.matched)


def test_a_finished_cell_is_never_repeated(study):
    out = study["out"]
    plan = load_plan(out)
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*") if "wild" not in str(p)}
    for cell in plan.cells:
        if read_outcome(out, cell).state == "finished":
            assert run_cell(out, cell.id).state == "finished"
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_examples_are_the_first_pairs(study):
    index = read_json(study["out"] / "examples" / "index.json")
    augmented, semantic = (arm["rows"] for arm in index["arms"])
    assert len(augmented) == len(semantic) == 6
    for ours, theirs in zip(semantic, augmented, strict=True):
        assert ours["anchor"]["text"] == theirs["anchor"]["text"] == theirs["partner"]["text"]
        assert ours["partner"]["text"] != ours["anchor"]["text"]
        assert ours["partner"]["text"].split()[0] == ours["anchor"]["text"].split()[0]  # the same concept
    assert all((study["out"] / "examples" / p["file"]).exists() for row in semantic for p in row.values())


def test_the_report_shows_what_the_encoders_see(study):
    about = read_json(study["out"] / "sights" / "index.json")
    assert (about["images"], about["arms"]) == (12, ["augmented", "semantic"])
    assert "What the encoders see" in (study["out"] / "report.html").read_text()


def test_another_recipe_in_the_same_folder_is_refused(study):
    recipe = study["recipe"] | {"seeds": [0, 1]}
    with pytest.raises(UserError, match=r"differs in seeds \(now \[0, 1\], planned \[0\]\)"):
        run_study(validate(StudyRecipe, recipe), study["out"])


def test_a_mistake_leaves_nothing_behind(tmp_path):
    recipe = toy_study(f"csv:{tmp_path / 'absent.csv'}")
    with pytest.raises(UserError):
        run_study(validate(StudyRecipe, recipe), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cell_whose_process_is_gone_was_interrupted(tmp_path):
    plan = synthetic_plan(study_recipe())
    freeze(plan, tmp_path)
    cell = plan.cells[0]
    assert read_outcome(tmp_path, cell).state == "waiting"
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_outcome(tmp_path, cell, Outcome("running", pid=gone.pid, hash=cell.hash))
    assert read_outcome(tmp_path, cell).state == "interrupted"
    write_outcome(tmp_path, cell, Outcome("running", pid=os.getpid(), hash=cell.hash))
    assert read_outcome(tmp_path, cell).state == "running"
    write_outcome(tmp_path, cell, Outcome("finished", hash="of another recipe"))
    assert read_outcome(tmp_path, cell).state == "waiting"
    (tmp_path / "runs" / cell.id / "outcome.json").write_text("{")
    assert read_outcome(tmp_path, cell).state == "interrupted"


def test_a_stop_while_a_cell_starts_leaves_nobody(tmp_path, monkeypatch):
    started = []

    def start(*_, **more):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **more))
        signal.raise_signal(number)
        return started[-1]

    plan = synthetic_plan(study_recipe())
    freeze(plan, tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        with monkeypatch.context() as patched:
            patched.setattr(runner, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
            with pytest.raises(KeyboardInterrupt, match="finished cells are kept"):
                run_cells(plan, tmp_path, jobs=1)
        assert signal.getsignal(number) is before
    assert [child.poll() for child in started] == [-signal.SIGTERM] * 2


def test_a_cell_does_not_outlive_a_runner_that_was_gone_before_it_looked(study):
    gone = subprocess.Popen(["true"])
    gone.wait()
    cell = [sys.executable, "-m", "sempairs.study.cell", str(study["out"]), "simclr_wild_seed0"]
    environment = {**ENVIRONMENT, "SEMPAIRS_RUNNER": str(gone.pid)}
    assert subprocess.run(cell, env=environment, timeout=60, check=False).returncode == 130


def test_a_lock_left_by_nobody_is_no_obstacle(tmp_path):
    with folder_lock(tmp_path):
        pass
    freeze(synthetic_plan(study_recipe()), tmp_path)


def test_errors_of_a_cell_are_one_short_line():
    assert one_line(ValueError("a\nb")) == "a b"
    assert one_line(RuntimeError("a")) == "RuntimeError: a"
    assert one_line(KeyError()) == "KeyError: no message"
    assert len(one_line(ValueError("x" * 9999))) == 500
