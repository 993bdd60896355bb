"""Small stores, catalogues and sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from sempairs.catalog.sources.base import Scan, UnreadableImage
from sempairs.catalog.table import Catalog
from sempairs.views.store import PixelStore


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


@pytest.fixture
def noise_store() -> Callable[..., PixelStore]:
    """A store of smooth random pictures, which is what a hue or a resize is asked of in earnest."""

    def make(n: int = 12, size: int = 20, channels: int = 3, seed: int = 0) -> PixelStore:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(n, channels, 5, 5, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
        return PixelStore((fine * 255).round().to(torch.uint8), "none")

    return make


class ListSource:
    """Pictures held in memory; None is one that cannot be read. A uri is a place in the list."""

    spec = "list:"

    def __init__(self, images: Sequence[Image.Image | None]) -> None:
        self.images = images

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        names = [str(i) for i in range(len(self.images))]
        sizes = [(1, 1) if image is None else image.size for image in self.images]
        columns = {
            "image_id": names,
            "file_hash": [f"{i:064d}" for i in range(len(names))],
            "uri": names,
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "source": ["list"] * len(names),
        }
        return Scan(Catalog.from_columns(columns))

    def open_image(self, uri: str) -> Image.Image:
        image = self.images[int(uri)]
        if image is None:
            raise UnreadableImage("truncated")
        return image


@pytest.fixture
def list_source() -> Callable[[Sequence[Image.Image | None]], ListSource]:
    return ListSource


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    def make(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
        shape = (height, width, len(mode))
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)

    return make
