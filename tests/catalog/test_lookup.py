"""Images by the names that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from sempairs.catalog.lookup import Files, Images, is_foreign


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    for name in ("cat/1.png", "cat/2 b.png", "cafe\u0301/3.png", "back\\slash.png", "x/2.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cat/1.png", "cat/1.png"),
        ("cat\\1.png", "cat/1.png"),
        (".\\cat\\1.png", "cat/1.png"),
        ("./cat/1.png", "./cat/1.png"),
        (" cat/1.png ", "cat/1.png"),
        ("cat/2 b.png", "cat/2 b.png"),
        ("café/3.png", "cafe\u0301/3.png"),
        ("photos/cat/1.png", "cat/1.png"),
        ("photos\\cat\\1.png", "cat/1.png"),
        ("back\\slash.png", "back\\slash.png"),
        ("other/cat/1.png", None),
        ("Cat/1.png", None),
        ("cat/1.jpg", None),
        ("\0", None),
    ],
)
def test_files(root: Path, name: str, found: str | None) -> None:
    assert Files(root).find(name) == found


def test_a_whole_path_is_taken_within_the_root_and_left_alone_outside(root: Path) -> None:
    assert Files(root).find(str(root / "cat" / "1.png")) == "cat/1.png"
    assert Files(root).find("/etc/hostname") == "/etc/hostname"
    assert Files(root).find(str(root / "cat" / ".." / ".." / "absent")) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("Cat/1.PNG", "cat/1.png"), ("cat/1.jpg", "cat/1.png"), ("cta/1.png", "cat/1.png"), ("zebra/q.tif", "")],
)
def test_the_file_most_likely_meant(root: Path, name: str, near: str) -> None:
    assert Files(root).nearest(name) == near


def test_a_form_that_two_files_have_names_none(tmp_path: Path) -> None:
    for name in ("e\u0301.png", "é.png"):
        (tmp_path / name).touch()
    assert Files(tmp_path).find("é.png") == "é.png"
    assert Files(tmp_path).find("x\\é.png") is None
    assert Files(tmp_path).find(".\\é.png") is None


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("d/cat/1.png", 0),
        ("cat/1.png", 0),
        ("cat\\1.png", 0),
        ("./cat/1.png", 0),
        ("/data/d/cat/1.png", 0),
        ("data/d/cat/1.png", 0),
        ("café/2.png", 1),
        ("2.png", -1),
        ("e/cat/1.png", -1),
        ("/other/cat/1.png", -1),
        ("", -1),
    ],
)
def test_images(name: str, at: int) -> None:
    uris = ["cat/1.png", "cafe\u0301/2.png"]
    images = Images([f"d/{uri}" for uri in uris], uris, ["folder:/data/d"])
    assert images.find(name) == at


def test_a_path_that_two_images_have_names_none() -> None:
    images = Images(["a", "b"], ["1.png", "1.png"], ["folder:/x", "folder:/y"])
    assert images.find("1.png") == -1
    assert images.find("b") == 1


def test_the_image_most_likely_meant() -> None:
    images = Images(["d/cat/1.png", "d/dog/2.png"], ["cat/1.png", "dog/2.png"], ["folder:/d"])
    assert images.nearest("Cat/1.PNG") == "d/cat/1.png"
    assert images.nearest("nothing like it at all") == ""
    assert Images([], [], []).nearest("a") == ""


def test_paths_of_windows_drives() -> None:
    assert is_foreign("C:\\photos\\1.png")
    assert is_foreign("d:/photos/1.png")
    assert not is_foreign("c/photos")
