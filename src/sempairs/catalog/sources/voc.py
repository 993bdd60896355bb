"""`voc:PATH`: the images of Pascal VOC's development kit."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from sempairs.catalog.images import decode
from sempairs.catalog.names import category_path, escape_name, unescape_name
from sempairs.catalog.sources.base import Problem, Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import Measured, Member, measure_bytes, read_inside, scan_members
from sempairs.catalog.voc import (
    VocImage,
    find_devkit,
    find_years,
    image_path,
    presence,
    read_annotation,
    read_image_set,
)
from sempairs.errors import UserError

#: Split of each image set. What `trainval` has beyond `train` and `val` is for training.
SPLIT_OF_SET = {"train": "train", "val": "validation", "test": "test", "trainval": "train"}


@source_kind("voc", summary="Pascal VOC 2007 and 2012 (VOCdevkit)", example="voc:VOCdevkit")
class VocSource:
    """The images that the sets of ImageSets/Main name, over all years; PATH is VOCdevkit or its parent.

    Split: `train` of all years is train, `val` validation, `test` test (so trainval07+12 trains and test07
    tests, as detection papers have it). `category`: the class of the largest object that is not difficult,
    null without one. `labels`: the classes of all objects that are not difficult, sorted, joined by commas
    ("" for none). `labels_ignored`: the classes of which all objects are difficult; VOC's classification task
    counts the image neither for nor against them. `domain`: null.

    Further sets, such as the `test_designers` of scenes, are left out: an image has one split, and nothing
    says which a set of one's own belongs to. `sempairs detect` takes any set by its name.
    """

    def __init__(self, rest: str) -> None:
        self.root = find_devkit(existing_path("voc", rest, folder=True))
        self.spec = f"voc:{self.root}"

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            return measure_bytes(self.read_bytes(uri), decode=decode)

        members: list[Member] = []
        problems: list[Problem] = []
        for year in find_years(self.root):
            for name, split in _splits(self.root, year).items():
                try:
                    members.append(_member(read_annotation(self.root, year, name), split))
                except UserError as error:
                    where = f"VOC{year}/Annotations/{escape_name(name)}.xml"
                    problems.append(Problem(where, str(error).removeprefix(f"{self.root}/")))
        return scan_members(
            self.spec, members, measure, workers=workers, progress=progress, problems=problems
        )

    def open_image(self, uri: str) -> Image.Image:
        return decode(self.read_bytes(uri))

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is gone or too large."""
        return read_inside(self.root, unescape_name(uri))


def _splits(root: Path, year: int) -> dict[str, str]:
    """Id to split. Raises: UserError if a set for training and the test set share an image."""
    found: dict[str, str] = {}
    for image_set, split in SPLIT_OF_SET.items():
        if not (root / f"VOC{year}" / "ImageSets" / "Main" / f"{image_set}.txt").is_file():
            continue
        for name in read_image_set(root, year, image_set):
            before = found.setdefault(name, split)
            if before != split and image_set != "trainval":
                rule = f"must not share images with {before}, but shares {escape_name(name)}"
                raise UserError(f"voc image set VOC{year}/{image_set}", rule)
            if before == "test" and image_set == "trainval":
                rule = f"must not share images with test, but shares {escape_name(name)}"
                raise UserError(f"voc image set VOC{year}/trainval", rule)
    return found


def _member(image: VocImage, split: str) -> Member:
    counted = [thing for thing in image.objects if not thing.difficult]
    main = max(counted, key=lambda thing: thing.area, default=None)
    found = presence(image)
    columns = {
        "category": category_path(main.name) if main else None,
        "split": split,
        "labels": ",".join(name for name, state in found.items() if state == 1),
        "labels_ignored": ",".join(name for name, state in found.items() if state == 0),
    }
    uri = image_path(image)
    return Member(escape_name(uri), escape_name(image.image_id), columns)
