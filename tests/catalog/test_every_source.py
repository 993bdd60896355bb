"""What every kind of source must do, checked from the registry."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.catalog.sources import SOURCES, FileSource, open_source
from sempairs.catalog.sources.base import source_kind
from sempairs.catalog.voc import VocImage, VocObject, write_voc
from sempairs.errors import UserError
from sempairs.testing import check_source

WritePng = Callable[..., Path]
# They read the bundled releases, which have tests of their own.
BUNDLED = ("emoji-pairs", "object-pairs", "release")
# These keep images as bare pixels; all others have files to pass on.
PIXELS = ("digits", "fashion-mnist")


def _folder(root: Path, write_png: WritePng) -> str:
    for seed in range(5):
        write_png(root / f"class {seed % 2}" / f"{seed}.png", seed, (4 + seed, 5))
    return f"folder:{root}"


def _csv(root: Path, write_png: WritePng) -> str:
    _folder(root, write_png)
    (root / "list.csv").write_text("path,category\nclass 1/1.png,b\nclass 0/0.png,a\nclass 0/2.png,a\n")
    return f"csv:{root / 'list.csv'}"


def _parquet(root: Path, write_png: WritePng) -> str:
    images = [{"bytes": write_png(root / "x.png", seed).read_bytes(), "path": None} for seed in range(5)]
    pq.write_table(pa.table({"image": images}), root / "a.parquet", row_group_size=2)
    return f"parquet:{root}"


def _idx(root: Path, write_png: WritePng) -> str:
    for name, n in (("train", 3), ("t10k", 2)):
        images = np.random.default_rng(n).integers(0, 256, (n, 5, 4), dtype=np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", np.arange(n, dtype=np.uint8))):
            start = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{name}-{what}-ubyte.gz").write_bytes(gzip.compress(start + array.tobytes()))
    return f"fashion-mnist:{root}"


def _torchvision(root: Path, write_png: WritePng) -> str:
    return _folder(root, write_png).replace("folder:", "torchvision:ImageFolder:")


def _catalog(root: Path, write_png: WritePng) -> str:
    scanned = open_source(_folder(root / "images", write_png)).scan(decode=True).catalog
    scanned.save(root / "a.arrow")
    return f"catalog:{root / 'a.arrow'}"


def _digits(root: Path, write_png: WritePng) -> str:
    return "digits"


def _stamps(root: Path, write_png: WritePng) -> str:
    return _folder(root, write_png).replace("folder:", "stamps:")


def _voc(root: Path, write_png: WritePng) -> str:
    pictures = [Image.open(write_png(root / "x.png", seed, (6, 4))) for seed in range(4)]
    objects = (VocObject("cat", (0, 0, 3, 2)),)
    images = [(VocImage(f"{i:06d}", 6, 4, objects), picture) for i, picture in enumerate(pictures)]
    write_voc(root / "VOCdevkit", 2007, images, {"train": ["000000", "000001"], "test": ["000002", "000003"]})
    return f"voc:{root}"


def _imagenet(root: Path, write_png: WritePng) -> str:
    for seed in range(4):
        part = "train" if seed < 3 else "val"
        write_png(
            root / part / f"n0144076{seed % 2}" / f"n0144076{seed % 2}_{seed}.JPEG", seed, (5, 4 + seed)
        )
    return f"imagenet:{root}"


def _dataset(root: Path, write_png: WritePng) -> str:
    for seed in range(4):
        write_png(root / "caltech101" / "101_ObjectCategories" / f"ant {seed % 2}" / f"{seed}.png", seed)
    return f"dataset:caltech101:{root}"


def _joined(root: Path, write_png: WritePng) -> str:
    one, two = _folder(root / "one", write_png), _folder(root / "two", write_png)
    columns = "concept: category, domain: image_id"
    parts = [f"- {{source: '{spec}', name: {name}, {columns}}}" for name, spec in (("a", one), ("b", two))]
    (root / "parts.yaml").write_text("parts:\n" + "\n".join(parts))
    return f"joined:{root / 'parts.yaml'}"


MADE = {
    "joined": _joined,
    "dataset": _dataset,
    "imagenet": _imagenet,
    "digits": _digits,
    "stamps": _stamps,
    "folder": _folder,
    "csv": _csv,
    "parquet": _parquet,
    "fashion-mnist": _idx,
    "torchvision": _torchvision,
    "catalog": _catalog,
    "voc": _voc,
}


def test_every_kind_is_tested() -> None:
    assert set(SOURCES.names()) == {*MADE, *BUNDLED}


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        source_kind("folder", summary="", example="")(lambda rest: open_source("folder:" + rest))


@pytest.mark.parametrize("kind", sorted(MADE))
def test_every_kind_keeps_the_contract(tmp_path: Path, write_png: WritePng, kind: str) -> None:
    spec = MADE[kind](tmp_path, write_png)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_source(spec)
    assert isinstance(open_source(spec), FileSource) == (kind not in PIXELS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("kind", sorted(set(MADE) - {"digits"}))
def test_a_missing_path_is_one_line(tmp_path: Path, kind: str) -> None:
    name = {"torchvision": "CIFAR10:", "dataset": "cifar10:"}.get(kind, "")
    rest = f"{name}{tmp_path}/absent"
    with pytest.raises(UserError, match="must be an existing path") as caught:
        open_source(f"{kind}:{rest}")
    assert "\n" not in str(caught.value)


def test_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 'foldr'; did you mean 'folder'\? choose from: catalog, csv, "):
        open_source("foldr:photos")
    with pytest.raises(UserError, match="source is unknown, got ''"):
        open_source("")
    with pytest.raises(UserError, match=f"did you mean folder:{tmp_path}"):
        open_source(str(tmp_path))
