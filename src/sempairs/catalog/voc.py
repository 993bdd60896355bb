"""Pascal VOC's layout on disk: annotations, image sets, pictures; read and written.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", and its development kit:

    VOCdevkit/VOC2007/Annotations/000001.xml    boxes, flags, size of the picture
    VOCdevkit/VOC2007/ImageSets/Main/train.txt  ids, one a line; also val, trainval, test
    VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt  id and 1 (present), 0 (difficult ones only) or -1 (absent)
    VOCdevkit/VOC2007/JPEGImages/000001.jpg

**Boxes.** VOC counts pixels from 1 and includes the last one: xmin=1, xmax=W spans a picture of width W. Here
a box is (xmin, ymin, xmax, ymax) from 0 with the end left out, (0, 0, W, H) for the whole picture, as floats:
1 is taken from xmin and ymin, xmax and ymax stay. Widths and overlaps are then plain differences.

**What other tools write** in this layout is read too: pictures with any ending, names with blanks or in
subfolders, lists and annotations in other encodings, flags as words, coordinates with fractions, no size.
What cannot be read is said with its file and object, and costs nothing but itself.
"""

from __future__ import annotations

import codecs
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring
from xml.parsers import expat

from PIL import Image

from sempairs.catalog.file_index import FileIndex, plain_parts
from sempairs.catalog.names import printable
from sempairs.errors import UserError
from sempairs.files import atomic_folder, atomic_write
from sempairs.texts import decode_text

__all__ = [
    "MAIN_SETS",
    "VOC_CLASSES",
    "ImageSet",
    "VocImage",
    "VocObject",
    "VocYear",
    "find_devkit",
    "find_years",
    "image_path",
    "presence",
    "read_flag",
    "read_voc",
    "refuse_faults",
    "write_annotation",
    "write_image_sets",
    "write_voc",
]

#: The names of the lists that Pascal VOC's classification and detection tasks use.
MAIN_SETS = ("train", "val", "trainval", "test")
#: The twenty classes of Pascal VOC, in the order of its development kit.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_MAX_XML, _MAX_DEPTH = 8 << 20, 100
_YEAR = re.compile(r"VOC(\d{4})")
# What is written is a plain file name: an id becomes part of three paths.
_ID = re.compile(r"[^\s/\\.\0][^\s/\\\0]{0,199}")
_COLUMN = re.compile(r"(.*\S)\s+[+-]?[01]")
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_YES, _NO = (
    ("1", "true", "yes", "y", "t"),
    ("", "0", "false", "no", "n", "f", "unspecified", "none", "unknown"),
)

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
    """An annotated picture. `id` is its annotation's name without ending, unique within `year`; `width` and
    `height` are 0 where the annotation does not give them; `filename`: the picture, as it names it."""

    id: str
    width: int
    height: int
    objects: tuple[VocObject, ...]
    year: int = 2007
    filename: str = field(default="", compare=False)

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
    """Of the picture as it is written here, inside the devkit: "VOC2007/JPEGImages/000001.jpg"."""
    return f"VOC{image.year}/JPEGImages/{image.id}.jpg"


@dataclass(frozen=True)
class ImageSet:
    """The ids of a set in the file's order, each once; `again`: those that it names more than once; `faults`:
    lines that cannot be an id, and why."""

    ids: tuple[str, ...]
    again: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


class VocYear:
    """The folder of one year, `devkit`/VOC`year`: which annotations and pictures there are, what they say."""

    def __init__(self, devkit: Path, year: int) -> None:
        self.devkit, self.year = devkit, year
        self.folder = devkit / f"VOC{year}"
        self.main = self.folder / "ImageSets" / "Main"
        self.annotations = FileIndex(self.folder / "Annotations", (".xml",))
        self.pictures = FileIndex(self.folder / "JPEGImages")

    def sets(self) -> list[str]:
        """Names of the image sets, VOC's own first; files of a class and a set are left out."""
        stems = {path.stem for path in self.main.glob("*.txt")}
        own = {name for name in stems if not any(name.endswith(f"_{other}") for other in stems)}
        return [*(name for name in MAIN_SETS if name in own), *sorted(own.difference(MAIN_SETS))]

    def image_set(self, name: str) -> ImageSet:
        """What ImageSets/Main/`name`.txt lists: an id a line, also with its ending or folders; in the files
        of a class (`cat_train`) a column of 1, 0 and -1 follows. An id may hold blanks.

        Raises: UserError if the set is missing or is not text.
        """
        file = self.main / f"{name}.txt"
        if not _ID.fullmatch(name) or not file.is_file():
            listed = ", ".join(f"{y}" for y in find_years(self.devkit))
            remedy = f"sets of {self.year}: {', '.join(self.sets()) or 'none'}; years here: {listed}"
            raise UserError(f"voc image set VOC{self.year}/{name}", "is missing", str(file), remedy)
        try:
            # A name that is no UTF-8 can still be that of a file: its bytes come back as surrogate escapes.
            text = decode_text(file.read_bytes(), errors="surrogateescape")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(str(file), f"cannot be read ({error})") from None
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        columns = [_COLUMN.fullmatch(line) for line in lines]
        of_class = any(name.endswith(f"_{other}") for other in self.sets())
        ids: dict[str, int] = {}
        faults = []
        for line, column in zip(lines, columns, strict=True):
            # "img 1" is a name in a list of names, and img's presence in the file of a class.
            forms = [line] if column is None else [column[1], line] if of_class else [line, column[1]]
            found = next((known for form in forms if (known := self._known(form))), None)
            image = found or (column[1] if column is not None and all(columns) else line)
            if plain_parts(image):
                ids[image] = ids.get(image, 0) + 1
            else:
                faults.append(f"must hold one plain id a line, got {printable(image)!r}")
        return ImageSet(tuple(ids), tuple(i for i, n in ids.items() if n > 1), tuple(faults))

    def _known(self, written: str) -> str | None:
        """The id that a line means: that of an annotation, else of a picture; None if there is neither."""
        for index in (self.annotations, self.pictures):
            for stem in dict.fromkeys(
                (written, self.annotations.without_suffix(self.pictures.without_suffix(written)))
            ):
                found = index.stems(stem)
                if not found and index.named(f"{stem}.xml"):
                    found = [str(index.named(f"{stem}.xml"))]
                if found:
                    return os.path.splitext(found[0])[0]
        return None

    def annotation(self, name: str) -> VocImage:
        """Annotations/`name`.xml. Raises: UserError naming the file, and the object, that is not right."""
        known = self.annotations.stems(name)
        file = self.folder / "Annotations" / (known[0] if known else f"{name}.xml")
        tree = _parse(file)
        # Direct children only: parts of a person (head, hand) have boxes of their own further down.
        objects = tuple(
            _object(element, number, file) for number, element in enumerate(tree.findall("object"), 1)
        )
        width, height = _size(tree)
        return VocImage(name, width, height, objects, self.year, (tree.findtext("filename") or "").strip())

    def picture(self, image: VocImage) -> str:
        """Where the picture of an annotation lies inside the devkit: the file that its <filename> names, else
        the one called like the annotation, of any ending.

        A named picture that has an annotation of its own is not taken where one is called like this
        annotation: the name is then left over from before the files were renamed.
        Raises: UserError if there is none, or several are called so.
        """
        named, own = self._filename(image), self.pictures.stems(image.id)
        left_over = own and named not in own and named and self.annotations.stems(os.path.splitext(named)[0])
        usual = f"{image.id}.jpg"
        found = named if named and not left_over else usual if usual in own else _only(own)
        if found is not None:
            return f"VOC{self.year}/JPEGImages/{found}"
        said = (
            f"<filename> says {printable(image.filename)!r}" if image.filename else "there is no <filename>"
        )
        rule = f"several are called so: {', '.join(map(printable, own))}" if own else "no such file"
        raise UserError(f"{rule}; {said}", "")

    def _filename(self, image: VocImage) -> str | None:
        """The picture that <filename> names: beside its like in a subfolder, with its ending or another."""
        written, place = image.filename, os.path.dirname(image.id)
        for name in (f"{place}/{written}", written) if written else ():
            stem = self.pictures.without_suffix(name)
            found = self.pictures.named(name) or _only(self.pictures.stems(name) or self.pictures.stems(stem))
            if found is not None:
                return found
        return None


def _only(found: Sequence[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def read_voc(root: str | os.PathLike[str], year: int, image_set: str) -> list[VocImage]:
    """The annotated images of one set, in its order. `root`: VOCdevkit or its parent.

    Raises: UserError for a missing devkit or set, or naming the first annotations that are missing or wrong.
    """
    kit = VocYear(find_devkit(root), year)
    found = kit.image_set(image_set)
    if found.faults:
        raise UserError(str(kit.main / f"{image_set}.txt"), found.faults[0])
    images, faults = [], []
    for name in found.ids:
        try:
            images.append(kit.annotation(name))
        except UserError as error:
            faults.append(str(error))
    refuse_faults(faults, "annotations")
    return images


def refuse_faults(faults: Sequence[str], of: str, where: str = "") -> None:
    """Raises: UserError with the first three of `faults` and the number of the others, if there is any."""
    if faults:
        more = f" (and {len(faults) - 3:,} more {of})" if len(faults) > 3 else ""
        raise UserError(where + "; ".join(faults[:3]) + more, "")


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
    """Write a year of a VOCdevkit with annotations, pictures (JPEG) and image sets; all of it or nothing.

    The bytes are a function of the arguments, and of Pillow's JPEG encoder.

    Args:
        folder: The VOCdevkit; the year is written to `VOC<year>` in it.
        year: 2007, for instance.
        images: Record and picture of each image.
        sets: Name of a set to the ids of its images.
        quality: Of the JPEG files, as Pillow counts it.

    Returns:
        The folder of the year.

    Raises:
        UserError: if the folder of the year is there and not empty, or an image does not fit its record.
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
    """Write ImageSets/Main of a year's folder: a file for each set, and one for each class and set.

    Args:
        folder: The folder of the year.
        images: The records of all images.
        sets: Name of a set to the ids of its images.
        classes: Those that need a file even if no image shows them.

    Raises:
        UserError: for an id of no image.
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


def _object(element: Element, number: int, file: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    _check_name(name, f"{file} object {number}")
    what = f"object {number} ({name})"
    place = element.find("bndbox")
    if place is None:
        raise UserError(f"{file} {what}", "must have a <bndbox>")
    x0, y0, x1, y1 = (_coordinate(place, side, f"{file} {what}") for side in _SIDES)
    if x1 < x0 or y1 < y0:
        rule = "must have a box that ends after its start (xmin, ymin, xmax, ymax)"
        raise UserError(f"{file} {what}", rule, (x0, y0, x1, y1))
    difficult = read_flag(element.findtext("difficult"))
    if difficult is None:
        rule = "must give difficult as 0 or 1"
        raise UserError(f"{file} {what}", rule, element.findtext("difficult"))
    # These two are kept for whoever asks; no result depends on them, so no word in them costs an image.
    others = {flag: read_flag(element.findtext(flag)) or False for flag in ("truncated", "occluded")}
    return VocObject(name, (x0 - 1, y0 - 1, x1, y1), difficult, **others)


def _check_name(name: str, where: object) -> None:
    # Names of classes become file names and lists; a slash or comma would make two of one.
    if not name or printable(name) != name or any(c in name for c in "/\\,") or name != name.strip():
        raise UserError(f"{where}", "must name objects without slashes and commas", printable(name))


def _size(tree: Element) -> tuple[int, int]:
    """Width and height; (0, 0) where they are not given, or given as nothing, as some tools do."""
    found = [_finite(tree.findtext(f"size/{side}")) for side in ("width", "height")]
    if any(value is None or not 1 <= value <= 1e6 for value in found):
        return 0, 0
    return int(found[0] or 0), int(found[1] or 0)


def _coordinate(place: Element, name: str, what: str) -> float:
    text = place.findtext(name)
    value = _finite(text)
    if value is None or abs(value) > 1e6:
        raise UserError(what, f"must give {name} as a number of pixels", text)
    return value


def _finite(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_flag(value: object) -> bool | None:
    """A flag as tools write it: 0 or 1, True or False, Yes or No, Unspecified, nothing, or a number that is 0
    or not. None if it is none of these."""
    text = "" if value is None else str(value).strip().lower()
    if text in _YES or text in _NO:
        return text in _YES
    number = _finite(text)
    return None if number is None else number != 0


def _parse(file: Path) -> Element:
    """The tree of an XML file that declares nothing: entities could expand without bound or read files.

    Names are without their namespace's prefix. The text is decoded here, as expat knows few encodings.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _RefusedError(f"nests deeper than {_MAX_DEPTH} elements")
        builder.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition(":")[2])

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.SkippedEntityHandler = _refuse_entity
    try:
        if not file.is_file():
            raise FileNotFoundError
        data = file.read_bytes() if file.stat().st_size <= _MAX_XML else b""
        if not data.strip():
            raise UserError(str(file), "must be an annotation of 1 byte to 8 MiB")
        parser.Parse(_xml_text(data).lstrip().encode(), True)
        tree = builder.close()
    except FileNotFoundError:
        raise UserError(str(file), "is missing", remedy="unpack the annotations of this year") from None
    except (expat.ExpatError, OSError, UnicodeError, _RefusedError) as error:
        raise UserError(str(file), f"is not an annotation ({error})") from None
    if tree.tag != "annotation":
        raise UserError(str(file), "must be an <annotation>", tree.tag)
    return tree


def _xml_text(data: bytes) -> str:
    """The text of an XML file: a byte order mark goes before what the file declares, UTF-8 before nothing.

    Raises: _RefusedError for an encoding that is not known, or that the file is not in.
    """
    if data[:2] in (b"<\0", b"\0<"):  # without a mark
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    declared = _DECLARED.match(data[:200].removeprefix(codecs.BOM_UTF8))
    name = "utf-8" if declared is None else declared[1].decode("ascii")
    # Who can be read as far as this in bytes is in neither of them, whatever it says: a slip of some writers.
    wide = name.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32", "ucs", "iso10646"))
    try:
        if declared is None or wide or data.startswith(codecs.BOM_UTF8):
            return decode_text(data)
        return data.decode(name)
    except LookupError:
        raise _RefusedError(f"declares the encoding {name!r}, which is not known") from None
    except ValueError as error:
        raise _RefusedError(f"is not in {name}, its encoding ({error})") from None


class _RefusedError(ValueError):
    pass


def _refuse_doctype(_: str, __: str | None, ___: str | None, has_subset: int) -> None:
    if has_subset:
        raise _RefusedError("declares a document type")


def _refuse_entity(name: str, _: int) -> None:
    raise _RefusedError(f"uses the entity {name}, which it does not declare")


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
