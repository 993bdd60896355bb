"""A small release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.catalog.images import pixel_hash
from sempairs.files import sha256_bytes
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
