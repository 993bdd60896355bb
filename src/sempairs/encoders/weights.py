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
    # Of a file that is damaged, or of types that this torch lacks.
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"weights {path}", f"cannot be read as safetensors ({error})") from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: str, finite: bool = True) -> None:
    """Copies `weights` into a timm model built without its classifier; a classifier among them is left out.

    Raises: UserError naming the keys that are missing, left over, of another shape, or no real numbers, and
    with `finite` those that are not finite in float32.
    """
    own = model.state_dict()
    head = getattr(model, "pretrained_cfg", {}).get("classifier") or "fc"
    heads = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
    given = {key: value for key, value in weights.items() if key in own or not key.startswith(heads)}
    _refuse("lacks", own.keys() - given.keys(), where)
    _refuse("has the unknown", given.keys() - own.keys(), where)
    reshaped = [key for key in own if own[key].shape != given[key].shape]
    _refuse("has another shape for", reshaped, where)
    _refuse(
        "has no dense real numbers in", [key for key in own if not _is_real(given[key], own[key])], where, ""
    )
    fitted = {key: value.to(own[key].dtype) for key, value in given.items()}
    if finite:
        _refuse(
            "has values that are not finite in",
            [k for k, v in fitted.items() if not v.isfinite().all()],
            where,
            "",
        )
    negative = [k for k, v in fitted.items() if k.endswith("running_var") and bool((v < 0).any())]
    _refuse("has negative variances in", negative, where, "")
    model.load_state_dict(fitted, strict=True)


_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def _is_real(given: Tensor, own: Tensor) -> bool:
    """Whether the numbers can be used: floats for floats; counters may be stored as either."""
    if given.layout is not torch.strided or given.is_quantized or given.is_meta:
        return False
    return given.dtype in _FLOATS or not (own.is_floating_point() or given.is_complex())


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


_FITTING = "check encoder.arch, encoder.stem and encoder.options"


def _refuse(fault: str, keys: Collection[str], where: str, remedy: str = _FITTING) -> None:
    if keys:
        names = sorted(keys)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(f"weights {where}", f"{fault} {', '.join(names[:5])}{more}", remedy=remedy)
