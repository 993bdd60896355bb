"""VOC's layout: what is written is what torchvision reads, and what the kit's own files say is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.voc import (
    VocImage,
    VocObject,
    find_devkit,
    image_path,
    presence,
    read_annotation,
    read_image_set,
    read_voc,
    write_annotation,
    write_voc,
)
from sempairs.errors import UserError

# In the form of the kit's own files: a person with parts, a flag that 2007 does not have left out.
KIT = """<annotation>
	<folder>VOC2007</folder>
	<filename>000007.jpg</filename>
	<source><database>The VOC2007 Database</database><image>flickr</image></source>
	<size><width>500</width><height>333</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>person</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
		<bndbox><xmin>1</xmin><ymin>50</ymin><xmax>500</xmax><ymax>330.5</ymax></bndbox>
		<part><name>head</name>
			<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></part>
	</object>
	<object>
		<name>car</name><difficult>1</difficult><occluded>1</occluded>
		<bndbox><xmin>7</xmin><ymin>7</ymin><xmax>7</xmax><ymax>7</ymax></bndbox>
	</object>
</annotation>
"""


def _kit(root: Path, text: str = KIT, name: str = "000007") -> Path:
    (root / "VOC2007" / "Annotations").mkdir(parents=True)
    (root / "VOC2007" / "ImageSets" / "Main").mkdir(parents=True)
    (root / "VOC2007" / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    (root / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text(f"{name}\n")
    return root


def _grey(image: VocImage) -> Image.Image:
    return Image.new("RGB", (image.width, image.height), (90, 90, 90))


def test_a_box_counts_from_zero_and_leaves_the_end_out(tmp_path):
    (image,) = read_voc(_kit(tmp_path), 2007, "test")
    person, car = image.objects
    assert (image.id, image.width, image.height, image.image_id) == ("000007", 500, 333, "VOC2007/000007")
    assert person == VocObject("person", (0, 49, 500, 330.5), truncated=True)
    # One pixel, the seventh in both directions.
    assert car == VocObject("car", (6, 6, 7, 7), difficult=True, occluded=True)
    assert car.area == 1
    assert image_path(image) == "VOC2007/JPEGImages/000007.jpg"


_COORDINATE = st.integers(0, 60)
_OBJECTS = st.lists(
    st.builds(
        lambda name, x, y, w, h, d, t, o: VocObject(name, (x, y, x + w, y + h), d, t, o),
        st.sampled_from(["cat", "dining table", "größer", "a&b<c>"]),
        _COORDINATE, _COORDINATE, st.integers(1, 40), st.integers(1, 40),
        st.booleans(), st.booleans(), st.booleans(),
    ),
    max_size=4,
)  # fmt: skip


@given(objects=_OBJECTS)
def test_an_annotation_comes_back(tmp_path_factory, objects):
    image = VocImage("x", 100, 100, tuple(objects), 2012)
    root = tmp_path_factory.mktemp("kit")
    write_annotation(root / "VOC2012" / "Annotations" / "x.xml", image)
    assert read_annotation(root, 2012, "x") == image


def test_fractions_of_pixels_come_back(tmp_path):
    image = VocImage("x", 9, 9, (VocObject("cat", (0.25, 1.5, 3.75, 8.125)),))
    write_annotation(tmp_path / "VOC2007" / "Annotations" / "x.xml", image)
    assert read_annotation(tmp_path, 2007, "x") == image


def test_torchvision_reads_what_is_written(tmp_path):
    from torchvision.datasets import VOCDetection

    objects = (
        VocObject("cat", (0, 2, 10, 12), truncated=True),
        VocObject("dog", (4, 4, 6, 8), difficult=True),
    )
    images = [VocImage(f"{i:06d}", 20, 16, objects[: i + 1]) for i in range(2)]
    write_voc(
        tmp_path / "VOCdevkit", 2007, [(i, _grey(i)) for i in images], {"trainval": ["000001", "000000"]}
    )
    data = VOCDetection(str(tmp_path), year="2007", image_set="trainval", download=False)
    picture, target = data[0]
    assert picture.size == (20, 16)
    found = target["annotation"]["object"]
    assert [thing["name"] for thing in found] == ["cat", "dog"]
    assert found[0]["bndbox"] == {"xmin": "1", "ymin": "3", "xmax": "10", "ymax": "12"}
    assert [thing["difficult"] for thing in found] == ["0", "1"]
    assert [image.id for image in read_voc(tmp_path, 2007, "trainval")] == ["000001", "000000"]


def test_class_files_are_the_kits(tmp_path):
    cat, hard = VocObject("cat", (0, 0, 2, 2)), VocObject("cat", (0, 0, 2, 2), difficult=True)
    images = [VocImage("a", 4, 4, (cat, hard)), VocImage("b", 4, 4, (hard,)), VocImage("c", 4, 4, ())]
    year = write_voc(tmp_path, 2007, [(i, _grey(i)) for i in images], {"val": ["a", "b", "c"]})
    assert (year / "ImageSets" / "Main" / "cat_val.txt").read_text() == "a  1\nb  0\nc -1\n"
    assert [presence(i) for i in images] == [{"cat": 1}, {"cat": 0}, {}]
    # A class file is a set as well: the first word of a line is the id.
    assert read_image_set(tmp_path, 2007, "cat_val") == ("a", "b", "c")


def test_the_same_bytes_again_and_never_half(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = VocImage("a", 8, 8, (VocObject("cat", (0, 0, 2, 2)),))
    for name in ("one", "two"):
        write_voc(tmp_path / name, 2007, [(image, noise)], {"test": ["a"]})
    files = [sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("one", "two")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert len(files[0]) == 4

    def broken():
        yield image, noise
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_voc(tmp_path / "three", 2007, broken(), {})
    assert not list((tmp_path / "three").iterdir())
    with pytest.raises(UserError, match="new or empty"):
        write_voc(tmp_path / "one", 2007, [(image, noise)], {})
    with pytest.raises(UserError, match="8 x 8"):
        write_voc(tmp_path / "four", 2007, [(image, noise.resize((4, 4)))], {})
    with pytest.raises(UserError, match="ids of images"):
        write_voc(tmp_path / "four", 2007, [(image, noise)], {"test": ["b"]})


LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<annotation><size><width>&b;</width></size></annotation>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><annotation>&f;</annotation>'
BROKEN = [
    (LAUGHS, "declares a document type"),
    (OUTSIDE, "declares a document type"),
    ("", "must be an annotation"),
    ("<annotation>", "is not an annotation"),
    ("<other/>", "must be an <annotation>"),
    (KIT.replace("<width>500</width>", ""), "width"),
    (KIT.replace("<width>500</width>", "<width>0</width>"), "at least 1 pixel"),
    (KIT.replace("<xmin>7</xmin>", "<xmin>8</xmin>"), "end after their start"),
    (KIT.replace("<xmin>7</xmin>", "<xmin>nan</xmin>"), "xmin"),
    (KIT.replace("<xmin>7</xmin>", "<xmin>1e999</xmin>"), "xmin"),
    (KIT.replace("<name>car</name>", ""), "must name objects"),
    (KIT.replace("<name>car</name>", "<name>a/../b</name>"), "must name objects"),
    (KIT.replace("<difficult>1</difficult>", "<difficult>yes</difficult>"), "difficult"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_bad_annotation_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read_voc(_kit(tmp_path, text), 2007, "test")
    assert "\n" not in str(caught.value)


def test_an_unknown_entity_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not an annotation"):
        read_voc(_kit(tmp_path, "<annotation>&x;</annotation>"), 2007, "test")


@pytest.mark.parametrize(
    ("lines", "said"),
    [("../../etc\n", "plain id"), ("a/b\n", "plain id"), (".a\n", "plain id"), ("x\nx\n", "once")],
)
def test_hostile_sets(tmp_path, lines, said):
    _kit(tmp_path)
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text(lines)
    with pytest.raises(UserError, match=said):
        read_image_set(tmp_path, 2007, "test")


def test_where_the_devkit_may_lie(tmp_path):
    _kit(tmp_path / "VOCdevkit")
    assert find_devkit(tmp_path) == find_devkit(tmp_path / "VOCdevkit") == tmp_path / "VOCdevkit"
    with pytest.raises(UserError, match="must hold VOC2007 or VOC2012"):
        find_devkit(tmp_path / "VOCdevkit" / "VOC2007")
    with pytest.raises(UserError, match=r"VOC2007/train is missing.*sets of 2007: test"):
        read_voc(tmp_path, 2007, "train")
    main = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    for name in ("val", "test_designers", "cat_test_designers", "cat_val"):
        (main / f"{name}.txt").write_text("")
    with pytest.raises(UserError, match=r"sets of 2007: val, test, test_designers; years"):
        read_voc(tmp_path, 2007, "train")
    with pytest.raises(UserError, match=r"VOC2012/test is missing.*years here: 2007"):
        read_voc(tmp_path, 2012, "test")
    with pytest.raises(UserError, match="is missing"):
        read_image_set(tmp_path, 2007, "../../Annotations/000007")
