"""Training views a second, against lightly and kornia doing the same.

    python benchmarks/views.py [--sizes 32 64] [--rounds 7] [--threads 2]

SimCLR's random crop, flip, colour jitter, gray (no blur) and normalisation: two views of each of 4,096
images of 64 px that are held in memory as bytes. In turns, on an otherwise idle machine:

ours      ViewMaker on batches of 256, exact and keyed; drawing the parameters is part of the time
lightly   SimCLRTransform(gaussian_blur=0) on PIL images in a DataLoader with two workers
kornia    its augmentations on float batches of 256, each image with its own parameters; its crop does not
          antialias

Figures are views a second, the median over rounds, and the medians over rounds of the ratios within a round.
Writes benchmarks/results/views.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from sempairs.files import write_json
from sempairs.runs.sessions import environment
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD, RECIPES, ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.store import PixelStore

RESULTS = Path(__file__).parent / "results" / "views.json"
# How many times the speed of each other is aimed at, by size of the view.
AIMS = {32: {"lightly": 8.0, "kornia": 2.0}, 64: {"lightly": 4.0, "kornia": 3.5}}
IMAGES, STORED, BATCH = 4096, 64, 256

Contender = Callable[[], None]


def ours(store: PixelStore, size: int) -> Contender:
    maker = ViewMaker(ViewsConfig(recipe="simclr", size=size, without=("blur",)), store, seed=0)
    epoch = 0

    def work() -> None:
        nonlocal epoch
        epoch += 1
        for rows in np.split(np.random.default_rng(epoch).permutation(IMAGES), IMAGES // BATCH):
            maker.make(epoch, rows, rows, rows, rows)

    return work


def lightly(store: PixelStore, size: int) -> Contender:
    from lightly.transforms import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Pictures(Dataset[Any]):
        def __init__(self) -> None:
            self.pictures = [Image.fromarray(picture) for picture in store.pixels.permute(0, 2, 3, 1).numpy()]
            self.transform = SimCLRTransform(input_size=size, gaussian_blur=0.0)

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, row: int) -> Any:
            return self.transform(self.pictures[row])

    loader = DataLoader(Pictures(), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)

    def work() -> None:
        for _ in loader:
            pass

    return work


def kornia(store: PixelStore, size: int) -> Contender:
    from kornia import augmentation as aug

    recipe = RECIPES.get("simclr")
    assert recipe.crop_scale is not None
    transform = torch.nn.Sequential(
        aug.RandomResizedCrop((size, size), scale=recipe.crop_scale, ratio=recipe.crop_aspect),
        aug.RandomHorizontalFlip(p=recipe.flip),
        aug.ColorJitter(*recipe.jitter_strength, p=recipe.jitter),
        aug.RandomGrayscale(p=recipe.gray),
        aug.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )

    def work() -> None:
        with torch.no_grad():
            for rows in torch.randperm(IMAGES).split(BATCH):
                for _ in range(2):
                    transform(store.pixels[rows].float() / 255)

    return work


def measure(size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Views a second of each contender in each round, and how many times the others' speed is ours."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, STORED, STORED), dtype=torch.uint8, generator=generator)
    store = PixelStore(pixels, "random")
    contenders = {"ours": ours(store, size), "lightly": lightly(store, size), "kornia": kornia(store, size)}
    repeats = {}
    for name, work in contenders.items():
        work()  # warm
        began = perf_counter()
        work()
        repeats[name] = max(1, round(seconds / (perf_counter() - began)))
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            began = perf_counter()
            for _ in range(repeats[name]):
                contenders[name]()
            speeds[name].append(2 * IMAGES * repeats[name] / (perf_counter() - began))
        said = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"{STORED} to {size} px, round {turn + 1}: {said}", flush=True)
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds["ours"], speeds[name], strict=True))
        for name in contenders
        if name != "ours"
    }
    aims = AIMS.get(size, {})
    return {
        "stored_pixels": STORED,
        "view_pixels": size,
        "views_per_second": speeds,
        "median_views_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "ours_to": ratios,
        "aims": aims,
        "aims_met": {name: ratios[name] >= aim for name, aim in aims.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Training views a second.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="about how long one turn of one contender lasts"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [measure(size, options.rounds, options.seconds) for size in options.sizes]
    print(f"\n{'views a second':<16}{'ours':>9}{'lightly':>9}{'kornia':>9}   times lightly   times kornia")
    for result in found:
        medians, times, aims = result["median_views_per_second"], result["ours_to"], result["aims"]
        speeds = "".join(f"{medians[name]:>9,.0f}" for name in ("ours", "lightly", "kornia"))
        against = "".join(
            f"{times[name]:>7.1f}" + (f" (aim {aims[name]:g})" if name in aims else "")
            for name in ("lightly", "kornia")
        )
        print(f"{result['stored_pixels']} to {result['view_pixels']} px".ljust(16) + speeds + "   " + against)
    machine = environment(torch.device("cpu"))
    machine["versions"] |= {name: version(name) for name in ("lightly", "kornia")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out, {"command": "python benchmarks/views.py", "environment": machine, "results": found}
    )


if __name__ == "__main__":
    main()
