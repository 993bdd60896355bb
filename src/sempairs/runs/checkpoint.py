"""Checkpoints: written whole or not at all, checked when read, and nothing in them is executed.

`checkpoint/step-00000120/` holds `tensors.safetensors` and `state.json` (scalars, and the SHA-256 of both
files' contents). A folder is filled under another name, synced and renamed, so a killed process leaves either
a whole checkpoint or a `.partial-*` folder, which the next start removes. The newest two are kept.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from sempairs.errors import UserError
from sempairs.files import atomic_folder, sha256_bytes, stable_hash

KEPT = 2
# EFBIG is what a quota set with `ulimit -f` gives.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimiser steps; tensors lie on the CPU."""

    step: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that can be trusted, if any, and what was wrong with newer ones."""

    checkpoint: Checkpoint | None
    rejected: tuple[tuple[Path, str], ...]  # folder and reason


class CorruptCheckpointError(ValueError):
    """A checkpoint that is incomplete or not what was written."""


@contextmanager
def disk_full_is_told(folder: Path) -> Iterator[None]:
    """Turns "no space left" inside the block into one line for the user. Raises: UserError."""
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        # safetensors tells the system's number in its text only.
        named = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else int(named[1]) if named else None
        if number not in NO_SPACE:
            raise
        remedy = "free some space and run again with --resume; what was saved before is intact"
        reason = os.strerror(number or errno.ENOSPC).lower()
        raise UserError(f"--out {folder}", f"could not be written to ({reason})", remedy=remedy) from None


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
) -> Path:
    """Writes the state after `step` steps into `folder`/step-…, then drops all but the newest two.

    Raises: OSError, after which the earlier checkpoints are as they were.
    """
    target = folder / f"step-{step:08d}"
    write_state(target, step, tensors, scalars)
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old)
    return target


def write_state(target: Path, step: int, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """One state as a new folder, atomically. Raises: OSError."""
    # A copy each: safetensors takes neither shared memory nor other layouts than the plain one.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain)
    state: dict[str, Any] = {"step": step, "scalars": dict(scalars), "tensors_sha256": sha256_bytes(data)}
    state["state_sha256"] = stable_hash(state)
    with atomic_folder(target) as temporary:
        (temporary / "tensors.safetensors").write_bytes(data)
        (temporary / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and checks one checkpoint folder. Raises: CorruptCheckpointError with the reason."""
    try:
        state = json.loads((path / "state.json").read_text())
        data = (path / "tensors.safetensors").read_bytes()
        if state.pop("state_sha256") != stable_hash(state):
            raise CorruptCheckpointError("state.json differs from its checksum")
        if sha256_bytes(data) != state["tensors_sha256"]:
            raise CorruptCheckpointError("tensors.safetensors differs from its checksum")
        return Checkpoint(state["step"], safetensors.torch.load(data), state["scalars"])
    except OSError as error:
        raise CorruptCheckpointError(f"cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError, KeyError, safetensors.SafetensorError) as error:
        if isinstance(error, CorruptCheckpointError):
            raise
        raise CorruptCheckpointError(f"is malformed ({error})") from None


def find_checkpoint(folder: Path) -> Found:
    """The newest sound checkpoint in `folder`, with the reasons for passing over newer ones.

    Raises: UserError if there are checkpoints but none is sound: starting afresh must be asked for.
    """
    rejected: list[tuple[Path, str]] = []
    for path in _newest_first(folder):
        try:
            return Found(load_checkpoint(path), tuple(rejected))
        except CorruptCheckpointError as error:
            rejected.append((path, str(error)))
    if rejected:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in rejected)
        remedy = "remove the folder to start afresh"
        raise UserError(str(folder), f"holds no sound checkpoint ({reasons})", remedy=remedy)
    return Found(None, ())


def clear_partial(folder: Path) -> None:
    """Removes what a killed process left half-written in `folder`."""
    for path in folder.glob(".partial-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)
