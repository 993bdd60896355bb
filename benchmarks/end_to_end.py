"""Training from images to updated weights, against the same step on one constant batch, and against lightly.

    python benchmarks/end_to_end.py [--methods simclr byol barlow_twins] [--sizes 32 64] [--rounds 5]
        [--threads 2] [--compile]

Ways of taking a method's steps with one encoder, one batch size and heads of one width, in turns on an
otherwise idle machine:

ours      the training loop of `sempairs pretrain`: pairs, keyed views, channels_last, AdamW
constant  the same step, fed with one batch of views made beforehand: what the arithmetic alone allows; what
          `ours` lacks to it is the time outside the model's forward and backward pass and its update
lightly   the example in its documentation (lightly_methods.py) with its transform, a DataLoader with two
          workers and SGD; images wait in memory as PIL has them, so no file is read or decoded; the encoder's
          convolutions are torch's own, without encoders/small_maps.py

each in float32 and in bf16 (autocast, over lightly's loss as well). Compared are `default`: each as it comes,
bf16 with ours and float32 with lightly; `float32` and `bf16`: both the same. Views have no blur on either
side, as in lightly's examples for 32 pixels; SimCLR's are `lab` here and SimCLRTransform there, the other
methods' have BYOL's two sides, solarised at times, on both.

Figures are pairs a second, the median over rounds, and the medians over rounds of the ratios within a round.
Writes benchmarks/results/end_to_end.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from lightly_methods import LIGHTLY, Pictures
from sempairs.config import validate
from sempairs.encoders import build_encoder, small_maps
from sempairs.files import write_json
from sempairs.methods import build_method
from sempairs.runs.sessions import environment
from sempairs.training.data import Batch, TrainingData, batches, load_data
from sempairs.training.loop import Trainer, make_fabric, take_steps
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.maker import ViewMaker
from sempairs.views.store import PixelStore

RESULTS = Path(__file__).parent / "results" / "end_to_end.json"
# What is aimed at by default, by image size: share of the constant batch's speed, and times lightly's.
AIMS = {32: (0.92, 3.0), 64: (0.92, 2.3)}
STORE = 64
IMAGES_FOR_LIGHTLY = 8192
DRAINED = 6  # batches that 2 workers have waiting when a round begins
# Settings of both sides, by the names of this project's configs.
SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"hidden": 512, "out": 128, "temperature": 0.5},
    "byol": {
        "hidden": 512, "out": 128, "predictor_hidden": 512, "momentum": 0.996, "final_momentum": 1.0
    },
    "barlow_twins": {"hidden": 512, "out": 512, "off_diagonal": 0.005},
}  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "simclr": {"recipe": "lab"},
    "byol": {"recipe": "byol", "without": ["blur"]},
    "barlow_twins": {"recipe": "byol", "without": ["blur"]},
}
PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
# The precision of ours and of lightly in each comparison.
COMPARED = {"default": ("bf16", "float32"), "float32": ("float32", "float32"), "bf16": ("bf16", "bf16")}


def recipe(options: argparse.Namespace, method: str, size: int, precision: str) -> PretrainRecipe:
    return validate(
        PretrainRecipe,
        {
            "data": {"source": options.source, "store_size": STORE},
            "pairs": {"relation": "cross_domain", "mode": "redrawn"},
            "views": {"size": size, **VIEWS[method]},
            "encoder": {"arch": "tiny-resnet"},
            "method": {"name": method, **SETTINGS[method]},
            "optimiser": {"name": "adamw", "lr": 0.002, "weight_decay": 0.0001},
            "schedule": {"duration": "1000000 steps", "warm_up": "10 steps"},
            "batch_size": options.batch_size,
            "speed": {
                "device": "cpu", "threads": options.threads, "precision": PRECISIONS[precision],
                "compile": options.compile,
            },
        },
    )  # fmt: skip


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
        began = perf_counter()
        for taken, _, _ in take_steps(self.trainer, self.maker, self.batches(steps), start=self.taken):
            self.taken = taken
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


class Lightly:
    """An example of lightly's documentation with our encoder, batch size and widths."""

    def __init__(self, settings: PretrainRecipe, data: TrainingData, workers: int) -> None:
        store = data.store.on_white()
        assert isinstance(store, PixelStore)
        pixels = store.pixels[:IMAGES_FOR_LIGHTLY].permute(0, 2, 3, 1).contiguous().numpy()
        name, self.half = settings.method.name, settings.speed.precision == PRECISIONS["bf16"]
        self.loader = torch.utils.data.DataLoader(
            Pictures(pixels, transform(name, settings.views.size)),
            batch_size=settings.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        )  # fmt: skip
        encoder = build_encoder(settings.encoder, seed=0)
        for module in encoder.modules():
            if isinstance(module, small_maps.Conv2d):
                module.__class__ = nn.Conv2d
        self.method = LIGHTLY[name](encoder, encoder.width, **SETTINGS[name])
        trained = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.SGD(trained, lr=0.06)

    def loop(self, steps: int) -> float:
        """Seconds for `steps` steps, counted once the batches made ahead are used up."""
        began, taken = 0.0, -DRAINED
        while taken < steps:
            for views, _ in self.loader:
                if taken == 0:
                    began = perf_counter()
                self.method.before_step(0, 10)
                with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                    loss = self.method.loss(views)
                loss.backward()
                self.optimiser.step()
                self.optimiser.zero_grad()
                taken += 1
                if taken == steps:
                    break
        return perf_counter() - began


def transform(method: str, size: int) -> Any:
    """That of the example, without blur, as the examples for 32 pixels have it."""
    from lightly.transforms import BYOLTransform, SimCLRTransform
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform

    if method == "simclr":
        return SimCLRTransform(input_size=size, gaussian_blur=0.0)
    return BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=size, gaussian_blur=0.0),
        view_2_transform=BYOLView2Transform(input_size=size, gaussian_blur=0.0),
    )


def measure(options: argparse.Namespace, data: TrainingData, method: str, size: int) -> dict[str, Any]:
    """Pairs a second of each contender in each round, and their ratios."""
    contenders: dict[str, Callable[[int], float]] = {}
    wanted = [COMPARED[name] for name in options.compare]
    for precision in PRECISIONS:
        settings = recipe(options, method, size, precision)
        if precision in {ours for ours, _ in wanted}:
            own = Ours(settings, data)
            contenders |= {f"ours {precision}": own.loop, f"constant {precision}": own.constant}
        if precision in {theirs for _, theirs in wanted}:
            contenders[f"lightly {precision}"] = Lightly(settings, data, workers=2).loop
    steps = {}
    for name, run in contenders.items():
        run(3)  # warm
        steps[name] = max(4, round(options.seconds / (run(3) / 3)))
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            speeds[name].append(options.batch_size * steps[name] / contenders[name](steps[name]))
        shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"{method}, {size} px, round {turn + 1}: {shown}", flush=True)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))

    return {
        "method": method,
        "size": size,
        "batch_size": options.batch_size,
        "steps_a_round": steps,
        "pairs_per_second": speeds,
        "median_pairs_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "compared": {
            name: {
                "ours": f"ours {ours}",
                "lightly": f"lightly {theirs}",
                "ours_to_constant": ratio(f"ours {ours}", f"constant {ours}"),
                "ours_to_lightly": ratio(f"ours {ours}", f"lightly {theirs}"),
            }
            for name, (ours, theirs) in COMPARED.items()
            if name in options.compare
        },
        "aims": dict(zip(("ours_to_constant", "ours_to_lightly"), AIMS[size], strict=True))
        if size in AIMS
        else None,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a line for each method, size and comparison."""
    lines = [
        "| method | size | precision | ours, pairs/s | of a constant batch | times lightly | aims |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        aims = result["aims"] or {}
        shown = ", ".join(f"{aim:g}" for aim in aims.values())
        for name, found in result["compared"].items():
            speed = result["median_pairs_per_second"][found["ours"]]
            lines.append(
                f"| {result['method']} | {result['size']} | {name} | {speed:,.0f} "
                f"| {found['ours_to_constant']:.3f} | {found['ours_to_lightly']:.2f} "
                f"| {shown if name == 'default' else ''} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training speed, end to end.")
    parser.add_argument("--source", default="emoji-pairs")
    parser.add_argument("--methods", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--compare", nargs="+", choices=list(COMPARED), default=list(COMPARED))
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="about how long one turn of one contender lasts"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="speed.compile on our side")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_data(recipe(options, "simclr", STORE, "float32"))  # the views' size does not matter to it
    found = [measure(options, data, method, size) for method in options.methods for size in options.sizes]
    print(table(found))
    machine = environment(torch.device("cpu"))
    machine["versions"]["lightly"] = version("lightly")
    asked = {name: getattr(options, name) for name in ("source", "rounds", "seconds", "threads", "compile")}
    write_json(
        options.out,
        {
            "command": "python benchmarks/end_to_end.py",
            "options": asked,
            "environment": machine,
            "results": found,
        },
    )


if __name__ == "__main__":
    main()
