"""Small development kits in VOC's true layout: squares and discs on plain grounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sempairs.catalog.voc import VocImage, VocObject, write_voc
from sempairs.encoders import EncoderConfig, build_encoder, save_encoder

# Wide enough to learn eight pictures by heart, narrow enough to do so in seconds.
SMALL = EncoderConfig(arch="tiny-resnet", options={"channels": [8, 16, 32, 64], "stem_width": 4})
COLOURS = {"disc": (220, 40, 40), "square": (40, 70, 220)}

# Settings that make a run a matter of seconds.
QUICK = (
    "batch_size=2", "lr=0.02", "warm_up=2", "iterations=4", "milestones=[3]", "train_sizes=[64]",
    "test_size=64", "max_size=128", "anchors=[16,24,32,48,64]", "proposals_before_nms=[200,100]",
    "proposals=[50,20]", "anchors_sampled=32", "regions_sampled=16", "region_size=4", "precise_norm=2",
    "checkpoint_every=2", "log_every=1", "workers=1", "pictures=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other, and sums differ between numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


def scene(name: str, seed: int, *, size: int = 64) -> tuple[VocImage, Image.Image]:
    """One object of a random kind, place and size on grey; a second, difficult one now and then."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    objects = []
    for i in range(2 if seed % 4 == 3 else 1):
        kind = sorted(COLOURS)[int(random.integers(2))]
        side = int(random.integers(18, 30))
        x, y = (int(v) for v in random.integers(0, size - side, 2))
        draw = pen.ellipse if kind == "disc" else pen.rectangle
        draw((x, y, x + side - 1, y + side - 1), fill=COLOURS[kind])
        objects.append(VocObject(kind, (x, y, x + side, y + side), difficult=i == 1))
    return VocImage(name, size, size, tuple(objects)), image


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC2007 with eight pictures in trainval and four in test."""
    root = tmp_path_factory.mktemp("voc") / "VOCdevkit"
    scenes = [scene(f"{i:06d}", i) for i in range(12)]
    ids = [image.id for image, _ in scenes]
    sets = {"train": ids[:6], "val": ids[6:8], "trainval": ids[:8], "test": ids[8:]}
    write_voc(root, 2007, scenes, sets)
    return root


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "small"
    save_encoder(folder, build_encoder(SMALL, seed=1), SMALL, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return folder


@pytest.fixture
def quick() -> list[str]:
    return [*QUICK, 'train=["VOC2007/trainval"]', 'test=["VOC2007/test"]']


Detect = Callable[..., object]
