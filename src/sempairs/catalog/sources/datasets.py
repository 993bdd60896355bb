"""`dataset:NAME:PATH`: published sets with their official splits, where torchvision gives none or checks the
checksum of the original. The files lie as torchvision lays them out; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sempairs.catalog.names import category_path, escape_name
from sempairs.catalog.sources.base import Problem, Source, existing_path, source_kind
from sempairs.catalog.sources.cifar import LAYOUTS, CifarSource
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.folder import walk
from sempairs.catalog.sources.reading import Member
from sempairs.errors import UserError, unknown
from sempairs.texts import read_text

KIND = "dataset"


@source_kind(KIND, summary="CIFAR, Flowers102, Caltech101, SUN397, Birdsnap", example="dataset:cifar100:PATH")
def open_dataset(rest: str) -> Source:
    """The set NAME; PATH is the folder that holds the set's own, as torchvision's `root`.

    cifar10 (cifar-10-batches-py/) and cifar100 (cifar-100-python/): see `cifar`.
    flowers102 (flowers-102/): jpg/, imagelabels.mat and setid.mat; category: the number of the class, 001.
    caltech101 (caltech101/): 101_ObjectCategories/CLASS/; all 102 classes, BACKGROUND_Google among them; the
    set has no official split, and here none.
    sun397 (SUN397/): the images of the first official split alone: Training_01.txt and Testing_01.txt, there
    or in Partitions/ there; category: abbey, apartment_building/outdoor.
    birdsnap (birdsnap/): images/SPECIES/ (or download/images/SPECIES/) and test_images.txt; images of that
    list that are absent are reported, as many of the others can no longer be had.
    """
    name, _, path = rest.partition(":")
    if name not in (*LAYOUTS, *FOLDERS):
        raise unknown(f"source {KIND}:", name, (*LAYOUTS, *FOLDERS))
    root = existing_path(f"{KIND}:{name}", path, folder=True)
    spec = f"{KIND}:{name}:{root}"
    own = LAYOUTS[name].folder if name in LAYOUTS else FOLDERS[name][0]
    if not (root / own).is_dir():
        raise UserError(f"source {spec}", f"must hold the folder {own}")
    if name in LAYOUTS:
        return CifarSource(spec, name, root / own)
    return _ListedSource(spec, name, root / own)


class _ListedSource(FilesSource):
    """Files whose labels and splits stand in lists beside them. Ids: `sun397/a/abbey/sun_1.jpg`."""

    walks = False  # what a list names must not lead out of the folder

    def __init__(self, spec: str, name: str, root: Path) -> None:
        self.spec, self.name, self.root = spec, name, root

    def find(self) -> Found:
        members, problems, ignored = FOLDERS[self.name][1](self.root)
        return Found(
            [
                Member(
                    escape_name(file),
                    escape_name(f"{self.name}/{file}"),
                    {"category": category_path(*category), "split": split},
                )
                for file, category, split in members
            ],
            problems,
            ignored,
        )


_Listed = tuple[list[tuple[str, tuple[str, ...], str | None]], list[Problem], int]


def _flowers(root: Path) -> _Listed:
    labels = _numbers(root / "imagelabels.mat", "labels")
    found: dict[int, str] = {}
    for key, split in (("trnid", "train"), ("valid", "validation"), ("tstid", "test")):
        for number in _numbers(root / "setid.mat", key):
            if not 1 <= number <= len(labels):
                rule = f"must name images from 1 to {len(labels)}, as imagelabels.mat has them"
                raise UserError(f"{root / 'setid.mat'} {key}", rule, number)
            if found.setdefault(number, split) != split:
                raise UserError(str(root / "setid.mat"), "must not have an image in two splits", number)
    members = [
        (f"jpg/image_{number:05d}.jpg", (f"{labels[number - 1]:03d}",), split)
        for number, split in found.items()
    ]
    return list(members), [], 0


def _caltech(root: Path) -> _Listed:
    folder = "101_ObjectCategories"
    if not (root / folder).is_dir():
        raise UserError(str(root), f"must hold the folder {folder}")
    found = walk(root / folder)
    members: list[tuple[str, tuple[str, ...], str | None]] = []
    for name in found.files:
        category, _, _ = name.rpartition("/")
        if category:
            members.append((f"{folder}/{name}", (category,), None))
    return members, _under(folder, found.problems), found.ignored + len(found.files) - len(members)


def _sun(root: Path) -> _Listed:
    members: list[tuple[str, tuple[str, ...], str | None]] = []
    for file, split in (("Training_01.txt", "train"), ("Testing_01.txt", "test")):
        place = next(
            (root / inside for inside in ("", "Partitions") if (root / inside / file).is_file()), None
        )
        if place is None:
            remedy = "unpack the set's Partitions.zip there"
            raise UserError(
                str(root), f"must hold {file}, or Partitions/{file}: the official split", remedy=remedy
            )
        for line in _lines(place / file):  # /a/abbey/sun_aaalbzqrimafwbiv.jpg
            parts = line.strip("/").split("/")
            if len(parts) < 3 or len(parts[0]) != 1:
                raise UserError(str(place / file), "must hold paths such as /a/abbey/sun_1.jpg", line)
            members.append(("/".join(parts), tuple(parts[1:-1]), split))
    if len({file for file, _, _ in members}) < len(members):
        raise UserError(str(root), "must not have an image twice in its lists")
    return members, [], 0


def _birdsnap(root: Path) -> _Listed:
    folder = next((name for name in ("images", "download/images") if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(str(root), "must hold the folder images", remedy="see get_birdsnap.py of the set")
    listed = set(_lines(root / "test_images.txt")[1:])  # after a line of headings: Blue_Jay/1234.jpg
    found = walk(root / folder)
    members: list[tuple[str, tuple[str, ...], str | None]] = []
    for name in found.files:
        species, _, _ = name.rpartition("/")
        if species:
            members.append((f"{folder}/{name}", (species,), "test" if name in listed else "train"))
    absent = [
        Problem(escape_name(f"{folder}/{n}"), "no such file") for n in sorted(listed - set(found.files))
    ]
    return members, [*_under(folder, found.problems), *absent], found.ignored


#: The folder of each set under PATH, and how its lists are read.
FOLDERS: dict[str, tuple[str, Callable[[Path], _Listed]]] = {
    "flowers102": ("flowers-102", _flowers),
    "caltech101": ("caltech101", _caltech),
    "sun397": ("SUN397", _sun),
    "birdsnap": ("birdsnap", _birdsnap),
}


def _under(folder: str, problems: Iterable[Problem]) -> list[Problem]:
    return [Problem(f"{folder}/{each.where}", each.reason) for each in problems]


def _lines(file: Path) -> list[str]:
    try:
        text = read_text(file)
    except (OSError, UnicodeError) as error:
        raise UserError(str(file), f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return [line.strip() for line in text.split("\n") if line.strip()]


def _numbers(file: Path, key: str) -> list[int]:
    """A row of whole numbers in a MATLAB file."""
    from scipy.io import loadmat

    if not file.is_file():
        raise UserError(str(file), "does not exist")
    try:
        values = loadmat(file, variable_names=[key])[key].reshape(-1)
        return [int(value) for value in values]
    # SciPy's reader raises almost any exception on a damaged file.
    except Exception as error:
        raise UserError(str(file), f"must hold the numbers {key} ({type(error).__name__}: {error})") from None
