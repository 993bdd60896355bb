"""Checkpoint files of other projects, read without executing anything that is pickled in them.

A file of torch may pickle more than tensors: optimisers, arguments, configuration objects. Tensors, numbers,
texts and containers are read as what they are; anything else becomes an inert placeholder, and its code is
neither imported nor called.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sempairs.encoders.weights import read_weights
from sempairs.errors import UserError

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

    Its content, not its ending, tells whether it is a file of torch or of safetensors.
    Raises: UserError if the file is missing, damaged, or holds no dictionary.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError("checkpoint", "must be a file", str(file))
    if file.suffix == ".safetensors" or _is_safetensors(file):
        return dict(read_weights(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about old forms of files
            try:
                found = torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                found = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_INERT)
    # A damaged pickle makes the reader take anything for anything: every kind of exception has been seen.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"checkpoint {file}", f"cannot be read ({reason})") from None
    if isinstance(found, Placeholder):
        remedy = "save model.state_dict()"
        raise UserError(
            f"checkpoint {file}", "must hold a state dict, and holds a whole object", remedy=remedy
        )
    if not isinstance(found, Mapping):
        remedy = "save model.state_dict()"
        raise UserError(f"checkpoint {file}", "must hold a state dict", type(found).__name__, remedy)
    return dict(found)


def _is_safetensors(file: Path) -> bool:
    """Whether it begins as they do: the length of a JSON object, and its brace."""
    with file.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size


def tensors(checkpoint: Mapping[Any, Any]) -> dict[str, tuple[str, Tensor]]:
    """Every tensor of a checkpoint by its full name: the names of the dictionaries it lies in and its own,
    with dots between. Beside it the dictionaries' part of that name, with a dot at its end unless empty.

    Raises: UserError where two tensors have one full name.
    """
    found: dict[str, tuple[str, Tensor]] = {}

    def walk(values: Mapping[Any, Any], where: str, above: tuple[int, ...]) -> None:
        for key, value in values.items():
            name = f"{where}{key}"
            if isinstance(value, Tensor):
                if name in found:
                    raise UserError("checkpoint", "must not hold two tensors of one name", name)
                found[name] = (where, value)
            elif isinstance(value, Mapping) and id(value) not in above:  # a pickle can hold itself
                walk(value, f"{name}.", (*above, id(value)))

    try:
        walk(checkpoint, "", (id(checkpoint),))
    except RecursionError:
        raise UserError("checkpoint", "holds too many dictionaries in one another") from None
    return found
