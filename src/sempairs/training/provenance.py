"""What a run was made of: the facts a certificate compares, the images it may have seen, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sempairs.catalog.exposure import Inherited, record_beside, write_record
from sempairs.catalog.sources import open_source
from sempairs.encoders.files import SPEC
from sempairs.files import read_json, sha256_bytes
from sempairs.pairs.inherited import inherited_by_pairs
from sempairs.training import processes
from sempairs.training.data import TrainingData
from sempairs.training.recipe import PretrainRecipe

PACKAGES = ("sempairs", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "pyarrow")
# The engine comes under either name.
_SAME = {"lightning-fabric": "pytorch-lightning"}


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, threads, processes and the code's commit (null outside a checkout)."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "code": code_state(),
    }


def code_state() -> dict[str, Any]:
    """Commit of the package's own checkout, and the SHA-256 of what differs from it, null for nothing."""
    here = Path(__file__).resolve().parent.parent
    # A package installed beside a user's own repository is not part of it.
    if _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "dirty": None, "difference_sha256": None}
    commit = _git(here, "rev-parse", "HEAD")
    difference = uncommitted()
    return {
        "commit": commit.strip() if commit else None,
        "dirty": bool(difference),
        "difference_sha256": sha256_bytes(difference.encode()) if difference else None,
    }


def uncommitted() -> str:
    """What the package's checkout has that its last commit has not: a diff, then the names of new files."""
    here = Path(__file__).resolve().parent.parent
    difference = _git(here, "diff", "HEAD", "--", str(here)) or ""
    fresh = _git(here, "ls-files", "--others", "--exclude-standard", "--", str(here)) or ""
    return difference + "".join(f"new file: {name}\n" for name in fresh.splitlines())


def facts(
    recipe: PretrainRecipe, data: TrainingData, *, steps: int, steps_per_epoch: int, warm_up: int
) -> dict[str, Any]:
    """What was measured, laid out like the recipe so that both merge into one record.

    images: different images pretraining can show; images_shown: showings, two a pair and step.
    """
    return {
        "pairs": {
            "manifest_hash": data.plan.manifest_hash,
            "anchor_hash": data.plan.anchor_hash,
            "semantic_hash": data.plan.semantic_hash,
            "per_epoch": data.plan.n,
            "images": len(data.plan.images),
            "class_histogram": data.plan.class_histogram(),
            # The encoder that mined the pairs is extra data, which a contrast has to declare.
            **({"mining": data.plan.selection.mining} if data.plan.selection.mining else {}),
        },
        "data": {
            "catalog_hash": data.catalog.content_hash(),
            "training_images": data.n_train,
            "pixels": data.pixels,
        },
        "schedule": {"steps": steps, "steps_per_epoch": steps_per_epoch, "warm_up_steps": warm_up},
        "optimiser": {"peak_lr": recipe.optimiser.peak_lr(recipe.batch_size)},
        "images_shown": 2 * steps * recipe.batch_size,
        "processes": processes.count(),
    }


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Both records in one, section by section. A key in both must be a section in both."""
    out = dict(left)
    for key, value in right.items():
        if key in out:
            assert isinstance(out[key], dict) and isinstance(value, dict), f"{key} is there twice"
            value = merged(out[key], value)
        out[key] = value
    return out


def inherited(recipe: PretrainRecipe) -> Inherited:
    """What the encoder it starts from, and the one that mined its pairs, were shown.

    Raises: UserError if a record must be beside the weights or pairs and is not.
    """
    found = inherited_by_pairs(recipe.pairs)
    if recipe.encoder.weights is None:
        return found
    folder = Path(recipe.encoder.weights).resolve().parent
    about = read_json(folder / SPEC) if (folder / SPEC).is_file() else {}
    expected = about.get("exposure") if isinstance(about, dict) else None
    record = record_beside(folder, expected, field="encoder.weights")
    if record is None:
        name = Path(recipe.encoder.weights).name
        return found + Inherited((), (f"what the weights it started from ({name}) were trained on",))
    return found + Inherited((record,))


def write_exposure(
    path: Path,
    data: TrainingData,
    inherits: Inherited | None = None,
    *,
    cache: Path | None = None,
    read_pixels: bool = True,
) -> None:
    """Hashes and sketches of every image that pretraining can show, and all that is inherited: what no scored
    image may share. read_pixels: False leaves out what the catalogue does not know."""
    source = open_source(data.source) if read_pixels else None
    write_record(
        path, data.catalog, data.plan.images, source, inherits or Inherited(), cache=cache, shown=True
    )


def _version(package: str) -> str | None:
    for name in (package, _SAME.get(package)):
        if name is not None:
            try:
                return version(name)
            except PackageNotFoundError:
                continue
    return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    """What a read-only git command says, None where it fails or git is absent."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True, text=True, errors="replace", timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
