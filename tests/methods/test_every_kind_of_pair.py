"""Every method trains on semantic, augmented and mixed pairs, fixed or redrawn, through one loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempairs.config import validate
from sempairs.methods import METHODS
from sempairs.runs.trackers import read_metrics
from sempairs.training.loop import make_fabric
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import _Run, pretrain

KINDS = {
    "semantic": {"relation": "same_category", "mode": "redrawn"},
    "augmented": {"relation": "same_category", "mode": "redrawn", "arm": "augmented"},
    "mixed": {"relation": "same_category", "mode": "redrawn", "mixed": 0.5},
    "fixed": {"relation": "same_category", "mode": "fixed"},
}
CLASSES = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "images"
    generator = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(80 * number, 80 * number + 90, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{number}" / f"{index}.png")
    return folder


def recipe(images: Path, method: str, kind: str) -> PretrainRecipe:
    cls = METHODS.get(method)
    fields = cls.Config.model_fields
    small = {"hidden": 8, "out": 6, "predictor_hidden": 4, "queue": 16, "neighbours": 2}
    data = {
        "data": {"source": f"folder:{images}", "store_size": 12},
        "pairs": KINDS[kind],
        "views": {"recipe": "lab", "size": 12, "local": {"count": 2, "size": 8} if cls.takes_local else None},
        "encoder": {"options": {"channels": [8, 8, 8, 8]}},
        "method": {"name": method, **{key: value for key, value in small.items() if key in fields}},
        "optimiser": {"name": "adamw", "lr": 0.001},
        "schedule": {"duration": "2 steps"},
        "batch_size": 8,
        "speed": {"device": "cpu", "precision": "32-true", "threads": 1},
        "monitor": {"log_every": 1, "every": "0 steps", "tensorboard": False},
    }
    return validate(PretrainRecipe, data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS.names())
def test_a_method_trains(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method, kind) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")
    pretrain(recipe(images, method, kind), tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert len(lines) == 2
    assert all(
        math.isfinite(value) for line in lines for value in line.values() if not isinstance(value, str)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_classifier_has_one_output_a_meaning_in_every_arm(images: Path, tmp_path: Path, kind) -> None:
    settings = recipe(images, "supervised", kind)
    run = _Run(settings, settings, tmp_path / "run", None, make_fabric(settings.speed), None)
    assert run.trainer.method.classifier.out_features == CLASSES
