"""Folders of images: categories, order, links, hidden files, hostile names, damage."""

from __future__ import annotations

import os
import random
import re
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.names import escape_name, unescape_name
from sempairs.catalog.sources import Scan, open_source
from sempairs.errors import UserError
from sempairs.files import sha256_file

WritePng = Callable[..., Path]


def scan(root: Path, **options: bool) -> Scan:
    return open_source(f"folder:{root}").scan(**options)


def ids(found: Scan) -> list[str]:
    return list(found.catalog.column("image_id"))


def reasons(found: Scan) -> dict[str, str]:
    return {problem.where: problem.reason for problem in found.problems}


def test_nested_folders_are_the_category(tmp_path: Path, write_png: WritePng) -> None:
    root = tmp_path / "pets"
    for seed, name in enumerate(["animal/cat/1.png", "animal/dog/1.PNG", "plant/2.png", "loose.png"]):
        write_png(root / name, seed)
    found = scan(root)
    assert ids(found) == [
        "pets/animal/cat/1.png",
        "pets/animal/dog/1.PNG",
        "pets/loose.png",
        "pets/plant/2.png",
    ]
    assert found.catalog.column("category").tolist() == ["animal/cat", "animal/dog", None, "plant"]
    assert set(found.catalog.column("source")) == {f"folder:{root}"}
    assert found.catalog.column("file_hash")[0] == sha256_file(root / "animal/cat/1.png")
    assert found.catalog.column("width").tolist() == [6] * 4
    assert set(found.catalog.column("pixel_hash")) == {None}
    assert set(found.catalog.column("split")) == {None}


def test_decoding_fills_the_pixel_hash(tmp_path: Path, write_png: WritePng) -> None:
    path = write_png(tmp_path / "a" / "1.png")
    found = scan(tmp_path, decode=True)
    assert found.catalog.column("pixel_hash").tolist() == [pixel_hash(Image.open(path))]


def test_folders_called_after_splits(tmp_path: Path, write_png: WritePng) -> None:
    for seed, name in enumerate(["train/cat/1.png", "val/cat/2.png", "Test/dog/3.png"]):
        write_png(tmp_path / name, seed)
    catalog = scan(tmp_path).catalog
    assert catalog.column("split").tolist() == ["test", "train", "validation"]
    assert catalog.column("category").tolist() == ["dog", "cat", "cat"]
    assert scan(tmp_path).notes == (
        "the folders Test (test), train (train), val (validation) give the split",
    )


@pytest.mark.parametrize("stray", ["preview.png", "trains/4.png", "extra/cat/4.png", "__MACOSX/train/4.png"])
def test_nothing_that_lies_beside_splits_takes_them_away(
    tmp_path: Path, write_png: WritePng, stray: str
) -> None:
    for seed, name in enumerate(["train/cat/1.png", "val/cat/2.png", "test/dog/3.png", stray]):
        write_png(tmp_path / name, seed)
    for name in ("README.md", ".DS_Store", "Thumbs.db", "train/Thumbs.db", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = scan(tmp_path)
    split = dict(zip(found.catalog.column("uri"), found.catalog.column("split"), strict=True))
    expected = {"train/cat/1.png": "train", "val/cat/2.png": "validation", "test/dog/3.png": "test"}
    system = stray.startswith("__")
    assert split == (expected if system else {**expected, stray: None})
    assert found.catalog.column("category")[split_place(found, "val/cat/2.png")] == "cat"
    told = f"1 beside them have no split: {stray}"
    assert (told in found.notes) == (not system)


def split_place(found: Scan, uri: str) -> int:
    return found.catalog.column("uri").tolist().index(uri)


def test_flat_splits_stand_too_and_one_such_folder_is_a_class(tmp_path: Path, write_png: WritePng) -> None:
    for seed, name in enumerate(["train/1.png", "test/2.png", "docs/logo.png"]):
        write_png(tmp_path / name, seed)
    found = scan(tmp_path)
    assert found.catalog.column("split").tolist() == [None, "test", "train"]
    assert found.catalog.column("category").tolist() == ["docs", None, None]
    assert found.notes[1] == "1 beside them have no split: docs/logo.png"
    (tmp_path / "test").rename(tmp_path / "bus")
    assert scan(tmp_path).catalog.column("category").tolist() == ["bus", "docs", "train"]


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (
            ["set/train/cat/1.png", "set/val/cat/2.png"],
            r"train, val in set are taken for classes; .* folder:.*/set",
        ),
        (["train/cat/1.png", "train/dog/2.png"], r"the only folder, train, is part of the category"),
        (["train/cat/1.png", "train/dog/2.png", "3.png"], r"the only folder, train, is part of"),
        (["cat/1.png", "2.png"], r"1 images lie in no folder and have no category: 2\.png"),
        (["cat/1.png", "cat/2.heic"], r"pictures of kinds that are not read: 1 \.heic"),
        (["cat/1.png", "metadata.csv"], r"metadata\.csv lies there and is not read"),
        (["Cat/1.png", "cat/2.png"], r"categories 'Cat' and 'cat' are two"),
        (["nan/1.png", "cat/2.png"], r"category 'nan' is a class like others"),
    ],
)
def test_what_is_taken_for_granted_is_noted(
    tmp_path: Path, write_png: WritePng, names: list[str], note: str
) -> None:
    for seed, name in enumerate(names):
        write_png(tmp_path / name, seed)
    found = scan(tmp_path)
    assert len(found.notes) == 1 + (names[-1] == "3.png")
    assert re.search(note, found.notes[0])


def test_an_ordinary_folder_needs_no_note(tmp_path: Path, write_png: WritePng) -> None:
    for seed, name in enumerate(["cat/1.png", "dog/2.png", "readme.txt", "train/3.png"]):
        write_png(tmp_path / name, seed)
    assert scan(tmp_path).notes == ()


def test_classes_that_look_the_same_are_one(tmp_path: Path, write_png: WritePng) -> None:
    for seed, name in enumerate(
        ["caf\u00e9", "cafe\u0301", "caf\u00e9\u200b", "ice\u00a0cream", "ice cream"]
    ):
        write_png(tmp_path / name / "1.png", seed)
    catalog = scan(tmp_path).catalog
    assert sorted(set(catalog.column("category"))) == ["caf\u00e9", "ice cream"]
    # The files keep their own names.
    assert len(set(catalog.column("uri"))) == 5


def test_images_can_be_opened(tmp_path: Path, write_png: WritePng) -> None:
    path = write_png(tmp_path / "a" / "1.png")
    source = open_source(f"folder:{tmp_path}")
    assert source.open_image("a/1.png").tobytes() == Image.open(path).tobytes()
    path.unlink()
    with pytest.raises(UnreadableImage, match="no such file"):
        source.open_image("a/1.png")


def test_hidden_and_other_files_are_counted(tmp_path: Path, write_png: WritePng) -> None:
    write_png(tmp_path / "a" / "1.png")
    for name in (".hidden.png", "._1.png", ".thumbnails/1.png", ".git/x/1.png"):
        write_png(tmp_path / name)
    for name in ("readme.txt", "a/labels.csv", "a/Thumbs.db", "a/drawing.svg", "a/noending"):
        (tmp_path / name).write_text("text")
    found = scan(tmp_path)
    assert len(found.catalog) == 1
    assert not found.problems
    assert found.ignored == 9


def test_unreadable_images_are_reported_and_the_scan_goes_on(tmp_path: Path, write_png: WritePng) -> None:
    good = write_png(tmp_path / "a" / "good.png", size=(40, 40))
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "a" / "cut.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "a" / "text.jpg").write_text("<html>not found</html>")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    found = scan(tmp_path)
    assert ids(found) == [f"{tmp_path.name}/a/good.png"]
    why = reasons(found)
    assert sorted(why) == ["a/cut.png", "a/empty.png", "a/pipe.png", "a/text.jpg"]
    assert "truncated" in why["a/cut.png"]
    assert "empty" in why["a/empty.png"]
    assert "not a regular file" in why["a/pipe.png"]
    assert "not an image" in why["a/text.jpg"]


def test_damage_that_only_decoding_finds(tmp_path: Path, write_png: WritePng) -> None:
    path = write_png(tmp_path / "a" / "1.png", size=(40, 40))
    write_png(tmp_path / "a" / "2.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert len(scan(tmp_path).catalog) == 2
    assert list(reasons(scan(tmp_path, decode=True))) == ["a/1.png"]


def test_a_file_that_may_not_be_read(
    tmp_path: Path, write_png: WritePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a" / "1.png")
    closed = write_png(tmp_path / "a" / "2.png")
    really_open = os.open

    def refuse(path: str, *options: int) -> int:  # by mode bits it would be open to root, who may run this
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied")
        return really_open(path, *options)

    monkeypatch.setattr(os, "open", refuse)
    assert reasons(scan(tmp_path)) == {"a/2.png": "Permission denied"}


def test_an_overlong_path_is_a_problem(tmp_path: Path, write_png: WritePng) -> None:
    write_png(tmp_path / "1.png")
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # 20 x 251 characters: more than a path may have
        os.mkdir("d" * 250, dir_fd=handle)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    found = scan(tmp_path)
    assert len(found.catalog) == 1
    assert [problem.reason for problem in found.problems] == ["File name too long"]
    shutil.rmtree(tmp_path)


class TestLinks:
    def test_a_loop_ends(self, tmp_path: Path, write_png: WritePng) -> None:
        write_png(tmp_path / "a" / "1.png")
        (tmp_path / "a" / "up").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to(tmp_path / "self")
        (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
        (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
        found = scan(tmp_path)
        assert len(found.catalog) == 1
        why = reasons(found)
        assert "folder" in why["a/up"]
        assert "circular" in why["self.png"]
        assert "broken" in why["gone.png"]

    def test_nothing_outside_is_read(self, tmp_path: Path, write_png: WritePng) -> None:
        root, outside = tmp_path / "root", tmp_path / "outside"
        write_png(root / "a" / "1.png", 1)
        secret = write_png(outside / "secret.png", 2)
        (root / "a" / "file.png").symlink_to(secret)
        (root / "a" / "relative.png").symlink_to("../../outside/secret.png")
        (root / "folder").symlink_to(outside)
        found = scan(root)
        assert ids(found) == ["root/a/1.png"]
        assert reasons(found) == {
            "a/file.png": "a link that leaves the folder, which is not followed",
            "a/relative.png": "a link that leaves the folder, which is not followed",
            "folder": "a link to a folder, which is not followed",
        }
        source = open_source(f"folder:{root}")
        for uri in (
            "a/file.png",
            "folder/secret.png",
            "../outside/secret.png",
            str(secret),
            "a/../../outside/secret.png",
        ):
            with pytest.raises(UnreadableImage, match="must stay inside"):
                source.open_image(uri)

    def test_a_link_inside_is_an_image_like_others(self, tmp_path: Path, write_png: WritePng) -> None:
        write_png(tmp_path / "a" / "1.png")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "same.png").symlink_to("../a/1.png")
        catalog = scan(tmp_path).catalog
        assert catalog.column("category").tolist() == ["a", "b"]
        assert len(set(catalog.column("file_hash"))) == 1

    def test_the_root_itself_may_be_a_link(self, tmp_path: Path, write_png: WritePng) -> None:
        write_png(tmp_path / "real" / "a" / "1.png")
        (tmp_path / "link").symlink_to("real")
        assert ids(scan(tmp_path / "link")) == ["real/a/1.png"]


class TestMistakes:
    @pytest.mark.parametrize("rest", ["", "absent", "absent/\n\x1b[31m", "nul\0"])
    def test_missing_path(self, tmp_path: Path, rest: str) -> None:
        spec = f"folder:{tmp_path / rest}" if rest else "folder:"
        with pytest.raises(UserError) as caught:
            open_source(spec).scan()
        assert "\n" not in str(caught.value)

    def test_a_file(self, tmp_path: Path, write_png: WritePng) -> None:
        with pytest.raises(UserError, match="must be a folder"):
            open_source(f"folder:{write_png(tmp_path / '1.png')}")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").touch()
        with pytest.raises(UserError, match=r"must hold images, and has none \(1 other files passed over\)"):
            scan(tmp_path)

    def test_workers(self, tmp_path: Path, write_png: WritePng) -> None:
        write_png(tmp_path / "1.png")
        with pytest.raises(UserError, match="workers must be at least 1, got 0"):
            open_source(f"folder:{tmp_path}").scan(workers=0)


def test_a_relative_path_is_remembered_whole(
    tmp_path: Path, write_png: WritePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "pets" / "1.png")
    monkeypatch.chdir(tmp_path)
    spec = open_source("folder:pets").spec
    monkeypatch.chdir("/")
    assert open_source(spec).open_image("1.png").size == (6, 4)


def test_order_does_not_depend_on_workers_or_the_file_system(
    tmp_path: Path, write_png: WritePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(70):
        write_png(tmp_path / f"c{seed % 3}" / f"{seed}.png", seed)
    (tmp_path / "c0" / "bad.png").touch()
    expected = scan(tmp_path)
    assert ids(expected) == sorted(ids(expected))
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path: str | Path) -> None:
            self._entries = list(scandir(path))
            random.Random(len(self._entries)).shuffle(self._entries)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Shuffled)
    for workers in (1, 5):
        again = open_source(f"folder:{tmp_path}").scan(workers=workers)
        assert again.catalog == expected.catalog
        assert again.problems == expected.problems


HOSTILE = [
    b"new\nline.png",
    b"quo\"te's.png",
    b"--out.png",
    b"-rf .png",
    b"<img src=x onerror=alert(1)>.png",
    "ünïcode ☂.png".encode(),
    b"not utf-8 \xff\xfe.png",
    b"\x1b[31mred.png",
    b"back\\slash.png",
    b"$(touch pwned).png",
    b"%s%n.png",
    b"=cmd().png",
    b"a,b;c\t.png",
    b" spaces .png",
    b"n" * 251 + b".png",
    "\u202egnp.exe.png".encode(),
    b"..png.png",
]


def test_hostile_names(tmp_path: Path, write_png: WritePng) -> None:
    picture = write_png(tmp_path / "picture").read_bytes()
    root = tmp_path / "root"
    for name in HOSTILE:
        folder = root / os.fsdecode(name[:200])
        folder.mkdir(parents=True)
        (folder / os.fsdecode(name)).write_bytes(picture)
    (root / "..png.png").rename(root / "dots")  # it would be hidden, which has its own test
    (root / "dots" / "..png.png").rename(root / "dots" / "a..png")
    found = scan(root)
    assert not found.problems
    assert len(found.catalog) == len(HOSTILE)
    source = open_source(f"folder:{root}")
    for uri in found.catalog.column("uri"):
        assert source.open_image(uri).size == (6, 4)
        assert uri.isprintable()
        assert os.path.exists(root / unescape_name(uri))
    found.catalog.save(tmp_path / "a.arrow")
    reopened = open_source(f"catalog:{tmp_path / 'a.arrow'}")
    for uri in reopened.scan().catalog.column("uri"):
        assert reopened.open_image(uri).size == (6, 4)
    assert not (tmp_path / "pwned").exists()


part = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"/\0") and not name.startswith(b".")
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(part, part), min_size=1, max_size=5, unique=True), st.integers())
def test_any_name_scans_to_one_row_each(
    tmp_path: Path, write_png: WritePng, names: list[tuple[bytes, bytes]], salt: int
) -> None:
    folder = "".join(random.Random(salt).choices(string.ascii_letters, k=12))
    root = tmp_path / folder
    paths = [root / os.fsdecode(above) / (os.fsdecode(name) + ".png") for above, name in names]
    for seed, path in enumerate(paths):
        write_png(path, seed)
    found = scan(root)
    assert not found.problems
    expected = sorted(f"{folder}/{escape_name(str(path.relative_to(root)))}" for path in paths)
    assert ids(found) == expected
    source = open_source(f"folder:{root}")
    for uri, digest in zip(found.catalog.column("uri"), found.catalog.column("file_hash"), strict=True):
        assert sha256_file(root / unescape_name(uri)) == digest
        source.open_image(uri)
    shutil.rmtree(root)
