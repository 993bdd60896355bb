"""The run folder: what lies where, and when a run may start, go on, or must be refused."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sempairs.config import Config, load_config
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.runs.checkpoint import clear_partial

RECIPE = "recipe.yaml"
RESOLVED = "resolved.json"
ENVIRONMENT = "environment.json"
PROVENANCE = "provenance.json"
EXPOSURE = "exposure.parquet"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoint"
FINISHED = "finished.json"
FAILURE = "failure"
DIFFERENCE = "uncommitted.diff"
BOARD = "tensorboard"

# What a run leaves; anything else in the folder is not ours. The recipe comes first and goes last: where it
# is missing, no run of ours has begun.
OURS = (
    RESOLVED, ENVIRONMENT, PROVENANCE, EXPOSURE, METRICS, CHECKPOINTS, FINISHED, FAILURE, DIFFERENCE,
    BOARD, "train.csv", "probe.csv", "encoder.json", "encoder.safetensors", RECIPE,
)  # fmt: skip

# What a resumed run may be asked otherwise: it changes no number, only whether the run goes on.
FREE = frozenset({"monitor.drift.action"})

# What a finished run is bound to by the hashes in finished.json; the other things are for convenience.
SEALED = tuple(name for name in OURS if name not in (CHECKPOINTS, FINISHED, FAILURE, BOARD))


def sealed(out: Path) -> list[str]:
    """The files of a run that finished.json binds, of those that are there."""
    return [name for name in SEALED if (out / name).is_file()]


def refuse_if_used(out: Path, *, resume: bool) -> None:
    """Raises: UserError if `out` holds a run that is not to be resumed, or what looks like part of one."""
    begun = (out / RECIPE).exists()
    if not begun and any((out / name).exists() for name in OURS):
        raise UserError("output folder", "in use by other things", str(out), "choose another --out")
    if begun and not resume:
        remedy = "add --resume to go on with it, or choose another --out"
        raise UserError("output folder", "in use by a run", str(out), remedy)


def refuse_other_recipe(out: Path, recipe: Config, *, leave: Collection[str] = ()) -> None:
    """Raises: UserError naming the fields in which `recipe` differs from the one the run was started with,
    without the dotted names in `leave`."""
    started = flat(load_config(type(recipe), out / RECIPE).model_dump(mode="json"))
    asked = flat(recipe.model_dump(mode="json"))
    compared = (started.keys() | asked.keys()) - FREE - set(leave)
    differing = sorted(key for key in compared if started.get(key) != asked.get(key))
    if differing:
        shown = ", ".join(f"{k} ({started.get(k)!r} -> {asked.get(k)!r})" for k in differing[:6])
        more = f" and {len(differing) - 6} more" if len(differing) > 6 else ""
        remedy = "resume with the recipe it was started with, or choose another --out"
        raise UserError("recipe", f"differs from that of the run in {out}: {shown}{more}", remedy=remedy)


def clean(out: Path, *, afresh: bool) -> None:
    """Removes what a killed process left half-written and, for a new start, what a run left."""
    clear_partial(out)
    clear_partial(out / CHECKPOINTS)
    # State saved for inspection belongs to a failure that is about to be tried again.
    for name in OURS if afresh else (FAILURE,):
        remove(out / name)


def remove(path: Path) -> None:
    """Deletes a file or a folder, whether or not it is there; of a link, the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def has_state(out: Path) -> bool:
    """Whether a run in `out` got far enough to go on from."""
    return (out / FINISHED).exists() or any((out / CHECKPOINTS).glob("step-*"))


def finished(out: Path) -> dict[str, Any] | None:
    """What a completed run wrote last; None if the run is not complete."""
    return dict(read_json(out / FINISHED)) if (out / FINISHED).exists() else None


def kept_precision(out: Path) -> str | None:
    """The precision that the run in `out` began with; None where none has begun."""
    if not (out / RESOLVED).exists():
        return None
    found = read_json(out / RESOLVED).get("speed", {}).get("precision")
    return found if isinstance(found, str) and found != "auto" else None


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            out |= flat(inner, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = inner
    return out
