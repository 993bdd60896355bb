"""Encoders of other projects: recognised by the names of their weights, and checked key by key.

| written by | backbone under |
|---|---|
| torchvision, timm, the released backbones of Barlow Twins, VICReg and DINO | nothing |
| MoCo v1, v2 / v3 | module.encoder_q / module.base_encoder |
| SimSiam / SwAV / Barlow Twins, VICReg | module.encoder / module / module.backbone |
| solo-learn | backbone (older: encoder) |
| lightly | backbone, numbered (nn.Sequential of a torchvision ResNet) or named |
| DINO | teacher's backbone |

Momentum encoders are left out where an online one is there, except for DINO, which publishes its teacher.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sempairs import __version__
from sempairs.encoders.build import build_encoder
from sempairs.encoders.checkpoints import read_checkpoint, state_dicts
from sempairs.encoders.config import EncoderConfig
from sempairs.encoders.files import EncoderSpec, LoadedEncoder
from sempairs.encoders.weights import load_weights, weight_hash
from sempairs.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# In order of preference: who writes it, in which dictionary, under which prefix, and what else must be there.
_LAYOUTS: tuple[tuple[str, str, str, str], ...] = (
    ("DINO", "teacher", "backbone.", ""),
    ("DINO", "teacher", "module.backbone.", ""),
    ("MoCo", "state_dict", "module.encoder_q.", ""),
    ("MoCo v3", "state_dict", "module.base_encoder.", ""),
    ("SimSiam", "state_dict", "module.encoder.", ""),
    ("lightly (DINO)", "state_dict", "teacher_backbone.", ""),
    ("solo-learn", "state_dict", "backbone.", "classifier."),
    ("lightly", "state_dict", "backbone.", ""),
    ("solo-learn", "state_dict", "encoder.", "classifier."),
    ("Barlow Twins or VICReg", "model", "module.backbone.", ""),
    ("SwAV", "", "module.", "module.prototypes."),
    ("SwAV", "state_dict", "module.", "module.prototypes."),
    ("lightly", "", "backbone.", ""),
    ("torchvision or timm", "", "", ""),
    ("torchvision or timm", "state_dict", "", ""),
    ("torchvision or timm", "model", "", ""),
    ("torchvision or timm", "state_dict", "module.", ""),
)
# What some keep beside the encoder's own layers, under the same prefix.
_HEADS = ("projection_head.", "prototypes.")
# A torchvision ResNet cut up into nn.Sequential: number of the child -> its name.
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(i + 3): f"layer{i}" for i in range(1, 5)}}
_RESNETS: dict[tuple[bool, tuple[int, ...], int], str] = {
    (False, (2, 2, 2, 2), 64): "resnet18",
    (False, (3, 4, 6, 3), 64): "resnet34",
    (True, (3, 4, 6, 3), 64): "resnet50",
    (True, (3, 4, 23, 3), 64): "resnet101",
    (True, (3, 8, 36, 3), 64): "resnet152",
    (True, (3, 4, 6, 3), 128): "wide_resnet50_2",
}
_VITS = {192: "vit_tiny", 384: "vit_small", 768: "vit_base", 1024: "vit_large"}


@dataclass(frozen=True)
class Recognised:
    """Whose checkpoint it is, its encoder's weights under timm's names, and the prefixes left out."""

    writer: str
    weights: Mapping[str, Tensor]
    left_out: tuple[str, ...]


def import_encoder(
    path: str | Path,
    *,
    arch: str | None = None,
    stem: Literal["imagenet", "small"] | None = None,
    prefix: str | None = None,
    input_size: int | None = None,
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
) -> tuple[LoadedEncoder, Recognised]:
    """The encoder in a checkpoint of MoCo, lightly, solo-learn, DINO, torchvision, timm and their like.

    arch, stem: told from the weights for ResNets and plain vision transformers; needed for others. prefix: of
    the encoder's keys, where the layout is none of those known. input_size: 224 unless given, 32 with a stem
    for small images. Nothing pickled is executed.
    Raises: UserError if the layout or architecture is not recognised, or naming keys that are missing,
    surplus or of another shape.
    """
    found = recognise(path, prefix=prefix)
    guessed, guessed_stem = _architecture(found.weights)
    name = arch or guessed
    if name is None:
        remedy = "name it: --arch, one of timm's"
        raise UserError(
            f"checkpoint {path}", "is of an architecture that its keys do not tell", remedy=remedy
        )
    config = EncoderConfig(arch=name, stem=stem or guessed_stem)
    built = build_encoder(config, seed=0)
    # Checkpoints of old versions of torch lack these counters, which only training with momentum None reads.
    counters = {
        key: torch.zeros_like(value)
        for key, value in built.model.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    load_weights(built.model, {**counters, **found.weights}, where=str(path))
    # A classifier beside the encoder's layers is left out, and said.
    heads = {key.split(".")[0] for key in found.weights if key not in built.model.state_dict()}
    found = replace(found, left_out=tuple(sorted({*found.left_out, *heads})))
    encoder = LoadedEncoder(built.model, config, built.width)
    size = input_size or (32 if config.stem == "small" else 224)
    (m0, m1, m2), (s0, s1, s2) = mean, std
    encoder.spec = EncoderSpec(
        config, built.width, size, (m0, m1, m2), (s0, s1, s2), weight_hash(built.model), __version__
    )
    return encoder.eval(), found


def recognise(path: str | Path, *, prefix: str | None = None) -> Recognised:
    """The encoder's weights in a checkpoint. Raises: UserError if there are none that are known."""
    parts = state_dicts(read_checkpoint(path))
    layouts = _LAYOUTS if prefix is None else [("given prefix", part, prefix, "") for part in parts]
    for writer, part, start, witness in layouts:
        state = parts.get(part, {})
        if witness and not any(key.startswith(witness) for key in state):
            continue
        mine = {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}
        heads = {key for key in mine if key.startswith(_HEADS)}
        own = _named({key: v for key, v in mine.items() if key not in heads})
        if own is not None:
            rest = {".".join(key.split(".")[:2]) for key in state if not key.startswith(start)}
            rest |= {key.split(".")[0] for key in heads}
            others = {f"{name}/" for name in parts if name != part}
            return Recognised(writer, own, tuple(sorted(rest | others)))
    keys = sorted(key for state in parts.values() for key in state)
    shown = ", ".join(keys[:3]) if keys else "none"
    remedy = "give the prefix of the encoder's keys"
    raise UserError(
        f"checkpoint {path}", f"has no keys of a known layout (the first: {shown})", remedy=remedy
    )


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights under timm's names, or None if they are no encoder."""
    if "4.0.conv1.weight" in state and "0.weight" in state:
        return {_child(key): value for key, value in state.items()}
    known = ("layer1.0.conv1.weight", "patch_embed.proj.weight", "conv_stem.weight", "stem.0.weight")
    return dict(state) if any(key in state for key in known) else None


def _child(key: str) -> str:
    number, _, rest = key.partition(".")
    return f"{_CHILDREN.get(number, number)}.{rest}"


def _architecture(weights: Mapping[str, Tensor]) -> tuple[str | None, Literal["small"] | None]:
    """timm's name and stem of a ResNet or plain vision transformer, None for what is neither."""
    if "layer1.0.conv1.weight" in weights:
        depths = tuple(_count(weights, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
        bottleneck = "layer1.0.conv3.weight" in weights
        width = len(weights["layer1.0.conv2.weight" if bottleneck else "layer1.0.conv1.weight"])
        small = weights["conv1.weight"].shape[-1] == 3 if "conv1.weight" in weights else False
        return _RESNETS.get((bottleneck, depths, width)), "small" if small else None
    if "patch_embed.proj.weight" in weights and "cls_token" in weights:
        width, _, patch, _ = weights["patch_embed.proj.weight"].shape
        side = round((weights["pos_embed"].shape[1] - 1) ** 0.5) * patch if "pos_embed" in weights else 0
        name = _VITS.get(width)
        return (f"{name}_patch{patch}_{side}" if name and side else None), None
    return None, None


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = {match[1] for key in weights if (match := re.match(pattern, key))}
    return len(found)
