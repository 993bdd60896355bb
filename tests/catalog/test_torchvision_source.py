"""torchvision's data sets, built on disk at a tiny size as each class expects them."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.vision import KINDS
from sempairs.errors import UserError

Noise = Callable[..., Image.Image]


@pytest.fixture(autouse=True)
def _no_checksums_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny files cannot have the real ones' MD5; and nothing may be fetched."""
    from torchvision.datasets import cifar, flowers102, stl10, svhn, utils

    for module in (cifar, flowers102, stl10, svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(utils, "_urlretrieve", refuse)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(array).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def arrays(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar(root: Path, name: str) -> None:
    kind: Any = getattr(torchvision.datasets, name)
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    label = "labels" if name == "CIFAR10" else "fine_labels"
    for file, _ in (*kind.train_list, *kind.test_list):
        (folder / file).write_bytes(pickle.dumps({"data": arrays(2, 3072), label: [1, 0]}))
    names = {kind.meta["key"]: ["plane", "car"]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(names))


def mnist(root: Path, name: str) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        for what, array in (
            ("images-idx3", arrays(n, 28, 28)),
            ("labels-idx1", np.arange(n, dtype=np.uint8)),
        ):
            start = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{what}-ubyte").write_bytes(start + array.tobytes())


def flowers(root: Path, name: str) -> None:
    folder = root / "flowers-102"
    for i in (1, 2, 3):
        picture(folder / "jpg" / f"image_{i:05d}.jpg", i)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 1]])})
    ids = {"trnid": [[1, 1]], "valid": [[2, 2]], "tstid": [[3, 3]]}
    scipy.io.savemat(folder / "setid.mat", {key: np.array(value)[:, :2] for key, value in ids.items()})


def food(root: Path, name: str) -> None:
    folder = root / "food-101"
    for i, path in enumerate(("pie/1", "rice/2", "pie/3")):
        picture(folder / "images" / f"{path}.jpg", i)
    text(folder / "meta" / "train.json", json.dumps({"pie": ["pie/1"], "rice": ["rice/2"]}))
    text(folder / "meta" / "test.json", json.dumps({"pie": ["pie/3"], "rice": []}))


def dtd(root: Path, name: str) -> None:
    for i, (split, path) in enumerate(
        (("train", "dotted/1.jpg"), ("val", "dotted/2.jpg"), ("test", "dotted/3.jpg"))
    ):
        picture(root / "dtd" / "dtd" / "images" / path, i)
        text(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", f"{path}\n")


def pets(root: Path, name: str) -> None:
    folder = root / "oxford-iiit-pet"
    for i, (split, pet) in enumerate((("trainval", "Abyssinian_1"), ("test", "Abyssinian_2"))):
        picture(folder / "images" / f"{pet}.jpg", i)
        text(folder / "annotations" / f"{split}.txt", f"{pet} 1 1 1\n")


def cars(root: Path, name: str) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    scipy.io.savemat(
        folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi TT", "BMW M3"], dtype=object)}
    )
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        kind = [("fname", "O"), ("class", "O")]
        rows = np.array([("1.jpg", 1), ("2.jpg", 2)], dtype=kind)
        scipy.io.savemat(folder / path, {"annotations": rows})
        for i in (1, 2):
            picture(folder / f"cars_{split}" / f"{i}.jpg", i + len(split))


def aircraft(root: Path, name: str) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    text(folder / "variants.txt", "747\nA320\n")
    for i, split in enumerate(("train", "val", "test")):
        picture(folder / "images" / f"00{i}.jpg", i)
        text(folder / f"images_variant_{split}.txt", f"00{i} A320\n")


def sun(root: Path, name: str) -> None:
    text(root / "SUN397" / "ClassName.txt", "/a/abbey\n/a/apartment/outdoor\n")
    picture(root / "SUN397" / "a" / "abbey" / "sun_1.jpg", 1)
    picture(root / "SUN397" / "a" / "apartment" / "outdoor" / "sun_2.jpg", 2)


def caltech(root: Path, name: str) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for i, path in enumerate(
        ("ant/image_0001", "ant/image_0002", "crab/image_0001", "BACKGROUND_Google/tmp")
    ):
        picture(folder / f"{path}.jpg", i)


def folders(root: Path, name: str) -> None:
    below = {
        "Country211": ["country211/train", "country211/valid", "country211/test"],
        "EuroSAT": ["eurosat/2750"],
        "ImageFolder": ["."],
    }[name]
    for i, folder in enumerate(below):
        picture(root / folder / "AD" / "1.jpg", i)
        picture(root / folder / "BE" / "2.jpg", i + 10)


def gtsrb(root: Path, name: str) -> None:
    folder = root / "gtsrb"
    picture(folder / "GTSRB" / "Training" / "00000" / "1.ppm", 1)
    picture(folder / "GTSRB" / "Training" / "00001" / "1.ppm", 2)
    picture(folder / "GTSRB" / "Final_Test" / "Images" / "1.ppm", 3)
    text(folder / "GT-final_test.csv", "Filename;ClassId\n1.ppm;1\n")


def stl(root: Path, name: str) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, n in (("train", 2), ("test", 1), ("unlabeled", 1)):
        (folder / f"{part}_X.bin").write_bytes(arrays(n, 3, 96, 96).tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(bytes(range(1, n + 1)))
    text(folder / "class_names.txt", "airplane\nbird\n")


def svhn(root: Path, name: str) -> None:
    for split, n in (("train", 2), ("test", 3)):
        images = arrays(n, 32, 32, 3).transpose(1, 2, 3, 0)
        scipy.io.savemat(root / f"{split}_32x32.mat", {"X": images, "y": np.array([[10], [3], [1]][:n])})


# How each is written, and the categories by split that must come out.
MADE: dict[str, tuple[Callable[[Path, str], None], dict[str | None, list[str | None]]]] = {
    "CIFAR10": (cifar, {"train": ["car", "plane"] * 5, "test": ["car", "plane"]}),
    "CIFAR100": (cifar, {"train": ["car", "plane"], "test": ["car", "plane"]}),
    "Caltech101": (caltech, {None: ["ant", "ant", "crab"]}),
    "Country211": (folders, {"train": ["AD", "BE"], "validation": ["AD", "BE"], "test": ["AD", "BE"]}),
    "DTD": (dtd, {"train": ["dotted"], "validation": ["dotted"], "test": ["dotted"]}),
    "EuroSAT": (folders, {None: ["AD", "BE"]}),
    "FGVCAircraft": (aircraft, {"train": ["A320"], "validation": ["A320"], "test": ["A320"]}),
    "FashionMNIST": (
        mnist,
        {"train": ["T-shirt-top", "Trouser", "Pullover"], "test": ["T-shirt-top", "Trouser"]},
    ),
    "Flowers102": (flowers, {}),
    "Food101": (food, {"train": ["pie", "rice"], "test": ["pie"]}),
    "GTSRB": (gtsrb, {"train": ["0", "1"], "test": ["1"]}),
    "ImageFolder": (folders, {None: ["AD", "BE"]}),
    "MNIST": (mnist, {"train": ["0 - zero", "1 - one", "2 - two"], "test": ["0 - zero", "1 - one"]}),
    "OxfordIIITPet": (pets, {"train": ["Abyssinian"], "test": ["Abyssinian"]}),
    "STL10": (stl, {"train": ["airplane", "bird", None], "test": ["airplane"]}),
    "SUN397": (sun, {None: ["abbey", "apartment/outdoor"]}),
    "SVHN": (svhn, {"train": ["0", "3"], "test": ["0", "1", "3"]}),
    "StanfordCars": (cars, {"train": ["Audi TT", "BMW M3"], "test": ["Audi TT", "BMW M3"]}),
}


def test_every_name_is_tested_and_known_to_torchvision() -> None:
    assert set(MADE) == set(KINDS)
    assert all(hasattr(torchvision.datasets, name) for name in KINDS)


@pytest.mark.parametrize("name", sorted(MADE))
def test_each_data_set(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, expected = MADE[name]
    if name == "Flowers102":
        _repeat_allowed(monkeypatch)
        expected = {
            "train": ["pink primrose"],
            "validation": ["hard-leaved pocket orchid"],
            "test": ["pink primrose"],
        }
    make(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    source = open_source(f"torchvision:{name}:{tmp_path}")
    found = source.scan(workers=2, decode=True)
    assert not found.problems
    catalog = found.catalog
    got: dict[str | None, list[str | None]] = {}
    for split, category in zip(catalog.column("split"), catalog.column("category"), strict=True):
        got.setdefault(split, []).append(category)
    assert {key: sorted(map(str, value)) for key, value in got.items()} == {
        key: sorted(map(str, value)) for key, value in expected.items()
    }
    # What torchvision itself gives for the first image of its first split.
    split, options = next(iter(KINDS[name].splits.items()))
    theirs: Any = getattr(torchvision.datasets, name)(str(tmp_path), **options)[0][0].convert("RGB")
    again = open_source(source.spec)
    uris = [uri for uri in catalog.column("uri") if again.open_image(uri).tobytes() == theirs.tobytes()]
    assert uris
    if KINDS[name].arrays:
        assert f"{split}/000000" in uris
    for uri in ("train/999999", "nowhere/000000", "../x.jpg", ""):
        with pytest.raises(UnreadableImage):
            again.open_image(uri)
    assert sorted(tmp_path.rglob("*")) == before


def _repeat_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`loadmat` squeezes a split of one image to a number: the real ones have many."""
    load = scipy.io.loadmat

    def loadmat(*args: Any, **options: Any) -> Any:
        found = load(*args, **options)
        return {
            key: value[:1] if key in ("trnid", "valid", "tstid") else value for key, value in found.items()
        }

    monkeypatch.setattr(scipy.io, "loadmat", loadmat)


def test_the_same_bytes_have_the_same_hash_as_the_idx_source(tmp_path: Path) -> None:
    mnist(tmp_path, "FashionMNIST")
    ours = open_source(f"fashion-mnist:{tmp_path / 'FashionMNIST' / 'raw'}").scan().catalog
    theirs = open_source(f"torchvision:FashionMNIST:{tmp_path}").scan().catalog
    assert set(ours.column("file_hash")) == set(theirs.column("file_hash"))


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 'CIFAR1'; did you mean 'CIFAR10'\? choose from: CIFAR10, "):
        open_source(f"torchvision:CIFAR1:{tmp_path}")
    with pytest.raises(UserError, match="existing path"):
        open_source(f"torchvision:CIFAR10:{tmp_path / 'absent'}")
    with pytest.raises(UserError, match="needs a path"):
        open_source("torchvision:CIFAR10")


@pytest.mark.parametrize("name", sorted(KINDS))
def test_absent_files_are_one_line_and_nothing_is_made_or_fetched(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source(f"torchvision:{name}:{tmp_path}").scan()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_one_damaged_file_of_many_is_a_problem(tmp_path: Path) -> None:
    folders(tmp_path, "EuroSAT")
    (tmp_path / "eurosat" / "2750" / "AD" / "1.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes((tmp_path / "eurosat" / "2750" / "BE" / "2.jpg").read_bytes())
    found = open_source(f"torchvision:EuroSAT:{tmp_path}").scan()
    assert len(found.catalog) == 1
    assert [problem.where for problem in found.problems] == ["eurosat/2750/AD/1.jpg"]
