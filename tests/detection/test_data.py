"""What a step sees: order, mirroring, sizes, boxes; COCO's layout; mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.voc import VocObject
from sempairs.detection.config import PROTOCOLS
from sempairs.detection.data import (
    Draw,
    class_names,
    draws,
    load_sample,
    open_data,
    open_picture,
    refuse_unknown_classes,
    training_batches,
    true_objects,
)
from sempairs.detection.identity import data_hash
from sempairs.detection.records import DetectionSet, Picture
from sempairs.errors import UserError

BASE = PROTOCOLS["small-c4-1"]


@given(n=st.integers(1, 30), batch=st.integers(1, 12), seed=st.integers(0, 5))
def test_every_epoch_shows_every_picture_once(n, batch, seed):
    config = BASE.model_copy(update={"batch_size": batch})
    steps = -(-3 * n // batch)
    shown = [draw.row for step in range(steps) for draw in draws(n, config, seed=seed, step=step)]
    for epoch in range(3):
        assert sorted(shown[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_draws_are_a_function_of_the_step():
    config = BASE.model_copy(update={"batch_size": 50})
    drawn = draws(100, config, seed=1, step=7)
    assert drawn == draws(100, config, seed=1, step=7)
    assert drawn != draws(100, config, seed=2, step=7)
    everything = [draw for step in range(40) for draw in draws(100, config, seed=1, step=step)]
    assert {draw.size for draw in everything} == set(config.train_sizes)
    assert 0.45 < np.mean([draw.flip for draw in everything]) < 0.55
    never = config.model_copy(update={"flip": 0.0})
    assert not any(draw.flip for draw in draws(100, never, seed=1, step=7))


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    things = (VocObject("dog", (0, 10, 20, 30)), VocObject("cat", (70, 0, 90, 8), difficult=True))
    return Picture("a", tmp_path / "a.png", 80, 40, things)


def test_sizes_boxes_and_mirrors(picture):
    classes = ("cat", "dog")
    plain = load_sample(picture, classes, Draw(0, False, 60), BASE)
    assert plain.pixels.shape == (3, 60, 120)
    assert plain.scale == (1.5, 1.5)
    # The second box is cut at the picture's edge.
    assert plain.boxes.tolist() == [[0, 15, 30, 45], [105, 0, 120, 12]]
    assert plain.labels.tolist() == [2, 1]
    mirrored = load_sample(picture, classes, Draw(0, True, 60), BASE)
    assert torch.equal(mirrored.pixels.flip(2), plain.pixels)
    assert mirrored.boxes.tolist() == [[90, 15, 120, 45], [0, 0, 15, 12]]
    # The long side stops at max_size.
    small = load_sample(picture, classes, Draw(0, False, 60), BASE.model_copy(update={"max_size": 64}))
    assert small.pixels.shape == (3, 32, 64)
    same = load_sample(picture, classes, Draw(0, False, 40), BASE)
    assert torch.equal(same.pixels, torch.from_numpy(np.array(Image.open(picture.file))).permute(2, 0, 1))
    easy = load_sample(
        picture, classes, Draw(0, False, 40), BASE.model_copy(update={"train_difficult": False})
    )
    assert easy.labels.tolist() == [2]


def test_processes_share_out_a_batch(picture):
    config = BASE.model_copy(update={"batch_size": 4, "workers": 2})
    whole = list(training_batches([picture] * 6, ("cat", "dog"), config, seed=0, steps=range(1, 4)))
    parts = [
        list(
            training_batches(
                [picture] * 6, ("cat", "dog"), config, seed=0, steps=range(1, 4), rank=r, world=2
            )
        )
        for r in (0, 1)
    ]
    for step, batch in enumerate(whole):
        joined = parts[0][step] + parts[1][step]
        assert [s.pixels.shape for s in batch] == [s.pixels.shape for s in joined]
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(batch, joined, strict=True))


def test_a_picture_of_another_size_is_refused(picture):
    wrong = Picture("a", picture.file, 81, 40, picture.objects)
    with pytest.raises(UserError, match="must be 81 x 40, as annotated, got '80 x 40'"):
        load_sample(wrong, ("cat", "dog"), Draw(0, False, 60), BASE)
    gone = Picture("a", picture.file.with_name("b.png"), 80, 40, ())
    with pytest.raises(UserError, match="cannot be read"):
        load_sample(gone, (), Draw(0, False, 60), BASE)


def test_sets_and_classes(devkit, picture):
    read = open_data(f"voc:{devkit.parent}")
    train, test = read("VOC2007/trainval"), read("VOC2007/test")
    assert (len(train.pictures), len(test.pictures)) == (8, 4)
    assert class_names([train], None) == ("disc", "square")
    assert class_names([train], ["a", "b"]) == ("a", "b")
    truth = true_objects(train, ("disc", "square"))
    assert len(truth.label) == 10 and truth.difficult.sum() == 2
    refuse_unknown_classes(test, ("disc", "square"))
    with pytest.raises(UserError, match="not in the list of 1, got 'dog'"):
        refuse_unknown_classes(DetectionSet("x", (picture,)), ("cat",))
    with pytest.raises(UserError, match="must hold objects"):
        class_names([DetectionSet("x", ())], None)


@pytest.mark.parametrize(
    ("spec", "name", "said"),
    [
        ("vco:x", "", "unknown"),
        ("voc:absent", "", "must be an existing path"),
        ("voc:EMPTY", "", "must hold VOC2007 or VOC2012"),
        ("coco:EMPTY", "", "instances_SET.json"),
        ("voc:KIT", "VOC2007/tset", "is missing"),
        ("voc:KIT", "VOC2010/test", "with a year of VOC2007"),
        ("voc:KIT", "test", "must be YEAR/SET"),
    ],
)
def test_mistakes_are_one_line(devkit, tmp_path, spec, name, said):
    spec = spec.replace("EMPTY", str(tmp_path)).replace("KIT", str(devkit))
    with pytest.raises(UserError, match=said) as caught:
        open_data(spec)(name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    data = {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 20, "height": 10},
            {"id": 3, "file_name": "a.jpg", "width": 20, "height": 10},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 18, "bbox": [1.5, 2, 4, 5], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 20, 10], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 1, "bbox": [0, 0, 0, 10], "iscrowd": 0},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    (tmp_path / "val2017").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 10)).save(tmp_path / "val2017" / f"{name}.jpg")
    return tmp_path


def test_coco_is_read(coco):
    one = open_data(f"coco:{coco}")("val2017")
    assert [picture.id for picture in one.pictures] == ["a.jpg", "b.jpg"]
    assert one.pictures[0].objects == ()  # a box without area is none
    assert one.pictures[1].objects == (
        VocObject("dog", (1.5, 2, 5.5, 7)), VocObject("person", (0, 0, 20, 10), difficult=True),
    )  # fmt: skip
    assert one.pictures[1].file == coco / "val2017" / "b.jpg"


def test_coco_mistakes(coco):
    with pytest.raises(UserError, match="sets here: val2017"):
        open_data(f"coco:{coco}")("train2017")
    shutil.rmtree(coco / "val2017")
    with pytest.raises(UserError, match="no folder of pictures"):
        open_data(f"coco:{coco}")("val2017")


def _changed(coco: Path, change: Callable[[dict[str, Any]], object], encoding: str = "utf-8") -> DetectionSet:
    file = coco / "annotations" / "instances_val2017.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data), encoding=encoding)
    return open_data(f"coco:{coco}")("val2017")


def _set(part: str, at: int, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data[part][at].update(values)


def _without(part: str, at: int, key: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data[part][at].pop(key)


WRONG = [
    (lambda d: d.pop("annotations"), "COCO's form: it must hold the lists images, annotations, categories"),
    (lambda d: d.update(categories={}), "COCO's form.*categories is none"),
    (_set("annotations", 0, category_id=19), r"annotation 1 \(image 9, b.jpg\).* category_id 19"),
    (_set("annotations", 0, category_id=None), r"annotation 1 .*category_id None"),
    (_without("annotations", 1, "category_id"), r"annotation 2 .*category_id None"),
    (_set("annotations", 2, image_id=4), "annotation 3 must be of an image that is listed, got image_id 4"),
    (_without("annotations", 2, "image_id"), "annotation 3 must be of an image that is listed"),
    (_set("annotations", 1, id=1), r"annotation 1 \(image 9, b.jpg\) has the id of another"),
    (
        _set("annotations", 1, bbox=[0, 0, -3, 4]),
        r"annotation 2 .*width and height of 0 or more, got \[0, 0, -3",
    ),
    (_set("annotations", 1, bbox=[0, 0, 3]), "annotation 2 .*must have a bbox of four numbers"),
    (_set("annotations", 1, bbox=[0, float("nan"), 3, 3]), "annotation 2 .*must have a bbox of four numbers"),
    (_set("annotations", 1, bbox=[0, float("inf"), 3, 3]), "annotation 2 .*must have a bbox of four numbers"),
    (_set("annotations", 1, bbox=[0, None, 3, 3]), "annotation 2 .*must have a bbox of four numbers"),
    (_set("annotations", 1, bbox=[]), "annotation 2 .*must have a bbox of four numbers"),
    (_without("annotations", 1, "bbox"), "annotation 2 .*must have a bbox of four numbers, got None"),
    (_set("annotations", 1, bbox=[30, 0, 3, 3]), "b.jpg: the box of person .* lies outside of the 20 x 10"),
    (_set("annotations", 0, iscrowd="perhaps"), "annotation 1 .*iscrowd as 0 or 1, got 'perhaps'"),
    (lambda d: d["annotations"].append(7), r"annotations\[3\] must be an object, got 7"),
    (_set("images", 1, id=9), r"image 9 \(a.jpg\) has the id of another, b.jpg"),
    (_set("images", 1, id="9"), r"image 9 \(a.jpg\) has the id of another, b.jpg"),
    (_set("images", 1, id=True), r"images\[1\] \(a.jpg\) must be an object with an id"),
    (_without("images", 1, "id"), r"images\[1\] \(a.jpg\) must be an object with an id"),
    (_without("images", 1, "file_name"), "image 3 must have a file_name, got None"),
    (_set("images", 1, file_name="b.jpg"), r"image 3 \(b.jpg\) is the picture of image 9 .*named once"),
    (_set("images", 1, file_name="c.jpg"), r"image 3 \(c.jpg\): no such file in val2017"),
    (_set("images", 1, file_name="../b.jpg"), r"image 3 .*must stay inside"),
    (_set("images", 1, width="wide"), r"image 3 \(a.jpg\) must have a width"),
    (_set("images", 1, width=21), r"a.jpg must be 21 x 10, as annotated, got '20 x 10'"),
    (_set("categories", 1, id=18), r"category 18 \(person\) has the id of another, dog"),
    (_without("categories", 1, "name"), "category 1 must have a name"),
    (_without("categories", 1, "id"), r"categories\[1\] must be an object with an id"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_a_coco_entry_that_does_not_fit_is_named_in_one_line(coco, change, said):
    with pytest.raises(UserError, match=said) as caught:
        _changed(coco, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[", "[" * 100_000, "", "9" * 5_000, "\0"])
def test_a_file_that_is_no_json_is_one_line(coco, text):
    (coco / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(UserError, match=r"not readable JSON|COCO's form"):
        open_data(f"coco:{coco}")("val2017")


def test_all_wrong_entries_are_counted(coco):
    def change(data: dict[str, Any]) -> None:
        data["annotations"] = [{"id": i, "image_id": 77} for i in range(5)]

    with pytest.raises(UserError, match=r"annotation 0 .*tion 1 .*tion 2 .*\(and 2 more entries\)"):
        _changed(coco, change)


def _as_text(data: dict[str, Any]) -> None:
    for entry in (*data["images"], *data["annotations"], *data["categories"]):
        entry |= {key: str(value) for key, value in entry.items() if isinstance(value, int)}
    data["annotations"][0]["bbox"] = ["1.5", "2", "4.0", "5"]


def _windows(data: dict[str, Any]) -> None:
    data["images"][0]["file_name"] = "C:\\data\\val2017\\B.JPG"
    data["images"][1]["file_name"] = "val2017/a.jpg"


@pytest.mark.parametrize(
    "change",
    [
        _as_text,
        _windows,
        _without("annotations", 0, "id"),
        _without("annotations", 0, "iscrowd"),
        _set("annotations", 0, iscrowd=False, segmentation={"counts": "abc", "size": [10, 20]}),
        _set("annotations", 1, iscrowd=True),
        _set("annotations", 1, iscrowd="1"),
        _set("images", 0, width=20.0, height="10"),
        _set("images", 0, width=0, height=0),
        _without("images", 0, "width"),
        lambda data: [entry.update(id=f"img-{entry['id']}") for entry in data["images"]]
        + [entry.update(image_id=f"img-{entry['image_id']}") for entry in data["annotations"]],
        lambda data: data["categories"].insert(0, {"id": 0, "name": "unused"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_coco_as_other_tools_write_it(coco, change, encoding):
    one = _changed(coco, change, encoding)
    assert [picture.objects for picture in one.pictures] == [
        (), (VocObject("dog", (1.5, 2, 5.5, 7)), VocObject("person", (0, 0, 20, 10), difficult=True)),
    ]  # fmt: skip
    assert [(p.file.name, p.width, p.height) for p in one.pictures] == [("a.jpg", 20, 10), ("b.jpg", 20, 10)]


def test_what_coco_leaves_out_or_assumes_is_said(coco):
    one = _changed(coco, _set("annotations", 1, bbox=[15, 2, 9, 4]))
    assert one.notes == (
        "val2017: 1 boxes without area are left out: annotation 3 (image 3, a.jpg)",
        "val2017: 1 boxes reach beyond their picture; training cuts them at its edge: person in b.jpg",
    )
    one = _changed(coco, _set("categories", 0, name="person"))
    assert "categories of one name count as one: 'person', ids 18 and 1" in one.notes[0]
    one = _changed(coco, _without("images", 0, "height"))
    assert "1 picture has no size in the annotations; the files' was taken: b.jpg" in " ".join(one.notes)


def test_pictures_of_coco_may_lie_in_folders(coco):
    (coco / "val2017" / "x").mkdir()
    (coco / "val2017" / "a.jpg").rename(coco / "val2017" / "x" / "a.jpg")
    (coco / "val2017").rename(coco / "images")
    one = _changed(coco, _set("images", 1, file_name="x\\a.jpg"))
    assert [picture.file for picture in one.pictures] == [
        coco / "images" / "x" / "a.jpg",
        coco / "images" / "b.jpg",
    ]


def _turned(folder: Path, name: str, turn: int, size: tuple[int, int]) -> None:
    """A picture of `size` as it is stored, black but for its first stored row, with an EXIF orientation."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (0, 0, size[0], 1))
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(folder / name, exif=exif, quality=100)


def test_pixels_are_taken_as_they_were_annotated(coco):
    """EXIF turns a.jpg and b.jpg by a quarter; the annotation has one as stored, and the other as seen."""
    _turned(coco / "val2017", "a.jpg", 6, (20, 10))
    _turned(coco / "val2017", "b.jpg", 6, (10, 20))
    one = open_data(f"coco:{coco}")("val2017")
    assert [picture.upright for picture in one.pictures] == [False, True]
    stored, seen = (np.asarray(open_picture(picture)) for picture in one.pictures)
    assert stored.shape == seen.shape == (10, 20, 3)
    assert stored[0].mean() > 200 and stored[1:].mean() < 50
    assert seen[:, -1].mean() > 200 and seen[:, :-1].mean() < 50
    assert "1 picture has an EXIF orientation that the annotations do not count: a.jpg" in " ".join(one.notes)
    assert load_sample(one.pictures[0], (), Draw(0, False, 10), BASE).pixels.shape == (3, 10, 20)
    assert data_hash(one) != data_hash(
        replace(one, pictures=tuple(replace(p, upright=True) for p in one.pictures))
    )


@pytest.mark.parametrize(("other", "upright"), [((20, 10), False), ((10, 20), True), (None, True)])
def test_where_the_size_does_not_tell_the_other_pictures_decide(coco, other, upright):
    """A picture upside down has its size both ways."""
    _turned(coco / "val2017", "a.jpg", 3, (20, 10))
    if other:
        _turned(coco / "val2017", "b.jpg", 8, other)
    one = open_data(f"coco:{coco}")("val2017")
    assert one.pictures[0].upright is upright
    assert any(
        "the sizes do not say whether it was applied" in note and "a.jpg" in note for note in one.notes
    )


def test_a_size_that_fits_neither_way_names_the_orientation(coco):
    _turned(coco / "val2017", "a.jpg", 6, (40, 10))
    with pytest.raises(UserError, match="got 40 x 10, and 10 x 40 turned by its EXIF orientation 6"):
        open_data(f"coco:{coco}")("val2017")


def test_a_picture_on_its_side_without_an_orientation_says_so(coco):
    Image.new("RGB", (10, 20)).save(coco / "val2017" / "a.jpg")
    with pytest.raises(UserError, match="got '10 x 20'; it lies on its side: an EXIF orientation"):
        open_data(f"coco:{coco}")("val2017")


def test_all_pictures_are_looked_at_before_a_run_starts(coco):
    (coco / "val2017" / "a.jpg").write_bytes((coco / "val2017" / "a.jpg").read_bytes()[:300])
    (coco / "val2017" / "b.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"a.jpg cannot be read .*; .*b.jpg cannot be read"):
        open_data(f"coco:{coco}")("val2017")


def test_a_voc_set_says_what_it_assumed(devkit, tmp_path):
    shutil.copytree(devkit, tmp_path / "VOCdevkit")
    year = tmp_path / "VOCdevkit" / "VOC2007"
    file = year / "Annotations" / "000000.xml"
    file.write_text(file.read_text().replace("<width>64", "<width>0"))
    (year / "JPEGImages" / "000000.jpg").rename(year / "JPEGImages" / "000000.JPEG")
    (year / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xef\xbb\xbf000000\r\n000001\r\n000000\r\n")
    one = open_data(f"voc:{tmp_path}")("VOC2007/train")
    assert [(p.id, p.file.name, p.width, p.height) for p in one.pictures] == [
        ("VOC2007/000000", "000000.JPEG", 64, 64), ("VOC2007/000001", "000001.jpg", 64, 64),
    ]  # fmt: skip
    assert [note.partition(":")[2] for note in one.notes] == [
        " VOC2007/train names 1 pictures more than once, which count once: 000000",
        " 1 picture has no size in the annotations; the files' was taken: VOC2007/000000",
    ]
    (year / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(UserError, match="VOC2007/000001: no such file"):
        open_data(f"voc:{tmp_path}")("VOC2007/train")
