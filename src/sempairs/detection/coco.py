"""COCO's layout on disk (Lin et al. 2014): `annotations/instances_SET.json` and the folder SET of pictures.

Boxes are [x, y, width, height] from 0, in fractions of pixels. Crowds (`iscrowd`) become difficult objects.
Other tools write numbers as text, ids as text, flags as words, paths of another system, and no sizes: that is
read. Whatever does not fit together is said with its entry: nothing is left out without a word.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sempairs.catalog.file_index import FileIndex
from sempairs.catalog.names import printable
from sempairs.catalog.voc import VocObject, read_flag, refuse_faults
from sempairs.detection.records import DetectionSet, Picture
from sempairs.errors import UserError
from sempairs.files import read_json, resolve_inside

_START, _END = "instances_", ".json"


def find_coco(path: Path) -> Path:
    """`path`, if it holds annotations of COCO's form. Raises: UserError otherwise."""
    if not _sets(path):
        remedy = "give the folder that holds annotations/instances_train2017.json and train2017/"
        raise UserError("--data coco:", "must hold annotations/instances_SET.json", str(path), remedy)
    return path


def read_coco(root: Path, name: str) -> DetectionSet:
    """The set `name`, its pictures in the order of their ids. The folder is ROOT/SET, ROOT/images/SET or
    ROOT/images; a `file_name` may also start from ROOT.

    Raises: UserError for a missing set or folder, or naming the first entries that are wrong.
    """
    sets = _sets(root)
    if name not in sets:
        raise UserError("image set", "is missing", name, f"sets here: {', '.join(sets)}")
    file = root / "annotations" / f"{_START}{name}{_END}"
    folders = [f for f in (root / name, root / "images" / name, root / "images") if f.is_dir()]
    if not folders:
        raise UserError("image set", f"has no folder of pictures {name} or images/{name}", str(root))
    read = _Reader(file, read_json(file), [*folders, root])
    read.categories()
    read.images()
    read.annotations()
    refuse_faults(read.faults, "entries", where=f"{file}: ")
    pictures = [
        Picture(p.id, p.file, p.width, p.height, tuple(read.objects[key]))
        for key, p in sorted(read.pictures.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    ]
    return DetectionSet(name, tuple(pictures), tuple(read.notes))


Id = int | str


class _Reader:
    """What the three lists of a file say, entry by entry; `faults` are lines that each name one."""

    def __init__(self, file: Path, data: object, folders: Sequence[Path]) -> None:
        lists = ("images", "annotations", "categories")
        for part in lists:
            if not isinstance(data, dict) or not isinstance(data.get(part), list):
                rule = f"is not of COCO's form: it must hold the lists {', '.join(lists)}; {part} is none"
                raise UserError(str(file), rule)
        assert isinstance(data, dict)
        self._data: dict[str, list[Any]] = data
        self._folders = folders
        self._indexes: dict[Path, FileIndex] = {}
        self._names: dict[Id, str] = {}
        self.pictures: dict[Id, Picture] = {}
        self.objects: dict[Id, list[VocObject]] = defaultdict(list)
        self.faults: list[str] = []
        self.notes: list[str] = []

    def categories(self) -> None:
        for key, what, entry in self._entries("categories", "category"):
            name = entry.get("name")
            if not isinstance(name, str | int) or not str(name).strip():
                self.faults.append(f"{what} must have a name, got {name!r}")
            elif key in self._names:
                self.faults.append(
                    f"{what} ({name}) has the id of another, {self._names[key]}: ids must be unique"
                )
            else:
                self._names[key] = str(name).strip()
        same = [name for name, n in Counter(self._names.values()).items() if n > 1]
        if same:
            ids = [str(key) for key, name in self._names.items() if name == same[0]]
            self.notes.append(f"categories of one name count as one: {same[0]!r}, ids {' and '.join(ids)}")

    def images(self) -> None:
        taken: dict[Path, str] = {}
        for key, what, entry in self._entries("images", "image"):
            name = entry.get("file_name")
            if not isinstance(name, str) or not name.strip():
                self.faults.append(f"{what} must have a file_name, got {name!r}")
                continue
            what = f"{what} ({printable(name)})"
            sizes = [_number(entry.get(side)) for side in ("width", "height")]
            if any(
                entry.get(side) is not None and _number(entry[side]) is None for side in ("width", "height")
            ):
                self.faults.append(f"{what} must have a width and a height in pixels")
                continue
            if key in self.pictures:
                self.faults.append(
                    f"{what} has the id of another, {self.pictures[key].id}: ids must be unique"
                )
                continue
            try:
                file = self._file(name)
            except UserError as error:
                self.faults.append(f"{what}: {error}")
                continue
            if file in taken:
                self.faults.append(
                    f"{what} is the picture of {taken[file]} too: every picture must be named once"
                )
                continue
            taken[file] = what
            width, height = (int(size or 0) for size in sizes)
            self.pictures[key] = Picture(printable(name), file, max(width, 0), max(height, 0), ())

    def annotations(self) -> None:
        seen: set[Id] = set()
        empty: list[str] = []
        for at, entry in enumerate(self._data["annotations"]):
            if not isinstance(entry, dict):
                self.faults.append(f"annotations[{at}] must be an object, got {_short(entry)}")
                continue
            key, image, category = (_id(entry.get(name)) for name in ("id", "image_id", "category_id"))
            what = f"annotations[{at}]" if key is None else f"annotation {key}"
            if image in self.pictures:
                what += f" (image {image}, {self.pictures[image].id})"
            if key is not None and key in seen:
                self.faults.append(f"{what} has the id of another: ids must be unique")
            elif image is None or image not in self.pictures:
                got = _short(entry.get("image_id"))
                self.faults.append(f"{what} must be of an image that is listed, got image_id {got}")
            elif category is None or category not in self._names:
                got = _short(entry.get("category_id"))
                self.faults.append(f"{what} must be of a category that is listed, got category_id {got}")
            else:
                self._box(entry, what, image, self._names[category], empty)
            if key is not None:
                seen.add(key)
        if empty:
            self.notes.append(f"{len(empty):,} boxes without area are left out: {empty[0]}")

    def _box(self, entry: dict[str, Any], what: str, image: Id, name: str, empty: list[str]) -> None:
        """Adds the object of an annotation; the few boxes of COCO without area go to `empty`."""
        given = entry.get("bbox")
        sides = [_number(side) for side in given] if isinstance(given, list) and len(given) == 4 else [None]
        if None in sides:
            self.faults.append(f"{what} must have a bbox of four numbers, got {_short(given)}")
            return
        x, y, width, height = (float(side or 0) for side in sides)
        crowd = read_flag(entry.get("iscrowd"))
        if width < 0 or height < 0:
            self.faults.append(
                f"{what} must have a bbox of a width and height of 0 or more, got {_short(given)}"
            )
        elif crowd is None:
            self.faults.append(f"{what} must give iscrowd as 0 or 1, got {_short(entry['iscrowd'])}")
        elif not width or not height:
            empty.append(what)
        else:
            self.objects[image].append(VocObject(name, (x, y, x + width, y + height), difficult=crowd))

    def _entries(self, part: str, one: str) -> Iterator[tuple[Id, str, dict[str, Any]]]:
        """Id, a name for messages, and values of each entry of a list; those without an id are faults."""
        for at, entry in enumerate(self._data[part]):
            key = _id(entry.get("id")) if isinstance(entry, dict) else None
            if key is None:
                more = (
                    f" ({printable(str(entry['file_name']))})"
                    if isinstance(entry, dict) and "file_name" in entry
                    else ""
                )
                self.faults.append(f"{part}[{at}]{more} must be an object with an id, got {_short(entry)}")
            else:
                yield key, f"{one} {key}", entry

    def _file(self, name: str) -> Path:
        """Where the picture lies. Raises: UserError if it leaves the folders or is in none of them."""
        for folder in self._folders:
            file = resolve_inside(folder, name) if not os.path.isabs(name) else folder
            if file.is_file():
                return file
        for folder in self._folders[:-1]:  # all of ROOT may be much else
            if folder not in self._indexes:
                self._indexes[folder] = FileIndex(folder)
            found = self._indexes[folder].named(name)
            if found is not None:
                return folder / found
        places = " and ".join(folder.name for folder in self._folders[:-1])
        raise UserError(f"no such file in {places}", "")


def _id(value: object) -> Id | None:
    """A number, also as text or with .0, or another text; None for what identifies nothing."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _number(value: object) -> float | None:
    """A finite number, also as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _short(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _sets(root: Path) -> list[str]:
    folder = root / "annotations"
    files = folder.glob(f"{_START}*{_END}") if folder.is_dir() else []
    return sorted(file.name.removeprefix(_START).removesuffix(_END) for file in files)
