"""A folder of small drawings in classes, and a tiny recipe that trains on it in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sempairs.config import validate
from sempairs.training.recipe import PretrainRecipe

CLASSES, PER_CLASS, SIDE = 4, 12, 16


def draw_images(folder: Path) -> Path:
    """48 pictures of 16 x 16: each class has its own colours, each picture its own noise."""
    generator = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
        base = generator.uniform(40, 215, (2, 2, 3)).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
        for index in range(PER_CLASS):
            noisy = np.clip(base + generator.normal(0, 25, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"class{number}" / f"{index}.png")
    return folder


def tiny_recipe(images: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of 10 steps in 5 epochs; `changes` are dotted keys with __ for the dot."""
    data: dict[str, Any] = {
        "seed": 3,
        "data": {"source": f"folder:{images}", "store_size": SIDE},
        "pairs": {"relation": "same_category", "mode": "redrawn"},
        "views": {"recipe": "lab", "size": SIDE},
        "encoder": {"arch": "tiny-resnet", "options": {"channels": [8, 8, 8, 8]}},
        "method": {"name": "simclr", "hidden": 16, "out": 8},
        "optimiser": {"name": "adamw", "lr": 0.002, "weight_decay": 0.0001},
        "schedule": {"duration": "10 steps", "warm_up": "2 steps"},
        "batch_size": 12,
        "speed": {"device": "cpu", "precision": "32-true", "threads": 1},
        "monitor": {"log_every": 2, "every": "5 steps", "tensorboard": False},
        "checkpoint": {"every": "3 steps"},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return data


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("drawings") / "images")


@pytest.fixture(scope="session")
def make_recipe(images: Path) -> Callable[..., PretrainRecipe]:
    return lambda **changes: validate(PretrainRecipe, tiny_recipe(images, **changes))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")
