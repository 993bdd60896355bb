"""What a method is, and how one is added.

A method is one file: paper and equation on top, a config, a pure loss, a thin module, one registration
(`@METHODS.register`). The package finds the file by itself; recipes accept its config from then on.

The training loop, and nothing else, calls a method, in this order for step k of K, progress = k / K:

    before_step(progress) → forward(views) → loss.backward() → optimiser step → after_step(progress)

Schedules of the method's own (momentum, teacher temperature) are functions of `progress`, never counted
inside, so that a resumed run needs no state for them. Whatever else a method carries from step to step (a
target network, a queue, a centre) is a module or a buffer, so that `state_dict()` holds it, and changes in
`after_step` alone: a forward pass may be repeated. A queue is filled with rows gathered over processes
(`distributed.Layout.gather`), and so is the same on each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from sempairs.config import Config
from sempairs.errors import UserError
from sempairs.keyed import torch_draws
from sempairs.methods.objectives.base import ObjectiveConfig
from sempairs.registry import Registry, Section
from sempairs.views.records import PAIR, Slot, Views

L = TypeVar("L", bound=Callable[..., Any])

_HALF = (torch.float16, torch.bfloat16)


class MethodConfig(Config):
    """Settings of a method. Each method's config narrows `name` to a literal, which tells them apart."""

    name: str

    @property
    def largest_batch(self) -> int | None:
        """The most pairs, over all processes, that a step can have; None where there is no limit."""
        return None


@dataclass(frozen=True)
class Preset:
    """A method's settings at one scale, and the training they were published with."""

    config: MethodConfig
    training: str
    source: str


@dataclass(frozen=True)
class StepOutput:
    """What one step gives: `loss` is a scalar whose mean over processes is the loss of the whole batch.

    `logs` are detached scalars; `embeddings` (B, D) is the encoder's output for crop 0, detached.
    """

    loss: Tensor
    logs: Mapping[str, Tensor]
    embeddings: Tensor


class Levels(NamedTuple):
    """What a loss is held against.

    chance: its value where nothing is told apart: all candidates equally likely, or views unrelated, with a
    cosine or correlation of 0. collapse: where all rows are one and the same.
    """

    chance: float
    collapse: float


@dataclass(frozen=True)
class ParamRule:
    """How the optimiser treats a parameter: the recipe's learning rate times `lr_scale`, along the schedule
    or (`constant_lr`) without it."""

    lr_scale: float = 1.0
    constant_lr: bool = False


@dataclass(frozen=True)
class ParamGroup:
    """Named parameters under one rule."""

    rule: ParamRule
    parameters: tuple[tuple[str, nn.Parameter], ...]


class Method(nn.Module, ABC):
    """A self-supervised method around an encoder from (B, 3, S, S) to (B, width)."""

    Config: ClassVar[type[MethodConfig]]
    #: Published settings by scale, {} where none are claimed. Whoever claims a scale stands in the
    #: reproduction recipes of that scale.
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})
    #: Whether anything but trained parameters and statistics of normalisation goes on from step to step: a
    #: target network, a queue, a centre; true also where that is a setting.
    stateful: ClassVar[bool] = False
    #: Whether the encoder sees both views in one batch of 2B. This decides over which images batch
    #: normalisation takes its statistics, so it is part of the method.
    joint_forward: ClassVar[bool] = False
    #: The crops of each pair that `forward` gets, in this order.
    slots: tuple[Slot, ...] = PAIR
    #: Whether local crops, where the recipe asks for them, may follow those of `slots`.
    takes_local: bool = False
    #: Whether the constructor also takes `meanings`, the number of meanings of the pairs: for a classifier.
    takes_meanings: ClassVar[bool] = False

    #: Whether `Views.domain` must be there.
    needs_domains: bool = False

    encoder: nn.Module

    def __init__(self, config: MethodConfig, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def name(self) -> str:
        return str(self.Config.model_fields["name"].default)

    @abstractmethod
    def forward(self, views: Views) -> StepOutput:
        """Compute the loss of one batch of pairs. Raises: UserError for crops the method cannot use."""

    def crops(self, views: Views) -> tuple[Tensor, ...]:
        """Give the pixels (B, 3, S, S) of the crops of `slots`, in that order, then of local ones, if any.

        Raises: UserError for a batch of other crops.
        """
        given = [Slot(crop.member, crop.kind) for crop in views.crops]
        rest = given[len(self.slots) :]
        local = all(slot.kind == "local" for slot in rest) if self.takes_local else not rest
        wanted = [Slot(slot.member, slot.kind) for slot in self.slots]
        if given[: len(wanted)] != wanted or not local:
            more = ", then local ones if any" if self.takes_local else ""
            raise UserError("views", f"must be {_listed(wanted)}{more} for {self.name}", _listed(given))
        return tuple(crop.pixels for crop in views.crops)

    def pursue(self, objective: ObjectiveConfig, width: int) -> None:
        """Take another objective than anchor and partner, once, after construction; draw what it needs.

        Raises: UserError for an objective that the method cannot have.
        """
        if objective.name != "pair":
            rule = f"must be pair for {self.name}, whose loss is not one of two views"
            raise UserError("objective.name", rule, objective.name)

    def levels(self, pairs: int) -> Levels | None:
        """Tell the loss of chance and of a collapse in batches of `pairs`, over all processes, where known.

        Without what options leave out of a batch (`same_meaning_negatives`, `negatives`), which differs.
        """
        return None

    def before_step(self, progress: float) -> None:
        """Prepare the forward pass; progress in [0, 1) is the share of the steps already taken."""

    def after_step(self, progress: float) -> None:
        """Change what is carried to the next step; called after the optimiser's, with the same progress."""

    def param_rule(self, name: str, parameter: nn.Parameter) -> ParamRule:
        """Choose the rule for one trainable parameter; a method overrides this for, say, its predictor."""
        return ParamRule()

    def param_groups(self) -> list[ParamGroup]:
        """List every trainable parameter exactly once, grouped by rule, in order of first appearance."""
        groups: dict[ParamRule, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                # Those of a second head go by the names they have in the first.
                rule = self.param_rule(name.removeprefix("second."), parameter)
                groups.setdefault(rule, []).append((name, parameter))
        return [ParamGroup(rule, tuple(parameters)) for rule, parameters in groups.items()]

    def exported_encoder(self) -> nn.Module:
        """Give the encoder that is probed, saved and evaluated; a method may give its teacher's."""
        return self.encoder


#: The methods, by their names.
METHODS: Registry[type[Method]] = Registry("method", "sempairs.methods")
#: A recipe's section `method`: the config of the method that its `name` says.
AnyMethodConfig = Annotated[MethodConfig, Section(METHODS)]


def build_method(
    config: MethodConfig,
    encoder: nn.Module,
    width: int,
    *,
    seed: int,
    meanings: int | None = None,
    objective: ObjectiveConfig | None = None,
) -> Method:
    """Build a method around an encoder.

    Initial weights of heads are a pure function of `seed`, the config and, where it is used, the number of
    meanings; those of a second head are drawn after them. Global random state is left as it was.

    Args:
        config: Settings of the method that its `name` names.
        encoder: Maps (B, 3, S, S) to (B, width).
        width: Columns of the encoder's output.
        seed: Of the heads' initial weights.
        meanings: How many meanings the pairs have, `Views.meaning` counting them from 0; for classifiers.
        objective: Which crops are compared; None: anchor with partner.

    Returns:
        The method; its heads are on the CPU.

    Raises:
        UserError: for an unknown method, for `meanings` missing where needed, and for an objective that the
            method cannot have.
    """
    method = METHODS.get(config.name)
    build: Callable[..., Method] = method
    if method.takes_meanings:
        if meanings is None:
            raise UserError("meanings", f"must be given for {config.name}", None, "count those of the pairs")
        build = partial(build, meanings=meanings)
    with torch_draws(seed, "weights", "method"), torch.device("cpu"):
        built = build(config, encoder, width)
        if objective is not None:
            built.pursue(objective, width)
    return built


def _listed(slots: Iterable[Slot]) -> str:
    return ", ".join(f"{slot.kind} of {slot.member}" for slot in slots)


def check_paired(left: Tensor, right: Tensor) -> None:
    """Check paired rows. Raises: ValueError unless both are (B, D) of one shape with B at least 2."""
    if left.ndim != 2 or left.shape != right.shape:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ValueError(f"left and right must be (B, D) of one shape, got {shapes}")
    if len(left) < 2:
        raise ValueError(f"a batch must hold at least 2 pairs, got {len(left)}")


def in_float32(loss: L) -> L:
    """Decorate a loss: autocast is off, and tensors in half precision become float32 (float64 stays)."""

    def full(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value

    @wraps(loss)
    def run(*args: Any, **kwargs: Any) -> Any:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device_type=device, enabled=False):
            return loss(*map(full, args), **{name: full(value) for name, value in kwargs.items()})

    return cast(L, run)
