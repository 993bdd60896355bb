"""Losses of 20 steps of each method, kept as what a change of code is compared with: one file a method.

python tools/capture_golden.py                  shows how today's losses differ from the kept ones
python tools/capture_golden.py simclr dino      the same for these methods alone
python tools/capture_golden.py --write NEW      keeps today's of a method; say in the change why they moved

A file holds a list for each objective of the method: "pair", and "joint" for those that can have it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from sempairs import keyed
from sempairs.config import validate
from sempairs.methods import METHODS, PairMethod
from sempairs.runs.trackers import read_metrics
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

KEPT = Path(__file__).resolve().parent.parent / "tests" / "training" / "golden"
CLASSES, PER_CLASS, SIDE = 4, 8, 16


def draw(folder: Path) -> None:
    """32 keyed pictures in 4 classes: each class has its own four colours, each picture its own noise."""
    count = SIDE * SIDE * 3
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
        patches = keyed.uniform(0, "golden colours", occurrence=number, n=12).reshape(2, 2, 3)
        base = 40 + 175 * patches.repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
        noise = keyed.uniform(
            0, "golden noise", occurrence=np.arange(PER_CLASS) + number * PER_CLASS, n=count
        )
        for index, values in enumerate(noise.reshape(PER_CLASS, SIDE, SIDE, 3)):
            picture = np.round(base + 80 * (values - 0.5)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"class{number}" / f"{index}.png")


def objectives(method: str) -> tuple[str, ...]:
    """The objectives that the method is captured with."""
    return ("pair", "joint") if issubclass(METHODS.get(method), PairMethod) else ("pair",)


def losses(method: str, objective: str, folder: Path) -> list[float]:
    """The loss of each of 20 steps in float64 on one thread, on the images `draw` left in folder/images.

    In float32, twenty steps magnify the rounding of another processor to 7e-4 of SimSiam's loss, more than
    many a change of code does. In float64 two instruction sets gave the same bits; views stay float32.
    """
    takes_local = METHODS.get(method).takes_local and objective == "pair"
    local = {"count": 2, "size": SIDE // 2} if takes_local else None
    data = {
        "data": {"source": f"folder:{folder / 'images'}", "store_size": SIDE},
        "pairs": {"relation": "same_category", "mode": "redrawn"},
        "views": {"recipe": "byol", "size": SIDE, "local": local},
        "encoder": {"options": {"channels": [8, 8, 8, 8]}},
        "method": {"name": method},
        "objective": {"name": objective},
        # So small a rate that twenty steps do not magnify the rounding of another processor.
        "optimiser": {"name": "adamw", "lr": 0.0005, "eps": 0.0001, "weight_decay": 0.01},
        "schedule": {"duration": "20 steps", "warm_up": "5 steps"},
        "batch_size": 16,
        "speed": {"device": "cpu", "precision": "64-true", "threads": 1},
        "monitor": {"log_every": 1, "every": "0 steps", "tensorboard": False},
        "checkpoint": {"every": "20 steps"},
    }
    out = folder / f"{method}-{objective}"
    pretrain(validate(PretrainRecipe, data), out)
    return [line["loss"] for line in read_metrics(out / "metrics.jsonl") if line["kind"] == "train"]


def capture(methods: Iterable[str]) -> dict[str, dict[str, list[float]]]:
    """The losses of methods, by method and objective."""
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name) / "images")
        return {
            method: {objective: losses(method, objective, Path(name)) for objective in objectives(method)}
            for method in methods
        }


def kept(method: str) -> dict[str, list[float]]:
    """The losses that are kept of a method, by objective; {} where none are."""
    file = KEPT / f"{method}.json"
    found: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Golden losses: compare, or with --write keep.")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="Default: every method.")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    for method in options.methods:
        METHODS.get(method)  # a misspelt name is said before anything is computed
    for method in options.methods or METHODS.names():
        before, now = kept(method), capture([method])[method]
        for objective, values in now.items():
            old = before.get(objective)
            worst = max(abs(a / b - 1) for a, b in zip(values, old, strict=True)) if old else float("nan")
            print(
                f"{method}, {objective}: last loss {values[-1]:.6f}, largest relative difference {worst:.2e}"
            )
        if options.write:
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"{method}.json").write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
