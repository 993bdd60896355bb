"""Peak memory and time of a step of a large batch: at once, and in micro-batches with cached gradients.

    python benchmarks/cached_gradients.py [--arch resnet50] [--size 224] [--batch 256] [--micro 64 32 16]
        [--rounds 3] [--device auto] [--method simclr]

Each way runs in a process of its own, in turns, over made-up views, with SGD in bf16 and channels_last. Peak
memory is the device's for a GPU and the resident set's for the CPU, less what the process had before its
first step. Figures are medians over rounds. Writes benchmarks/results/cached_gradients.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from sempairs.config import validate
from sempairs.encoders import build_encoder
from sempairs.files import write_json
from sempairs.methods import build_method
from sempairs.runs.sessions import environment
from sempairs.training.data import Batch
from sempairs.training.loop import Trainer, make_fabric
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.records import Crop, Views

RESULTS = Path(__file__).parent / "results" / "cached_gradients.json"
STEPS = 3  # the first of them warms up


def one(arch: str, size: int, batch: int, micro: int | None, device: str, method: str) -> dict[str, float]:
    """Peak MiB and median seconds a step, in this process."""
    recipe = validate(
        PretrainRecipe,
        {
            "data": {"source": "folder:unused"},
            "pairs": {"relation": "augmented"},
            "views": {"recipe": "lab", "size": size},
            "encoder": {"arch": arch},
            "method": {"name": method},
            "optimiser": {"name": "sgd", "lr": 0.01},
            "schedule": {"duration": "100 steps"},
            "batch_size": batch,
            "micro_batch": micro,
            "speed": {"device": device},
        },
    )
    fabric = make_fabric(recipe.speed)
    encoder = build_encoder(recipe.encoder, seed=0)
    built = build_method(recipe.method, encoder, encoder.width, seed=0, meanings=batch)
    trainer = Trainer(recipe, built, fabric, total=100, warm_up=0)
    ids = torch.arange(batch, device=fabric.device)
    crops = tuple(
        Crop(torch.randn(batch, 3, size, size, device=fabric.device), slot.member, slot.kind)
        for slot in built.slots
    )
    none = np.zeros(batch, dtype=np.int64)
    cuda = fabric.device.type == "cuda"
    before = torch.cuda.memory_allocated() / 2**20 if cuda else _resident()
    seconds = []
    for step in range(STEPS):
        began = perf_counter()
        trainer.step(step, Batch(0, none, none, none, none), Views(crops, ids, ids))
        if cuda:
            torch.cuda.synchronize()
        seconds.append(perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident()
    return {"peak_mib": peak - before, "seconds": statistics.median(seconds[1:])}


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--micro", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        micro = None if given.one == "all" else int(given.one)
        found = one(given.arch, given.size, given.batch, micro, given.device, given.method)
        print(json.dumps(found))
        return
    ways = ["all", *map(str, given.micro)]
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way in ways:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            rounds[way].append(json.loads(done.stdout.splitlines()[-1]))
    table: dict[str, dict[str, Any]] = {}
    for way, found in rounds.items():
        middle = {key: statistics.median(f[key] for f in found) for key in ("peak_mib", "seconds")}
        whole = table.get("all", middle)
        table[way] = middle | {f"{key}_of_all": middle[key] / whole[key] for key in middle}
        memory = f"{middle['peak_mib']:9.0f} MiB ({table[way]['peak_mib_of_all']:.2f} of all at once)"
        time = f"{middle['seconds']:.3f} s a step ({table[way]['seconds_of_all']:.2f} times)"
        print(f"micro_batch {way:>5}: {memory}, {time}")
    settings = {key: getattr(given, key) for key in ("arch", "size", "batch", "method", "rounds")}
    fabric_device = torch.device("cuda" if torch.cuda.is_available() and given.device != "cpu" else "cpu")
    write_json(given.out, {"settings": settings, "micro_batch": table, **environment(fabric_device)})


if __name__ == "__main__":
    main()
