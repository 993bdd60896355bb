"""Every mistake a user can make is one line and status 2, and leaves nothing half-written."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

RECIPES = Path(__file__).parents[2] / "recipes"
DEBUG = str(RECIPES / "pretrain-debug.yaml")
STUDY = str(RECIPES / "debug.yaml")

MISTAKES = [
    ("unknown verb", ["dta", "list"], "No such command 'dta'"),
    ("missing option", ["data", "scan", "emoji-pairs"], "Missing option '--out'"),
    ("unknown option", ["data", "list", "--nope"], "--nope"),
    ("unknown source", ["data", "info", "floder:x"], "did you mean 'folder'?"),
    ("missing path", ["data", "info", "folder:nowhere"], "must be an existing path"),
    ("empty folder", ["data", "info", "folder:EMPTY"], "EMPTY"),
    ("a file for a folder", ["data", "info", "folder:NOTES"], "must be a folder"),
    ("unknown relation", ["pairs", "build", "folder:PHOTOS", "--relation", "same", "--out", "OUT"], "relation"),
    ("no concepts", ["pairs", "build", "folder:PHOTOS", "--relation", "cross_domain", "--out", "OUT"], "concept"),
    ("one image a class", ["pairs", "build", "folder:SINGLES", "--relation", "same_category", "--out", "OUT"], ""),
    ("not a pair folder", ["pairs", "stats", "EMPTY"], "EMPTY"),
    ("missing recipe", ["pretrain", "none.yaml", "--out", "OUT"], "recipe does not exist"),
    ("binary recipe", ["pretrain", "BINARY", "--out", "OUT"], "recipe is not a text file"),
    ("wrong recipe key", ["pretrain", DEBUG, "--out", "OUT", "--set", "method.temprature=1"], "'temperature'"),
    ("value out of range", ["pretrain", DEBUG, "--out", "OUT", "--set", "batch_size=0"], "batch_size"),
    ("unknown method", ["pretrain", DEBUG, "--out", "OUT", "--set", "method.name=simcrl"], "'simclr'"),
    ("unknown model", ["pretrain", DEBUG, "--out", "OUT", "--set", "encoder.arch=resnet5o"], "resnet50"),
    ("batch too large", ["pretrain", DEBUG, "--out", "OUT", "--set", "batch_size=100000"], "batch_size"),
    ("output folder in use", ["pretrain", DEBUG, "--out", "USED"], "output folder in use"),
    ("no encoder", ["evaluate", "EMPTY", "--out", "OUT"], "EMPTY"),
    ("unknown task", ["evaluate", "random:tiny-resnet", "--task", "emoji-subgrup", "--out", "OUT"], "emoji-subgroup"),
    ("results file in use", ["evaluate", "random:tiny-resnet", "--task", "digits", "--out", "NOTES"], "NOTES"),
    ("embed without images", ["embed", "random:tiny-resnet", "--data", "folder:EMPTY", "--out", "OUT"], ""),
    ("not a release", ["release", "verify", "EMPTY"], "EMPTY"),
    ("wrong study key", ["study", "plan", STUDY, "--out", "OUT", "--set", "sedes=[1]"], "'seeds'"),
    ("binary study", ["study", "run", "BINARY", "--out", "OUT"], "recipe is not a text file"),
    ("no study", ["study", "report", "EMPTY"], "EMPTY"),
]  # fmt: skip


@pytest.fixture
def places(tmp_path, photos):
    """The words in capitals of the table, as paths."""
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "NOTES").write_text("my notes\n")
    (tmp_path / "BINARY.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "USED").mkdir()
    (tmp_path / "USED" / "recipe.yaml").write_text("seed: 0\n")
    for name in ("cat", "dog"):
        (tmp_path / "SINGLES" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (name == "cat" and "red") or "blue").save(
            tmp_path / "SINGLES" / name / "1.png"
        )
    names = {name: tmp_path / name for name in ("EMPTY", "NOTES", "OUT", "SINGLES", "USED")}
    return names | {"PHOTOS": photos, "BINARY": tmp_path / "BINARY.yaml"}


@pytest.mark.parametrize(("arguments", "said"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line(sempairs, places, arguments, said):
    before = _listing(places["EMPTY"].parent)
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    status, _, errors = sempairs(*arguments)
    assert status == 2
    assert len(errors) == 1
    assert said in errors[0]
    assert _listing(places["EMPTY"].parent) == before


def _listing(folder):
    """Every file with its content; a lock file left in an otherwise empty new folder says nothing."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


FULL = [
    ["data", "scan", "emoji-pairs", "--out", "OUT/catalog.arrow"],
    ["pairs", "build", "emoji-pairs", "--relation", "cross_domain", "--out", "OUT/pairs"],
    ["embed", "random:tiny-resnet", "--data", "digits", "--out", "OUT/features.parquet"],
    ["pretrain", DEBUG, "--out", "OUT/run"],
]


@pytest.mark.parametrize("arguments", FULL, ids=[" ".join(a[:2]) for a in FULL])
def test_a_full_disk_is_one_line_and_keeps_nothing_half_written(tmp_path, arguments):
    out = tmp_path / "out"
    out.mkdir()

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = [a.replace("OUT", str(out)) for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "sempairs", *command],
        capture_output=True, text=True, timeout=200, preexec_fn=little_room,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr[-1000:]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    left = [path for path in out.rglob("*") if path.is_file() and path.stat().st_size >= 40_000]
    assert not left
    assert not list(out.rglob(".partial-*"))


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "sempairs", "data", "info", "folder:nowhere", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    "verb", [[], ["data"], ["data", "scan"], ["pairs", "build"], ["pretrain"], ["study", "run"]]
)
def test_every_verb_explains_itself(sempairs, verb):
    status, out, errors = sempairs(*verb, "--help")
    assert (status, errors) == (0, [])
    assert "--help" in out


def test_a_read_only_folder_is_one_line(sempairs, tmp_path, photos):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    status, _, errors = sempairs("data", "scan", f"folder:{photos}", "--out", blocked / "catalog.arrow")
    assert (status, len(errors)) == (2, 1)
    shutil.rmtree(photos)
    status, _, errors = sempairs("data", "info", f"folder:{photos}")
    assert (status, len(errors)) == (2, 1)


def test_doctor_finds_this_machine_well(sempairs):
    status, out, errors = sempairs("doctor")
    assert (status, errors) == (0, [])
    assert "emoji-pairs        sound" in out
