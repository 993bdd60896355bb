"""CIFAR-10 and CIFAR-100 in their "python version": batches that are pickles of arrays.

A pickle can run any code when it is loaded. torchvision loads these only if their MD5 is the original's; here
nothing that a file names is ever called: for the few names that an array needs there are stand-ins that only
keep what they are told, so that any file is safe to read, the original or not.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import category_path, class_name
from sempairs.catalog.sources.base import Scan
from sempairs.catalog.sources.reading import Measured, Member, measure_pixels, scan_members
from sempairs.errors import UserError

SIDE = 32
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Files of a set, in order. labels, names: the keys of the classes in a batch and in `meta`; coarse, if
    there is one: those of the superclasses."""

    folder: str
    files: Mapping[str, tuple[str, ...]]
    meta: str
    labels: str
    names: str
    coarse: tuple[str, str] | None = None


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": Layout(
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        "meta",
        "fine_labels",
        "fine_label_names",
        ("coarse_labels", "coarse_label_names"),
    ),
}


class CifarSource:
    """`category`: the class; of CIFAR-100 `superclass/class`, with the official 20 superclasses. Ids:
    `cifar10/train/00000`, in the order of the batches. `file_hash`: of the pixels' bytes by rows, columns,
    channels, as in the sources `torchvision:CIFAR10:` and `torchvision:CIFAR100:`."""

    def __init__(self, spec: str, name: str, folder: Path) -> None:
        self.spec, self.name, self.folder = spec, name, folder
        self._layout = LAYOUTS[name]
        self._lock = threading.Lock()
        self._read: dict[str, tuple[Bytes, list[str | None]]] = {}

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            pixels = self._pixels(uri)
            return measure_pixels(Image.fromarray(pixels), pixels.tobytes(), decode=decode)

        members = [
            Member(f"{split}/{row:05d}", f"{self.name}/{split}/{row:05d}", {"category": name, "split": split})
            for split in self._layout.files
            for row, name in enumerate(self._part(split)[1])
        ]
        return scan_members(self.spec, members, measure, workers=workers, progress=progress)

    def open_image(self, uri: str) -> Image.Image:
        return Image.fromarray(self._pixels(uri))

    def _pixels(self, uri: str) -> Bytes:
        """(32, 32, 3)."""
        split, _, row = uri.partition("/")
        known = split in self._layout.files and row.isascii() and row.isdecimal() and len(row) < 9
        data = self._part(split)[0] if known else ()
        if not known or int(row) >= len(data):
            raise UnreadableImage(f"no image {uri!r} in this source")
        return np.ascontiguousarray(data[int(row)].reshape(3, SIDE, SIDE).transpose(1, 2, 0))

    def _part(self, split: str) -> tuple[Bytes, list[str | None]]:
        """Pixels (N, 3072) of a split, channels first, and its categories."""
        with self._lock:
            if split not in self._read:
                self._read[split] = self._load(split)
            return self._read[split]

    def _load(self, split: str) -> tuple[Bytes, list[str | None]]:
        layout, parts = self._layout, []
        fine: list[int] = []
        coarse: list[int] = []
        for file in layout.files[split]:
            batch = _Batch(self.folder / file)
            parts.append(batch.pixels())
            fine += batch.numbers(layout.labels, len(parts[-1]))
            if layout.coarse:
                coarse += batch.numbers(layout.coarse[0], len(parts[-1]))
        meta = _Batch(self.folder / layout.meta)
        names = meta.words(layout.names, max(fine, default=0))
        above = meta.words(layout.coarse[1], max(coarse, default=0)) if layout.coarse else []
        if not layout.coarse:
            return np.concatenate(parts), [category_path(class_name(names[k])) for k in fine]
        return np.concatenate(parts), [
            category_path(class_name(above[c]), class_name(names[k]))
            for c, k in zip(coarse, fine, strict=True)
        ]


class _Batch:
    """One file: a dictionary. Raises: UserError if it is not there, or holds something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as handle:
                content = _Reader(handle, encoding="latin1").load()
        except OSError as error:
            raise UserError(str(path), f"cannot be read ({error.strerror or error})") from None
        # pickle raises almost any exception on a damaged file.
        except Exception as error:
            raise UserError(str(path), f"is not a CIFAR batch ({type(error).__name__}: {error})") from None
        if not isinstance(content, dict):
            raise UserError(str(path), "must be a pickled dictionary", type(content).__name__)
        # The originals were written by Python 2, whose texts and bytes are the same.
        self._values = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in content.items()}

    def pixels(self) -> Bytes:
        """(N, 3072)."""
        value = self._value("data")
        array = value.array() if isinstance(value, _Array) else None
        if array is None or array.ndim != 2 or array.shape[1] != 3 * SIDE * SIDE:
            raise UserError(str(self.path), f"must hold data of bytes, (N, {3 * SIDE * SIDE})")
        return array

    def numbers(self, key: str, count: int) -> list[int]:
        """Labels, `count` of them."""
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(n, int) and n >= 0 for n in value):
            raise UserError(str(self.path), f"must hold {key}, a list of numbers")
        if len(value) != count:
            raise UserError(
                str(self.path), f"must hold a label in {key} for each of {count} images", len(value)
            )
        return [int(n) for n in value]

    def words(self, key: str, largest: int) -> list[str]:
        """Names of classes, at least up to number `largest`."""
        value = self._value(key)
        if not isinstance(value, list) or len(value) <= largest:
            raise UserError(str(self.path), f"must hold {key}, a list of more than {largest} names")
        return [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in value]

    def _value(self, key: str) -> Any:
        if key not in self._values:
            raise UserError(str(self.path), f"must hold {key}")
        return self._values[key]


class _Type:
    """Stands for numpy.ndarray, and for the type of an array: only its name is kept."""

    def __init__(self, name: object = "", *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for an array: the shape and bytes that a pickle gives it."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> Bytes | None:
        """None if it is not of bytes, in the order of rows, or does not have as many as its shape says."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _, shape, kind, by_columns, data = self.state
        raw = data.encode("latin1") if isinstance(data, str) else data
        fits = isinstance(kind, _Type) and kind.name in ("u1", "uint8", "|u1") and isinstance(raw, bytes)
        if not fits or by_columns or not isinstance(shape, tuple):
            return None
        if not all(isinstance(n, int) and n >= 0 for n in shape) or np.prod(shape, dtype=object) != len(raw):
            return None
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _encoded(text: object, encoding: object = "latin1", *_: object) -> bytes:
    """How Python 3 writes bytes in pickles that Python 2 can read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes must be written as latin1")
    return text.encode("latin1")


class _Call:
    """What a pickle calls by one of the names below. It has no attributes that the pickle could change."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[..., object]) -> None:
        self._made = made

    def __call__(self, *arguments: object) -> object:
        return self._made(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a name")


_STAND_INS: Mapping[tuple[str, str], _Call] = {
    ("numpy.core.multiarray", "_reconstruct"): _Call(lambda *_: _Array()),
    ("numpy._core.multiarray", "_reconstruct"): _Call(lambda *_: _Array()),
    ("numpy", "ndarray"): _Call(_Type),
    ("numpy", "dtype"): _Call(_Type),
    ("_codecs", "encode"): _Call(_encoded),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the names that an array needs; no other is looked up."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
