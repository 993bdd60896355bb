"""A step whose loss or gradient is not finite: kept whole, and taken again to find where that begins.

Kept are the step, the pairs, the pixels of every view, and the state the step began with: no image and no
earlier step is needed to take it again. Running statistics of batch normalisation are kept as the step's
forward pass left them; no loss reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sempairs.config import load_config
from sempairs.encoders import build_encoder
from sempairs.encoders.start import settled
from sempairs.errors import UserError
from sempairs.methods import build_method
from sempairs.runs import folder, processes
from sempairs.runs.checkpoint import Checkpoint, CorruptCheckpointError, load_checkpoint, write_state
from sempairs.runs.trackers import Log
from sempairs.training.data import Batch
from sempairs.training.loop import NonFiniteLossError, Trainer, make_fabric
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.records import Crop, Views

#: What a step is tried in when it is not finite in the recipe's precision, if there is anything wider.
WIDER = {"bf16-mixed": "32-true", "32-true": "64-true"}


class Replay(NamedTuple):
    """What taking a step again came to. reproduced: it was not finite again. lines: what to tell the user."""

    reproduced: bool
    lines: tuple[str, ...]


def keep_failure(
    out: Path,
    error: NonFiniteLossError,
    *,
    state: Mapping[str, Tensor],
    image_ids: Any,
    facts: Mapping[str, Any],
) -> UserError:
    """Writes `out`/failure and returns what to raise.

    state: the trainer's. image_ids: those of the catalogue's rows. facts: the run's `steps`, how many
    `meanings` its pairs have, and its number of `processes`. Where it cannot be written, the error says so.
    """
    rows = zip(error.batch.anchor, error.batch.partner, strict=True)
    pairs = [f"{image_ids[anchor]} | {image_ids[partner]}" for anchor, partner in rows]
    views = error.views
    tensors = {**state, "views/pair_id": views.pair_id, "views/meaning": views.meaning}
    tensors |= {f"views/{number}": crop.pixels for number, crop in enumerate(views.crops)}
    if views.distinct is not None:
        tensors["views/distinct"] = views.distinct
    if views.domain is not None:
        tensors["views/domain"] = views.domain.contiguous()
    scalars = {
        "what": error.what, "value": repr(error.value), "epoch": error.batch.epoch, "pairs": pairs,
        "crops": [[crop.member, crop.kind] for crop in views.crops], **facts,
    }  # fmt: skip
    where = out / folder.FAILURE
    remedy = (
        f"lower the learning rate or set clip; weights, views and all pairs are in {where}, and "
        f"`sempairs pretrain --replay {out}` finds where it begins"
    )
    try:
        write_state(where, error.step, tensors, scalars)
    except OSError as full:
        remedy = f"lower the learning rate or set clip; what it came from could not be kept ({full.strerror})"
    named = [pairs[row] for row in error.suspects]
    shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    rule = f"must be finite, but is {error.value} at step {error.step + 1}, with the pairs {shown}"
    return UserError(error.what, rule, remedy=remedy)


def replay(where: str | Path, overrides: Sequence[str] = ()) -> Replay:
    """Takes the step again that stopped the run in `where`, in the run's precision, and then in a wider one.

    where: the run's folder or the failure folder in it. overrides: other values for fields of `speed` and for
    `micro_batch`, as "speed.device=cpu". torch.compile is left out, so that each module can be looked at.
    Raises: UserError if there is nothing that can be taken again.
    """
    if processes.launch().processes > 1:
        raise UserError("--replay", "runs in one process", remedy="start it without torchrun")
    kept, recipe = _read(Path(where), overrides)
    scalars = kept.scalars
    taken = _take(recipe, kept, recipe.speed.precision)
    head = (
        f"step {kept.step + 1} of {scalars['steps']}, {len(scalars['pairs'])} pairs, "
        f"{recipe.speed.precision} on {taken.device}"
    )
    was = f"{scalars['what']} {scalars['value']}"
    if taken.error is None:
        return Replay(False, (f"not reproduced: {head}: {_numbers(taken.numbers)}; in the run: {was}",))
    lines = [
        f"reproduced: {head}: {taken.error.what} {taken.error.value}; in the run: {was}",
        f"weights before the step: {_weights(kept)}",
        f"first not finite: {taken.first}",
    ]
    wider = WIDER.get(recipe.speed.precision)
    if wider is None:
        return Replay(True, tuple(lines))
    again = _take(recipe, kept, wider)
    found = _numbers(again.numbers) if again.error is None else f"{again.error.what} {again.error.value}"
    verdict = "finite there" if again.error is None else "not finite there either"
    lines.append(f"in {'float32' if wider == '32-true' else 'float64'}: {verdict}: {found}")
    return Replay(True, tuple(lines))


def _read(where: Path, overrides: Sequence[str]) -> tuple[Checkpoint, PretrainRecipe]:
    """What a run kept, and its recipe with the overrides."""
    inside = where.name == folder.FAILURE and (where / "state.json").exists()
    out = where.absolute().parent if inside else where
    failure = out / folder.FAILURE
    if not (out / folder.RECIPE).exists():
        raise UserError("--replay", "must be the folder of a run", str(where))
    if not failure.exists():
        remedy = "it is kept when a loss is not finite, and removed when the run goes on"
        raise UserError("--replay", f"finds no {folder.FAILURE} folder", str(where), remedy)
    try:
        kept = load_checkpoint(failure)
    except CorruptCheckpointError as error:
        raise UserError(f"--replay {failure}", str(error)) from None
    if not {"what", "crops", "steps", "meanings", "processes"} <= kept.scalars.keys():
        raise UserError(f"--replay {failure}", "was written by another version of sempairs")
    started = load_config(PretrainRecipe, out / folder.RECIPE)
    recipe = load_config(PretrainRecipe, out / folder.RECIPE, overrides)
    if recipe != started.model_copy(update={"speed": recipe.speed, "micro_batch": recipe.micro_batch}):
        rule = "may change speed and micro_batch only, for a replay"
        raise UserError("--set", rule, list(overrides))
    speed = recipe.speed.settled(folder.kept_precision(out))
    return kept, recipe.model_copy(update={"speed": speed})


@dataclass
class _Taken:
    """A step taken again: `error` if it was not finite, else its `numbers`; `first`: where that began."""

    device: str
    error: NonFiniteLossError | None
    numbers: Log
    first: str


def _take(recipe: PretrainRecipe, kept: Checkpoint, precision: str) -> _Taken:
    speed = recipe.speed.model_copy(update={"precision": precision, "compile": False})
    # The weights are those kept, not those a file of the recipe's may hold.
    architecture = settled(recipe.encoder).model_copy(update={"weights": None})
    recipe = recipe.model_copy(update={"speed": speed, "encoder": architecture})
    fabric = make_fabric(speed)
    encoder = build_encoder(architecture, seed=recipe.seed)
    method = build_method(
        recipe.method, encoder, encoder.width, seed=recipe.seed, meanings=kept.scalars["meanings"],
        objective=recipe.objective,
    )  # fmt: skip
    trainer = Trainer(recipe, method, fabric, total=kept.scalars["steps"], warm_up=0)
    trainer.restore({k: v for k, v in kept.tensors.items() if not k.startswith("views/")})
    watch = _Watch(method)
    error: NonFiniteLossError | None = None
    numbers: Log = {}
    try:
        numbers, _ = trainer.step(kept.step, *_batch(kept, fabric.device))
    except NonFiniteLossError as raised:
        error = raised
    loss = "the loss" if error and error.what == "loss" else ""
    first = watch.output or loss or watch.gradient or "the norm of finite gradients"
    return _Taken(str(fabric.device), error, numbers, first)


def _batch(kept: Checkpoint, device: torch.device) -> tuple[Batch, Views]:
    """The batch that was kept. Its rows mean nothing without the catalogue, and are not looked up."""
    tensors = {k: v.to(device) for k, v in kept.tensors.items() if k.startswith("views/")}
    crops = tuple(
        Crop(tensors[f"views/{number}"], member, kind)
        for number, (member, kind) in enumerate(kept.scalars["crops"])
    )
    rest = (tensors.get(f"views/{name}") for name in ("distinct", "domain"))
    views = Views(crops, tensors["views/pair_id"], tensors["views/meaning"], *rest)
    none = np.zeros(len(views), dtype=np.int64)
    return Batch(kept.scalars["epoch"], none, none, none, none), views


class _Watch:
    """Looks at every module's output and every parameter's gradient: the first of each that is not finite."""

    def __init__(self, method: nn.Module) -> None:
        self.output = self.gradient = ""
        for name, module in method.named_modules():
            if name:
                module.register_forward_hook(self._module_hook(name))
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                register: Any = parameter.register_post_accumulate_grad_hook
                register(self._gradient_hook(name))

    def _module_hook(self, name: str) -> Any:
        # What a look saved for gradients would count among what a micro-batch's second pass must save again.
        @torch.no_grad()
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self.output or _finite(output):
                return
            seen = [value for value in inputs if isinstance(value, Tensor)]
            if all(map(_finite, seen)):
                given = f"from finite inputs up to {max(map(_largest, seen), default=0.0):.3g}"
            else:
                given = "from inputs that are not finite either"
            self.output = f"the output of {name} ({type(module).__name__}), {given}"

        return look

    def _gradient_hook(self, name: str) -> Any:
        def look(parameter: Tensor) -> None:
            if not self.gradient and not _finite(parameter.grad):
                self.gradient = f"the gradient of {name}, the first that the backward pass came to"

        return look


def _finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    return not isinstance(value, Tensor) or bool(value.isfinite().all())


def _largest(value: Tensor) -> float:
    return float(value.detach().abs().max()) if value.numel() else 0.0


def _weights(kept: Checkpoint) -> str:
    """Whether the weights are finite, and how large: divergence shows in them before it shows in a loss."""
    floats = {
        name.removeprefix("method/"): value
        for name, value in kept.tensors.items()
        if name.startswith("method/") and value.is_floating_point() and not name.endswith(_STATISTICS)
    }
    lost = [name for name, value in floats.items() if not _finite(value)]
    if lost:
        return f"{len(lost)} of {len(floats)} tensors are not finite, the first {lost[0]}"
    largest = {name: _largest(value) for name, value in floats.items()}
    name = max(largest, key=lambda key: largest[key])
    return f"finite, up to {largest[name]:.3g} ({name})"


_STATISTICS = ("running_mean", "running_var")


def _numbers(numbers: Log) -> str:
    assert all(math.isfinite(numbers[name]) for name in ("loss", "gradient_norm"))
    return f"loss {numbers['loss']:.6g}, gradient norm {numbers['gradient_norm']:.6g}"
