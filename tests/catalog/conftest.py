"""Small pictures, and files of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


def noise(seed: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, size[0] * size[1] * channels, dtype=np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def to_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(name="noise")
def _noise() -> Callable[..., Image.Image]:
    return noise


@pytest.fixture(name="to_bytes")
def _to_bytes() -> Callable[..., bytes]:
    return to_bytes


@pytest.fixture
def write_png() -> Callable[..., Path]:
    """Writes a small picture, different for each seed; folders are made on the way."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(noise(seed, size)))
        return path

    return write
