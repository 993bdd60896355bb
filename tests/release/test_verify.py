from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sempairs.catalog import Catalog
from sempairs.cli.release import app
from sempairs.errors import UserError
from sempairs.files import read_json, write_json
from sempairs.release import verify_release

Make = Callable[..., tuple[Catalog, dict[str, bytes]]]


def _checksums_again(release: Path) -> None:
    """What someone does who changes a release and wants no one to see it."""
    sums = release / "checksums.sha256"
    names = [line.split("  ", 1)[1] for line in sums.read_text().splitlines()]
    sums.write_text(
        "".join(f"{hashlib.sha256((release / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    )


def _lines(release: Path, **options: bool) -> list[str]:
    return [f"{p.where} {p.reason}" for p in verify_release(release, **options)]


def test_as_written(release: Path) -> None:
    assert verify_release(release) == ()
    assert verify_release(release, pixels=True) == ()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(release: Path, data: st.DataObject) -> None:
    files = sorted(path for path in release.rglob("*") if path.is_file() and path.name != ".gitattributes")
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[place // 8] ^= 1 << place % 8
    file.write_bytes(bytes(broken))
    try:
        problems = verify_release(release)
    finally:
        file.write_bytes(whole)
    assert problems
    assert all("\n" not in problem.reason and "\n" not in problem.where for problem in problems)
    assert verify_release(release) == ()


def test_missing_extra_truncated(release: Path) -> None:
    (release / "LICENSES" / "MIT.txt").unlink()
    (release / "data" / "more.parquet").write_bytes(b"PAR1")
    train = release / "data" / "train.parquet"
    train.write_bytes(train.read_bytes()[:-100])
    assert _lines(release) == [
        "LICENSES/MIT.txt is missing",
        "data/more.parquet is not listed in checksums.sha256",
        "data/train.parquet does not have the listed checksum",
    ]


def _others(release: Path) -> None:
    """What git, the Hub, its client, DVC and file managers leave in a folder."""
    for name in (
        ".gitattributes", ".gitignore", ".git/HEAD", ".git/objects/ab/cd", ".gitmodules", ".hg/store/data",
        ".svn/wc.db", ".cache/huggingface/download/README.md.metadata", ".huggingface/x.lock", ".DS_Store",
        "data/.DS_Store", "data/Thumbs.db", "LICENSES/desktop.ini", "data/.gitkeep", ".jj/repo", ".dvcignore",
    ):  # fmt: skip
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(b"of others")
    (release / ".git" / "refs" / "tags").mkdir(parents=True)


def test_what_version_control_the_hub_and_file_managers_add_is_passed_over(release: Path) -> None:
    _others(release)
    assert _lines(release) == []
    (release / ".gitattributes").unlink()
    (release / "data" / "gitattributes").write_text("")
    (release / ".env").write_text("")
    assert _lines(release) == [
        ".env is not listed in checksums.sha256",
        "data/gitattributes is not listed in checksums.sha256",
    ]


def test_a_git_file_of_a_submodule_is_passed_over(release: Path) -> None:
    (release / ".git").write_text("gitdir: ../.git/modules/tiny\n")
    assert _lines(release) == []


def test_empty_folders_are_seen(release: Path) -> None:
    (release / "data" / "more" / "deep").mkdir(parents=True)
    (release / "new").mkdir()
    assert _lines(release) == [
        "data/more is an empty folder", "data/more/deep is an empty folder", "new is an empty folder",
    ]  # fmt: skip


def test_a_pointer_of_git_lfs_is_called_that(release: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n"
    (release / "data" / "train.parquet").write_text(pointer)
    assert _lines(release) == ["data/train.parquet is a pointer of Git LFS, not the file; run `git lfs pull`"]


def test_attributes_keep_every_byte_in_a_repository(release: Path) -> None:
    """Also where git is told to change line ends, as it is on Windows."""

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "core.autocrlf=true", "-C", str(release), *words], check=True, capture_output=True
        )

    assert ".gitattributes" not in (release / "checksums.sha256").read_text()
    lines = (release / ".gitattributes").read_text().splitlines()
    assert lines == ["* -text", "*.parquet filter=lfs diff=lfs merge=lfs -text"]
    (release / ".gitattributes").write_text(lines[0] + "\n")  # whether or not Git LFS is installed here
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    for file in release.glob("*.*"):
        if not file.name.startswith("."):
            file.unlink()
    git("checkout", "-q", "--", ".")
    assert _lines(release) == []


def test_missing_checksums(release: Path) -> None:
    (release / "checksums.sha256").unlink()
    assert _lines(release) == ["checksums.sha256 is missing"]


def test_truncated_parquet_under_a_new_checksum(release: Path) -> None:
    train = release / "data" / "train.parquet"
    train.write_bytes(train.read_bytes()[:-100])
    _checksums_again(release)
    (line,) = _lines(release)
    assert "train.parquet is damaged" in line


def test_changed_meaning_under_a_new_checksum(release: Path) -> None:
    file = release / "data" / "train.parquet"
    table = pq.read_table(file, partitioning=None)
    place = table.column_names.index("concept")
    pq.write_table(table.set_column(place, "concept", [["other"] * len(table)]), file)
    _checksums_again(release)
    assert _lines(release) == ["release.json manifest_hash is not that of the data"]


def test_swapped_picture_under_a_new_checksum(release: Path) -> None:
    file = release / "data" / "train.parquet"
    table = pq.read_table(file, partitioning=None)
    place = table.column_names.index("image")
    images = table.column("image").combine_chunks()
    pq.write_table(table.set_column(place, "image", images.take([1, 0, 2])), file)
    _checksums_again(release)
    assert _lines(release) == [
        f"data/train.parquet: set/{i}.webp does not have its file_hash" for i in (0, 4)
    ]


def test_pixels_are_checked_on_demand(tmp_path: Path, make: Make, write: Callable[..., Path]) -> None:
    catalog, data = make()
    hashes = catalog.column("pixel_hash").tolist()
    hashes[3] = "0" * 64
    sizes = [4] * 8 + [3]
    broken = catalog.with_column("pixel_hash", hashes).with_column("width", sizes)
    release = write(tmp_path / "wrong", broken, data)
    assert verify_release(release) == ()
    assert sorted(_lines(release, pixels=True)) == [
        "data/train.parquet: set/8.webp is 4 x 5 pixels, not 3 x 5",
        "data/unassigned.parquet: set/3.webp does not have its pixel_hash",
    ]


def test_hostile_checksums_lead_nowhere(release: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    digest = hashlib.sha256(b"s").hexdigest()
    with open(release / "checksums.sha256", "a") as sums:
        sums.write(f"{digest}  ../secret\n{digest}  {secret}\nnonsense\n")
    assert _lines(release) == [
        "checksums.sha256 line 10 is not a checksum and a file name",
        "../secret is missing",
        f"{secret} is missing",
    ]


def test_a_link_is_no_file(release: Path, tmp_path: Path) -> None:
    card = release / "README.md"
    shutil.move(card, tmp_path / "card")
    os.symlink(tmp_path / "card", card)
    assert _lines(release) == ["README.md is a link or no regular file"]


def test_no_release_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an existing folder"):
        verify_release(tmp_path / "absent")
    with pytest.raises(UserError, match="is no release"):
        verify_release(tmp_path)


def test_later_format(release: Path) -> None:
    about = read_json(release / "release.json")
    write_json(release / "release.json", {**about, "format": "sempairs.release/9"})
    _checksums_again(release)
    (line,) = _lines(release)
    assert "must be 'sempairs.release/1' or 'sempairs.release/2', got 'sempairs.release/9'" in line


def test_command(release: Path) -> None:
    runner = CliRunner()
    sound = runner.invoke(app, ["verify", str(release), "--pixels"])
    assert sound.exit_code == 0
    assert "sound" in sound.output
    described = runner.invoke(app, ["info", str(release)]).output
    assert "tiny 0.1.0" in described
    assert "by split" in described
    assert "MIT 9" in described
    (release / "README.md").unlink()
    (release / "extra").write_text("")
    broken = runner.invoke(app, ["verify", str(release)])
    assert isinstance(broken.exception, UserError)
    assert "README.md is missing (and 1 more, above)" in str(broken.exception)
    assert "also: extra is not listed" in broken.output
