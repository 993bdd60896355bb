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
    VocYear,
    find_devkit,
    image_path,
    presence,
    read_flag,
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
    assert VocYear(root, 2012).annotation("x") == image


def test_fractions_of_pixels_come_back(tmp_path):
    image = VocImage("x", 9, 9, (VocObject("cat", (0.25, 1.5, 3.75, 8.125)),))
    write_annotation(tmp_path / "VOC2007" / "Annotations" / "x.xml", image)
    assert VocYear(tmp_path, 2007).annotation("x") == image


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
    assert VocYear(tmp_path, 2007).image_set("cat_val").ids == ("a", "b", "c")


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
    (f"<a:{'x' * 9}/>", "must be an <annotation>"),
    ("<annotation>" + "<object>" * 5_000, "nests deeper than 100"),
    (
        KIT.replace("<xmin>7</xmin>", "<xmin>8</xmin>"),
        r"object 2 \(car\) must have a box that ends after its start",
    ),
    (
        KIT.replace("<ymax>7</ymax>", "<ymax>2</ymax>"),
        r"object 2 \(car\) must have a box that ends after its start",
    ),
    (KIT.replace("<xmin>7</xmin>", "<xmin>nan</xmin>"), r"object 2 \(car\) must give xmin"),
    (KIT.replace("<xmin>7</xmin>", "<xmin>1e999</xmin>"), r"object 2 \(car\) must give xmin"),
    (KIT.replace("<xmin>7</xmin>", ""), r"object 2 \(car\) must give xmin"),
    (KIT.replace("bndbox>", "robndbox>"), r"object 1 \(person\) must have a <bndbox>"),
    (KIT.replace("<name>car</name>", ""), "object 2 must name objects"),
    (KIT.replace("<name>car</name>", "<name>a/../b</name>"), "object 2 must name objects"),
    (
        KIT.replace("<difficult>1</difficult>", "<difficult>perhaps</difficult>"),
        r"object 2 \(car\).*difficult",
    ),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_bad_annotation_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read_voc(_kit(tmp_path, text), 2007, "test")
    assert "\n" not in str(caught.value)


def test_an_unknown_entity_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not an annotation"):
        read_voc(_kit(tmp_path, "<annotation>&x;</annotation>"), 2007, "test")


@pytest.mark.parametrize("line", ["../../etc", "a/../b", ".a", "/etc/passwd", "a//b", "x" * 500])
def test_a_line_that_cannot_be_an_id_costs_itself_alone(tmp_path, line):
    _kit(tmp_path)
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text(f"000007\n{line}\n")
    found = VocYear(tmp_path, 2007).image_set("test")
    assert found.ids == ("000007",)
    assert len(found.faults) == 1 and "must hold one plain id a line" in found.faults[0]
    with pytest.raises(UserError, match="plain id"):
        read_voc(tmp_path, 2007, "test")


def _listed(root: Path, data: bytes, names: list[str], title: str = "test") -> tuple[str, ...]:
    year = root / "VOC2007"
    for name in names:
        file = year / "Annotations" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("<annotation/>")
    (year / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for other in ("test", title):
        (year / "ImageSets" / "Main" / f"{other}.txt").write_bytes(data)
    return VocYear(root, 2007).image_set(title).ids


@pytest.mark.parametrize(
    ("data", "names", "ids"),
    [
        (b"img (1)\nimg (2)\n", ["img (1).xml", "img (2).xml"], ("img (1)", "img (2)")),
        (b"\xef\xbb\xbf1\r\n\r\n2\r\n", ["1.xml", "2.xml"], ("1", "2")),
        ("1\r\n2".encode("utf-16"), ["1.xml", "2.xml"], ("1", "2")),
        (b"1\r2\r", ["1.xml", "2.xml"], ("1", "2")),
        (b"  1 \n\t2\n\n", ["1.xml", "2.xml"], ("1", "2")),
        (b"1.jpg\n2.PNG\n3.xml\n", ["1.xml", "2.xml", "3.xml"], ("1", "2", "3")),
        (b"JPEGImages/1.jpg\nC:\\kit\\JPEGImages\\2.jpg\n", ["1.xml", "2.xml"], ("1", "2")),
        (b"b/1\nb\\2\n", ["b/1.xml", "b/2.xml"], ("b/1", "b/2")),
        (b"IMG_1\n", ["img_1.XML"], ("img_1",)),
        ("cafe\u0301\n".encode(), ["caf\u00e9.xml"], ("caf\u00e9",)),
        ("\u732b 1\n".encode(), ["\u732b 1.xml"], ("\u732b 1",)),
        ("gr\u00fcn\n".encode("latin-1"), [], ("gr\udcfcn",)),
        # A name that ends like a column of presence is a name where it is one.
        (b"img 1\nimg 0\n", ["img.xml", "img 1.xml", "img 0.xml"], ("img 1", "img 0")),
        (b"a  1\nb -1\nc  0\n", ["a.xml", "b.xml", "c.xml"], ("a", "b", "c")),
        (b"a  1\nb -1\n", [], ("a", "b")),
        (b"1\n2\n1\n", ["1.xml", "2.xml"], ("1", "2")),
        (b"a.b.jpg\na.c\n", ["a.b.xml", "a.c.xml"], ("a.b", "a.c")),
    ],
)
def test_lists_of_names_as_tools_write_them(tmp_path, data, names, ids):
    assert _listed(tmp_path, data, names) == ids


def test_in_the_file_of_a_class_a_column_of_presence_follows(tmp_path):
    names = ["img.xml", "img 1.xml", "img 2.xml"]
    assert _listed(tmp_path, b"img 1  1\nimg  1\nimg 2 -1\n", names, "cat_test") == ("img 1", "img", "img 2")
    assert _listed(tmp_path, b"img 1\n", names, "dog_test") == ("img",)


def test_a_set_that_names_images_again_says_so(tmp_path):
    _listed(tmp_path, b"1\n2\n1\n1\n", ["1.xml", "2.xml"])
    assert VocYear(tmp_path, 2007).image_set("test").again == ("1",)


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("gb2312", "gb2312"), ("GBK", "gbk"), ("big5", "big5"), ("shift_jis", "shift_jis"),
        ("euc-jp", "euc-jp"), ("windows-1252", "cp1252"), ("ISO-8859-1", "latin-1"), ("koi8-r", "koi8-r"),
        ("UTF-8", "utf-8"), ("utf-8", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-16", "utf-8"),
        ("", "utf-16-le"), ("", "utf-8-sig"), ("", "utf-16"), ("UTF-16", "utf-16-be"),
    ],
)  # fmt: skip
def test_annotations_of_any_encoding(tmp_path, declared, encoding):
    name = {"gb2312": "猫", "gbk": "猫", "big5": "貓", "shift_jis": "猫", "euc-jp": "猫", "koi8-r": "кот"}
    said = name.get(encoding, "größer")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = head + KIT.replace("<name>car</name>", f"<name>{said}</name>")
    _kit(tmp_path)
    (tmp_path / "VOC2007" / "Annotations" / "000007.xml").write_bytes(text.encode(encoding))
    (image,) = read_voc(tmp_path, 2007, "test")
    assert [thing.name for thing in image.objects] == ["person", said]


@pytest.mark.parametrize(
    ("declared", "data", "said"),
    [
        ("x-nothing", b"", "declares the encoding 'x-nothing', which is not known"),
        ("hex", b"", "declares the encoding 'hex', which is not known"),
        ("zlib", b"", "declares the encoding 'zlib', which is not known"),
        ("utf-8", b"\xff\xfe\xfd", "is not an annotation"),
        ("utf-8", b"\xc4\xe3", "is not in utf-8"),
        ("ascii", "ö".encode(), "is not in ascii"),
        ("undefined", b"", "is not in undefined"),
        ("unicode_escape", b"\\ud800", "is not an annotation"),
    ],
)
def test_an_encoding_that_is_not_known_is_one_line(tmp_path, declared, data, said):
    _kit(tmp_path)
    head = f'<?xml version="1.0" encoding="{declared}"?>'.encode()
    body = KIT.encode().replace(b"Left", data)
    (tmp_path / "VOC2007" / "Annotations" / "000007.xml").write_bytes(head + body)
    with pytest.raises(UserError, match=said) as caught:
        read_voc(tmp_path, 2007, "test")
    assert "000007.xml" in str(caught.value) and "\n" not in str(caught.value)


LAX = [
    KIT.replace("<width>500</width><height>333</height>", "<width>0</width><height>0</height>"),
    KIT.replace("<size><width>500</width><height>333</height><depth>3</depth></size>", ""),
    KIT.replace("<width>500</width>", "<width/>"),
    KIT.replace("<width>500</width>", "<width>unknown</width>"),
    KIT.replace("500</width>", "-1</width>"),
]


@pytest.mark.parametrize("text", LAX)
def test_a_size_that_is_not_given_is_none(tmp_path, text):
    (image,) = read_voc(_kit(tmp_path, text), 2007, "test")
    assert (image.width, image.height) == (0, 0)
    assert len(image.objects) == 2


@pytest.mark.parametrize(
    "change",
    [
        ("<pose>Left</pose>", ""), ("<truncated>1</truncated>", "<truncated>Unspecified</truncated>"),
        ("<truncated>1</truncated>", "<truncated>much</truncated>"), ("<depth>3</depth>", ""),
        ("<annotation>", '<annotation verified="yes" xmlns="urn:x">'), ("<annotation>", "\n\n<annotation>"),
        ("<annotation>", '<?xml-stylesheet href="x"?><annotation>'),
        ("<annotation>", '<!DOCTYPE annotation SYSTEM "x.dtd"><annotation>'),
        ("<xmax>500</xmax>", "<xmax> 500.0 </xmax>"), ("<occluded>1</occluded>", "<occluded>true</occluded>"),
        ("<difficult>0</difficult>", "<difficult/>"), ("<difficult>0</difficult>", ""),
        ("<difficult>0</difficult>", "<difficult>False</difficult>"),
        ("<difficult>0</difficult>", "<difficult>Unspecified</difficult>"),
    ],
)  # fmt: skip
def test_what_tools_leave_out_or_write_otherwise_is_read(tmp_path, change):
    (image,) = read_voc(_kit(tmp_path, KIT.replace(*change)), 2007, "test")
    assert [(t.name, t.box, t.difficult, t.occluded) for t in image.objects] == [
        ("person", (0, 49, 500, 330.5), False, False), ("car", (6, 6, 7, 7), True, True),
    ]  # fmt: skip


def test_a_namespace_prefix_is_no_part_of_a_name(tmp_path):
    text = KIT.replace("</", "</v:").replace("<", "<v:").replace("<v:/v:", "</v:")
    (image,) = read_voc(
        _kit(tmp_path, text.replace("<v:annotation>", '<v:annotation xmlns:v="u">')), 2007, "test"
    )
    assert [thing.name for thing in image.objects] == ["person", "car"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True), ("0", False), ("True", True), ("FALSE", False), ("", False), (None, False),
        (" yes ", True), ("Unspecified", False), ("0.0", False), ("0.5", True),
        ("2", True), (True, True), (0, False), ("perhaps", None), ("nan", None), ([], None),
    ],
)  # fmt: skip
def test_flags(text, value):
    assert read_flag(text) is value


@pytest.mark.parametrize(
    ("written", "files", "found"),
    [
        ("7.png", ["7.png"], "7.png"),
        ("7.JPG", ["7.jpg"], "7.jpg"),
        ("7.jpg", ["7.JPEG"], "7.JPEG"),
        ("7", ["7.bmp"], "7.bmp"),
        ("", ["7.WebP"], "7.WebP"),
        ("photo.jpg", ["photo.jpg"], "photo.jpg"),
        ("photo.jpg", ["photo.png"], "photo.png"),
        ("photo", ["photo.png"], "photo.png"),
        ("photo one.jpg", ["photo one.jpg", "7.jpg"], "photo one.jpg"),
        ("D:\\cats\\photo.jpg", ["photo.jpg"], "photo.jpg"),
        ("/home/me/photo.jpg", ["photo.jpg"], "photo.jpg"),
        ("sub/photo.jpg", ["sub/photo.jpg", "photo.jpg"], "sub/photo.jpg"),
        ("gone.jpg", ["7.tif"], "7.tif"),
        ("../7.jpg", ["7.jpg"], "7.jpg"),
        ("7.png", ["7.png", "7.jpg"], "7.png"),
        ("", ["7.png", "7.jpg"], "7.jpg"),
        # 8.jpg belongs to 8.xml: the name in 7.xml is from before the files were numbered anew.
        ("8.jpg", ["7.jpg", "8.jpg"], "7.jpg"),
        ("", ["7.png", "7.bmp"], None),
        ("../../../etc/hostname", ["8.jpg"], None),
    ],
)
def test_the_picture_is_the_one_that_the_annotation_names(tmp_path, written, files, found):
    for name in files:
        file = tmp_path / "VOC2007" / "JPEGImages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    _listed(tmp_path, b"7\n", ["8.xml"])
    text = f"<annotation><filename>{written}</filename></annotation>"
    (tmp_path / "VOC2007" / "Annotations" / "7.xml").write_text(text)
    kit = VocYear(tmp_path, 2007)
    if found is None:
        with pytest.raises(UserError, match=r"no such file|several are called so"):
            kit.picture(kit.annotation("7"))
    else:
        assert kit.picture(kit.annotation("7")) == f"VOC2007/JPEGImages/{found}"


def test_all_bad_annotations_are_counted_in_one_line(tmp_path):
    _listed(tmp_path, b"1\n2\n3\n4\n5\n", [f"{i}.xml" for i in (2, 3, 4)])
    for name in ("3", "4"):
        (tmp_path / "VOC2007" / "Annotations" / f"{name}.xml").write_text("<annotation>")
    with pytest.raises(UserError, match=r"1.xml is missing.*3.xml is not.*4.xml is not.*\(and 1 more annot"):
        read_voc(tmp_path, 2007, "test")


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
        read_voc(tmp_path, 2007, "../../Annotations/000007")
