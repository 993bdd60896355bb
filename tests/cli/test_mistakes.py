"""Every mistake a user can make is one line and status 2, and leaves nothing half-written."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from sempairs.cli.main import run
from sempairs.recipes import FOLDER as RECIPES

from .conftest import make_photos

DEBUG = str(RECIPES / "pretrain-debug.yaml")
STUDY = str(RECIPES / "debug.yaml")

RANDOM = ["random:tiny-resnet"]
NAMED = ["--name", "pets", "--version", "1.0.0"]

MISTAKES = [
    ("unknown verb", ["dta", "list"], "No such command 'dta'"),
    ("missing option", ["data", "scan", "emoji-pairs"], "Missing option '--out'"),
    ("unknown option", ["data", "list", "--nope"], "--nope"),
    ("unknown source", ["data", "info", "floder:x"], "did you mean 'folder'?"),
    ("missing path", ["data", "info", "folder:nowhere"], "must be an existing path"),
    ("empty folder", ["data", "info", "folder:EMPTY"], "EMPTY"),
    ("a file for a folder", ["data", "info", "folder:NOTES"], "must be a folder"),
    ("unknown relation", ["pairs", "build", "folder:PHOTOS", "--relation", "same", "--out", "OUT"], "relation"),
    ("no concepts", ["pairs", "build", "folder:PHOTOS", "--relation", "cross_domain", "--out", "OUT"], "'domain'"),
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
    ("a list with a bad row", ["pairs", "check", "folder:PHOTOS", "LIST"], "has 1 bad rows of 1"),
    ("an audit of nothing", ["pairs", "audit", "EMPTY"], "is no folder of pairs"),
    ("an unknown rule", ["pairs", "audit", "SET", "--fail-on", "shred>0"], "choose from: pairs, classes"),
    ("a rule without a number", ["pairs", "audit", "SET", "--fail-on", "shared"], "NAME>NUMBER"),
    ("an empty sample", ["pairs", "audit", "SET", "--sample", "0"], "--sample must be at least 1"),
    ("an audit into a release", ["pairs", "audit", "RELEASE"], "--out is required for a release"),
    ("curating nothing", ["curate", "EMPTY", "--port", "0"], "is no folder of pairs"),
    ("curating a release", ["curate", "RELEASE", "--port", "0"], "is a release, which never changes"),
    ("curating a baseline", ["curate", "SET/augmented", "--port", "0"], "there is nothing to judge"),
    ("a port out of range", ["curate", "SET", "--port", "99999"], "cannot be listened on"),
    ("export without a folder", ["verdicts", "export", "NOWHERE", "--out", "OUT"], "must be an existing folder"),
    ("export without verdicts", ["verdicts", "export", "SET", "--out", "OUT"], "has no verdicts"),
    ("agreement of a release", ["verdicts", "agreement", "RELEASE"], "is a release"),
    ("import without a reviewer", ["verdicts", "import", "SET", "LIST"], "anchor, partner and verdict"),
    ("import into a release", ["verdicts", "import", "RELEASE", "LIST"], "is a release"),
    ("apply without verdicts", ["verdicts", "apply", "SET", "--out", "OUT"], "has no verdict"),
    ("apply to a release", ["verdicts", "apply", "RELEASE", "--out", "OUT"], "is a release"),
    ("a third way with open pairs", ["verdicts", "apply", "SET", "--out", "OUT", "--open", "no"], "keep or drop"),
    ("known truth without truth", ["verdicts", "apply", "SET", "--out", "OUT", "--known", "LIST"], "and truth"),
    ("release without a licence", ["release", "build", "SET", *NAMED, "--out", "OUT"], "--licence is required"),
    ("release facts not there", ["release", "build", "SET", *NAMED, "--out", "OUT", "--facts", "NOWHERE"], "--facts"),
    ("release of nothing", ["release", "build", "EMPTY", *NAMED, "--out", "OUT"], "is no folder of pairs"),
    ("info on no release", ["release", "info", "SET"], "is no release"),
    ("diff with no release", ["release", "diff", "RELEASE", "SET"], "is no release"),
    ("join without references", ["release", "join", "RELEASE", "--source", "folder:PHOTOS", "--out", "OUT"], "already"),
    ("no protocol of that name", ["evaluate", *RANDOM, "--task", "digits", "--protocol", "linear", "--out", "OUT"], "linear-1"),
    ("protocol for another task", ["evaluate", *RANDOM, "--task", "digits", "--protocol", "pairs-1", "--out", "OUT"], "Class"),
    ("results under a file", ["evaluate", *RANDOM, "--task", "digits", "--out", "NOTES/r.jsonl"], "NOTES"),
    ("a cache that is a file", ["evaluate", *RANDOM, "--task", "digits", "--cache", "NOTES", "--out", "OUT/r"], "NOTES"),
    ("nothing to evaluate", ["evaluate", "--out", "OUT"], "needs one encoder, or two after --compare"),
    ("compare with nothing", ["evaluate", "--compare", *RANDOM, "NOWHERE", "--out", "OUT"], "NOWHERE"),
    ("compare into a file", ["evaluate", "--compare", *RANDOM, *RANDOM, "--out", "NOTES"], "new or empty folder"),
    ("compare by one protocol", ["evaluate", "--compare", *RANDOM, *RANDOM, "--protocol", "linear-1", "--out", "OUT"], "own"),
    ("compare what has no outcomes", ["evaluate", "--compare", *RANDOM, *RANDOM, "--task", "emoji-structure", "--out", "OUT"], ""),
    ("import nothing", ["import", "NOWHERE", "--out", "OUT"], "must be a file"),
    ("import a text", ["import", "NOTES", "--out", "OUT"], "cannot be read"),
    ("import with an odd stem", ["import", "NOTES", "--out", "OUT", "--stem", "big"], "imagenet, small, padded, pooled"),
    ("detect without data", ["detect", *RANDOM, "--out", "OUT"], "--data is required"),
    ("detect in no devkit", ["detect", *RANDOM, "--data", "voc:EMPTY", "--out", "OUT"], "must hold VOC2007 or VOC2012"),
    ("detect in another source", ["detect", *RANDOM, "--data", "folder:PHOTOS", "--out", "OUT"], "choose from: voc:PATH"),
    ("detect by no protocol", ["detect", *RANDOM, "--data", "voc:EMPTY", "--protocol", "voc", "--out", "OUT"], "voc-c4-1"),
    ("detect with a wrong key", ["detect", *RANDOM, "--data", "voc:EMPTY", "--set", "iteration=2", "--out", "OUT"], "'iterations'"),
    ("detect by no recipe", ["detect", *RANDOM, "--recipe", "NOWHERE", "--out", "OUT"], "recipe does not exist"),
    ("scenes of nothing", ["data", "scenes", "folder:EMPTY", "--out", "OUT"], "EMPTY"),
    ("scenes without classes", ["data", "scenes", "PICTURES", "--out", "OUT"], "with a category"),
    ("scenes into a folder in use", ["data", "scenes", "PICTURES", "--out", "USED"], ""),
    ("scenes with a wrong key", ["data", "scenes", "--out", "OUT", "--set", "clases=3"], "'classes'"),
    ("no scenes at all", ["data", "scenes", "--out", "OUT", "--set", "objects=[3, 2]"], "from low to high"),
    ("wrong study key", ["study", "plan", STUDY, "--out", "OUT", "--set", "sedes=[1]"], "'seeds'"),
    ("binary study", ["study", "run", "BINARY", "--out", "OUT"], "recipe is not a text file"),
    ("no study", ["study", "report", "EMPTY"], "EMPTY"),
]  # fmt: skip


@pytest.fixture
def places(tmp_path, photos, made):
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
    (tmp_path / "LIST.csv").write_text("anchor,partner\nphotos/cat/0.png,absent\n")
    shutil.copytree(made / "pairs", tmp_path / "SET")
    shutil.copytree(made / "release", tmp_path / "RELEASE")
    names = ("EMPTY", "NOTES", "NOWHERE", "OUT", "SINGLES", "USED", "SET", "RELEASE")
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (80 * number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    more = {"PICTURES": f"folder:{tmp_path / 'pictures'}"}
    more |= {"PHOTOS": photos, "BINARY": tmp_path / "BINARY.yaml", "LIST": tmp_path / "LIST.csv"}
    return {name: tmp_path / name for name in names} | more


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of pairs and its release."""
    place = tmp_path_factory.mktemp("made")
    make_photos(place / "photos")
    for arguments in (
        ["pairs", "build", f"folder:{place / 'photos'}", "--relation", "same_category", "--out", "pairs"],
        ["release", "build", "pairs", *NAMED, "--licence", "CC-BY-4.0", "--out", "release"],
    ):
        named = [str(place / word) if word in ("pairs", "release") else word for word in arguments[2:]]
        assert run([*arguments[:2], *named]) == 0
    return place


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
    "verb",
    [[], ["data"], ["data", "scan"], ["pairs", "build"], ["pairs", "check"], ["pairs", "audit"], ["curate"],
     ["verdicts"], ["verdicts", "apply"], ["release", "build"], ["release", "join"], ["pretrain"], ["evaluate"], ["detect"],
     ["import"], ["embed"], ["data", "scenes"], ["study", "run"]],
)  # fmt: skip
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "scan", "emoji-pairs", "--decode", "--out", "OUT/catalog.arrow"],
        ["release", "build", "SET", *NAMED, "--licence", "CC-BY-4.0", "--images", "emoji-pairs", "--out", "OUT/new"],
    ],
    ids=["data scan", "release build"],
)  # fmt: skip
def test_ctrl_c_is_one_line_and_keeps_nothing_half_written(tmp_path, made, arguments):
    (tmp_path / "out").mkdir()
    command = [a.replace("OUT", str(tmp_path / "out")).replace("SET", str(made / "pairs")) for a in arguments]
    # Pressed for it, when the first image is opened: nothing depends on how fast the machine is.
    pressed = (
        "import _thread, signal, sys; import sempairs.catalog.sources.release as release; from sempairs.cli.main import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background of a shell
        "read = release.read_tables\n"
        "def press(*a, **k): _thread.interrupt_main(); return read(*a, **k)\n"
        "release.read_tables = press; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", pressed, *command], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr.splitlines()) == (130, ["error: stopped"])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "no"), "error: the disk is full; nothing half-written was kept"),
        (OSError(errno.EROFS, "ro", "/a/.partial-12.csv"), "error: the file system is read-only: /a"),
        (OSError(errno.EACCES, "no", b"/a/b"), "error: permission denied: /a/b"),
    ],
)
def test_the_systems_errors_name_what_the_user_knows(sempairs, monkeypatch, error, said):
    def broken(*_):
        raise error

    monkeypatch.setattr("sempairs.catalog.sources.open_source", broken)
    assert sempairs("data", "info", "digits") == (2, "", [said])


def test_doctor_finds_this_machine_well(sempairs):
    status, out, errors = sempairs("doctor")
    assert (status, errors) == (0, [])
    assert "emoji-pairs        sound" in out


def test_completion_of_the_shell_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["--show-completion", "bash"])
    assert ended.value.code in (0, None)
    assert "_SEMPAIRS_COMPLETE=complete_bash" in capsys.readouterr().out
