"""A small release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.catalog.images import pixel_hash
from sempairs.catalog.sources import open_source
from sempairs.catalog.splits import assign_splits
from sempairs.files import sha256_bytes
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines
from sempairs.release import ReleaseFacts, build_release
from sempairs.release.card import render_card
from sempairs.release.writer import write_release


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


Make = Callable[..., tuple[Catalog, dict[str, bytes]]]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A catalogue of n pictures in all splits, and their files' bytes by uri."""

    def build(n: int = 9, kind: str = "WEBP", **options: object) -> tuple[Catalog, dict[str, bytes]]:
        pixels = np.random.default_rng(n).integers(0, 256, (n, 5, 4, 4), dtype=np.uint8)
        images = [Image.fromarray(p) for p in pixels]
        data: dict[str, bytes] = {}
        file = tmp_path_factory.mktemp("image") / "one"
        for i, image in enumerate(images):
            image.save(file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else options))
            data[f"set/{i}.webp"] = file.read_bytes()
        uris = list(data)
        columns = {
            "image_id": [f"tiny/{uri}" for uri in uris],
            "file_hash": [sha256_bytes(data[uri]) for uri in uris],
            "pixel_hash": [pixel_hash(image) for image in images],
            "uri": uris,
            "width": [4] * n,
            "height": [5] * n,
            "source": ["anywhere"] * n,
            "licence": ["MIT"] * n,
            "category": [f"top/{i % 2}" for i in range(n)],
            "concept": [f"c{i // 2}" for i in range(n)],
            "domain": [f"d{i % 2}" for i in range(n)],
            "split": [("train", "validation", "test", None)[i % 4] for i in range(n)],
            "flags": [None] * n,
            "held_out": [i % 2 == 0 for i in range(n)],
        }
        return Catalog.from_columns(columns), data

    return build


@pytest.fixture
def write(make: Make) -> Callable[..., Path]:
    """Writes a release of given or made-up images to a folder."""

    def to(out: Path, catalog: Catalog | None = None, data: dict[str, bytes] | None = None) -> Path:
        if catalog is None or data is None:
            catalog, data = make()
        card = render_card(
            name="tiny", version="0.1.0", title="Tiny", summary="A test.", catalog=catalog, sections=[]
        )
        write_release(
            out,
            name="tiny",
            version="0.1.0",
            catalog=catalog,
            read=data.__getitem__,
            card=card,
            licences={"MIT.txt": "MIT License\n"},
            facts={"seed": 0},
        )
        return out

    return to


@pytest.fixture
def release(tmp_path: Path, write: Callable[..., Path]) -> Path:
    return write(tmp_path / "tiny")


Photos = Callable[..., Path]


@pytest.fixture(scope="session")
def draw() -> Photos:
    """Draws a folder `photos` of three classes of 14 pictures, 16 x 16, as PNG and JPEG; returns it."""

    def to(parent: Path) -> Path:
        random = np.random.default_rng(7)
        for kind in ("cat", "dog", "owl"):
            (parent / "photos" / kind).mkdir(parents=True)
            for i in range(14):
                image = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                image.save(parent / "photos" / kind / f"{i:02d}.{'png' if i % 2 else 'jpg'}")
        return parent / "photos"

    return to


@pytest.fixture(scope="session")
def pairs_of() -> Callable[..., Path]:
    """Builds a folder of pairs from the training split of a folder of photos."""

    def build(photos: Path, out: Path, *, backwards: bool = False, **config: object) -> Path:
        catalog = all_images(photos)
        if backwards:
            catalog = catalog.select(np.arange(len(catalog))[::-1])
        train = catalog.select(catalog.column("split") == "train")
        save_with_baselines(out, train, PairsConfig(**{"relation": "same_category", **config}))
        return out

    return build


def all_images(photos: Path) -> Catalog:
    """The photos with keyed splits."""
    return assign_splits(open_source(f"folder:{photos}").scan().catalog, seed=0)


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, draw: Photos, pairs_of: Callable[..., Path]) -> Path:
    """A folder with photos, their pairs, and two releases: `full` in small shards, `references`.

    For tests that change nothing in it.
    """
    root = tmp_path_factory.mktemp("ready")
    photos = draw(root)
    pairs = pairs_of(photos, root / "pairs")
    facts = ReleaseFacts(licence="CC-BY-4.0", title="Tiny pairs", creator=("Ann", "Ben"), date="2026-01-31")
    common: dict[str, Any] = {
        "name": "tiny",
        "version": "1.0.0",
        "facts": facts,
        "images": all_images(photos),
    }
    build_release(pairs, root / "full", shard_bytes=6000, **common)
    build_release(pairs, root / "references", references_only=True, **common)
    return root


@pytest.fixture
def copied(ready: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the releases that may be broken."""
    return lambda name: shutil.copytree(ready / name, tmp_path / name)


def files_of(folder: Path) -> dict[str, bytes]:
    """Bytes by relative name of all files under a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
