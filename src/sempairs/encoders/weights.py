"""Weights of timm models: read without executing anything, fitted by name, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sempairs.errors import UserError


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises: UserError if it is missing or not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError("weights", "must be a safetensors file", str(path))
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights {path}", f"cannot be read as safetensors ({error})") from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copies `weights` into a timm model built without its classifier; a classifier among them is left out.

    Raises: UserError naming the keys that are missing, left over, or of another shape.
    """
    own = model.state_dict()
    head = getattr(model, "pretrained_cfg", {}).get("classifier") or "fc"
    heads = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
    given = {key: value for key, value in weights.items() if key in own or not key.startswith(heads)}
    _refuse("lacks", own.keys() - given.keys(), where)
    _refuse("has the unknown", given.keys() - own.keys(), where)
    reshaped = [key for key in own if own[key].shape != given[key].shape]
    _refuse("has another shape for", reshaped, where)
    model.load_state_dict(given, strict=True)


def weight_hash(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state dict, in the order of names.

    The same for equal weights on any device and in any memory format.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse(fault: str, keys: Collection[str], where: str) -> None:
    if keys:
        names = sorted(keys)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        remedy = "check encoder.arch, encoder.stem and encoder.options"
        raise UserError(f"weights {where}", f"{fault} {', '.join(names[:5])}{more}", remedy=remedy)
