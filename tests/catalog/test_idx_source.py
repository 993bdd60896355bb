"""Fashion-MNIST's IDX files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.idx import CATEGORIES, read_idx
from sempairs.errors import UserError
from sempairs.files import sha256_bytes

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, n in (("train", 3), ("t10k", 2)):
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(n, n))))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    return tmp_path


def test_splits_categories_and_pixels(folder: Path) -> None:
    source = open_source(f"fashion-mnist:{folder}")
    found = source.scan(decode=True)
    catalog = found.catalog
    assert not found.problems
    assert catalog.column("uri").tolist() == [
        "test/00000",
        "test/00001",
        "train/00000",
        "train/00001",
        "train/00002",
    ]
    assert catalog.column("split").tolist() == ["test"] * 2 + ["train"] * 3
    assert catalog.column("category").tolist() == list(CATEGORIES[:2] + CATEGORIES[:3])
    assert catalog.column("width").tolist() == [4] * 5
    assert catalog.column("height").tolist() == [5] * 5
    assert catalog.column("file_hash")[2] == sha256_bytes(images(3, 3)[0].tobytes())
    assert (np.asarray(source.open_image("train/00002")) == images(3, 3)[2][..., None]).all()
    for uri in ("train/3", "train/-1", "valid/0", "train", "train/x"):
        with pytest.raises(UnreadableImage):
            source.open_image(uri)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t10k-labels-idx1-ubyte",
            idx(np.zeros(3, dtype=np.uint8)),
            "as many images as labels, got '2 and 3'",
        ),
        ("t10k-labels-idx1-ubyte", idx(np.full(2, 10, dtype=np.uint8)), "below 10, got 10"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(2, dtype=np.uint8))[:-1], "exactly the 2 bytes"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(2, dtype=np.uint8)) + b"x", "exactly the 2 bytes"),
        ("t10k-labels-idx1-ubyte", idx(images(2)), "in 1 dimensions"),
        ("t10k-labels-idx1-ubyte", b"", "in 1 dimensions"),
        ("t10k-labels-idx1-ubyte", bytes([0, 0, 8, 1, 255, 255, 255, 255]), "at most"),
        ("t10k-images-idx3-ubyte.gz", b"not gzip", "is damaged"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(images(2)), mtime=0)[:-20], "is damaged"),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip.compress(idx(images(2)) + bytes(10**6), mtime=0),
            "exactly the 40 bytes",
        ),
    ],
)
def test_damaged_files(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"fashion-mnist:{folder}").scan()
    assert "\n" not in str(caught.value)


def test_a_missing_file(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"must hold t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        open_source(f"fashion-mnist:{folder}").scan()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_files() -> None:
    labels = read_idx(DEBIAN, "t10k-labels-idx1-ubyte", dimensions=1)
    assert np.bincount(labels).tolist() == [1000] * 10
    source = open_source(f"fashion-mnist:{DEBIAN}")
    assert source.open_image("test/00000").size == (28, 28)
    assert CATEGORIES[labels[0]] == "ankle-boot"
