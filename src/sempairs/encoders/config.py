"""Which encoder to build. Light: importing this loads neither torch nor timm."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from sempairs.config import Config

# Arguments of timm.create_model that would fetch weights, change what comes out, or are not the recipe's.
_RESERVED = frozenset(
    {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
    | {"pretrained_strict", "features_only", "in_chans", "model_name", "num_classes"}
    | {"device", "dtype", "exportable", "no_jit", "scriptable"}
)


#: The architecture of the encoder that `weights` names.
SAVED = "saved"

Stem = Literal["imagenet", "small", "padded", "pooled"]
SMALL_STEMS: tuple[Stem, ...] = ("small", "padded", "pooled")
"""Those for images of about 32 to 64 pixels."""


class EncoderConfig(Config):
    """An architecture and its arguments.

    `arch`: "tiny-resnet" or any name of timm's. `stem`: "small" puts a 3x3 convolution of stride 1 without
    pooling in front of a ResNet, for images of about 32 to 64 pixels; "padded" is the same with padding 2 (as
    solo-learn has it for CIFAR), "pooled" the same with max pooling; "imagenet" is 7x7 of stride 2 with
    pooling; null is the architecture's own (tiny-resnet: 3x3 of stride 2 without pooling, five times faster
    than "small"). `options`: further arguments of the architecture, such as `img_size` for a vision
    transformer. `weights`: what to start from: a folder with an encoder (of a run, or by `sempairs import`),
    a safetensors file, or "efficientnet-lite0" (a package); nothing is ever downloaded. `arch`: "saved" takes
    the network that such a folder, or the package, describes.
    """

    arch: str = "tiny-resnet"
    stem: Stem | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    weights: str | None = None

    @field_validator("options")
    @classmethod
    def _own_arguments_only(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        taken = sorted(_RESERVED & options.keys())
        if taken:
            hint = "; give a weights file in `weights`" if "pretrained" in taken[0] else ""
            raise ValueError(f"must not hold {', '.join(taken)}{hint}")
        return options

    @model_validator(mode="after")
    def _saved_says_all(self) -> Self:
        if self.arch == SAVED:
            if self.weights is None:
                raise ValueError(f"has arch {SAVED}, which needs weights: a folder with an encoder")
            if self.stem is not None or self.options:
                raise ValueError(f"has arch {SAVED}, so stem and options must be left out")
        return self
