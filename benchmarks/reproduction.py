"""Do this project's methods learn as much as lightly's implementations of them? One protocol for both.

    python benchmarks/reproduction.py [--methods simclr byol ...] [--seeds 0 1 2 3 4] [--jobs 2]

Each cell (method, side, seed) trains one encoder on the same grey pictures of Fashion-MNIST, as RGB, and is
scored on its test set; `random` is the encoder that every cell of a seed starts from.

equal on both sides   the images in memory, the encoder and its initial weights, the steps, the batch, AdamW
                      without decay of biases and norms, its rates step by step, the precision, the operations
                      that make a view and their strengths (`lab`: no blur), the widths of the heads, the
                      temperatures, queues and momenta
ours                  `sempairs pretrain` with pairs of an image with itself
lightly               the example in its documentation (lightly_methods.py), its transforms in a DataLoader

What stays different is the implementation: the draws of batches and views, the initial weights and biases of
the heads; lightly's momenta go by epochs and its target follows before the step, MoCo's query is always its
first view, every view passes by itself where ours of SimCLR, DCL, SwAV and DINO pass together, NNCLR has
SimCLR's candidates. BYOL's loss is a quarter of ours, which AdamW does not see. SwAV, DINO: local crops too.

Scores, of frozen features of each whole image: kNN (k = 20, T = .07) and the linear probe (λ chosen on a
fifth of the images), fitted on the images trained on. A difference is ours minus lightly's, paired by seed,
with its 95 % paired-t interval; "better" where that lies above 0, "worse" where it lies below, else
"within noise".

Every cell is a process of its own, and its result is kept under --cells: stopped, the script goes on where it
was. Writes one row a cell to benchmarks/results/reproduction.csv and prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproduction_table import OURS, RANDOM, THEIRS, table
from sempairs import keyed
from sempairs.catalog.sources import open_source
from sempairs.config import validate
from sempairs.encoders import Encoder, build_encoder, embed, load_encoder
from sempairs.evaluation.probes.linear import choose_and_refit
from sempairs.files import atomic_write, read_json, stable_hash, write_json
from sempairs.methods import METHODS
from sempairs.metrics.neighbours import KNN_SETTINGS, knn_accuracy
from sempairs.training import PretrainRecipe, pretrain
from sempairs.training.data import load_data
from sempairs.training.schedules import warm_up_cosine
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD
from sempairs.views.store import PixelStore

RESULTS = Path(__file__).parent / "results" / "reproduction.csv"
DEBIAN = "fashion-mnist:/usr/share/datasets/fashion-mnist"  # of the package dataset-fashion-mnist
LAMBDAS = tuple(10.0**k for k in range(-3, 4))
LOCAL = {"count": 2, "size": 16, "crop_scale": (0.1, 0.4)}
GLOBAL_SCALE = (0.2, 1.0)


@dataclass(frozen=True)
class Shared:
    """Settings of a method: those of both sides by the names of our config, and what one side alone
    has."""

    both: dict[str, Any]
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    local: bool = False  # whether it also gets local crops


HEAD = {"hidden": 512, "out": 128}
SHARED: dict[str, Shared] = {
    "simclr": Shared({**HEAD, "temperature": 0.2}),
    "moco_v2": Shared({**HEAD, "temperature": 0.2, "queue": 1024, "momentum": 0.99, "final_momentum": 0.999}),
    "dcl": Shared({**HEAD, "temperature": 0.2}),
    "nnclr": Shared({**HEAD, "predictor_hidden": 512, "temperature": 0.2, "queue": 1024}),
    "byol": Shared({**HEAD, "predictor_hidden": 512, "momentum": 0.99, "final_momentum": 1.0}),
    "simsiam": Shared(
        {"hidden": 512, "out": 512, "predictor_hidden": 128}, ours={"constant_predictor_lr": False}
    ),
    "barlow_twins": Shared({"hidden": 512, "out": 512, "off_diagonal": 0.005}),
    "vicreg": Shared({"hidden": 512, "out": 512}),
    "swav": Shared(
        {**HEAD, "prototypes": 256, "temperature": 0.1, "epsilon": 0.05},
        ours={"freeze_prototypes": 0.0},
        local=True,
    ),
    # Its last layer stands still for an epoch: `recipe` says so in ours.
    "dino": Shared(
        {
            "hidden": 512,
            "bottleneck": 128,
            "out": 1024,
            "teacher_temperature": 0.04,
            "momentum": 0.99,
            "final_momentum": 1.0,
        },
        theirs={"frozen_epochs": 1},
        local=True,
    ),
}


@dataclass(frozen=True)
class Cell:
    method: str
    side: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.side}-seed{self.seed}"


@dataclass(frozen=True)
class Images:
    """pixels: (N, 3, S, S) uint8, labels: (N,), of the images trained on and of the test set."""

    train: Tensor
    train_labels: NDArray[np.int64]
    test: Tensor
    test_labels: NDArray[np.int64]


def recipe(options: argparse.Namespace, method: str, seed: int) -> PretrainRecipe:
    shared = SHARED.get(method, Shared({}))
    views: dict[str, Any] = {"recipe": "lab", "size": options.size, "crop_scale": GLOBAL_SCALE}
    if shared.local:
        views["local"] = LOCAL
    settings = {"name": method, **shared.both, **shared.ours}
    if method == "dino":
        settings["freeze_last"] = shared.theirs["frozen_epochs"] / options.epochs
    return validate(
        PretrainRecipe,
        {
            "seed": seed,
            "data": {"source": options.source, "store_size": options.size},
            "pairs": {"relation": "augmented", "mode": "redrawn", "count": options.images},
            "views": views,
            "encoder": {"arch": "tiny-resnet", "options": {"channels": options.channels, "stem_width": 8}},
            "method": settings,
            "optimiser": {"name": "adamw", "lr": options.lr, "weight_decay": options.weight_decay},
            "schedule": {"duration": f"{options.epochs} epochs", "warm_up": "1 epochs"},
            "batch_size": options.batch,
            "speed": {"device": "cpu", "precision": options.precision, "threads": options.threads},
            "monitor": {"every": "0 steps", "tensorboard": False},
            "checkpoint": {"every": f"{options.epochs} epochs"},
        },
    )


def images_of(settings: PretrainRecipe, folder: Path) -> Images:
    """What the run of that recipe trains on, and the source's test images; kept in `folder` for all cells."""
    known = stable_hash([settings.data.model_dump(mode="json"), settings.pairs.model_dump(mode="json")])
    path = folder / f"images-{known[:8]}.npz"
    if not path.exists():
        found = load_images(settings)
        with atomic_write(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **{name: np.asarray(value) for name, value in vars(found).items()})
    with np.load(path) as kept:
        pixels = {name: torch.from_numpy(kept[name]) for name in ("train", "test")}
        return Images(**pixels, train_labels=kept["train_labels"], test_labels=kept["test_labels"])


def load_images(settings: PretrainRecipe) -> Images:
    """As `images_of`, from the source."""
    data = load_data(settings)
    rows = np.sort(data.plan.epoch(0).anchor)
    source = open_source(settings.data.source)
    catalog = source.scan().catalog
    test = catalog.select(catalog.column("split") == "test")
    store = PixelStore.build(source, test, settings.data.store_size)
    names, labels = np.unique(data.catalog.column("category")[rows].astype(str), return_inverse=True)
    return Images(
        train=data.store.on_white().pixels[torch.from_numpy(rows)],
        train_labels=labels.astype(np.int64),
        test=store.on_white().pixels,
        test_labels=np.searchsorted(names, test.column("category").astype(str)).astype(np.int64),
    )


def train_ours(settings: PretrainRecipe, cache: Path) -> tuple[Encoder, float]:
    """The encoder that `sempairs pretrain` leaves, and the seconds its loop took."""
    with tempfile.TemporaryDirectory(prefix="reproduction-") as folder:
        summary = pretrain(settings, Path(folder) / "run", pixel_cache=cache)
        return load_encoder(Path(folder) / "run"), summary.seconds


def train_lightly(settings: PretrainRecipe, images: Images) -> tuple[Encoder, float]:
    """The encoder that lightly's example leaves, and the seconds its loop took."""
    from lightly.models.utils import get_weight_decay_parameters

    from lightly_methods import LIGHTLY, Pictures

    name, epochs = settings.method.name, round(settings.schedule.duration.amount)
    encoder = build_encoder(settings.encoder, seed=settings.seed)
    random.seed(settings.seed)
    np.random.seed(settings.seed)  # lightly's and torchvision's own draws
    torch.manual_seed(settings.seed)
    shared = SHARED[name]
    method = LIGHTLY[name](encoder, encoder.width, **shared.both, **shared.theirs)
    pixels = images.train.permute(0, 2, 3, 1).contiguous().numpy()
    loader = torch.utils.data.DataLoader(
        Pictures(pixels, _transform(settings, local=shared.local)),
        batch_size=settings.batch_size, shuffle=True, drop_last=True,
    )  # fmt: skip
    decayed, plain = (
        [p for p in group if p.requires_grad] for group in get_weight_decay_parameters([method])
    )
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.optimiser.peak_lr(settings.batch_size), weight_decay=settings.optimiser.weight_decay,
    )  # fmt: skip
    total, warm_up = len(loader) * epochs, settings.schedule.warm_up.steps(len(loader))
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_up_cosine(min(step, total - 1), total=total, warm_up=warm_up)
    )
    half = settings.speed.precision == "bf16-mixed"
    method.train()
    began = perf_counter()
    for epoch in range(epochs):
        for views, _ in loader:
            method.before_step(epoch, epochs)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = method.loss(views)
            assert math.isfinite(float(loss.detach())), f"loss {float(loss.detach())}"
            loss.backward()
            method.after_backward()
            optimiser.step()
            optimiser.zero_grad()
            rates.step()
    seconds = perf_counter() - began
    scored = method.scored()
    assert isinstance(scored, Encoder)
    return scored, seconds


def _transform(settings: PretrainRecipe, *, local: bool) -> Any:
    """lightly's own transform with the operations and strengths of our view recipe."""
    from lightly.transforms import SimCLRTransform, SwaVTransform

    views = settings.views.resolved()
    brightness, contrast, saturation, hue = views.jitter_strength
    normalize = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    colour: dict[str, Any] = {
        "cj_prob": views.jitter, "cj_bright": brightness, "cj_contrast": contrast, "cj_sat": saturation,
        "cj_hue": hue, "random_gray_scale": views.gray, "hf_prob": views.flip, "gaussian_blur": 0.0,
        "normalize": normalize,
    }  # fmt: skip
    if not local:
        return SimCLRTransform(input_size=settings.views.size, min_scale=GLOBAL_SCALE[0], **colour)
    least, most = LOCAL["crop_scale"]
    return SwaVTransform(
        crop_sizes=(settings.views.size, LOCAL["size"]), crop_counts=(2, LOCAL["count"]),
        crop_min_scales=(GLOBAL_SCALE[0], least), crop_max_scales=(GLOBAL_SCALE[1], most), **colour,
    )  # fmt: skip


def score(encoder: Encoder, images: Images) -> dict[str, float]:
    """Accuracies in points on the test images."""
    train, test = (_features(encoder, pixels) for pixels in (images.train, images.test))
    k, temperature = KNN_SETTINGS["knn20"]
    knn = knn_accuracy(
        train, images.train_labels, test, images.test_labels, k=min(k, len(train)), temperature=temperature
    )
    order = keyed.permutation(0, "reproduction", epoch=0, n=len(train))
    held = len(train) // 5
    classes = int(images.train_labels.max()) + 1
    probe = choose_and_refit(
        train, images.train_labels, classes, LAMBDAS, fit=order[held:], validation=order[:held]
    )
    linear = float((probe.model.predict(test) == images.test_labels).mean())
    return {"knn": 100 * knn, "linear": 100 * linear}


def _features(encoder: Encoder, pixels: Tensor) -> NDArray[np.float32]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    batches: Iterator[Tensor] = ((part / 255 - mean) / std for part in pixels.split(500))
    return embed(encoder, batches)


def run_cell(options: argparse.Namespace, cell: Cell) -> dict[str, Any]:
    """Trains and scores one encoder."""
    torch.set_num_threads(options.threads)
    method = "simclr" if cell.side == RANDOM else cell.method
    settings = recipe(options, method, cell.seed)
    kept = Path(options.cells)
    images = images_of(settings, kept)
    if cell.side == RANDOM:
        encoder, seconds = build_encoder(settings.encoder, seed=cell.seed), 0.0
    elif cell.side == OURS:
        encoder, seconds = train_ours(settings, kept / "pixels")
    else:
        encoder, seconds = train_lightly(settings, images)
    row = {"method": cell.method, "side": cell.side, "seed": cell.seed}
    return {**row, **score(encoder, images), "training_seconds": seconds}


def cell_file(options: argparse.Namespace, cell: Cell) -> Path:
    """Named after everything that decides the result, so that no other settings' result is taken for it."""
    asked = {key: getattr(options, key) for key in DECIDE}
    shared = SHARED.get(cell.method)
    known = stable_hash([asked, shared and [shared.both, shared.ours, shared.theirs, shared.local], LOCAL])
    return Path(options.cells) / f"{cell.name}-{known[:8]}.json"


def run_all(options: argparse.Namespace, cells: Sequence[Cell]) -> list[Cell]:
    """Runs the cells that have no result, `jobs` side by side; returns those that failed."""
    waiting = [cell for cell in cells if not cell_file(options, cell).exists()]
    print(f"{len(cells)} cells, {len(waiting)} to run", flush=True)
    if waiting:
        images_of(recipe(options, "simclr", 0), Path(options.cells))
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "SEMPAIRS_QUIET": "1"}

    def run(cell: Cell) -> bool:
        began = perf_counter()
        arguments = [f"{cell.method}:{cell.side}:{cell.seed}", *sys.argv[1:]]
        process = subprocess.run(
            [sys.executable, __file__, "--cell", *arguments], capture_output=True, text=True, env=environment
        )
        done = cell_file(options, cell).exists()
        said = "" if done else f" FAILED\n{process.stderr[-1500:]}"
        print(f"{cell.name}: {perf_counter() - began:.0f} s{said}", flush=True)
        return done

    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(run, waiting))
    return [cell for cell, done in zip(waiting, outcomes, strict=True) if not done]


def write_csv(path: Path, rows: Sequence[dict[str, Any]], asked: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, [*rows[0], *asked], lineterminator="\n")
        writer.writeheader()
        kind = str(asked["source"]).partition(":")[0]  # where it lies is no result
        writer.writerows({**row, **asked, "source": kind} for row in rows)


# Options that decide what a cell comes to.
DECIDE = (
    "source", "images", "epochs", "batch", "lr", "weight_decay", "size", "channels", "precision", "threads",
)  # fmt: skip


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="This project's methods beside lightly's.")
    parser.add_argument("--methods", nargs="+", choices=list(SHARED), default=list(SHARED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--source", default=DEBIAN)
    parser.add_argument("--images", type=int, default=10_000, help="of the training set, the same for all")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--size", type=int, default=28, help="pixels, of images and views")
    parser.add_argument("--channels", type=int, nargs=4, default=[16, 32, 64, 128])
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--threads", type=int, default=1, help="of a cell")
    parser.add_argument("--jobs", type=int, default=2, help="cells side by side")
    parser.add_argument("--cells", default="runs/reproduction", help="folder of the cells' results")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.cell:
        method, side, seed = options.cell.split(":")
        cell = Cell(method, side, int(seed))
        write_json(cell_file(options, cell), run_cell(options, cell))
        return 0
    known = [name for name in options.methods if name in METHODS.names()]
    cells = [Cell(RANDOM, RANDOM, seed) for seed in options.seeds]
    # Seed by seed, so that a run that is stopped has whole seeds.
    cells += [Cell(name, side, seed) for seed in options.seeds for name in known for side in (OURS, THEIRS)]
    failed = run_all(options, cells)
    rows = [read_json(cell_file(options, cell)) for cell in cells if cell not in failed]
    if rows:
        write_csv(options.out, rows, {key: getattr(options, key) for key in DECIDE})
        print(table(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
