"""What a pretraining run is asked to do: frozen records read from YAML, nothing derived."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sempairs.catalog.selection import DataConfig
from sempairs.config import Config, Duration, Ramp
from sempairs.encoders import EncoderConfig
from sempairs.methods import METHODS, AnyMethodConfig, AnyObjectiveConfig, PairMethod, PairObjective
from sempairs.pairs.config import AnyPairsConfig
from sempairs.precision import auto_precision
from sempairs.training.samplers import AnySampler, Shuffled
from sempairs.views.config import ViewsConfig

Fraction = Annotated[float, Field(ge=0, le=1)]


class OptimiserConfig(Config):
    """The optimiser and its rate: `lr` as it is, or `base_lr` for a batch of 256, scaled linearly."""

    name: Literal["lars", "sgd", "adamw"]
    lr: Annotated[float, Field(gt=0)] | None = None
    base_lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    # Kinds of parameter that are neither decayed nor rescaled by LARS.
    exclude: tuple[Literal["bias", "norm"], ...] = ("bias", "norm")
    momentum: Fraction = 0.9  # lars, sgd
    nesterov: bool = False  # sgd
    trust: Annotated[float, Field(gt=0)] = 0.001  # lars
    # lars: a layer's own rate is bounded by the schedule's rate instead of multiplied by it (LARC).
    clip_lr: bool = False
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)  # adamw
    eps: Annotated[float, Field(gt=0)] = 1e-8  # adamw
    # The encoder's rate over that of the heads: a number, or points of progress and value. 0 leaves it as it
    # is, but for the statistics of its normalisation.
    encoder_scale: Ramp = Ramp(((0.0, 1.0),))
    # L2-SP: how strongly the encoder is pulled to the weights it started from, in the place of weight decay.
    pull: Annotated[float, Field(ge=0)] = 0.0

    @field_validator("encoder_scale")
    @classmethod
    def _no_step_back(cls, scale: Ramp) -> Ramp:
        if min(scale.values) < 0:
            raise ValueError("must be at least 0 all through training")
        return scale

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if (self.lr is None) == (self.base_lr is None):
            raise ValueError("needs exactly one of lr (absolute) and base_lr (for a batch of 256)")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("has nesterov, which only sgd with momentum > 0 knows")
        if self.clip_lr and self.name != "lars":
            raise ValueError("has clip_lr, which only lars knows")
        return self

    def peak_lr(self, batch_size: int) -> float:
        """The rate at the top of the schedule. Linear scaling: Goyal et al. 2017, arXiv:1706.02677."""
        if self.lr is not None:
            return self.lr
        assert self.base_lr is not None
        return self.base_lr * batch_size / 256


class ScheduleConfig(Config):
    """Linear warm-up, then a cosine down to `final` times the peak rate."""

    duration: Duration
    warm_up: Duration = Duration(0, "epochs")
    final: Fraction = 0.0


#: The names that training has for what `sempairs.precision` chooses between.
MIXED = {"bf16": "bf16-mixed", "float32": "32-true"}


class SpeedConfig(Config):
    """How the arithmetic is done. Each of these may change results in the last digits; all are recorded."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: bf16-mixed where the device has instructions for it, else 32-true (`sempairs.precision`).
    # 64-true is slow: for comparing what should be equal, such as one process and several.
    precision: Literal["auto", "32-true", "bf16-mixed", "64-true"] = "auto"
    channels_last: bool = True
    # torch.compile, for every network of the method while it trains; the first step waits for it.
    compile: bool = False
    # Updates of all weights in few operations instead of one at a time.
    fused: bool = True
    threads: Annotated[int, Field(ge=1)] | None = None  # torch's own choice where null

    def settled(self, kept: str | None = None) -> SpeedConfig:
        """With the precision `auto` takes: `kept`, of a run that has begun, else what suits the device."""
        if self.precision != "auto":
            return self
        taken = kept or MIXED[auto_precision(self.device)]
        return self.model_copy(update={"precision": taken})


class ReferenceConfig(DataConfig):
    """A small task beside the training, of another source: kNN from the images of `split` to those of
    `score_split`, by `label`."""

    score_split: str = "validation"
    label: str = "category"
    images: Annotated[int, Field(ge=2)] = 1000  # of each side, drawn by key


class DriftConfig(Config):
    """An alarm for runs that go on from an encoder: a probe whose kNN accuracy, on validation images or the
    reference task, lies more than `below` under that of the start."""

    below: Annotated[float, Field(ge=0, lt=1)] = 0.02
    # stop: saves the state and ends the run with status 3. It may change when a run is resumed.
    action: Literal["warn", "stop"] = "warn"
    reference: ReferenceConfig | None = None


class MonitorConfig(Config):
    """What is measured while training, on images that are not trained on."""

    log_every: Annotated[int, Field(ge=1)] = 10  # steps
    every: Duration = Duration(1, "epochs")  # between probes; "0 steps" for none
    split: str = "validation"
    label: str = "category"
    k: Annotated[int, Field(ge=1)] = 20
    temperature: Annotated[float, Field(gt=0)] = 0.07
    # Images of each side of the kNN probe, drawn by key.
    images: Annotated[int, Field(ge=2)] = 2000
    # Collapse is announced below this share of 1/sqrt(width), the std of features that fill the sphere.
    collapse_below: Fraction = 0.05
    # That the encoder learns little is announced where its kNN accuracy has gained less than this over the
    # weights it started from, once this share of the steps has been taken.
    little_below: Annotated[float, Field(ge=-1, le=1)] = 0.01
    little_after: Fraction = 0.25
    drift: DriftConfig | None = None
    tensorboard: bool = True
    csv: bool = True  # train.csv and probe.csv: the numbers of metrics.jsonl as tables


class CheckpointConfig(Config):
    """How often the run can be resumed from; the last and the one before it are kept."""

    every: Duration = Duration(1, "epochs")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.every.amount <= 0:
            raise ValueError("every must be longer than 0")
        return self


class PretrainRecipe(Config):
    """One run: the same recipe on the same machine with the same threads gives the same weights."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig
    pairs: AnyPairsConfig
    views: ViewsConfig
    encoder: EncoderConfig
    method: AnyMethodConfig
    # Which crops of a pair the method's loss compares: those of anchor and partner, or more.
    objective: AnyObjectiveConfig = PairObjective()
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    batch_size: Annotated[int, Field(ge=2, validate_default=True)] = 256  # over all processes
    # How an epoch's pairs are cut into batches: as they come, or so that none holds a meaning twice.
    sampler: AnySampler = Shuffled()
    # Pairs that a process passes through an encoder at once, with the gradients of the whole batch all the
    # same (training/cached.py): for batches that do not fit in memory. null: all of them.
    micro_batch: Annotated[int, Field(ge=2)] | None = None
    clip: Annotated[float, Field(gt=0)] | None = None  # norm of all gradients
    speed: SpeedConfig = SpeedConfig()
    monitor: MonitorConfig = MonitorConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    # Modules or Python files of others, which register what this recipe names (`sempairs.plugins`).
    plugins: tuple[str, ...] = ()

    @field_validator("optimiser")
    @classmethod
    def _pulled_to_something(cls, optimiser: OptimiserConfig, info: ValidationInfo) -> OptimiserConfig:
        encoder = info.data.get("encoder")
        if optimiser.pull and encoder is not None and encoder.weights is None:
            raise ValueError("has pull, which needs encoder.weights: those of an encoder to go on from")
        return optimiser

    @field_validator("objective")
    @classmethod
    def _of_the_method(cls, objective: AnyObjectiveConfig, info: ValidationInfo) -> AnyObjectiveConfig:
        method, views = info.data.get("method"), info.data.get("views")
        if isinstance(objective, PairObjective) or method is None:
            return objective
        if not issubclass(METHODS.get(method.name), PairMethod):
            takers = (name for name in METHODS.names() if issubclass(METHODS.get(name), PairMethod))
            raise ValueError(f"must be pair for {method.name}; others are for {', '.join(takers)}")
        if views is not None and views.local is not None and not objective.takes_local:
            raise ValueError("takes no local crops: set views.local to null")
        pairs = info.data.get("pairs")
        if pairs is not None and pairs.mode != "redrawn" and objective.shown_partners > 1:
            raise ValueError("shows several partners of each anchor, so pairs.mode must be redrawn")
        return objective

    @field_validator("batch_size")
    @classmethod
    def _fits_the_method(cls, size: int, info: ValidationInfo) -> int:
        method = info.data.get("method")  # absent where it is at fault itself
        most = method.largest_batch if method else None
        if method and most is not None and size > most:
            raise ValueError(f"must be at most {most} for {method.name}: its queue is to hold a batch")
        return size
