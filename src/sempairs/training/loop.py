"""The training step and the loop around it: the same for every method.

A step is a pure function of the state and the step's number: rates come from the schedule, batches and views
from keyed draws. So nothing but the state is needed to go on after an interruption.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods import Method, StepOutput
from sempairs.training.data import Batch
from sempairs.training.optimisers import build_optimiser, optimiser_state, restore_optimiser, set_rates
from sempairs.training.recipe import PretrainRecipe, SpeedConfig
from sempairs.training.schedules import warm_up_cosine
from sempairs.views.maker import ViewMaker
from sempairs.views.records import Crop, Views

Log = dict[str, float]


def make_fabric(speed: SpeedConfig) -> Any:
    """The engine for this machine. Raises: UserError for a device that is not there, or several processes."""
    cuda = torch.cuda.is_available()
    if speed.device == "cuda" and not cuda:
        raise UserError("speed.device", "must be a device of this machine", "cuda", "use cpu or auto")
    # Negatives and batch statistics would silently stay on each process: better to say so than to train that.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        remedy = "start it without torchrun"
        raise UserError("pretraining", "runs in one process", os.environ["WORLD_SIZE"], remedy)
    # Its notes on precision and devices repeat what the recipe says.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    accelerator = "cuda" if cuda and speed.device != "cpu" else "cpu"
    return Fabric(accelerator=accelerator, devices=1, precision=speed.precision)


class NonFiniteLossError(ArithmeticError):
    """The loss of a step, or its gradient, is NaN or infinite; the weights are still those it came from."""

    def __init__(self, step: int, batch: Batch, views: Views, what: str, value: float) -> None:
        self.step, self.batch, self.views, self.what, self.value = step, batch, views, what, value
        super().__init__(f"{what} {value} at step {step}")


class _Tensors(nn.Module):
    """A method that takes and gives plain tensors: what Fabric's precision and DDP wrappers can look into."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(
        self, pixels: tuple[Tensor, ...], roles: tuple[tuple[Any, Any], ...], pair_id: Tensor, meaning: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        crops = tuple(Crop(x, member, kind) for x, (member, kind) in zip(pixels, roles, strict=True))
        out: StepOutput = self.method(Views(crops, pair_id, meaning))
        return out.loss, dict(out.logs), out.embeddings


class Trainer:
    """A method with its optimiser on its device; takes one step at a time."""

    def __init__(
        self, recipe: PretrainRecipe, method: Method, fabric: Any, *, total: int, warm_up: int
    ) -> None:
        self.recipe, self.method, self.fabric = recipe, method, fabric
        self.total, self.warm_up = total, warm_up
        self.layout = torch.channels_last if recipe.speed.channels_last else torch.contiguous_format
        self.final = recipe.schedule.final
        self.peak = recipe.optimiser.peak_lr(recipe.batch_size)
        method.to(device=fabric.device, memory_format=self.layout)  # type: ignore[call-overload]
        if recipe.speed.compile:
            method.encoder.compile()
        self.optimiser = build_optimiser(recipe.optimiser, method, batch_size=recipe.batch_size)
        self._module, self._optimiser = fabric.setup(_Tensors(method), self.optimiser)

    def step(self, step: int, batch: Batch, views: Views) -> tuple[Log, Tensor]:
        """One optimiser step; returns its numbers and the embeddings (B, D) of the first crop.

        Raises: NonFiniteLossError, before any weight is changed.
        """
        self.method.train()
        self.method.before_step(step / self.total)
        pixels = tuple(crop.pixels.contiguous(memory_format=self.layout) for crop in views.crops)
        roles = tuple((crop.member, crop.kind) for crop in views.crops)
        loss, logs, embeddings = self._module(pixels, roles, views.pair_id, views.meaning)
        scalars = {"loss": loss.detach(), **logs}
        # One look at the device for all of them.
        values = torch.stack([value.float().reshape(()) for value in scalars.values()]).tolist()
        numbers: Log = dict(zip(scalars, values, strict=True))
        if not math.isfinite(numbers["loss"]):
            raise NonFiniteLossError(step, batch, views, "loss", numbers["loss"])
        self._optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        numbers["gradient_norm"] = self._clip()
        if not math.isfinite(numbers["gradient_norm"]):
            raise NonFiniteLossError(step, batch, views, "gradient norm", numbers["gradient_norm"])
        factor = warm_up_cosine(step, total=self.total, warm_up=self.warm_up, final=self.final)
        set_rates(self.optimiser, peak=self.peak, factor=factor)
        numbers["lr"] = self.peak * factor
        self._optimiser.step()
        self.method.after_step(step / self.total)
        return numbers, embeddings

    def _clip(self) -> float:
        """The norm of all gradients together, before they are scaled down to the recipe's bound, if any."""
        if self.recipe.clip is None:
            gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
            return float(torch.nn.utils.get_total_norm(gradients))
        norm = self.fabric.clip_gradients(
            self._module, self._optimiser, max_norm=self.recipe.clip, error_if_nonfinite=False
        )
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that decides what comes next."""
        out = {f"method/{name}": value for name, value in self.method.state_dict().items()}
        kept = optimiser_state(self.optimiser, self.method)
        return out | {f"optimiser/{name}": value for name, value in kept.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` gave. Raises: RuntimeError if it is of another model."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.method.load_state_dict(part("method/"))
        restore_optimiser(self.optimiser, self.method, part("optimiser/"))


@dataclass
class Meter:
    """Means of the steps since the last line; part of a checkpoint, so that resumed lines are the same."""

    sums: Log = field(default_factory=dict)
    count: int = 0

    def add(self, numbers: Log) -> None:
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> Log:
        """The means, forgetting what they were made of."""
        means = {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def run_steps(
    trainer: Trainer,
    maker: ViewMaker,
    batches: Iterable[Batch],
    *,
    start: int,
    after: Callable[[int, Log, Tensor], None],
) -> None:
    """Takes one step a batch, the first being `start`, each followed by `after(taken, numbers, embeddings)`.

    taken: number of steps taken. The numbers include `data_seconds`, spent on pairs and views, and
    `step_seconds`, spent on the rest.
    """
    began = perf_counter()
    for step, batch in enumerate(batches, start):
        views = maker.make(batch.epoch, batch.anchor, batch.partner, batch.occurrence, batch.meaning)
        made = perf_counter()
        numbers, embeddings = trainer.step(step, batch, views)
        done = perf_counter()
        numbers |= {"data_seconds": made - began, "step_seconds": done - made}
        after(step + 1, numbers, embeddings)
        began = perf_counter()
