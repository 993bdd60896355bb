"""Checkpoint files of other projects, read without executing anything that is pickled in them.

A file of torch may pickle more than tensors: optimisers, arguments, configuration objects. Tensors, numbers,
texts and containers are read as what they are; anything else becomes an inert placeholder, and its code is
neither imported nor called.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sempairs.encoders.weights import read_weights
from sempairs.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin")

_TORCH = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    *(("torch", name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8")),
}


class Placeholder:
    """What stands for an object of a type that is not read."""

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Placeholder:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As a list has it."""

    def extend(self, values: Any) -> None:
        """As a list has it."""


class _Reader(pickle.Unpickler):
    """Knows tensors and ordered dictionaries; every other global is a placeholder."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in _TORCH or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return Placeholder


def _load(file: Any, **_: Any) -> Any:
    return _Reader(file, encoding="utf-8").load()


def _loads(data: bytes, **_: Any) -> Any:
    return _load(io.BytesIO(data))


# `torch.load` takes a module with these names.
_INERT = SimpleNamespace(__name__="pickle", Unpickler=_Reader, load=_load, loads=_loads)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: a dictionary, of tensors and of dictionaries that hold them.

    Raises: UserError if the file is missing, damaged, or holds no dictionary.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError("checkpoint", "must be a file", str(file))
    if file.suffix == ".safetensors":
        return dict(read_weights(file))
    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            found = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_INERT)
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"checkpoint {file}", f"cannot be read ({reason})") from None
    if not isinstance(found, Mapping):
        remedy = "save model.state_dict()"
        raise UserError(f"checkpoint {file}", "must hold a state dict", type(found).__name__, remedy)
    return dict(found)


def state_dicts(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Every dictionary of tensors in a checkpoint, the outermost under "", others under their key."""
    found = {"": _tensors(checkpoint)}
    for key, value in checkpoint.items():
        if isinstance(value, Mapping):
            found[str(key)] = _tensors(value)
    return {name: tensors for name, tensors in found.items() if tensors}


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(key): value for key, value in values.items() if isinstance(value, Tensor)}
