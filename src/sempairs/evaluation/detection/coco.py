"""COCO's layout on disk (Lin et al. 2014): `annotations/instances_SET.json` and the folder SET of pictures.

Boxes are [x, y, width, height] from 0, in fractions of pixels. Crowds (`iscrowd`) become difficult objects.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from sempairs.catalog.names import printable
from sempairs.catalog.voc import VocObject
from sempairs.errors import UserError
from sempairs.evaluation.detection.records import DetectionSet, Picture
from sempairs.files import read_json, resolve_inside

_START, _END = "instances_", ".json"


def find_coco(path: Path) -> Path:
    """`path`, if it holds annotations of COCO's form. Raises: UserError otherwise."""
    if not _sets(path):
        remedy = "give the folder that holds annotations/instances_train2017.json and train2017/"
        raise UserError("--data coco:", "must hold annotations/instances_SET.json", str(path), remedy)
    return path


def read_coco(root: Path, name: str) -> DetectionSet:
    """The set `name`, its pictures in the order of their ids. The folder is ROOT/SET or ROOT/images/SET.

    Raises: UserError for a missing set or folder, or an entry that is not what it should be.
    """
    sets = _sets(root)
    if name not in sets:
        raise UserError("image set", "is missing", name, f"sets here: {', '.join(sets)}")
    file = root / "annotations" / f"{_START}{name}{_END}"
    folder = next((f for f in (root / name, root / "images" / name) if f.is_dir()), None)
    if folder is None:
        raise UserError("image set", f"has no folder of pictures {name} or images/{name}", str(root))
    data = read_json(file)
    try:
        names = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        objects: dict[int, list[VocObject]] = defaultdict(list)
        for entry in data["annotations"]:
            thing = _object(entry, names)
            if thing is not None:
                objects[int(entry["image_id"])].append(thing)
        images = sorted(data["images"], key=lambda image: int(image["id"]))
        pictures = tuple(_picture(image, folder, objects) for image in images)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(str(file), f"is not of COCO's form ({type(error).__name__}: {error})") from None
    if len({picture.id for picture in pictures}) != len(pictures):
        raise UserError(str(file), "must name every picture once")
    return DetectionSet(name, pictures)


def _object(entry: dict[str, Any], names: dict[int, str]) -> VocObject | None:
    """None for the few boxes of COCO without area."""
    x, y, width, height = (float(value) for value in entry["bbox"])
    if width <= 0 or height <= 0:
        return None
    name = names[int(entry["category_id"])]
    return VocObject(name, (x, y, x + width, y + height), difficult=bool(entry.get("iscrowd", 0)))


def _picture(image: dict[str, Any], folder: Path, objects: dict[int, list[VocObject]]) -> Picture:
    name = str(image["file_name"])
    file = resolve_inside(folder, name)
    size = int(image["width"]), int(image["height"])
    return Picture(printable(name), file, *size, tuple(objects.get(int(image["id"]), ())))


def _sets(root: Path) -> list[str]:
    folder = root / "annotations"
    files = folder.glob(f"{_START}*{_END}") if folder.is_dir() else []
    return sorted(file.name.removeprefix(_START).removesuffix(_END) for file in files)
