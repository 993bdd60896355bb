"""Tiny copies of the published sets, in the format in which these lie on disk.

Every class is a colour, so that a probe can learn it. Each maker takes the folder that torchvision calls
root.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.io
from PIL import Image

from sempairs.catalog.voc import VocImage, VocObject, write_voc

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (210, 200, 40), (200, 60, 200), (40, 200, 200))
SIZE = 12


def pixels(kind: int, number: int) -> np.ndarray:
    """(12, 12, 3): the colour of a class, with noise of its own for each picture."""
    noise = np.random.default_rng([kind, number]).integers(-30, 30, (SIZE, SIZE, 3))
    return (np.array(COLOURS[kind]) + noise).clip(0, 255).astype(np.uint8)


def picture(path: Path, kind: int, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(kind, number)).save(path)


def text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    names = ["707-320", "F/A-18"]
    text(data / "variants.txt", names)
    number = 0
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        lines = []
        for kind, name in enumerate(names):
            for _ in range(count):
                number += 1
                picture(data / "images" / f"{number:07d}.jpg", kind, number)
                lines.append(f"{number:07d} {name}")
        text(data / f"images_variant_{split}.txt", lines)


def birdsnap(root: Path) -> None:
    names = ["Blue_Jay", "Common_Loon"]
    listed = ["path"]
    for kind, name in enumerate(names):
        for number in range(10):
            picture(root / "birdsnap" / "images" / name / f"{number}.jpg", kind, number)
            if number < 3:
                listed.append(f"{name}/{number}.jpg")
    text(root / "birdsnap" / "test_images.txt", listed)


def caltech101(root: Path) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for kind, (name, count) in enumerate((("BACKGROUND_Google", 33), ("ant", 31), ("crab", 36))):
        for number in range(1, count + 1):
            picture(folder / name / f"image_{number:04d}.jpg", kind, number)
    (folder / "BACKGROUND_Google" / "tmp").write_bytes(b"")  # as in the archive


def cars(root: Path) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = np.array([["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]], dtype=object)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    for split, where, count in (
        ("train", folder / "devkit" / "cars_train_annos.mat", 12),
        ("test", folder / "cars_test_annos_withlabels.mat", 6),
    ):
        rows = []
        for number in range(1, count + 1):
            picture(folder / f"cars_{split}" / f"{number:05d}.jpg", number % 2, number + 100 * len(split))
            rows.append((1, 1, 9, 9, number % 2 + 1, f"{number:05d}.jpg"))
        annotations = np.array([rows[i] for i in range(count)], dtype=[(f, object) for f in fields])
        scipy.io.savemat(where, {"annotations": annotations[None]})


class PythonTwo(pickle._Pickler):
    """Writes bytes and arrays as Python 2's pickle did, whose strings are bytes: opcodes U and T."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data: bytes) -> None:
        short = len(data) < 256
        self.write(
            b"U" + bytes([len(data)]) + data if short else b"T" + len(data).to_bytes(4, "little") + data
        )
        self.memoize(data)

    def save_str(self, data: str) -> None:
        self.save_bytes(data.encode("latin1"))

    def save_global(self, thing: Any, name: str | None = None) -> None:
        module = {"_reconstruct": "numpy.core.multiarray"}.get(thing.__name__, "numpy")
        self.write(f"c{module}\n{thing.__name__}\n".encode())
        self.memoize(thing)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str
    dispatch[type] = save_global
    dispatch[type(lambda: 0)] = save_global
    dispatch[type(len)] = save_global


def batch(path: Path, content: dict[str, Any]) -> None:
    """One file as the archive has it: pickled by Python 2, protocol 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as handle:
        PythonTwo(handle, protocol=2).dump(content)


def large(kind: int, number: int) -> np.ndarray:
    """A row of 3,072 bytes: the red of 32 x 32 pixels, then green and blue."""
    return (
        np.kron(pixels(kind, number), np.ones((3, 3, 1), dtype=np.uint8))[:32, :32].transpose(2, 0, 1).ravel()
    )


def cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    names = ["airplane", "automobile", "bird"]
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels = [(k + i) % 3 for k in range(6)]
        data = np.stack([large(kind, 10 * i + k) for k, kind in enumerate(labels)])
        content = {"batch_label": f"batch {i}", "labels": labels, "data": data, "filenames": ["x.png"] * 6}
        batch(folder / name, content)
    batch(folder / "batches.meta", {"num_cases_per_batch": 6, "label_names": names, "num_vis": 3072})


FINE = ("apple", "bear", "beaver", "leopard", "lion", "pear")
COARSE = ("aquatic_mammals", "fruit_and_vegetables", "large_carnivores")
ABOVE = (1, 2, 0, 2, 2, 1)


def cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    for i, (name, count) in enumerate((("train", 60), ("test", 18))):
        fine = [k % 6 for k in range(count)]
        content = {
            "filenames": ["x.png"] * count, "batch_label": f"{name} batch 1 of 1", "fine_labels": fine,
            "coarse_labels": [ABOVE[k] for k in fine],
            "data": np.stack([large(kind, 100 * i + k) for k, kind in enumerate(fine)]),
        }  # fmt: skip
        batch(folder / name, content)
    batch(folder / "meta", {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)})


def dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    for partition in (1, 2):
        for i, (split, count) in enumerate((("train", 4), ("val", 3), ("test", 3))):
            lines = []
            for kind, name in enumerate(("banded", "blotchy")):
                for k in range(count):
                    number = (10 * i + k + 3 * (partition - 1)) % 30
                    picture(folder / "images" / name / f"{name}_{number:04d}.jpg", kind, number)
                    lines.append(f"{name}/{name}_{number:04d}.jpg")
            text(folder / "labels" / f"{split}{partition}.txt", lines)


def flowers(root: Path) -> None:
    folder = root / "flowers-102"
    labels = [number % 3 + 1 for number in range(1, 31)]
    for number, label in enumerate(labels, start=1):
        picture(folder / "jpg" / f"image_{number:05d}.jpg", label - 1, number)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    ids = {"trnid": np.arange(1, 13), "valid": np.arange(13, 19), "tstid": np.arange(19, 31)}
    scipy.io.savemat(folder / "setid.mat", {k: v[None].astype(np.uint16) for k, v in ids.items()})


def food(root: Path) -> None:
    folder = root / "food-101"
    names = ("apple_pie", "pad_thai")
    for split, numbers in (("train", range(10)), ("test", range(10, 14))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in names}
        for kind, name in enumerate(names):
            for number in numbers:
                picture(folder / "images" / name / f"{number}.jpg", kind, number)
        text(folder / "meta" / f"{split}.json", [json.dumps(listed)])
    text(folder / "meta" / "classes.txt", list(names))


def imagenet(root: Path) -> None:
    for kind, wnid in enumerate(("n01440764", "n02084071")):
        for number in range(10):
            picture(root / "imagenet" / "train" / wnid / f"{wnid}_{number}.JPEG", kind, number)
        for number in range(3):
            name = f"ILSVRC2012_val_{3 * kind + number + 1:08d}.JPEG"
            picture(root / "imagenet" / "val" / wnid / name, kind, 50 + number)


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for split, numbers in (("trainval", range(1, 11)), ("test", range(11, 15))):
        lines = []
        for kind, name in enumerate(("Abyssinian", "american_bulldog")):
            for number in numbers:
                picture(folder / "images" / f"{name}_{number}.jpg", kind, number)
                lines.append(f"{name}_{number} {kind + 1} {kind + 1} 1")
        text(folder / "annotations" / f"{split}.txt", lines)


def sun397(root: Path) -> None:
    folder = root / "SUN397"
    classes = ("/a/abbey", "/a/apartment_building/outdoor", "/z/zen_garden")
    text(folder / "ClassName.txt", list(classes))
    lists: dict[str, list[str]] = {"Training_01.txt": [], "Testing_01.txt": []}
    for kind, name in enumerate(classes):
        for number in range(12):
            path = f"{name}/sun_{kind}{number:02d}.jpg"
            picture(folder / path[1:], kind, number)
            if number < 10:  # the last two are in no list of the first partition
                lists["Training_01.txt" if number < 6 else "Testing_01.txt"].append(path)
    for file, lines in lists.items():
        text(folder / "Partitions" / file, lines)


def voc07(root: Path) -> None:
    names = ("cat", "dog")
    sets: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    images = []
    for number in range(40):
        kind = number % 2
        objects = [VocObject(names[kind], (0, 0, 11, 11))]
        if number in (4, 6):  # shows the other too, but too small to count
            objects.append(VocObject(names[1 - kind], (0, 0, 2, 2), difficult=True))
        picture_ = Image.fromarray(pixels(kind, number))
        images.append((VocImage(f"{number:06d}", SIZE, SIZE, tuple(objects)), picture_))
        sets["train" if number < 14 else "val" if number < 28 else "test"].append(f"{number:06d}")
    write_voc(root / "VOCdevkit", 2007, images, {**sets, "trainval": sets["train"] + sets["val"]})


MAKERS: dict[str, Callable[[Path], None]] = {
    "aircraft": aircraft, "birdsnap": birdsnap, "caltech101": caltech101, "cars": cars, "cifar10": cifar10,
    "cifar100": cifar100, "dtd": dtd, "flowers": flowers, "food": food, "imagenet": imagenet, "pets": pets,
    "sun397": sun397, "voc07": voc07,
}  # fmt: skip


def make_all(root: Path) -> Path:
    """Every set under one folder."""
    for make in MAKERS.values():
        make(root)
    return root


def examples(root: Path) -> dict[str, str]:
    """A name for each family of tasks, on sets made under `root`."""
    make_all(root)
    return {f"transfer-{name}": f"transfer-{name}:{root}" for name in (*MAKERS, "cifar100-coarse")}
