"""`imagenet:PATH`: ILSVRC 2012 (ImageNet-1k) as it is unpacked, or as Kaggle lays it out."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from sempairs.catalog.names import escape_name
from sempairs.catalog.sources.base import Problem, existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.folder import Walk, walk
from sempairs.catalog.sources.reading import Member
from sempairs.errors import UserError
from sempairs.texts import decode_text

KIND = "imagenet"
_WNID = re.compile(r"n\d{8}")
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.")
# Where train and val lie under PATH, and devkit and solutions under PATH or where train lies.
_INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_SOLUTION = "LOC_val_solution.csv"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_DEVKIT = "ILSVRC2012_devkit_t12/data"


@source_kind(
    KIND, summary="ImageNet-1k (ILSVRC 2012), unpacked or Kaggle's folders", example="imagenet:ILSVRC"
)
class ImageNetSource(FilesSource):
    """`train/<wnid>/*.JPEG` is the split train; val, which papers report on, is the split test: either
    `val/<wnid>/*.JPEG`, or `val/ILSVRC2012_val_*.JPEG` with its labels in Kaggle's `LOC_val_solution.csv`
    or the devkit (`ILSVRC2012_validation_ground_truth.txt` and `meta.mat`). Train or val may be absent, and
    any class. There is no validation split: evaluation holds out a keyed share of train for its choices.

    `category` is the synset's id, n02084071; a recipe's `data.tree: wordnet` makes it a path. Image ids are
    the same whatever the layout: `imagenet/train/n02084071/n02084071_1.JPEG`, or
    `imagenet/val/ILSVRC2012_val_00000001.JPEG`. The images of `test`, which have no labels, are passed over.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path(KIND, rest, folder=True)
        self.spec = f"{KIND}:{self.root}"

    def find(self) -> Found:
        inside = next((place for place in _INSIDE if _has_parts(self.root / place)), None)
        if inside is None:
            looked = ", ".join(place for place in _INSIDE if place)
            rule = f"must hold train/<wnid>/ or val/, and has neither (nor have {looked})"
            raise UserError(f"source {self.spec}", rule)
        members: list[Member] = []
        problems: dict[str, str] = {}
        ignored = 0
        labels: Mapping[str, str] | None = None
        for part, split in (("train", "train"), ("val", "test")):
            place = os.path.join(inside, part)
            found = walk(self.root / place) if (self.root / place).is_dir() else Walk()
            ignored += found.ignored
            problems |= {f"{escape_name(place)}/{each.where}": each.reason for each in found.problems}
            for name in found.files:
                folder, _, file = name.rpartition("/")
                flat = _FLAT.match(file) if part == "val" else None
                if flat and not folder:
                    labels = self._labels(inside) if labels is None else labels
                    wnid = labels.get(flat[0].rstrip("."))
                    wrong, where = "the list of labels does not have it", name
                else:
                    wnid = folder if _WNID.fullmatch(folder) else None
                    wrong, where = "not in a folder named after a synset, such as n02084071", folder or name
                uri = escape_name(os.path.join(place, name))
                if wnid is None:
                    problems[escape_name(os.path.join(place, where))] = wrong
                    continue
                image_id = f"{KIND}/{part}/{file if flat else name}"
                members.append(Member(uri, escape_name(image_id), {"category": wnid, "split": split}))
        return Found(members, [Problem(*each) for each in problems.items()], ignored)

    def _labels(self, inside: str) -> Mapping[str, str]:
        """The synset of each flat validation image, by its name without ending."""
        folders = [self.root, self.root / inside, self.root / "ILSVRC"]
        places = [folder / more for folder in folders for more in ("", "devkit/data", _DEVKIT, "data")]
        for place in places:
            if (place / _SOLUTION).is_file():
                return _solution(place / _SOLUTION)
            if (place / _TRUTH).is_file():
                return _devkit(place / _TRUTH)
        raise UserError(
            f"source {self.spec}",
            f"has val/ without folders of classes, and no labels for it: neither {_SOLUTION} nor {_TRUTH} "
            f"lies there, in {_DEVKIT} or in ILSVRC",
            remedy="copy Kaggle's list or the devkit there",
        )  # fmt: skip


def _has_parts(place: Path) -> bool:
    return (place / "train").is_dir() or (place / "val").is_dir()


def _solution(file: Path) -> dict[str, str]:
    """Kaggle's list: image, then class and box of each object; all objects of an image have one class."""
    found: dict[str, str] = {}
    try:
        text = io.StringIO(decode_text(file.read_bytes()).lstrip(), newline="")
        reader = csv.reader(text, strict=True)
        if [cell.strip().lower() for cell in next(reader, [])[:2]] != ["imageid", "predictionstring"]:
            raise UserError(str(file), "must start with ImageId,PredictionString")
        for cells in reader:
            if not any(map(str.strip, cells)):  # a blank line
                continue
            words = cells[1].split() if len(cells) == 2 else []
            if not words or not _WNID.fullmatch(words[0]):
                raise UserError(f"{file} line {reader.line_num}", "must be an image and its synset", cells)
            name = cells[0].strip()
            found[name.removesuffix(".JPEG")] = words[0]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(file), f"cannot be read ({error})") from None
    return found


def _devkit(truth: Path) -> dict[str, str]:
    """The devkit's list: line i is the class of validation image i, numbered as in meta.mat."""
    synsets = _synsets(truth.parent / _META)
    try:
        lines = decode_text(truth.read_bytes()).split()
        return {f"ILSVRC2012_val_{i:08d}": synsets[int(line)] for i, line in enumerate(lines, start=1)}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(str(truth), f"must hold the numbers of classes in {_META} ({error})") from None


def _synsets(meta: Path) -> dict[int, str]:
    """ILSVRC2012_ID to WNID. The structure array `synsets` has these as its first two fields."""
    if not meta.is_file():
        raise UserError(str(meta), f"does not exist; {_TRUTH} numbers classes as it does")
    from scipy.io import loadmat

    try:
        rows = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    # SciPy's reader raises almost any exception on a damaged file.
    except Exception as error:
        raise UserError(str(meta), f"is not the devkit's meta.mat ({type(error).__name__})") from error
