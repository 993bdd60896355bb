"""A second scan reads only what changed, and its result is that of a fresh one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.sources import files, open_source
from sempairs.catalog.sources.files import FilesScan, FilesSource, open_known, save_stamps, stamps_path
from sempairs.cli.main import run
from sempairs.files import sha256_file

WritePng = Callable[..., Path]


class Desk:
    """A folder of pictures, its catalogue, and which files the last scan read."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.out = root / "in", root / "out.arrow"
        self.read: list[str] = []
        content = FilesSource._content

        def noted(source: FilesSource, name: str) -> object:
            self.read.append(name)
            return content(source, name)

        monkeypatch.setattr(FilesSource, "_content", noted)

    def scan(self, *options: str, source: str = "") -> Catalog:
        self.read.clear()
        assert run(["data", "scan", source or f"folder:{self.root}", "--out", str(self.out), *options]) == 0
        return Catalog.open(self.out)

    def fresh(self, decode: bool = False) -> Catalog:
        return open_source(f"folder:{self.root}").scan(decode=decode).catalog


@pytest.fixture
def desk(tmp_path: Path, write_png: WritePng, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for seed in range(6):
        write_png(tmp_path / "in" / f"c{seed % 2}" / f"{seed}.png", seed)
    return Desk(tmp_path, monkeypatch)


def test_nothing_changed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first = desk.scan()
    assert len(desk.read) == 6
    assert desk.scan() == first
    assert desk.read == []
    assert "unchanged since the last scan: 6 of 6" in capsys.readouterr().err
    assert sorted(path.name for path in desk.out.parent.iterdir()) == ["in", "out.arrow", "out.arrow.stamps"]


def test_changed_new_removed_moved_and_broken(desk: Desk, write_png: WritePng) -> None:
    desk.scan()
    write_png(desk.root / "c0" / "0.png", 50, (9, 9))  # changed
    write_png(desk.root / "c1" / "new.png", 51)
    (desk.root / "c1" / "1.png").unlink()
    (desk.root / "c0" / "2.png").rename(desk.root / "c1" / "2.png")  # another row
    (desk.root / "c1" / "3.png").write_bytes(b"broken")
    found = desk.scan()
    assert sorted(desk.read) == ["c0/0.png", "c1/2.png", "c1/3.png", "c1/new.png"]
    assert found == desk.fresh()
    assert len(found) == 5
    # What could not be read is tried again, and nothing else.
    desk.scan()
    assert desk.read == ["c1/3.png"]


def test_same_size_but_another_time(desk: Desk) -> None:
    desk.scan()
    file = desk.root / "c0" / "0.png"
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert sha256_file(file) in desk.scan().column("file_hash")
    assert desk.read == ["c0/0.png"]


def test_same_size_and_time_need_fresh(desk: Desk) -> None:
    first = desk.scan()
    file = desk.root / "c0" / "0.png"
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert desk.scan() == first  # as documented
    assert sha256_file(file) in desk.scan("--fresh").column("file_hash")
    assert len(desk.read) == 6


def test_decoding_reads_again_where_it_was_not_done(desk: Desk) -> None:
    desk.scan()
    decoded = desk.scan("--decode")
    assert len(desk.read) == 6
    assert decoded == desk.fresh(decode=True)
    assert desk.scan("--decode") == decoded
    assert desk.read == []
    # Without decoding, the result is that of a scan without it.
    plain = desk.scan()
    assert desk.read == []
    assert plain == desk.fresh()


def test_another_source_is_another_scan(desk: Desk, tmp_path: Path) -> None:
    desk.scan()
    shutil.copytree(desk.root, tmp_path / "copy")
    assert set(desk.scan(source=f"folder:{tmp_path / 'copy'}").column("source")) == {
        f"folder:{tmp_path / 'copy'}"
    }
    assert len(desk.read) == 6
    lines = "".join(f"{path.relative_to(tmp_path)}\n" for path in sorted(desk.root.rglob("*.png")))
    (tmp_path / "list.csv").write_text(f"path\n{lines}")
    for read in (6, 0):
        assert len(desk.scan(source=f"csv:{tmp_path / 'list.csv'}")) == 6
        assert len(desk.read) == read
    # A source without files of its own leaves no stamps.
    assert len(desk.scan(source="digits")) > 6
    assert not stamps_path(desk.out).exists()


def test_a_list_that_was_changed(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,category\nin/c0/0.png,a\nin/c1/1.png,b\n")
    desk.scan(source=f"csv:{tmp_path / 'list.csv'}")
    (tmp_path / "list.csv").write_text("path,category\nin/c0/0.png,b\nin/c0/2.png,c\n../x.png,d\n")
    found = desk.scan(source=f"csv:{tmp_path / 'list.csv'}")
    assert found.column("category").tolist() == ["b", "c"]
    # What is nowhere is not opened to be read.
    assert desk.read == ["in/c0/2.png"]


@pytest.mark.parametrize("harm", ["catalogue", "edited", "stamps", "garbage", "gone", "short", "version"])
def test_whatever_does_not_fit_is_read_again(desk: Desk, harm: str) -> None:
    first = desk.scan()
    beside = stamps_path(desk.out)
    if harm == "catalogue":
        desk.out.unlink()  # `first` is mapped from it
        desk.out.write_bytes(b"no catalogue")
    elif harm == "edited":
        changed = first.with_column("width", [99] * 6)
        changed.save(desk.out)  # a valid one, but not the one that was scanned
    elif harm == "stamps":
        data = bytearray(beside.read_bytes())
        data[len(data) // 2] ^= 0xFF
        beside.write_bytes(data[:-40])
    elif harm == "garbage":
        beside.write_bytes(b"ARROW1 and no more")
    elif harm == "gone":
        beside.unlink()
    else:
        with pa.OSFile(str(beside), "rb") as source:
            table = pa.ipc.open_file(source).read_all()
        if harm == "short":
            table = table.slice(1)
        else:
            table = table.replace_schema_metadata({**table.schema.metadata, b"version": b"0"})
        with pa.ipc.new_file(str(beside), table.schema) as file:
            file.write_table(table)
    assert desk.scan() == first
    assert len(desk.read) == 6


def test_links_are_told_by_what_they_point_to(desk: Desk, write_png: WritePng) -> None:
    write_png(desk.root / "real.png", 70)
    (desk.root / "link.png").symlink_to("real.png")
    desk.scan()
    assert "link.png" in desk.read
    assert desk.scan() == desk.fresh()
    desk.scan()
    assert desk.read == []
    write_png(desk.root / "real.png", 71, (7, 7))
    assert desk.scan() == desk.fresh()


class TestInterrupted:
    """Nothing half-written remains, and the next scan is right."""

    def test_while_reading(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        first = desk.scan()
        before = {path: path.read_bytes() for path in desk.out.parent.glob("out*")}

        def stop(data: bytes, *, decode: bool) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(files, "measure_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            open_source(f"folder:{desk.root}").scan()
        assert run(["data", "scan", f"folder:{desk.root}", "--out", str(desk.out), "--fresh"]) != 0
        assert {path: path.read_bytes() for path in desk.out.parent.glob("*") if path.is_file()} == before
        monkeypatch.undo()
        assert desk.scan() == first

    def test_between_catalogue_and_stamps(
        self, desk: Desk, write_png: WritePng, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.scan()
        write_png(desk.root / "c0" / "0.png", 50, (9, 9))
        monkeypatch.setattr(files, "save_stamps", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run(["data", "scan", f"folder:{desk.root}", "--out", str(desk.out)])
        monkeypatch.undo()
        assert open_known(desk.out, f"folder:{desk.root}") is None
        assert desk.scan() == desk.fresh()

    def test_a_full_disk(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = desk.scan()

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pa.ipc, "new_file", full)
        assert run(["data", "scan", f"folder:{desk.root}", "--out", str(desk.out), "--fresh"]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert error[-1] == f"error: {desk.out} cannot be written (No space left on device)"
        monkeypatch.undo()
        assert sorted(path.name for path in desk.out.parent.iterdir()) == [
            "in",
            "out.arrow",
            "out.arrow.stamps",
        ]
        assert Catalog.open(desk.out) == first


@pytest.mark.parametrize("out", ["closed/a.arrow", "closed/deeper/a.arrow"])
def test_a_read_only_folder_is_told_before_reading(
    desk: Desk, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed").mkdir()
    # By mode bits it would be open to root, who may run this.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "closed")
    assert run(["data", "scan", f"folder:{desk.root}", "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / out} cannot be written ({tmp_path / 'closed'} is read-only)\n"
    assert desk.read == []
    assert not list((tmp_path / "closed").iterdir())


def test_a_catalogue_edited_by_hand(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.scan()
    capsys.readouterr()
    data = bytearray(desk.out.read_bytes())
    place = data.index(b"c0/0.png")
    data[place : place + 8] = b"c0/X.png"
    desk.out.unlink()
    desk.out.write_bytes(data)
    assert run(["data", "info", f"catalog:{desk.out}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {desk.out} is not a valid catalogue (catalog was changed after it was saved)"
    )
    assert error.count("\n") == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("wdrt"), st.integers(0, 5), st.integers(0, 99)), max_size=8))
def test_any_changes(
    tmp_path_factory: pytest.TempPathFactory, write_png: WritePng, steps: list[tuple[str, int, int]]
) -> None:
    """Write, delete, rename and touch: the rescan equals the fresh scan."""
    root = tmp_path_factory.mktemp("any")
    write_png(root / "in" / "kept.png", 1000)
    source = open_source(f"folder:{root / 'in'}")
    assert isinstance(source, FilesSource)
    out = root / "a.arrow"
    for action, number, seed in [*steps, ("t", 0, 0)]:
        file = root / "in" / f"{number}.png"
        if action == "w":
            write_png(file, seed, (3 + seed % 5, 4))
        elif file.exists() and action == "d":
            file.unlink()
        elif file.exists() and action == "r":
            file.rename(root / "in" / f"{seed % 6}.png")
        elif file.exists():
            os.utime(file, ns=(0, seed))
        found = source.scan(known=open_known(out, source.spec))
        assert found == source.scan()
        found.catalog.save(out)
        save_stamps(out, found, source.spec, decoded=False)
    assert isinstance(found, FilesScan)
    assert source.scan(known=open_known(out, source.spec)).reused == len(found.catalog)
    shutil.rmtree(root)
