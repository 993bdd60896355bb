"""What a detection run is asked to do, and the named protocols.

Sources. `voc-c4-1`: He et al. 2020 (MoCo), appendix, and the configuration its authors published for
detectron2 (Base-RCNN-C4-BN, pascal_voc_R_50_C4_24k_moco). `voc-fpn-1`: Ericsson et al. 2021, "How Well Do
Self-Supervised Models Transfer?", and its published configuration: normalisation with fixed statistics, stem
and first stage fixed too. Their frozen variant fixes four stages (`freeze: 4`); `--frozen` here fixes all.

Departures, all from torchvision's detector: losses are smooth L1 with beta 1/9 (detectron2: L1), divided by
the anchors and regions sampled; the FPN variant's RoIAlign is torchvision's, not shifted by half a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from sempairs.config import Config, load_config, override, validate
from sempairs.errors import UserError, unknown

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]

#: Stages of a ResNet that `freeze` counts: the stem and four groups of blocks.
STAGES = 5


class DetectionConfig(Config):
    """Every setting of training and scoring a detector. Lengths are in iterations, sizes in pixels."""

    architecture: Literal["c4", "fpn"]
    # Sets of the data: VOC2007/trainval, or train2017 for COCO.
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: tuple[str, ...] | None = None  # those of the training sets, sorted, where null

    batch_size: Positive  # images over all processes
    lr: Annotated[float, Field(gt=0)]
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    norm_weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warm_up: Annotated[int, Field(ge=0)] = 100
    warm_up_from: Fraction = 0.001
    iterations: Positive
    milestones: tuple[Positive, ...] = ()  # where the rate is multiplied by gamma
    gamma: Fraction = 0.1
    # auto: bf16 where the device has instructions for it. The run's recipe.yaml has what it took.
    precision: Literal["auto", "float32", "bf16"] = "auto"

    train_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)]  # short side, drawn for each showing
    test_size: Positive
    max_size: Positive  # long side
    flip: Fraction = 0.5
    train_difficult: bool = True
    skip_empty: bool = True  # images without objects are not trained on

    # The first so many of stem and four stages keep the weights they came with; 5 is the whole backbone.
    freeze: Annotated[int, Field(ge=0, le=STAGES)] = 0
    # "batch": statistics of the batch (of all processes: SyncBN), trained. "fixed": those of the encoder.
    norm: Literal["batch", "fixed"] = "batch"
    extra_norm: bool = True  # c4: a normalisation after res5
    # Batches over which statistics are averaged anew before scoring (Wu & Johnson 2021); 0 for none.
    precise_norm: Annotated[int, Field(ge=0)] = 0

    anchors: tuple[Positive, ...] = (32, 64, 128, 256, 512)  # c4: all on one map; fpn: one a level
    aspects: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals_before_nms: tuple[Positive, Positive] = (12000, 6000)  # training, scoring
    proposals: tuple[Positive, Positive] = (2000, 1000)
    anchors_sampled: Positive = 256  # an image
    regions_sampled: Positive = 512  # an image, a quarter of them objects
    region_size: Positive = 14
    fpn_width: Positive = 256
    head_width: Positive = 1024
    score_threshold: Fraction = 0.05
    nms: Fraction = 0.5
    detections: Positive = 100  # an image

    checkpoint_every: Positive = 1000
    log_every: Positive = 20
    pictures: Annotated[int, Field(ge=0)] = 12  # drawn for the page, a test set
    workers: Positive | None = None  # threads that read pictures

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.train or not self.test:
            raise ValueError("needs at least one set in train and in test")
        if set(self.train) & set(self.test):
            raise ValueError("must not train on a test set")
        if self.architecture == "fpn" and len(self.anchors) != 5:
            raise ValueError("needs five anchor sizes for fpn, one a level")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must ascend")
        return self

    @property
    def frozen(self) -> bool:
        """Whether no weight of the encoder is trained."""
        return self.freeze == STAGES

    @property
    def trains_norm(self) -> bool:
        """Whether any normalisation uses the statistics of batches."""
        own = self.norm == "batch" and not self.frozen
        return own or (self.architecture == "c4" and self.extra_norm)


_MULTI_SCALE = tuple(range(480, 801, 32))
_VOC: dict[str, Any] = {
    "train": ("VOC2007/trainval", "VOC2012/trainval"),
    "test": ("VOC2007/test",),
    "train_sizes": _MULTI_SCALE,
    "test_size": 800,
    "max_size": 1333,
    "precision": "float32",  # as published
}
# For scenes of about 160 pixels with objects of 24 to 80, and small encoders, whose maps are finer than those
# of a ResNet-50. A step takes about a second of one CPU core with tiny-resnet.
_SMALL: dict[str, Any] = {
    "train": ("VOC2007/trainval",),
    "test": ("VOC2007/test",),
    "train_sizes": (128, 144, 160, 176),
    "test_size": 160,
    "max_size": 320,
    "batch_size": 8,
    "lr": 0.04,
    "warm_up": 50,
    "iterations": 600,
    "milestones": (450, 550),
    "anchors": (16, 24, 32, 48, 72),
    "proposals_before_nms": (1000, 500),
    "proposals": (200, 100),
    "anchors_sampled": 64,
    "regions_sampled": 32,
    "precise_norm": 50,
    "checkpoint_every": 100,
}

PROTOCOLS: Mapping[str, DetectionConfig] = {
    "voc-c4-1": DetectionConfig(
        **_VOC, architecture="c4", batch_size=16, lr=0.02, iterations=24_000, milestones=(18_000, 22_000),
        precise_norm=200,
    ),
    "voc-fpn-1": DetectionConfig(
        **_VOC, architecture="fpn", batch_size=2, lr=0.0025, iterations=144_000,
        milestones=(96_000, 128_000), freeze=2, norm="fixed", region_size=7,
        proposals_before_nms=(2000, 1000), proposals=(1000, 1000),
    ),
    "small-c4-1": DetectionConfig(**_SMALL, architecture="c4", region_size=8),
    "small-fpn-1": DetectionConfig(
        **{**_SMALL, "lr": 0.02}, architecture="fpn", region_size=7, fpn_width=64, head_width=256
    ),
}  # fmt: skip

# What of the settings is the task or the machine, and no part of a protocol.
_NOT_PROTOCOL = {
    "train", "test", "classes", "freeze", "checkpoint_every", "log_every", "pictures", "workers",
    "precision",
}  # fmt: skip
_NOT_SETTINGS = {"checkpoint_every", "log_every", "pictures", "workers"}


class DetectRecipe(Config):
    """A detection run, complete. encoder: as the command line names it. prefix: of a checkpoint's keys."""

    encoder: str
    prefix: str | None = None
    data: str
    protocol: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    settings: DetectionConfig

    @property
    def protocol_name(self) -> str:
        """As results have it: "voc-c4-1", "voc-c4-1-frozen", and "+changed" where a setting was."""
        base = PROTOCOLS[self.protocol]
        own = self.settings.frozen and not base.frozen
        changed = self.settings.freeze != base.freeze and not own
        changed |= self.settings.model_dump(exclude=_NOT_PROTOCOL) != base.model_dump(exclude=_NOT_PROTOCOL)
        return self.protocol + ("-frozen" if own else "") + ("+changed" if changed else "")

    def measured(self) -> dict[str, Any]:
        """The settings that numbers depend on, for their hash: not the seed, the encoder, nor places."""
        return {"protocol": self.protocol, **self.settings.model_dump(mode="json", exclude=_NOT_SETTINGS)}


class RecipeFile(Config):
    """A recipe on disk: a protocol, and what of it is set otherwise."""

    data: str | None = None
    protocol: str = "voc-c4-1"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    settings: dict[str, JsonValue] = Field(default_factory=dict)


def make_recipe(
    encoder: str,
    *,
    data: str | None = None,
    protocol: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    frozen: bool = False,
    seed: int | None = None,
    prefix: str | None = None,
) -> DetectRecipe:
    """The run that a command line asks for; what it says itself goes before the file.

    Raises: UserError for an unknown protocol, a key it does not have, or a value out of its rule.
    """
    given = RecipeFile() if file is None else load_config(RecipeFile, file)
    name = protocol or given.protocol
    source = data or given.data
    if name not in PROTOCOLS:
        raise unknown("--protocol", name, sorted(PROTOCOLS))
    if source is None:
        raise UserError("--data", "is required", remedy="give --data voc:PATH")
    settings = {**PROTOCOLS[name].model_dump(mode="json"), **given.settings}
    settings = override(settings, overrides)
    if frozen:
        settings["freeze"] = STAGES
    checked = validate(DetectionConfig, settings, "--set" if overrides else "settings")
    chosen = given.seed if seed is None else seed
    fields = {
        "encoder": encoder, "prefix": prefix, "data": source, "protocol": name, "seed": chosen,
        "settings": checked,
    }  # fmt: skip
    return validate(DetectRecipe, fields)
