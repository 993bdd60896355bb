"""Training from images to updated weights, against the same step on one constant batch, and against lightly.

    python benchmarks/end_to_end.py [--sizes 32 64] [--rounds 5] [--threads 2]

Three ways of taking SimCLR steps with the same encoder and batch, in turns, on an otherwise idle machine:

ours      the training loop of `sempairs pretrain`: pairs, keyed views, bf16, channels_last, AdamW
constant  the same step, fed with one batch of views made beforehand: what the arithmetic alone allows
lightly   its SimCLR example as documented: SimCLRTransform(gaussian_blur=0), DataLoader with two
          workers, SimCLRProjectionHead(D, D, 128), NTXentLoss, SGD, float32; images wait in memory as PIL has
          them, so no file is read or decoded

Figures are pairs a second, the median over rounds, and the medians over rounds of the ratios within a round.
Writes benchmarks/results/end_to_end.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sempairs.config import validate
from sempairs.encoders import build_encoder
from sempairs.files import write_json
from sempairs.methods import build_method
from sempairs.training.data import Batch, TrainingData, batches, load_data
from sempairs.training.loop import Log, Trainer, make_fabric, run_steps
from sempairs.training.provenance import environment
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.maker import ViewMaker

RESULTS = Path(__file__).parent / "results" / "end_to_end.json"
# What is aimed at, by image size: share of the constant batch's speed, and times lightly's.
AIMS = {32: (0.92, 2.4), 64: (0.92, 2.0)}
STORE = 64
IMAGES_FOR_LIGHTLY = 8192
DRAINED = 6  # batches that 2 workers have waiting when a round begins


def recipe(source: str, size: int, batch_size: int, threads: int) -> PretrainRecipe:
    return validate(
        PretrainRecipe,
        {
            "data": {"source": source, "store_size": STORE},
            "pairs": {"relation": "cross_domain", "mode": "redrawn"},
            "views": {"recipe": "lab", "size": size},
            "encoder": {"arch": "tiny-resnet"},
            "method": {"name": "simclr"},
            "optimiser": {"name": "adamw", "lr": 0.002, "weight_decay": 0.0001},
            "schedule": {"duration": "1000000 steps", "warm_up": "10 steps"},
            "batch_size": batch_size,
            "speed": {"device": "cpu", "threads": threads},
        },
    )


class Ours:
    """The project's own step, fed by the loop or by one batch of views."""

    def __init__(self, settings: PretrainRecipe, data: TrainingData) -> None:
        fabric = make_fabric(settings.speed)
        encoder = build_encoder(settings.encoder, seed=0)
        method = build_method(settings.method, encoder, encoder.width, seed=0)
        self.settings, self.data = settings, data
        self.trainer = Trainer(settings, method, fabric, total=1_000_000, warm_up=10)
        self.maker = ViewMaker(settings.views, data.store, seed=0, device=fabric.device)
        self.taken = 0

    def batches(self, steps: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        return batches(self.data.plan, seed=0, batch_size=size, start=self.taken, stop=self.taken + steps)

    def loop(self, steps: int) -> float:
        """Seconds that the training loop takes for `steps` steps."""

        def count(taken: int, numbers: Log, embeddings: Tensor) -> None:
            self.taken = taken

        began = perf_counter()
        run_steps(self.trainer, self.maker, self.batches(steps), start=self.taken, after=count)
        return perf_counter() - began

    def constant(self, steps: int) -> float:
        """Seconds for as many steps on one batch."""
        batch = next(self.batches(1))
        views = self.maker.make(batch.epoch, batch.anchor, batch.partner, batch.occurrence, batch.meaning)
        began = perf_counter()
        for step in range(self.taken, self.taken + steps):
            self.trainer.step(step, batch, views)
        seconds = perf_counter() - began
        self.taken += steps
        return seconds


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """Arrays in memory, handed out as torchvision's CIFAR10 does, which the example trains on."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Any]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0


class Lightly:
    """https://docs.lightly.ai/self-supervised-learning/examples/simclr.html, with our encoder and batch."""

    def __init__(self, settings: PretrainRecipe, data: TrainingData, workers: int) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead
        from lightly.transforms import SimCLRTransform

        pixels = data.store.on_white().pixels[:IMAGES_FOR_LIGHTLY].permute(0, 2, 3, 1).contiguous().numpy()
        transform = SimCLRTransform(input_size=settings.views.size, gaussian_blur=0.0)
        self.loader = torch.utils.data.DataLoader(
            Pictures(pixels, transform),
            batch_size=settings.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        )  # fmt: skip
        self.encoder = build_encoder(settings.encoder, seed=0)
        self.head: nn.Module = SimCLRProjectionHead(self.encoder.width, self.encoder.width, 128)
        self.loss = NTXentLoss()
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.SGD(parameters, lr=0.06)

    def loop(self, steps: int) -> float:
        """Seconds for `steps` steps, counted once the batches made ahead are used up."""
        began, taken = 0.0, -DRAINED
        while taken < steps:
            for batch in self.loader:
                if taken == 0:
                    began = perf_counter()
                left, right = batch[0]
                projections = [self.head(self.encoder(view).flatten(start_dim=1)) for view in (left, right)]
                loss = self.loss(*projections)
                loss.backward()
                self.optimiser.step()
                self.optimiser.zero_grad()
                taken += 1
                if taken == steps:
                    break
        return perf_counter() - began


def measure(
    source: str, size: int, batch_size: int, rounds: int, seconds: float, threads: int
) -> dict[str, Any]:
    """Pairs a second of each contender in each round, and their ratios."""
    settings = recipe(source, size, batch_size, threads)
    data = load_data(settings)
    ours = Ours(settings, data)
    contenders: dict[str, Callable[[int], float]] = {
        "ours": ours.loop, "constant": ours.constant, "lightly": Lightly(settings, data, workers=2).loop
    }  # fmt: skip
    steps = {}
    for name, run in contenders.items():
        run(3)  # warm
        steps[name] = max(4, round(seconds / (run(3) / 3)))
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            speeds[name].append(batch_size * steps[name] / contenders[name](steps[name]))
        print(
            f"{size} px, round {turn + 1}: " + ", ".join(f"{n} {s[-1]:,.0f}" for n, s in speeds.items()),
            flush=True,
        )
    ratios = {
        other: [a / b for a, b in zip(speeds["ours"], speeds[other], strict=True)]
        for other in ("constant", "lightly")
    }
    return {
        "size": size,
        "batch_size": batch_size,
        "steps_a_round": steps,
        "pairs_per_second": speeds,
        "median_pairs_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "ours_to_constant": statistics.median(ratios["constant"]),
        "ours_to_lightly": statistics.median(ratios["lightly"]),
        "aims": {"ours_to_constant": AIMS[size][0], "ours_to_lightly": AIMS[size][1]}
        if size in AIMS
        else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Training speed, end to end.")
    parser.add_argument("--source", default="emoji-pairs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="about how long one turn of one contender lasts"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [
        measure(options.source, size, options.batch_size, options.rounds, options.seconds, options.threads)
        for size in options.sizes
    ]
    for result in found:
        print(
            f"{result['size']} px: {result['median_pairs_per_second']['ours']:,.0f} pairs/s, "
            f"{result['ours_to_constant']:.3f} of a constant batch, {result['ours_to_lightly']:.2f} times "
            f"lightly; aims {result['aims']}"
        )
    from importlib.metadata import version

    machine = environment(torch.device("cpu"))
    machine["versions"]["lightly"] = version("lightly")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out, {"command": "python benchmarks/end_to_end.py", "environment": machine, "results": found}
    )


if __name__ == "__main__":
    main()
