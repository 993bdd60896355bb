"""What is evaluated: the encoder of a run, one on disk, or an untrained one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sempairs import __version__
from sempairs.catalog.exposure import EXPOSURE, record_beside
from sempairs.encoders import (
    Encoder,
    EncoderConfig,
    EncoderSpec,
    build_encoder,
    import_encoder,
    load_encoder,
    pretrained,
    weight_hash,
)
from sempairs.encoders.files import SPEC, WEIGHTS
from sempairs.errors import UserError
from sempairs.evaluation.leakage import Exposure, read_exposure
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD

RANDOM = "random:"
SMALL_SIZE, LARGE_SIZE = 32, 224
"""Input sizes of untrained encoders where none is given: with the stem for small images, and without."""


@dataclass(frozen=True)
class Target:
    """An encoder to evaluate. name: for `Result.run`. exposure: what it was
    shown, from the file `record`; None where no pretraining is recorded."""

    name: str
    kind: Literal["run", "encoder", "random"]
    encoder: Encoder
    spec: EncoderSpec
    exposure: Exposure | None
    record: Path | None = None

    @property
    def weights(self) -> str:
        """Which weights are scored; never a choice among epochs."""
        return {"run": "last epoch", "encoder": "as given", "random": "untrained"}[self.kind]


def open_target(encoder: str | Path, *, seed: int = 0, prefix: str | None = None) -> Target:
    """The target that `encoder` names: a run folder, an encoder's folder or its encoder.json, a checkpoint of
    another project, `efficientnet-lite0` (trained on ImageNet with labels), or `random:ARCH`
    (`random:ARCH@SIZE`), whose weights `seed` decides. prefix: of a checkpoint's keys, as `import_encoder`
    has it; what importing took for granted is said on stderr, once.

    Raises: UserError if it is not there, the run is not finished, or it lacks its record of exposure; for a
    prefix where there is no checkpoint.
    """
    path = Path(encoder)
    if path.is_file() and path.suffix != ".json" and not _is_of_sempairs(path):
        imported, found = import_encoder(path, prefix=prefix)
        for note in found.notes:
            _say_once(f"{path}: {note}")
        return Target(path.stem, "encoder", imported, imported.spec, None)
    if prefix is not None:
        raise UserError("--prefix", "must be left out but for a checkpoint of another project", prefix)
    if str(encoder).startswith(RANDOM):
        arch, _, size = str(encoder).removeprefix(RANDOM).partition("@")
        if size and not (size.isascii() and size.isdigit() and int(size) >= 1):
            raise UserError("encoder", "must be random:ARCH or random:ARCH@SIZE", str(encoder))
        small = arch == "tiny-resnet"
        chosen = int(size) if size else SMALL_SIZE if small else LARGE_SIZE
        return random_target(EncoderConfig(arch=arch), seed=seed, size=chosen, name=f"{encoder} seed {seed}")
    if str(encoder) == pretrained.NAME:
        ceiling = pretrained.load_efficientnet_lite()
        return Target(pretrained.NAME, "encoder", ceiling, ceiling.spec, None)
    if not path.exists():
        rule = f"must be a run folder, an encoder.json, a checkpoint, {pretrained.NAME} or random:ARCH"
        raise UserError("encoder", rule, str(path))
    if path.is_file() and path.name == WEIGHTS:
        path = path.with_name(SPEC)
    folder = (path.parent if path.suffix == ".json" else path).resolve()
    is_run = (folder / "recipe.yaml").exists()
    source = _source_of_run(folder) if is_run else ""
    loaded = load_encoder(path)
    record = record_beside(folder, loaded.spec.exposure, field="run" if is_run else "encoder")
    exposure = None if record is None else read_exposure(record, source)
    name = folder.name if path.suffix != ".json" or path.name == "encoder.json" else path.stem
    return Target(name, "run" if is_run else "encoder", loaded, loaded.spec, exposure, record)


def _is_of_sempairs(path: Path) -> bool:
    """Whether a file is the weights of an encoder that lies described beside it."""
    return path.name == WEIGHTS and path.with_name(SPEC).is_file()


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def random_target(
    config: EncoderConfig,
    *,
    seed: int,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    name: str = "random",
) -> Target:
    """An untrained encoder: the floor that pretraining has to beat. size: of its input, pixels."""
    encoder = build_encoder(config, seed=seed)
    encoder.check_input(size)
    (m0, m1, m2), (s0, s1, s2) = mean, std
    spec = EncoderSpec(
        encoder.config,
        encoder.width,
        size,
        (m0, m1, m2),
        (s0, s1, s2),
        weight_hash(encoder.model),
        __version__,
    )
    return Target(name, "random", encoder.eval(), spec, None)


def _source_of_run(folder: Path) -> str:
    """The source a run's recipe names. Raises: UserError if it is not finished, or lacks its record."""
    from sempairs.config import read_yaml

    if not (folder / "finished.json").exists():
        remedy = "finish it with `sempairs pretrain … --resume`"
        rule = "must be finished: the encoder of its last epoch is scored"
        raise UserError("run", rule, str(folder), remedy)
    if not (folder / EXPOSURE).exists():
        raise UserError("run", "lacks exposure.parquet, so leakage cannot be ruled out", str(folder))
    return str(read_yaml(folder / "recipe.yaml").get("data", {}).get("source", ""))
