"""Training views from photographs on disk, against torchvision's ImageFolder and DataLoader doing the same.

    python benchmarks/photographs.py [--sizes 224 96] [--images 512] [--rounds 5] [--threads 2]

From JPEG files to batches of normalised float views: two views of each image by SimCLR's random crop, flip,
colour jitter, gray and blur. In turns, on an otherwise idle machine:

files        FileStore and ViewMaker: each image is decoded once for its two views, the next batch while one
             is made; crops are cut from the central square, stored at 256 px for views of 224, 112 for 96
memory       the same views from a PixelStore, decoded before the clock starts
torchvision  ImageFolder with its v1 transforms on PIL images (RandomResizedCrop, RandomHorizontalFlip,
             ColorJitter, RandomGrayscale, GaussianBlur, ToTensor, Normalize), twice an image, in a DataLoader
             with two workers that live on between epochs
pillow_blur  the same with Pillow's approximate Gaussian blur, as MoCo's reference code has it: torchvision's
             is slow on CPU (for reference, no aim)

Crops come from the whole photograph there, from its central square here. The photographs are synthetic: there
are none on this machine. They are JPEGs of 500 x 375 px at quality 90 of the spectrum of natural images (1/f
noise, overlaid with shapes that have edges) and 60 to 110 kB as in ImageNet, where decoding costs what it
costs for photographs; written before the clock starts and in the system's memory afterwards.

Figures are images a second (two views each), the median over rounds, and the medians over rounds of the
ratios within a round. Writes benchmarks/results/photographs.json.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from sempairs.catalog.sources import open_source
from sempairs.files import write_json
from sempairs.runs.sessions import environment
from sempairs.training.data import Batch, read_ahead
from sempairs.views.blur import kernel_size
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD, RECIPES, ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.photos import FileStore
from sempairs.views.store import ImageStore, PixelStore

RESULTS = Path(__file__).parent / "results" / "photographs.json"
AIM = 2.0  # times torchvision's images a second
WIDTH, HEIGHT, QUALITY = 500, 375, 90
STORED = {224: 256, 96: 112}
CLASSES, BATCH = 4, 64

Contender = Callable[[], None]


def photograph(number: int) -> Image.Image:
    """Colours that vary as 1/f, with ellipses of their own texture before them and fine grain on top."""
    rng = np.random.default_rng(number)
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    distance = np.maximum(np.hypot(rows, columns), 1 / WIDTH)

    def layer() -> np.ndarray:
        shape = (3, HEIGHT, WIDTH // 2 + 1)
        spectrum = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / distance
        spectrum[1:] = 0.3 * spectrum[1:] + 0.7 * spectrum[:1]  # channels go together
        field = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
        return np.asarray(rng.uniform(70, 185, (3, 1, 1)) + 42 * field / field.std())

    picture = layer()
    for _ in range(6):
        mask = Image.new("L", (WIDTH, HEIGHT))
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        a, b = rng.uniform(20, 110, 2)
        ImageDraw.Draw(mask).ellipse((x - a, y - b, x + a, y + b), fill=255)
        picture = np.where(np.asarray(mask) > 0, layer(), picture)
    picture += rng.normal(scale=3.0, size=(1, HEIGHT, WIDTH))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def write_photographs(folder: Path, n: int) -> float:
    """`n` JPEGs in classes, the same for the same `n`; returns their mean size in bytes."""
    sizes = []
    for number in range(n):
        target = folder / f"class{number % CLASSES}" / f"{number:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        photograph(number).save(target, quality=QUALITY)
        sizes.append(target.stat().st_size)
    return statistics.mean(sizes)


def ours(store: ImageStore, size: int) -> Contender:
    maker = ViewMaker(ViewsConfig(recipe="simclr", size=size), store, seed=0)
    epoch = 0

    def work() -> None:
        nonlocal epoch
        epoch += 1
        order = np.random.default_rng(epoch).permutation(len(store)).reshape(-1, BATCH)
        for batch in read_ahead((Batch(epoch, rows, rows, rows, rows) for rows in order), maker):
            maker.make(batch.epoch, batch.anchor, batch.partner, batch.occurrence, batch.meaning)

    return work


class PillowBlur:
    """Blurs a PIL image by a width drawn from a range."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, picture: Image.Image) -> Image.Image:
        return picture.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def torchvision(folder: Path, size: int, *, pillow_blur: bool = False) -> Contender:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    recipe = RECIPES.get("simclr")
    assert recipe.crop_scale is not None
    blur: Any = PillowBlur(recipe.blur_sigma)
    if not pillow_blur:
        blur = transforms.GaussianBlur(kernel_size(size), recipe.blur_sigma)
    once = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=recipe.crop_scale, ratio=recipe.crop_aspect),
            transforms.RandomHorizontalFlip(recipe.flip),
            transforms.RandomApply([transforms.ColorJitter(*recipe.jitter_strength)], p=recipe.jitter),
            transforms.RandomGrayscale(recipe.gray),
            transforms.RandomApply([blur], p=recipe.sides[0].blur),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    class TwoCrops:
        def __call__(self, picture: Image.Image) -> list[Any]:
            return [once(picture), once(picture)]

    loader = DataLoader(
        ImageFolder(str(folder), TwoCrops()), batch_size=BATCH, shuffle=True, num_workers=2,
        persistent_workers=True, drop_last=True,
    )  # fmt: skip

    def work() -> None:
        for _ in loader:
            pass

    return work


def measure(folder: Path, n: int, size: int, rounds: int) -> dict[str, Any]:
    """Images a second of each contender in each round, and how many times torchvision's are ours."""
    source = open_source(f"folder:{folder}")
    catalog, stored = source.scan().catalog, STORED.get(size, round(size * 8 / 7))
    contenders = {
        "files": ours(FileStore(source, catalog, stored), size),
        "memory": ours(PixelStore.build(source, catalog, stored), size),
        "torchvision": torchvision(folder, size),
        "pillow_blur": torchvision(folder, size, pillow_blur=True),
    }
    for work in contenders.values():
        work()  # warm
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            began = perf_counter()
            contenders[name]()
            speeds[name].append(n / (perf_counter() - began))
        said = ", ".join(f"{name} {values[-1]:,.1f}" for name, values in speeds.items())
        print(f"{size} px, round {turn + 1}: {said} images a second", flush=True)
    ratio = {
        name: statistics.median(a / b for a, b in zip(speeds[name], speeds["torchvision"], strict=True))
        for name in ("files", "memory", "pillow_blur")
    }
    return {
        "view_pixels": size,
        "stored_pixels": stored,
        "images_per_second": speeds,
        "median_images_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "to_torchvision": ratio,
        "aim": AIM,
        "aim_met": ratio["files"] >= AIM,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Training views from photographs on disk.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 96])
    parser.add_argument("--images", type=int, default=512, help=f"a multiple of {BATCH}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.images < BATCH or options.images % BATCH:
        parser.error(f"--images must be a multiple of {BATCH}")
    torch.set_num_threads(options.threads)
    os.environ.setdefault("SEMPAIRS_QUIET", "1")
    with tempfile.TemporaryDirectory() as name:
        size = write_photographs(Path(name), options.images)
        print(f"{options.images} photographs of {size / 1000:.0f} kB")
        found = [measure(Path(name), options.images, each, options.rounds) for each in options.sizes]
    print(f"\n{'images a second':<16}{'files':>9}{'memory':>9}{'torchvision':>13}{'pillow blur':>13}   times")
    for result in found:
        medians, times = result["median_images_per_second"], result["to_torchvision"]["files"]
        speeds = f"{medians['files']:>9,.1f}{medians['memory']:>9,.1f}{medians['torchvision']:>13,.1f}"
        speeds += f"{medians['pillow_blur']:>13,.1f}"
        print(f"{result['view_pixels']} px".ljust(16) + speeds + f"{times:>10.2f} (aim {AIM:g})")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "command": "python benchmarks/photographs.py",
        "photographs": {"n": options.images, "width": WIDTH, "height": HEIGHT, "mean_bytes": size},
        "environment": environment(torch.device("cpu")),
        "results": found,
    }
    write_json(options.out, record)


if __name__ == "__main__":
    main()
