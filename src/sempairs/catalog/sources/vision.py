"""`torchvision:NAME:PATH`: data sets as torchvision lays them out on disk. Nothing is downloaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sempairs.catalog.images import UnreadableImage, decode
from sempairs.catalog.names import category_path, class_name, escape_name, unescape_name
from sempairs.catalog.sources.base import Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import (
    SPLIT_NAMES,
    Measured,
    Member,
    measure_bytes,
    measure_pixels,
    read_inside,
    scan_members,
)
from sempairs.errors import UserError, unknown

_SPLITS = {**SPLIT_NAMES, "trainval": "train", "unlabeled": "train"}  # "all" is no split
_BY_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}


def _by_name(*splits: str) -> Mapping[str, Mapping[str, Any]]:
    return {split: {"split": split} for split in splits}


@dataclass(frozen=True)
class _Kind:
    """A torchvision class: the arguments that give each of its splits, and what its objects hold."""

    splits: Mapping[str, Mapping[str, Any]]
    arrays: bool = False  # pixels in memory, not files
    tree: bool = False  # class names are paths
    needs: str = ""  # a folder under the root that the class itself would make


_NO_SPLITS: Mapping[str, Mapping[str, Any]] = {"all": {}}
KINDS: Mapping[str, _Kind] = {
    "CIFAR10": _Kind(_BY_FLAG, arrays=True),
    "CIFAR100": _Kind(_BY_FLAG, arrays=True),
    "Caltech101": _Kind(_NO_SPLITS, needs="caltech101"),
    "Country211": _Kind(_by_name("train", "valid", "test")),
    "DTD": _Kind(_by_name("train", "val", "test")),
    "EuroSAT": _Kind(_NO_SPLITS),
    "FGVCAircraft": _Kind(_by_name("train", "val", "test")),
    "FashionMNIST": _Kind(_BY_FLAG, arrays=True),
    "Flowers102": _Kind(_by_name("train", "val", "test")),
    "Food101": _Kind(_by_name("train", "test")),
    "GTSRB": _Kind(_by_name("train", "test")),
    "ImageFolder": _Kind(_NO_SPLITS),
    "MNIST": _Kind(_BY_FLAG, arrays=True),
    "OxfordIIITPet": _Kind(_by_name("trainval", "test")),
    "STL10": _Kind(_by_name("train", "unlabeled", "test"), arrays=True),
    "SUN397": _Kind(_NO_SPLITS, tree=True),
    "SVHN": _Kind(_by_name("train", "test"), arrays=True),
    "StanfordCars": _Kind(_by_name("train", "test")),
}


@source_kind(
    "torchvision", summary="a torchvision data set, downloaded before", example="torchvision:CIFAR10:datasets"
)
class TorchvisionSource:
    """NAME is torchvision's class, PATH the `root` it is given; all its splits are taken.

    Sets of files are read file by file, inside the root. Sets of arrays have no files: there the `file_hash`
    of an image is that of its pixels' bytes by rows, columns, channels.
    """

    def __init__(self, rest: str) -> None:
        self.name, _, path = rest.partition(":")
        if self.name not in KINDS:
            raise unknown("source torchvision:", self.name, KINDS)
        self._kind = KINDS[self.name]
        self.root = existing_path(f"torchvision:{self.name}", path, folder=True)
        self.spec = f"torchvision:{self.name}:{self.root}"
        self._lock = threading.Lock()
        self._datasets: dict[str, Any] = {}

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            if not self._kind.arrays:
                return measure_bytes(self.read_bytes(uri), decode=decode)
            pixels = self._pixels(uri)
            return measure_pixels(_rgb(pixels), pixels.tobytes(), decode=decode)

        members: list[Member] = []
        for split in self._kind.splits:
            dataset = self._dataset(split)
            if self._kind.arrays:
                labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
                labelled = [(f"{split}/{row:06d}", int(label)) for row, label in enumerate(labels)]
            else:
                labelled = [(self._relative(path), int(label)) for path, label in _files(dataset)]
            for uri, label in labelled:
                columns = {"category": self._category(dataset, label), "split": _SPLITS.get(split)}
                members.append(Member(uri, f"{self.name}/{uri}", columns))
        return scan_members(self.spec, members, measure, workers=workers, progress=progress)

    def open_image(self, uri: str) -> Image.Image:
        return _rgb(self._pixels(uri)) if self._kind.arrays else decode(self.read_bytes(uri))

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is gone, or this data set keeps pixels."""
        if self._kind.arrays:
            raise UnreadableImage(f"{self.name} keeps pixels, not files")
        return read_inside(self.root, unescape_name(uri))

    def _pixels(self, uri: str) -> np.ndarray:
        """(H, W) or (H, W, 3), uint8."""
        split, _, row = uri.partition("/")
        known = split in self._kind.splits and row.isascii() and row.isdecimal()
        data = self._dataset(split).data if known else ()
        if not known or int(row) >= len(data):
            raise UnreadableImage(f"no image {uri!r} in this source")
        pixels = np.asarray(data[int(row)])
        if pixels.ndim == 3 and pixels.shape[-1] != 3:  # channels first
            pixels = pixels.transpose(1, 2, 0)
        return np.ascontiguousarray(pixels)

    def _relative(self, path: str | os.PathLike[str]) -> str:
        return escape_name(os.path.relpath(path, self.root))

    def _category(self, dataset: Any, label: int) -> str | None:
        names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
        if label < 0:  # unlabelled
            return None
        name = str(names[label]) if names else str(label)
        return category_path(name if self._kind.tree else class_name(name))

    def _dataset(self, split: str) -> Any:
        with self._lock:
            if split not in self._datasets:
                self._datasets[split] = self._load(split)
            return self._datasets[split]

    def _load(self, split: str) -> Any:
        from torchvision import datasets

        if not (self.root / self._kind.needs).is_dir():
            raise UserError(f"source {self.spec}", f"must hold the folder {self._kind.needs}")
        options = dict(self._kind.splits[split])
        if self.name != "ImageFolder":
            options["download"] = False
        try:
            return getattr(datasets, self.name)(str(self.root), **options)
        # Each class complains in its own way about files that are absent, changed or cut short.
        except Exception as error:
            remedy = f"get it with torchvision.datasets.{self.name}(root, download=True)"
            why = f"cannot be read, {split} ({type(error).__name__}: {error})"
            raise UserError(f"source {self.spec}", why, remedy=remedy) from error


def _files(dataset: Any) -> Sequence[tuple[str | os.PathLike[str], int]]:
    """Path and label of each image. torchvision has no public name for them that all its classes share."""
    for name in ("samples", "_samples"):
        if hasattr(dataset, name):
            found: Sequence[tuple[str, int]] = getattr(dataset, name)
            return found
    if hasattr(dataset, "index"):  # Caltech101, laid out as in its __getitem__
        return [
            (
                os.path.join(
                    dataset.root, "101_ObjectCategories", dataset.categories[y], f"image_{i:04d}.jpg"
                ),
                y,
            )
            for i, y in zip(dataset.index, dataset.y, strict=True)
        ]
    files = dataset._images if hasattr(dataset, "_images") else dataset._image_files
    return list(zip(files, dataset._labels, strict=True))


def _rgb(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")
