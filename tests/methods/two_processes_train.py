"""Run as a script, `two_processes_train.py OUTPUT RANK`, once for each of two processes.

Every registered method, with every objective it can have, takes some steps in float64, each process on its
share of the pairs, gradients averaged; saved is the state after them. Batch normalisation trains, as the
engine has it: synchronised.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch
import torch.distributed as dist
from torch import Tensor

from sempairs.training.batch_norm import synchronise
from sempairs.views.records import Crop, Views

SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7, "queue": 12, "neighbours": 2}
STEPS = 4


def sibling(name: str) -> ModuleType:
    """The module in the file `name`.py beside this one, whatever else goes by that name."""
    spec = importlib.util.spec_from_file_location(f"methods_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(name: str, rows: slice, *, processes: int) -> dict[str, Tensor]:
    """The method's state after the steps, and the last loss averaged over processes."""
    fixtures = sibling("conftest")
    method = fixtures.build_variant(name, fixtures.small_encoder(), SMALL).double()
    if processes > 1:
        synchronise(method, torch.device("cpu"))
    optimiser = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    method.train()
    mean = torch.zeros((), dtype=torch.float64)
    for step in range(STEPS):
        whole = fixtures.made_up_views(slots=method.slots, local=2 * method.takes_local, seed=step)
        crops = tuple(Crop(crop.pixels[rows].double(), crop.member, crop.kind) for crop in whole.crops)
        assert whole.distinct is not None
        views = Views(crops, whole.pair_id[rows], whole.meaning[rows], whole.distinct[rows])
        method.before_step(step / STEPS)
        loss = method(views).loss
        optimiser.zero_grad()
        loss.backward()
        mean = loss.detach().clone()
        for value in (mean, *(p.grad for p in method.parameters() if p.grad is not None)):
            if processes > 1:
                dist.all_reduce(value)
                value /= processes
        optimiser.step()
        method.after_step(step / STEPS)
    return {"last loss": mean, **method.state_dict()}


def main(target: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{target}.rendezvous", rank=rank, world_size=2)
    out = {}
    for share, first in (("equal", 4), ("unequal", 6)):
        rows = slice(0, first) if rank == 0 else slice(first, None)
        out[share] = {name: trained(name, rows, processes=2) for name in sibling("conftest").VARIANTS}
    torch.save(out, f"{target}.{rank}")
    os._exit(0)  # as `sempairs` itself: threads of gloo can abort a process that is taken down


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), int(sys.argv[2]))
