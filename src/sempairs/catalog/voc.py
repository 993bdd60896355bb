"""Pascal VOC's layout on disk: annotations, image sets, pictures; read and written.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", and its development kit:

    VOCdevkit/VOC2007/Annotations/000001.xml    boxes, flags, size of the picture
    VOCdevkit/VOC2007/ImageSets/Main/train.txt  ids, one a line; also val, trainval, test
    VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt  id and 1 (present), 0 (difficult ones only) or -1 (absent)
    VOCdevkit/VOC2007/JPEGImages/000001.jpg

**Boxes.** VOC counts pixels from 1 and includes the last one: xmin=1, xmax=W spans a picture of width W. Here
a box is (xmin, ymin, xmax, ymax) from 0 with the end left out, (0, 0, W, H) for the whole picture, as floats:
1 is taken from xmin and ymin, xmax and ymax stay. Widths and overlaps are then plain differences.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring
from xml.parsers import expat

from PIL import Image

from sempairs.catalog.names import printable
from sempairs.errors import UserError
from sempairs.files import atomic_folder, atomic_write

__all__ = [
    "MAIN_SETS",
    "VOC_CLASSES",
    "VocImage",
    "VocObject",
    "find_devkit",
    "find_years",
    "image_path",
    "presence",
    "read_annotation",
    "read_image_set",
    "read_voc",
    "write_annotation",
    "write_image_sets",
    "write_voc",
]

MAIN_SETS = ("train", "val", "trainval", "test")
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_MAX_XML = 8 << 20
_YEAR = re.compile(r"VOC(\d{4})")
# An id becomes part of three paths, so it is a plain file name.
_ID = re.compile(r"[^\s/\\.\0][^\s/\\\0]{0,199}")
_SIDES = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VocObject:
    """One object. box: (xmin, ymin, xmax, ymax) in pixels from 0, the end left out."""

    name: str
    box: Box
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class VocImage:
    """An annotated picture. `id` is its file's name without ending, unique within `year`."""

    id: str
    width: int
    height: int
    objects: tuple[VocObject, ...]
    year: int = 2007

    @property
    def image_id(self) -> str:
        """Unique over years: "VOC2007/000001"."""
        return f"VOC{self.year}/{self.id}"


def find_devkit(root: str | os.PathLike[str]) -> Path:
    """The VOCdevkit that `root` is, or holds as its folder VOCdevkit.

    Raises: UserError if neither has a folder VOC2007, VOC2012 or of another year.
    """
    base = Path(root)
    for folder in (base, base / "VOCdevkit"):
        if find_years(folder):
            return folder
    remedy = "give the folder VOCdevkit that the archives unpack to, or its parent"
    raise UserError("voc", "must hold VOC2007 or VOC2012 with Annotations and ImageSets", str(base), remedy)


def find_years(devkit: Path) -> tuple[int, ...]:
    """The years whose folders lie in `devkit`, ascending."""
    found = [int(match[1]) for path in _folders(devkit) if (match := _YEAR.fullmatch(path.name))]
    return tuple(sorted(year for year in found if (devkit / f"VOC{year}" / "ImageSets" / "Main").is_dir()))


def image_path(image: VocImage) -> str:
    """Of the picture, inside the devkit: "VOC2007/JPEGImages/000001.jpg"."""
    return f"VOC{image.year}/JPEGImages/{image.id}.jpg"


def read_image_set(root: str | os.PathLike[str], year: int, image_set: str) -> tuple[str, ...]:
    """The ids in ImageSets/Main/`image_set`.txt, in the file's order.

    Raises: UserError if the set is missing, is not text, or holds what cannot be an id, or one twice.
    """
    devkit = find_devkit(root)
    folder = devkit / f"VOC{year}" / "ImageSets" / "Main"
    file = folder / f"{image_set}.txt"
    if not _ID.fullmatch(image_set) or not file.is_file():
        there = _sets(folder)
        listed = ", ".join(f"{y}" for y in find_years(devkit))
        remedy = f"sets of {year}: {', '.join(there) or 'none'}; years here: {listed}"
        raise UserError(f"voc image set VOC{year}/{image_set}", "is missing", str(file), remedy)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(file), f"cannot be read ({error})") from None
    ids = tuple(line.split()[0] for line in lines if line.strip())
    for name in ids:
        if not _ID.fullmatch(name):
            raise UserError(str(file), "must hold one plain id a line", printable(name))
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(str(file), "must name an image once", twice)
    return ids


def _sets(folder: Path) -> list[str]:
    """Names of the image sets in ImageSets/Main, VOC's own first; files of a class and a set are left out."""
    stems = {path.stem for path in folder.glob("*.txt")}
    own = {name for name in stems if not any(name.endswith(f"_{other}") for other in stems)}
    return [*(name for name in MAIN_SETS if name in own), *sorted(own.difference(MAIN_SETS))]


def read_voc(root: str | os.PathLike[str], year: int, image_set: str) -> list[VocImage]:
    """The annotated images of one set, in its order. `root`: VOCdevkit or its parent.

    Raises: UserError for a missing devkit, set or annotation, or one that is not what it should be.
    """
    devkit = find_devkit(root)
    return [read_annotation(devkit, year, name) for name in read_image_set(devkit, year, image_set)]


def read_annotation(devkit: Path, year: int, name: str) -> VocImage:
    """Annotations/`name`.xml. Raises: UserError naming the file and what is wrong with it."""
    file = devkit / f"VOC{year}" / "Annotations" / f"{name}.xml"
    tree = _parse(file)
    size = tree.find("size")
    width, height = (_number(size, side, file) for side in ("width", "height"))
    if width < 1 or height < 1:
        raise UserError(str(file), "must give the picture a size of at least 1 pixel", (width, height))
    # Direct children only: parts of a person (head, hand) have boxes of their own further down.
    objects = tuple(_object(element, file) for element in tree.findall("object"))
    return VocImage(name, int(width), int(height), objects, year)


def presence(image: VocImage) -> dict[str, int]:
    """The classes of an image as the development kit's class files have them: 1 where one that is not
    difficult is there, 0 where all are difficult. (Classes left out are -1, absent.)"""
    found: dict[str, int] = {}
    for thing in image.objects:
        found[thing.name] = max(found.get(thing.name, 0), int(not thing.difficult))
    return dict(sorted(found.items()))


def write_voc(
    folder: str | os.PathLike[str],
    year: int,
    images: Iterable[tuple[VocImage, Image.Image]],
    sets: Mapping[str, Sequence[str]],
    *,
    quality: int = 95,
) -> Path:
    """Writes `folder`/VOC`year` with annotations, pictures (JPEG) and image sets; all of it or nothing.

    folder: the VOCdevkit. sets: name of a set -> ids. Returns the folder of the year. The bytes are a
    function of the arguments (and of Pillow's JPEG encoder).
    Raises: UserError if the folder of the year is there and not empty, or an image does not fit its record.
    """
    written: list[VocImage] = []
    with atomic_folder(Path(folder) / f"VOC{year}") as target:
        for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (target / part).mkdir(parents=True)
        for image, picture in images:
            if image.year != year or picture.size != (image.width, image.height):
                got = f"VOC{image.year}, {picture.width} x {picture.height}"
                rule = f"must be of VOC{year} and {image.width} x {image.height}"
                raise UserError(f"voc image {image.id}", rule, got)
            (target / "Annotations" / f"{image.id}.xml").write_bytes(_annotation(image))
            file = target / "JPEGImages" / f"{image.id}.jpg"
            picture.convert("RGB").save(file, "JPEG", quality=quality, subsampling=0)
            written.append(image)
        write_image_sets(target, written, sets)
    return Path(folder) / f"VOC{year}"


def write_annotation(path: str | os.PathLike[str], image: VocImage) -> None:
    """Writes one annotation file, atomically."""
    data = _annotation(image)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_image_sets(
    folder: Path, images: Sequence[VocImage], sets: Mapping[str, Sequence[str]], classes: Sequence[str] = ()
) -> None:
    """Writes ImageSets/Main of the year's folder: a file a set, and one for each class and set.

    classes: those that need a file even if no image shows them. Raises: UserError for an id of no image.
    """
    by_id = {image.id: presence(image) for image in images}
    names = sorted({*classes, *(name for found in by_id.values() for name in found)})
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True, exist_ok=True)
    for title, ids in sets.items():
        absent = next((name for name in ids if name not in by_id), None)
        if absent is not None:
            raise UserError(f"voc image set {title}", "must hold ids of images that are there", absent)
        _write_lines(main / f"{title}.txt", ids)
        for kind in names:
            _write_lines(main / f"{kind}_{title}.txt", [f"{i} {by_id[i].get(kind, -1):2d}" for i in ids])


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _annotation(image: VocImage) -> bytes:
    """In the order of the development kit's own files."""
    if not _ID.fullmatch(image.id):
        raise UserError("voc image", "must have a plain file name as its id", printable(image.id))
    root = Element("annotation")
    for name, value in (("folder", f"VOC{image.year}"), ("filename", f"{image.id}.jpg")):
        SubElement(root, name).text = value
    size = SubElement(root, "size")
    for name, number in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, name).text = str(number)
    SubElement(root, "segmented").text = "0"
    for thing in image.objects:
        _check_name(thing.name, image.id)
        element = SubElement(root, "object")
        SubElement(element, "name").text = thing.name
        SubElement(element, "pose").text = "Unspecified"
        for flag in ("truncated", "difficult", "occluded"):
            SubElement(element, flag).text = str(int(getattr(thing, flag)))
        box = SubElement(element, "bndbox")
        for side, at, shift in zip(_SIDES, thing.box, (1, 1, 0, 0), strict=True):
            pixel = float(at + shift)
            SubElement(box, side).text = str(int(pixel)) if pixel.is_integer() else repr(pixel)
    indent(root, "\t")
    return (tostring(root, encoding="unicode") + "\n").encode()


def _object(element: Element, file: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    _check_name(name, file)
    place = element.find("bndbox")
    x0, y0, x1, y1 = (_number(place, side, file) for side in _SIDES)
    if x1 < x0 or y1 < y0:
        raise UserError(str(file), f"must hold boxes that end after their start, {name}", (x0, y0, x1, y1))
    flags = {flag: _flag(element, flag, file) for flag in ("difficult", "truncated", "occluded")}
    return VocObject(name, (x0 - 1, y0 - 1, x1, y1), **flags)


def _check_name(name: str, where: object) -> None:
    # Names of classes become file names and lists; a slash or comma would make two of one.
    if not name or printable(name) != name or any(c in name for c in "/\\,") or name != name.strip():
        raise UserError(f"voc {where}", "must name objects without slashes and commas", printable(name))


def _number(parent: Element | None, name: str, file: Path) -> float:
    text = None if parent is None else parent.findtext(name)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e6:
        raise UserError(str(file), f"must give {name} as a number of pixels", text)
    return value


def _flag(parent: Element, name: str, file: Path) -> bool:
    text = (parent.findtext(name) or "0").strip()
    if text not in ("0", "1"):
        raise UserError(str(file), f"must give {name} as 0 or 1", text)
    return text == "1"


def _parse(file: Path) -> Element:
    """The tree of an XML file that declares nothing: entities could expand without bound or read files."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        data = file.read_bytes() if file.stat().st_size <= _MAX_XML else b""
        if not data:
            raise UserError(str(file), "must be an annotation of 1 byte to 8 MiB")
        parser.Parse(data, True)
        tree = builder.close()
    except FileNotFoundError:
        raise UserError(str(file), "is missing", remedy="unpack the annotations of this year") from None
    except (expat.ExpatError, OSError, _DoctypeError) as error:
        raise UserError(str(file), f"is not an annotation ({error})") from None
    if tree.tag != "annotation":
        raise UserError(str(file), "must be an <annotation>", tree.tag)
    return tree


class _DoctypeError(ValueError):
    pass


def _refuse_doctype(*_: object) -> None:
    raise _DoctypeError("declares a document type")


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
