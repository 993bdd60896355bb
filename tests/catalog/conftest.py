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


# Word (as data.noun has it) and the words above it, in WordNet's order; parents stand before children.
NOUNS: dict[str, list[str]] = {
    "entity": [],
    "animal": ["entity"],
    "domestic_animal": ["animal"],
    "vertebrate": ["animal"],
    "carnivore": ["vertebrate"],
    "canine": ["carnivore"],
    "dog": ["canine", "domestic_animal"],
    "toy_dog": ["dog"],
    "Chihuahua": ["toy_dog"],
    "pug": ["toy_dog"],
    "wolf": ["canine"],
    "fish": ["vertebrate"],
    "tench": ["fish"],
    "artifact": ["entity"],
    "input/output_device": ["artifact"],
}


def write_wordnet(folder: Path, release: str = "3.0", nouns: dict[str, list[str]] = NOUNS) -> dict[str, str]:
    """A `dict/data.noun` in WordNet's format; returns each word's synset id."""
    head = f"  1 This software and database is being provided to you\n  2 WordNet {release} Copyright 2006\n"
    place, offsets = len(head), dict.fromkeys(nouns, 0)
    for _ in range(2):  # the first time to learn where each line begins
        lines = []
        for word, above in nouns.items():
            # A pointer that is no hypernym comes first, and a hypernym of an instance counts too.
            pointers = [f"#m {0:08d} n 0000"] + [
                f"@{'i' * (word == 'pug')} {offsets[a]:08d} n 0000" for a in above
            ]
            words = f"02 {word} 0 {word}_too a"
            text = f"{offsets[word]:08d} 05 n {words} {len(pointers):03d} {' '.join(pointers)} "
            lines.append(f"{text}| a gloss | with bars\n")
        start = place
        for word, line in zip(nouns, lines, strict=True):
            offsets[word], start = start, start + len(line)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.noun").write_text(head + "".join(lines))
    return {word: f"n{offset:08d}" for word, offset in offsets.items()}


@pytest.fixture(name="write_wordnet")
def _write_wordnet() -> Callable[..., dict[str, str]]:
    return write_wordnet
