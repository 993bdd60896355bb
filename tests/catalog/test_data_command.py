"""`sempairs data list | info | scan`."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sempairs.catalog import Catalog
from sempairs.catalog.sources import SOURCES
from sempairs.cli.data import app
from sempairs.cli.main import run
from sempairs.errors import UserError

WritePng = Callable[..., Path]


def call(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def pets(tmp_path: Path, write_png: WritePng) -> Path:
    for seed in range(3):
        write_png(tmp_path / "pets" / "cat" / f"{seed}.png", seed)
    write_png(tmp_path / "pets" / "dog" / "1.png", 9, (10, 20))
    write_png(tmp_path / "pets" / "loose.png", 8)
    return tmp_path / "pets"


def test_list_names_every_kind_with_an_example() -> None:
    lines = call("list").stdout.splitlines()
    assert len(lines) == len(SOURCES.names())
    for name, line in zip(SOURCES.names(), lines, strict=True):
        assert line.startswith(SOURCES.get(name).example)
        assert SOURCES.get(name).summary in line


def test_info(pets: Path, write_png: WritePng) -> None:
    (pets / "cat" / "empty.png").touch()
    (pets / "notes.txt").touch()
    out = call("info", f"folder:{pets}").stdout
    rows = {line[:12].strip(): line[14:] for line in out.splitlines() if line[:12].strip()}
    assert rows["source"] == f"folder:{pets}"
    assert rows["images"] == "5"
    assert rows["categories"] == "2: cat 3, dog 1; 1 images without"
    assert rows["concepts"] == rows["domains"] == rows["splits"] == rows["licences"] == "none"
    assert rows["sizes"] == "6-10 × 4-20, median 6 × 4"
    assert rows["problems"] == "1"
    assert "cat/empty.png: the file is empty" in out
    assert rows["passed over"].startswith("1 ")
    assert len(rows["content hash"]) == 64


def test_scan_saves_a_catalogue_that_info_reads(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pets.arrow"
    shown = call("scan", f"folder:{pets}", "--out", str(out)).stdout
    assert shown.splitlines()[-1] == f"wrote {out}"
    assert sorted(path.name for path in out.parent.iterdir()) == ["pets.arrow", "pets.arrow.stamps"]
    catalog = Catalog.open(out)
    assert len(catalog) == 5
    assert set(catalog.column("pixel_hash")) == {None}
    assert catalog.content_hash() in shown
    assert catalog.content_hash() in call("info", f"catalog:{out}").stdout
    call("scan", f"folder:{pets}", "--out", str(out), "--decode", "--workers", "1")
    assert None not in Catalog.open(out).column("pixel_hash")


def test_unreadable_images_are_written_beside(pets: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b'\xff\n<b>,".png')
    (pets / name).touch()
    out = tmp_path / "pets.arrow"
    result = call("scan", f"folder:{pets}", "--out", str(out))
    beside = tmp_path / "pets.problems.csv"
    assert f"warning: 1 could not be used, see {beside}" in result.stderr
    with open(beside, newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [
            ["where", "reason"],
            [r'\xff\u000a<b>,".png', "the file is empty"],
        ]
    assert len(Catalog.open(out)) == 5
    # The next scan finds nothing wrong, and leaves no old list behind.
    (pets / name).unlink()
    call("scan", f"folder:{pets}", "--out", str(out))
    assert not beside.exists()


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").touch()
    line = refused("scan", f"folder:{tmp_path / 'bad'}", "--out", str(tmp_path / "a.arrow"))
    assert "must hold readable images, and none of 1 is; the first: 1.png: the file is empty" in line
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("foldr:x", "a.arrow", "did you mean 'folder'"),
        ("folder:absent", "a.arrow", "must be an existing path"),
        ("folder:pets", "a.png", "--out must end in .arrow or .parquet"),
        ("folder:pets", "pets", "--out must end in .arrow or .parquet"),
        ("folder:pets", "taken.arrow", "cannot be written"),
        ("folder:empty", "a.arrow", "must hold images, and has none"),
        ("catalog:pets/cat/0.png", "a.arrow", "is not a valid catalogue"),
        ("csv:pets/cat/0.png", "a.arrow", "must start with a line of column names"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    pets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    out: str,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.arrow").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(["data", "scan", source, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


def test_importing_the_verbs_is_light() -> None:
    import subprocess
    import sys

    script = "import sys, sempairs.cli.data; print(*{'torch', 'pyarrow', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_damage_that_a_scan_leaves_out(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat/0", "cat/2"):
        data = bytearray((pets / f"{name}.png").read_bytes())
        at = data.index(b"IDAT") + 12
        data[at : at + 9] = bytes(9)
        (pets / f"{name}.png").write_bytes(data)
    embed = ["embed", "random:tiny-resnet", "--out", str(tmp_path / "e.parquet"), "--data"]
    assert run([*embed, f"folder:{pets}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "error: 2 images cannot be read: cat/0.png (" in line
    assert "cat/2.png (" in line
    assert f"`sempairs data scan folder:{pets} --decode --out FILE.arrow`" in line
    assert run(["data", "scan", f"folder:{pets}", "--decode", "--out", str(tmp_path / "c.arrow")]) == 0
    assert run([*embed, f"catalog:{tmp_path / 'c.arrow'}"]) == 0
    assert "3 images, 256 features each" in capsys.readouterr().out


def test_a_scan_ends_with_what_it_took_for_granted(pets: Path, tmp_path: Path) -> None:
    out = call("scan", f"folder:{pets}", "--out", str(tmp_path / "c.arrow")).stdout
    assert "1 images lie in no folder and have no category: loose.png" in out
    assert "no image has a split: where splits are needed they are drawn by key" in out
    assert "no pixels were decoded: --decode finds damage inside the files" in out
    assert "no pixels" not in call("info", f"folder:{pets}", "--decode").stdout
    assert "taken as saved" in call("info", f"catalog:{tmp_path / 'c.arrow'}", "--decode").stdout


def test_scans_side_by_side_leave_files_that_fit(tmp_path: Path, write_png: WritePng) -> None:
    import subprocess
    import sys

    for name in ("a", "b"):
        for seed in range(2):
            write_png(tmp_path / name / "x" / f"{seed}.png", seed)
        (tmp_path / name / "x" / f"broken-{name}.png").touch()
    out = tmp_path / "c.arrow"
    commands = [
        [sys.executable, "-m", "sempairs", "data", "scan", f"folder:{tmp_path / n}", "--out", str(out)]
        for n in ("a", "b")
    ]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait() for process in started] == [0, 0]
    source = Catalog.open(out).column("source")[0]
    with open(out.with_suffix(".problems.csv")) as handle:
        assert [row[0] for row in csv.reader(handle)][1:] == [f"x/broken-{source[-1]}.png"]
