"""`voc:` as a source: splits from image sets, labels from objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.catalog.voc import VocImage, VocObject, write_voc
from sempairs.errors import UserError

CAT, DOG = VocObject("cat", (0, 0, 3, 3)), VocObject("dog", (0, 0, 6, 6))
HARD = VocObject("cow", (0, 0, 8, 8), difficult=True)


def _write(
    root: Path, year: int, objects: dict[str, tuple[VocObject, ...]], sets: dict[str, list[str]]
) -> None:
    images = [VocImage(name, 8, 8, things, year) for name, things in objects.items()]
    pictures = [(image, Image.new("RGB", (8, 8), (i * 9, year % 250, 0))) for i, image in enumerate(images)]
    write_voc(root / "VOCdevkit", year, pictures, sets)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    sets = {"train": ["1"], "val": ["2"], "trainval": ["1", "2"], "test": ["3", "4"]}
    _write(tmp_path, 2007, {"1": (CAT, DOG, HARD), "2": (HARD,), "3": (CAT,), "4": (), "5": (CAT,)}, sets)
    _write(tmp_path, 2012, {"1": (DOG, DOG), "9": (CAT,)}, {"train": ["1"], "trainval": ["1", "9"]})
    return tmp_path


def test_splits_and_labels(kit):
    scan = open_source(f"voc:{kit}").scan()
    assert not scan.problems
    rows = scan.catalog.table.select(
        ["image_id", "split", "category", "labels", "labels_ignored"]
    ).to_pylist()
    # 5 is in no set. What trainval has beyond train and val is for training.
    assert [tuple(row.values()) for row in rows] == [
        ("VOC2007/1", "train", "dog", "cat,dog", "cow"),
        ("VOC2007/2", "validation", None, "", "cow"),
        ("VOC2007/3", "test", "cat", "cat", ""),
        ("VOC2007/4", "test", None, "", ""),
        ("VOC2012/1", "train", "dog", "dog", ""),
        ("VOC2012/9", "train", "cat", "cat", ""),
    ]
    assert scan.catalog == open_source(f"voc:{kit / 'VOCdevkit'}").scan().catalog


def test_further_sets_are_left_out(tmp_path):
    """Those of scenes too: their pictures are for detection, which takes a set by its name."""
    sets = {"train": ["1"], "test": ["2"], "test_designers": ["3"]}
    _write(tmp_path, 2007, {"1": (CAT,), "2": (DOG,), "3": (CAT,)}, sets)
    found = open_source(f"voc:{tmp_path}").scan().catalog
    assert list(found.column("image_id")) == ["VOC2007/1", "VOC2007/2"]


def test_a_class_that_is_also_there_without_difficulty_is_a_label(tmp_path):
    easy = VocObject("cow", (0, 0, 1, 1))
    _write(tmp_path, 2007, {"1": (HARD, easy)}, {"train": ["1"]})
    row = open_source(f"voc:{tmp_path}").scan().catalog.table.to_pylist()[0]
    assert (row["labels"], row["labels_ignored"], row["category"]) == ("cow", "", "cow")


def test_what_is_missing_or_damaged_is_a_problem(kit):
    year = kit / "VOCdevkit" / "VOC2007"
    (year / "Annotations" / "1.xml").unlink()
    (year / "Annotations" / "2.xml").write_text("<annotation>")
    (year / "JPEGImages" / "3.jpg").unlink()
    scan = open_source(f"voc:{kit}").scan()
    assert [problem.where for problem in scan.problems] == [
        "VOC2007/Annotations/1.xml", "VOC2007/Annotations/2.xml", "VOC2007/JPEGImages/3.jpg",
    ]  # fmt: skip
    assert len(scan.catalog) == 3


def test_sets_that_share_a_picture_are_refused(tmp_path):
    _write(tmp_path, 2007, {"1": (CAT,)}, {"train": ["1"], "test": ["1"]})
    with pytest.raises(UserError, match="VOC2007/test must not share images with train"):
        open_source(f"voc:{tmp_path}").scan()


def test_trainval_may_not_hold_test_pictures(tmp_path):
    _write(tmp_path, 2007, {"1": (CAT,)}, {"trainval": ["1"], "test": ["1"]})
    with pytest.raises(UserError, match="must not share images with test"):
        open_source(f"voc:{tmp_path}").scan()


def test_no_devkit(tmp_path):
    with pytest.raises(UserError, match="must hold VOC2007 or VOC2012"):
        open_source(f"voc:{tmp_path}")
