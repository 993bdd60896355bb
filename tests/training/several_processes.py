"""Run by torchrun: pretrains one after the other what JOBS, a JSON file, lists.

Each job is {"recipe": file, "out": folder, "resume": bool, "stop": step or null, "spoil": step or null}. With
`stop`, the last process is asked to stop during that step, and all must. With `spoil`, that step's loss is
infinite in the last process, and all must say so; what is said goes to a file said-RANK.txt in the folder.
After each session all must hold the same state.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sempairs.config import load_config
from sempairs.encoders import weight_hash
from sempairs.errors import UserError
from sempairs.methods import Method, StepOutput
from sempairs.runs.signals import Interrupted
from sempairs.training import run
from sempairs.training.data import Batch
from sempairs.training.loop import Trainer
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.records import Views


def same_everywhere(trainer: Trainer) -> None:
    hashes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(hashes, weight_hash(trainer.state()))
    assert len(set(hashes)) == 1, "processes hold different states"


def spoil_loss(method: Method) -> None:
    real = method.forward

    def forward(views: Views) -> StepOutput:
        out = real(views)
        return replace(out, loss=out.loss + float("inf"))

    method.forward = forward  # type: ignore[method-assign]


def pretrain(recipe: PretrainRecipe, out: Path, *, resume: bool, stop: int | None, spoil: int | None) -> None:
    trainers: list[Trainer] = []

    class Watched(Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            trainers.append(self)

        def step(self, step: int, batch: Batch, views: Views) -> Any:
            last = dist.get_rank() == dist.get_world_size() - 1
            if last and step + 1 == stop:
                self.stop.set()
            if last and step + 1 == spoil:
                spoil_loss(self.method)
            return super().step(step, batch, views)

    run.Trainer = Watched  # type: ignore[misc]
    said = ""
    try:
        run.pretrain(recipe, out, resume=resume)
    except Interrupted as stopped:
        said = str(stopped)
    except UserError as error:
        (out / f"said-{dist.get_rank()}.txt").write_text(str(error))
    assert (f"after step {stop} of" in said) == (stop is not None), said
    assert (out / f"said-{dist.get_rank()}.txt").exists() == (spoil is not None)
    same_everywhere(trainers[-1])


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        recipe = load_config(PretrainRecipe, job["recipe"])
        more = {name: job.get(name) for name in ("stop", "spoil")}
        pretrain(recipe, Path(job["out"]), resume=job["resume"], **more)
    os._exit(0)  # as `sempairs` itself: threads of gloo can abort a process that is taken down


if __name__ == "__main__":
    main()
