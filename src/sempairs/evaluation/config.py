"""Settings of an evaluation: everything here is part of a result's settings hash."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from sempairs.config import Config
from sempairs.precision import Precision, auto_precision

Positive = Annotated[float, Field(gt=0)]


class EvaluationConfig(Config):
    """How tasks are run. The defaults are the protocols as published; a quick study lowers their cost."""

    max_fit_images: Annotated[int, Field(ge=10)] | None = None
    """At most so many images to fit on (validation included), a keyed stratified subset; null: all."""
    lambdas: int | tuple[float, ...] = 45
    """Regularisation strengths λ of the linear probe: a list, or n for Ericsson's logspace(-6, 5, n)."""
    knn: tuple[Literal["knn-20-0.07", "knn-200-0.1"], ...] = ("knn-20-0.07", "knn-200-0.1")
    folds: Annotated[int, Field(ge=3, le=20)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    """Repeats of the stratified folds of small sets (stamps, digits)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Key of splits, folds and subsets. Not the run's seed: every run is scored on the same images."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the encoder's forward pass; features are float32 in both. auto: bf16 where the device has
    instructions for it; results, and their settings hash, have what it took."""
    near_copies: Annotated[float, Field(ge=0, le=1)] | None = None
    """At most this share of the scored images may be near-copies of what pretraining has seen; they are
    listed in the result. More refuse the task; 1 goes on knowingly. null: .1 where pretraining and task name
    one source, whose splits are its own (emoji-pairs has .06: clocks and arrows that are each other's mirror
    images), .01 elsewhere. No part of the settings hash: the numbers stay the same."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Of protocols that train for epochs (linear-moco-1, linear-simclr-1, low-shot); null: as published."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Of protocols that train for steps (fine-tune-1); null: as published."""
    episodes: Annotated[int, Field(ge=2)] | None = None
    """Of few-shot-5-5; null: as published."""
    probe_views: Literal["augmented", "none"] = "augmented"
    """What linear-moco-1 and linear-simclr-1 fit on: random crops and flips, or features of whole images."""
    fine_tune_rates: tuple[Positive, ...] | None = None
    """Learning rates that fine-tune-1 chooses among; null: as published."""
    fine_tune_decays: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight decays times the rate that fine-tune-1 chooses among; null: as published."""
    svm_costs: tuple[Positive, ...] | None = None
    """Costs that voc07-svm-1 chooses among; null: as published."""
    low_shot_lists: dict[Literal["low-shot-1", "low-shot-10"], str] = Field(default_factory=dict)
    """Files that name the labelled images, one a line, for example ImageNet's published 1percent.txt."""

    @field_validator("fine_tune_rates", "fine_tune_decays", "svm_costs")
    @classmethod
    def _some(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not value:
            raise ValueError("must be a list of numbers, or null")
        return value

    @field_validator("lambdas")
    @classmethod
    def _a_grid(cls, value: int | tuple[float, ...]) -> int | tuple[float, ...]:
        if isinstance(value, int):
            if not 1 <= value <= 200:
                raise ValueError("must be a list, or a number of strengths from 1 to 200")
        elif not value or min(value) <= 0:
            raise ValueError("must be a list of numbers greater than 0")
        return value

    @field_validator("knn")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a setting twice")
        return value

    def settled(self, device: str) -> EvaluationConfig:
        """With the precision that `auto` takes on a device."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": auto_precision(device)})

    @property
    def settled_precision(self) -> Precision:
        """The precision of a settled config."""
        assert self.precision != "auto"
        return self.precision

    def low_shot_list(self, protocol: str) -> str | None:
        """The file that names a low-shot protocol's images, if there is one."""
        return {str(name): path for name, path in self.low_shot_lists.items()}.get(protocol)

    @property
    def chooses_lambda(self) -> bool:
        """Whether there is more than one strength to choose from."""
        return len(self.lambda_grid) > 1

    @property
    def lambda_grid(self) -> tuple[float, ...]:
        """The strengths in increasing order."""
        if isinstance(self.lambdas, int):
            return tuple(float(value) for value in np.logspace(-6, 5, self.lambdas))
        return tuple(sorted(set(self.lambdas)))
