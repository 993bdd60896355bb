"""`voc:` as a source: splits from image sets, labels from objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.catalog.voc import VocImage, VocObject, write_voc
from sempairs.cli.data import describe
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


def test_one_bad_annotation_costs_one_image(kit):
    year = kit / "VOCdevkit" / "VOC2007"
    good = (year / "Annotations" / "1.xml").read_text()
    deep = "<annotation>" + "<part>" * 100_000
    bomb = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation><name>&b;</name></annotation>'
    for text, said in (
        ('<?xml version="1.0" encoding="x-none"?>' + good, "'x-none', which is not known"),
        (bomb, "declares a document type"),
        (good[:-30], "is not an annotation"),
        (deep, "nests deeper than 100"),
        ("<annotations/>", "must be an <annotation>"),
        (good.replace("<difficult>0", "<difficult>maybe"), "object 1 (cat) must give difficult"),
        (good.replace("<name>dog</name>", "<name>dog, cat</name>"), "object 2 must name objects"),
    ):
        (year / "Annotations" / "1.xml").write_text(text)
        scan = open_source(f"voc:{kit}").scan()
        assert len(scan.catalog) == 5
        (problem,) = scan.problems
        assert problem.where == "VOC2007/Annotations/1.xml" and said in problem.reason
        assert str(kit) not in problem.reason


def test_pictures_and_lists_as_other_tools_have_them(tmp_path):
    """PNG, blanks and folders in names, a byte order mark, the wrong size, a flag as a word."""
    year = tmp_path / "VOC2007"
    names = {"img (1)": "img (1).png", "b/2": "b/2.JPG", "3": "Photo.jpeg"}
    for i, (name, picture) in enumerate(names.items()):
        for file in (year / "Annotations" / f"{name}.xml", year / "JPEGImages" / picture):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (i, 0, 0)).save(year / "JPEGImages" / picture)
        (year / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>C:\\x\\{picture.lower()}</filename><size><width>0</width></size><object>"
            "<name>cat</name><difficult>False</difficult><truncated>Unspecified</truncated><bndbox><xmin>0</xmin>"
            "<ymin>0.5</ymin><xmax>9</xmax><ymax>7</ymax></bndbox></object></annotation>"
        )
    (year / "ImageSets" / "Main").mkdir(parents=True)
    (year / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xef\xbb\xbfimg (1)\r\nb\\2\r\n3.jpg\r\n\r\n")
    scan = open_source(f"voc:{tmp_path}").scan()
    assert not scan.problems
    rows = scan.catalog.table.select(["image_id", "uri", "category", "width", "height"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("VOC2007/3", "VOC2007/JPEGImages/Photo.jpeg", "cat", 8, 6),
        ("VOC2007/b/2", "VOC2007/JPEGImages/b/2.JPG", "cat", 8, 6),
        ("VOC2007/img (1)", "VOC2007/JPEGImages/img (1).png", "cat", 8, 6),
    ]


def test_what_a_scan_leaves_out_is_said(kit):
    main = kit / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    (main / "test_designers.txt").write_text("5\n")
    (main / "test.txt").write_text("3\n4\n3\n../x\n7\n")
    scan = open_source(f"voc:{kit}").scan()
    assert [(problem.where, problem.reason.partition(";")[0]) for problem in scan.problems] == [
        ("VOC2007/Annotations/7.xml", "VOC2007/Annotations/7.xml is missing"),
        ("VOC2007/ImageSets/Main/test.txt", "must hold one plain id a line, got '../x'"),
    ]
    assert scan.notes == (
        "VOC2007/ImageSets/Main/test.txt names 1 more than once, which count once: 3, …",
        "VOC2007: left out are the sets test_designers",
        "VOC2007: 1 annotations are in none of the sets read and are left out: 5, …",
    )
    assert "test_designers" in describe("voc:x", scan)


def test_two_annotations_of_one_picture_are_a_problem(kit):
    year = kit / "VOCdevkit" / "VOC2007"
    (year / "JPEGImages" / "2.jpg").unlink()
    file = year / "Annotations" / "2.xml"
    file.write_text(file.read_text().replace("2.jpg", "1.jpg"))
    (problem,) = open_source(f"voc:{kit}").scan().problems
    assert problem.reason == "is the picture of VOC2007/1 and of VOC2007/2"


def test_a_devkit_with_sets_of_other_names_says_which_there_are(tmp_path):
    _write(tmp_path, 2007, {"1": (CAT,)}, {"default": ["1"]})
    with pytest.raises(UserError, match=r"one of the sets train, val.*sets here: VOC2007/default"):
        open_source(f"voc:{tmp_path}").scan()


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
