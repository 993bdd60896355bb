"""The training step and the loop around it: the same for every method.

A step is a pure function of the state and the step's number: rates come from the schedule, batches and views
from keyed draws. So nothing but the state is needed to go on after an interruption.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from inspect import signature
from threading import Event
from time import perf_counter
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sempairs.errors import UserError
from sempairs.keyed import torch_draws
from sempairs.methods import Method, StepOutput
from sempairs.runs import processes
from sempairs.runs.trackers import Log
from sempairs.training.batch_norm import synchronise
from sempairs.training.cached import micro_batches
from sempairs.training.compiled import compile_networks
from sempairs.training.data import Batch
from sempairs.training.optimisers import build_optimiser, optimiser_state, restore_optimiser, set_rates
from sempairs.training.pull import Pull
from sempairs.training.recipe import PretrainRecipe, SpeedConfig
from sempairs.training.schedules import warm_up_cosine
from sempairs.views.maker import ViewMaker
from sempairs.views.records import Crop, Views


def make_fabric(speed: SpeedConfig) -> Any:
    """The engine for this machine; the processes of one launch, joined.

    Raises: UserError for a device that is not there, and for processes that nothing known has started.
    """
    launch, precision = processes.launch(), speed.settled().precision
    cuda = torch.cuda.is_available()
    if speed.device == "cuda" and not cuda:
        raise UserError("speed.device", "must be a device of this machine", "cuda", "use cpu or auto")
    # Its notes on precision and devices repeat what the recipe says.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    accelerator = "cuda" if cuda and speed.device != "cpu" else "cpu"
    if launch.rank > 0:
        os.environ["SEMPAIRS_QUIET"] = "1"  # one progress bar is enough
    if launch.processes == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    if accelerator == "cuda" and torch.cuda.device_count() < launch.per_node:
        rule = f"needs a GPU for each of the {launch.per_node} processes of a machine"
        raise UserError("speed.device", rule, torch.cuda.device_count(), "start fewer, or use cpu")
    # Buffers are the same everywhere by construction: statistics, queues and centres are of the whole batch.
    accepted = signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in accepted else "broadcast_buffers"
    strategy = DDPStrategy(**{buffers: False})
    # Said of 1 x 1 kernels in channels_last, whose strides mean the same.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    fabric = Fabric(
        accelerator=accelerator, devices=launch.per_node, num_nodes=launch.nodes, strategy=strategy,
        precision=precision,
    )  # fmt: skip
    fabric.launch()
    return fabric


class NonFiniteLossError(ArithmeticError):
    """The loss of a step, or its gradient, is NaN or infinite; the weights are still those it came from.

    batch, views: the whole batch, of all processes. suspects: its rows where it may have happened, those of
    the processes whose own loss is not finite, or all.
    """

    def __init__(
        self, step: int, batch: Batch, views: Views, what: str, value: float, suspects: range | list[int]
    ) -> None:
        self.step, self.batch, self.views, self.what, self.value = step, batch, views, what, value
        self.suspects = suspects
        super().__init__(f"{what} {value} at step {step}")


class _Tensors(nn.Module):
    """A method that takes and gives plain tensors: what Fabric's precision and DDP wrappers can look into."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(
        self,
        pixels: tuple[Tensor, ...],
        roles: tuple[tuple[Any, Any], ...],
        pair_id: Tensor,
        meaning: Tensor,
        distinct: Tensor | None,
        domain: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        crops = tuple(Crop(x, member, kind) for x, (member, kind) in zip(pixels, roles, strict=True))
        out: StepOutput = self.method(Views(crops, pair_id, meaning, distinct, domain))
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
        self._reached = False  # that every parameter gets a gradient was seen
        self.stop = Event()  # asked of this process
        self.stopping = False  # agreed on by all: none takes another step
        if processes.count() > 1:
            synchronise(method, fabric.device)
        method.to(device=fabric.device, memory_format=self.layout)  # type: ignore[call-overload]
        if recipe.speed.compile:
            compile_networks(method, fabric.device)
        self.optimiser = build_optimiser(
            recipe.optimiser, method, batch_size=recipe.batch_size, fused=recipe.speed.fused
        )
        self._module, self._optimiser = fabric.setup(_Tensors(method), self.optimiser)
        # To the weights of the start: those that a checkpoint restores come later.
        self.pull = Pull(method, recipe.optimiser.pull) if recipe.optimiser.pull else None

    def step(self, step: int, batch: Batch, views: Views) -> tuple[Log, Tensor]:
        """One optimiser step; returns its numbers and the embeddings (B, D) of the first crop.

        Raises: NonFiniteLossError, before any weight is changed.
        """
        self.method.train()
        self.method.before_step(step / self.total)
        pixels = tuple(crop.pixels.contiguous(memory_format=self.layout) for crop in views.crops)
        roles = tuple((crop.member, crop.kind) for crop in views.crops)
        with (
            torch_draws(self.recipe.seed, "dropout", f"{step} {processes.rank()}", self.fabric.device),
            micro_batches(self.method, self.recipe.micro_batch, len(views)),
        ):
            loss, logs, embeddings = self._module(
                pixels, roles, views.pair_id, views.meaning, views.distinct, views.domain
            )
        self._optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self._check_reached()
        # Looked at once, after the backward pass: the device need not wait for the processor between the two.
        pulled = self.pull.measures() if self.pull else {}
        numbers, own_losses = self._look(
            {"loss": loss.detach(), **logs, **pulled, "gradient_norm": self._clip()}
        )
        for name, what in (("loss", "loss"), ("gradient_norm", "gradient norm")):
            if not math.isfinite(numbers[name]):
                raise _failure(step, batch, views, what, numbers[name], own_losses)
        factor = warm_up_cosine(step, total=self.total, warm_up=self.warm_up, final=self.final)
        scale = self.recipe.optimiser.encoder_scale
        trunk = scale.at(step / self.total)
        set_rates(self.optimiser, peak=self.peak, factor=factor, trunk=trunk)
        numbers["lr"] = self.peak * factor
        if scale.constant != 1:
            numbers["encoder_lr"] = numbers["lr"] * trunk
        if self.pull is not None:
            self.pull.apply(self.optimiser)
        self._optimiser.step()
        self.method.after_step(step / self.total)
        return numbers, embeddings

    def _look(self, scalars: dict[str, Tensor]) -> tuple[Log, list[float]]:
        """The means of scalars over processes, and the first of them in each; also settles who stops.

        One look at the device for all of them, and one message between processes.
        """
        asked = self.stop.is_set()
        # Wide enough for the norm of gradients in any precision.
        values = [value.double().reshape(()) for value in scalars.values()]
        values.append(values[0].new_full((), float(asked)))
        every = processes.rows_of_all(torch.stack(values))
        self.stopping = any(row[-1] for row in every)
        columns = list(zip(*every, strict=True))[:-1]
        numbers = {name: sum(column) / len(column) for name, column in zip(scalars, columns, strict=True)}
        return numbers, list(columns[0])

    def _check_reached(self) -> None:
        """Data-parallel training averages gradients only if every parameter has one."""
        if self._reached or processes.count() == 1:
            return
        lost = [n for n, p in self.method.named_parameters() if p.requires_grad and p.grad is None]
        if lost:
            rule = f"has parameters that the loss does not reach, such as {lost[0]}"
            raise UserError("encoder.arch", rule, remedy="train it in one process")
        self._reached = True

    def _clip(self) -> Tensor:
        """() The norm of all gradients, before they are scaled down to the bound of the recipe, if any."""
        if self.recipe.clip is None:
            gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
            return torch.nn.utils.get_total_norm(gradients)
        norm: Tensor = self.fabric.clip_gradients(
            self._module, self._optimiser, max_norm=self.recipe.clip, error_if_nonfinite=False
        )
        return norm

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


def _failure(
    step: int, batch: Batch, views: Views, what: str, value: float, own_losses: list[float]
) -> NonFiniteLossError:
    """The error with the whole batch in it. Collective."""
    share, everyone = len(batch.anchor), range(len(batch.anchor) * len(own_losses))
    suspects = [row for row in everyone if not math.isfinite(own_losses[row // share])]
    batch, views = _whole_batch(batch, views)
    return NonFiniteLossError(step, batch, views, what, value, suspects or everyone)


def _whole_batch(batch: Batch, views: Views) -> tuple[Batch, Views]:
    """Batch and views of all processes from this one's share, ordered as in one process. Collective."""
    if processes.count() == 1:
        return batch, views
    crops = tuple(replace(crop, pixels=processes.gather_rows(crop.pixels)) for crop in views.crops)
    distinct = None if views.distinct is None else processes.gather_rows(views.distinct)
    domain = None if views.domain is None else processes.gather_rows(views.domain.T.contiguous()).T
    whole = Views(
        crops, processes.gather_rows(views.pair_id), processes.gather_rows(views.meaning), distinct, domain
    )
    device = views.pair_id.device
    shares = (torch.from_numpy(part).to(device) for part in batch[1:] if part is not None)
    rows = (processes.gather_rows(share).cpu().numpy() for share in shares)
    return Batch(batch.epoch, *rows), whole


def take_steps(
    trainer: Trainer, maker: ViewMaker, batches: Iterable[Batch], *, start: int
) -> Iterator[tuple[int, Log, Tensor]]:
    """Takes one step a batch, the first being `start`; yields how many are taken, its numbers and embeddings.

    The numbers include `data_seconds`, spent on pairs and views, and `step_seconds`, spent on the rest.
    """
    began = perf_counter()
    for step, batch in enumerate(batches, start):
        views = maker.make(*batch)
        made = perf_counter()
        numbers, embeddings = trainer.step(step, batch, views)
        done = perf_counter()
        yield step + 1, {**numbers, "data_seconds": made - began, "step_seconds": done - made}, embeddings
        began = perf_counter()
