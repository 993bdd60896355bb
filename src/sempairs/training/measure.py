"""How fast this machine trains: a few steps of the smallest encoder on made-up views."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch

from sempairs.config import validate
from sempairs.encoders import build_encoder
from sempairs.methods import build_method
from sempairs.training.data import Batch
from sempairs.training.loop import Trainer, make_fabric
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.records import Crop, Views

PAIRS, SIDE = 64, 32


def pairs_per_second(seconds: float) -> float:
    """Of SimCLR with tiny-resnet at 32 pixels, batches of 64, in the precision `auto` takes.

    seconds: how long to measure, after two steps that are not counted. Making views is left out.
    """
    recipe = validate(
        PretrainRecipe,
        {
            "data": {"source": "emoji-pairs"}, "pairs": {"relation": "augmented"}, "encoder": {},
            "views": {"size": SIDE}, "method": {"name": "simclr"}, "batch_size": PAIRS,
            "optimiser": {"name": "adamw", "lr": 0.001}, "schedule": {"duration": "1 epochs"},
        },
    )  # fmt: skip
    fabric = make_fabric(recipe.speed)
    encoder = build_encoder(recipe.encoder, seed=0)
    method = build_method(recipe.method, encoder, encoder.width, seed=0, meanings=PAIRS)
    trainer = Trainer(recipe, method, fabric, total=1_000_000, warm_up=0)
    generator = torch.Generator().manual_seed(0)
    crops = tuple(
        Crop(torch.randn(PAIRS, 3, SIDE, SIDE, generator=generator).to(fabric.device), member, "global")
        for member in ("anchor", "partner")
    )
    keys = np.arange(PAIRS)
    index = torch.from_numpy(keys).to(fabric.device)
    batch, views = Batch(0, keys, keys, keys, keys), Views(crops, index, index, index >= 0)
    began, steps = perf_counter(), -2
    while steps < 1 or perf_counter() - began < seconds:
        trainer.step(steps + 2, batch, views)  # looks at its loss, so that a device has come to its end
        steps += 1
        if not steps:
            began = perf_counter()
    return steps * PAIRS / (perf_counter() - began)
