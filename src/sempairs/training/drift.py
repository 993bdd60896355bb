"""The drift alarm: whether an encoder that a run goes on from becomes worse at what it could do.

Each probe is held against the one before the first step. What is measured is kNN accuracy: on the run's own
validation images and, if the recipe names one, on a small reference task, images of another source that the
run is not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs.catalog.labelling import label
from sempairs.catalog.selection import filtered
from sempairs.catalog.sources import open_source, scan_and_tell
from sempairs.errors import UserError, unknown
from sempairs.training.data import Rows, numbered, open_store, sample
from sempairs.training.recipe import DriftConfig, MonitorConfig, ReferenceConfig
from sempairs.views.config import ViewsConfig
from sempairs.views.maker import ViewMaker

#: The exit status of a run that its own alarm stopped.
STATUS = 3


class DriftError(UserError):
    """The alarm stopped the run, after the state was saved."""

    status = STATUS


@dataclass(frozen=True)
class Reference:
    """The images of a reference task, and what makes clean views of them."""

    maker: ViewMaker
    fit: Rows
    score: Rows
    fit_labels: NDArray[np.int64]
    score_labels: NDArray[np.int64]


def open_reference(
    config: ReferenceConfig, views: ViewsConfig, device: torch.device, cache: Path | None = None
) -> Reference:
    """The reference task of a recipe. Raises: UserError if one of its splits has no image with a label."""
    source = open_source(config.source)
    catalog = filtered(label(scan_and_tell(source).catalog, config), config.where)
    labels = numbered(catalog, config.label)
    codes, splits = catalog.coded("split")
    chosen = []
    for field, split in (("split", config.split), ("score_split", config.score_split)):
        if split not in splits:
            raise unknown(f"monitor.drift.reference.{field}", split, sorted(splits))
        rows = np.flatnonzero((codes == splits.index(split)) & (labels >= 0))
        if not len(rows):
            rule = f"must hold images with a {config.label}"
            raise UserError(f"monitor.drift.reference.{field}", rule, split)
        chosen.append(sample(catalog, rows, config.images, config.split_seed))
    if config.split == config.score_split:
        raise UserError("monitor.drift.reference.score_split", "must differ from split", config.split)
    rows = np.concatenate(chosen)
    part = catalog.select(rows)
    maker = ViewMaker(views, open_store(config, source, part, cache), seed=0, device=device)
    fit, score = np.split(np.arange(len(rows)), [len(chosen[0])])
    return Reference(maker, fit, score, labels[rows[fit]], labels[rows[score]])


def check_measured(config: MonitorConfig, *, scored: int) -> None:
    """Raises: UserError where an alarm is asked for and nothing is measured that could raise it.

    scored: validation images with a label.
    """
    if config.drift is None:
        return
    if not config.every.amount:
        raise UserError("monitor.drift", "needs probes, and monitor.every is", str(config.every))
    if not scored and config.drift.reference is None:
        rule = f"needs {config.split} images with a {config.label}, and there are none"
        raise UserError("monitor.drift", rule, remedy="or give it a reference")


def drifted(
    config: DriftConfig, probe: Mapping[str, float], first: Mapping[str, float], split: str
) -> list[str]:
    """A line for each measure that lies more than the margin below that of the start.

    probe, first: what was measured now and before training. split: of the run's own validation images.
    """
    where = {"knn": f"{split} images", "reference_knn": "the reference task"}
    lines = []
    for name, images in where.items():
        if name in probe and name in first and first[name] - probe[name] > config.below:
            lines.append(
                f"the encoder drifts from its start: kNN accuracy on {images} is {probe[name]:.3f}, and was "
                f"{first[name]:.3f} with the weights it started from (told of from a loss of "
                f"{config.below:g}); lower optimiser.encoder_scale, or raise optimiser.pull"
            )
    return lines
