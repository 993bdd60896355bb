"""What a step sees: order, mirroring, sizes, boxes; COCO's layout; mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.voc import VocObject
from sempairs.errors import UserError
from sempairs.evaluation.detection.config import PROTOCOLS
from sempairs.evaluation.detection.data import (
    Draw,
    class_names,
    draws,
    load_sample,
    open_data,
    refuse_unknown_classes,
    training_batches,
    true_objects,
)
from sempairs.evaluation.detection.records import DetectionSet, Picture

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
    file = coco / "annotations" / "instances_val2017.json"
    good = file.read_text()
    for text, said in (
        ('{"images": []}', "COCO's form"),
        (good.replace('"b.jpg"', '"../b.jpg"'), "must stay inside"),
        (good.replace('"category_id": 18', '"category_id": 19'), "COCO's form"),
        (good.replace('"b.jpg"', '"a.jpg"'), "once"),
        ("[", "not readable JSON"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            open_data(f"coco:{coco}")("val2017")
    file.write_text(good)
    (coco / "val2017").rmdir()
    with pytest.raises(UserError, match="no folder of pictures"):
        open_data(f"coco:{coco}")("val2017")
