"""Building an encoder from its config: timm's models, and a tiny ResNet made of timm's own class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sempairs.encoders.config import SMALL_STEMS, EncoderConfig, Stem
from sempairs.encoders.narrow_strides import avoid_narrow_strides
from sempairs.encoders.small_maps import use_matrix_products
from sempairs.errors import UserError, unknown
from sempairs.keyed import torch_draws

TINY = "tiny-resnet"
#: Arguments of timm.models.resnet.ResNet for 1.23 million parameters and features of width 256. The "deep"
#: stem is what makes the class begin with 32 channels instead of 64; a single convolution then replaces it.
TINY_ARGUMENTS: Mapping[str, Any] = {
    "layers": (1, 1, 1, 1),
    "channels": (32, 64, 128, 256),
    "stem_type": "deep",
    "stem_width": 16,
    # timm starts each block with its branch switched off, for training a hundred times longer; in a few
    # hundred steps the branches hardly come alive (docs/log.md).
    "zero_init_last": False,
}


class Encoder(nn.Module):
    """A timm model without its classifier: (B, 3, S, S) normalised floats to (B, width) features.

    `model` is the plain timm module. `width` is declared by timm, never probed with a batch.
    """

    def __init__(self, model: nn.Module, config: EncoderConfig, width: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Raises: UserError if the architecture's options leave it without one vector an image."""
        features = self.model(images)
        assert isinstance(features, Tensor)
        if features.ndim != 2 or features.shape[1] != self.width:
            got = tuple(features.shape)
            raise UserError("encoder.options", f"must give features of shape (B, {self.width})", got)
        return features

    @property
    def fixed_size(self) -> int | None:
        """The side in pixels of the only images the architecture takes; None where it takes several."""
        patches = getattr(self.model, "patch_embed", None)
        expected = getattr(patches, "img_size", None)
        return int(expected[0]) if expected and getattr(patches, "strict_img_size", False) else None

    def check_input(self, size: int) -> None:
        """Raises: UserError if the architecture is made for one image size, and it is not `size`."""
        fixed = self.fixed_size
        if fixed is not None and fixed != size:
            remedy = f"set encoder.options.img_size to {size}"
            raise UserError(f"encoder.arch {self.config.arch}", f"takes images of {fixed}", size, remedy)


def build_network(config: EncoderConfig, *, seed: int) -> Encoder:
    """Build the network that `config` names with weights drawn by `seed`, whatever `config.weights` says.

    On the CPU, in float32, in training mode. Global random state is left as it was.
    Raises: UserError for an unknown architecture, options it does not take, or a stem it cannot have.
    """
    with torch_draws(seed, "weights", "encoder"), torch.device("cpu"):
        model = _tiny(config) if config.arch == TINY else _timm(config)
    # Models whose head has a hidden layer keep it when the classifier goes; timm declares its width apart.
    declared: Any = getattr(model, "head_hidden_size", None)
    width = int(declared or getattr(model, "num_features", 0))
    avoid_narrow_strides(model)
    use_matrix_products(model)
    return Encoder(model, config, width)


def _timm(config: EncoderConfig) -> nn.Module:
    import timm

    # `is_model` also keeps out "hf-hub:…" and "local-dir:…", which would fetch or read weights.
    if not timm.is_model(config.arch):
        raise unknown("encoder.arch", config.arch, [TINY, *timm.list_models()])
    try:
        model = timm.create_model(config.arch, pretrained=False, num_classes=0, **config.options)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError) as error:
        message = f"are not taken by {config.arch} ({error})"
        raise UserError("encoder.options", message, config.options) from error
    assert isinstance(model, nn.Module)
    if config.stem in SMALL_STEMS:
        _refuse_unless_plain_resnet(model, config)
        _use_stem(model, config.stem)
    return model


def _tiny(config: EncoderConfig) -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    try:
        model = ResNet(BasicBlock, num_classes=0, **{**TINY_ARGUMENTS, **config.options})
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError("encoder.options", f"are not taken by {TINY} ({error})", config.options) from error
    assert isinstance(model, nn.Module)
    _use_stem(model, config.stem)
    return model


# Kernel, stride and padding of a ResNet's first convolution, and whether max pooling follows.
_STEMS: Mapping[Stem | None, tuple[int, int, int, bool]] = {
    None: (3, 2, 1, False),  # tiny-resnet's own
    "imagenet": (7, 2, 3, True),
    "small": (3, 1, 1, False),  # SimCLR, appendix B.9
    "padded": (3, 1, 2, False),  # solo-learn, solo/methods/base.py
    "pooled": (3, 1, 1, True),
}


def _use_stem(model: nn.Module, stem: Stem | None) -> None:
    """Gives a ResNet one first convolution, as timm initialises its own, with or without max pooling."""
    kernel, stride, padding, pool = _STEMS[stem]
    width = model.get_parameter("bn1.weight").numel()
    model.conv1 = nn.Conv2d(3, width, kernel, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if not pool:
        model.maxpool = nn.Identity()


def _refuse_unless_plain_resnet(model: nn.Module, config: EncoderConfig) -> None:
    from timm.models.resnet import ResNet

    if not isinstance(model, ResNet) or not isinstance(model.conv1, nn.Conv2d):
        rule = f"can be {config.stem} only for plain ResNets"
        raise UserError("encoder.stem", rule, config.arch, "use stem: imagenet")
