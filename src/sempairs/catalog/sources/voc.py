"""`voc:PATH`: the images of Pascal VOC's development kit."""

from __future__ import annotations

import dataclasses
import os

from PIL import Image

from sempairs.catalog.images import decode
from sempairs.catalog.names import category_path, escape_name, printable, unescape_name
from sempairs.catalog.sources.base import Problem, Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import Measured, Member, measure_bytes, read_inside, scan_members
from sempairs.catalog.voc import VocImage, VocYear, find_devkit, find_years, image_path, presence
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

    The picture of an annotation is the file that its <filename> names, else the one called like it, whatever
    its ending; the size that an annotation gives does not matter here.

    Further sets, such as the `test_designers` of scenes, are left out: an image has one split, and nothing
    says which a set of one's own belongs to. `sempairs detect` takes any set by its name.
    """

    def __init__(self, rest: str) -> None:
        self.root = find_devkit(existing_path("voc", rest, folder=True))
        self.spec = f"voc:{self.root}"

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            return measure_bytes(self.read_bytes(uri), decode=decode)

        members: dict[str, Member] = {}
        problems: list[Problem] = []
        notes: list[str] = []
        for year in find_years(self.root):
            kit = VocYear(self.root, year)
            listed, more = _splits(kit, problems)
            notes += more
            for name, split in listed.items():
                where = f"VOC{year}/Annotations/{escape_name(name)}.xml"
                try:
                    image = kit.annotation(name)
                    where = escape_name(image_path(image))
                    member = _member(image, kit.picture(image), split)
                    before = members.setdefault(member.uri, member)
                    if before is not member:
                        raise UserError(f"is the picture of {before.image_id} and of {member.image_id}", "")
                except UserError as error:
                    problems.append(Problem(where, printable(str(error).removeprefix(f"{self.root}/"))))
        if not members and not problems:
            found = [f"VOC{y}/{name}" for y in find_years(self.root) for name in VocYear(self.root, y).sets()]
            rule = f"must have images in one of the sets {', '.join(SPLIT_OF_SET)}"
            raise UserError(f"source {self.spec}", rule, remedy=f"sets here: {', '.join(found) or 'none'}")
        scan = scan_members(
            self.spec,
            list(members.values()),
            measure,
            workers=workers,
            progress=progress,
            problems=problems,
        )
        return dataclasses.replace(scan, notes=tuple(notes))

    def open_image(self, uri: str) -> Image.Image:
        return decode(self.read_bytes(uri))

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is gone or too large."""
        return read_inside(self.root, unescape_name(uri))


def _splits(kit: VocYear, problems: list[Problem]) -> tuple[dict[str, str], list[str]]:
    """Id to split, and what is worth a word; lines that are no id are added to `problems`.

    Raises: UserError if a set for training and the test set share an image.
    """
    found: dict[str, str] = {}
    notes = []
    there = kit.sets()
    for image_set, split in SPLIT_OF_SET.items():
        if image_set not in there:
            continue
        where = f"VOC{kit.year}/ImageSets/Main/{image_set}.txt"
        listed = kit.image_set(image_set)
        problems.extend(Problem(where, fault) for fault in listed.faults)
        if listed.again:
            first = escape_name(listed.again[0])
            notes.append(f"{where} names {len(listed.again):,} more than once, which count once: {first}, …")
        for name in listed.ids:
            before = found.setdefault(name, split)
            if before != split and image_set != "trainval":
                rule = f"must not share images with {before}, but shares {escape_name(name)}"
                raise UserError(f"voc image set VOC{kit.year}/{image_set}", rule)
            if before == "test" and image_set == "trainval":
                rule = f"must not share images with test, but shares {escape_name(name)}"
                raise UserError(f"voc image set VOC{kit.year}/trainval", rule)
    if others := [name for name in there if name not in SPLIT_OF_SET]:
        notes.append(f"VOC{kit.year}: left out are the sets {', '.join(map(escape_name, others))}")
    alone = {os.path.splitext(name)[0] for name in kit.annotations.names} - found.keys()
    if alone:
        notes.append(
            f"VOC{kit.year}: {len(alone):,} annotations are in none of the sets read and are left out: "
            f"{escape_name(min(alone))}, …"
        )
    return found, notes


def _member(image: VocImage, uri: str, split: str) -> Member:
    counted = [thing for thing in image.objects if not thing.difficult]
    main = max(counted, key=lambda thing: thing.area, default=None)
    found = presence(image)
    columns = {
        "category": category_path(main.name) if main else None,
        "split": split,
        "labels": ",".join(name for name, state in found.items() if state == 1),
        "labels_ignored": ",".join(name for name, state in found.items() if state == 0),
    }
    return Member(escape_name(uri), escape_name(image.image_id), columns)
