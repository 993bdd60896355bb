"""Files found by names that other tools wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from sempairs.catalog.file_index import FileIndex, plain_parts

FILES = (
    "1.jpg",
    "IMG 2.JPG",
    "caf\u00e9.png",
    "b/1.jpg",
    "b/c/3.webp",
    "4.png",
    "4.bmp",
    "A.jpg",
    "a.jpg",
    "notes.txt",
    ".h.png",
)


@pytest.fixture
def index(tmp_path: Path) -> FileIndex:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.jpg").touch()
    return FileIndex(tmp_path)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("1.jpg", "1.jpg"), ("./1.jpg", "1.jpg"), ("img 2.jpg", "IMG 2.JPG"),
        ("cafe\u0301.PNG", "caf\u00e9.png"), ("b/1.jpg", "b/1.jpg"), ("b\\1.jpg", "b/1.jpg"),
        ("C:\\x\\b\\1.jpg", "b/1.jpg"), ("/data/b/1.jpg", "b/1.jpg"),
        ("x/1.jpg", "1.jpg"), ("B/C/3.WEBP", "b/c/3.webp"), ("3.webp", None), ("a.jpg", "a.jpg"),
        ("A.JPG", None), ("../1.jpg", None), ("b/../1.jpg", None), ("", None), ("1", None),
        ("notes.txt", None), (".h.png", None), ("x.jpg", None), (".hidden/x.jpg", None), ("/", None),
    ],
)  # fmt: skip
def test_named(index: FileIndex, written: str, found: str | None) -> None:
    assert index.named(written) == found


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("1", ["1.jpg"]), ("img 2", ["IMG 2.JPG"]), ("b\\1", ["b/1.jpg"]), ("4", ["4.bmp", "4.png"]),
        ("a", ["a.jpg"]), ("A", ["A.jpg"]), ("cafe\u0301", ["caf\u00e9.png"]), ("none", []), ("", []),
    ],
)  # fmt: skip
def test_stems(index: FileIndex, written: str, found: list[str]) -> None:
    assert index.stems(written) == found


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "absent")
    assert not index.names and index.named("1.jpg") is None and index.stems("1") == []


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a", True), ("a b (1)", True), ("a/b", True), ("a.b", True), ("\u732b", True), ("a/.b", False),
        ("", False), ("..", False), ("a/../b", False), ("/a", False), ("a/", False), ("a\\b", False),
        (" a", False), ("a\0", False), ("a\nb", False), ("x" * 201, False),
    ],
)  # fmt: skip
def test_plain_parts(name: str, plain: bool) -> None:
    assert plain_parts(name) is plain
