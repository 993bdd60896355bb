"""Images, pairs and batches of a run.

The catalogue holds the training images first, then the probe's validation images, so that one pixel store
serves both and rows of the pair plan are rows of the store. The batches of an epoch cut a keyed order of its
pairs into equal pieces; the last incomplete one is dropped, and as the order differs by epoch, so do the
pairs dropped.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.catalog.labelling import label
from sempairs.catalog.sources import Source, open_source
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError, unknown
from sempairs.pairs.plan import EpochPairs, PairPlan, plan_pairs
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.store import PixelStore, rows_hash

Rows = NDArray[np.int64]


class Batch(NamedTuple):
    """One rank's share of a step: rows of the catalogue, and the keys of every draw. All (B,) int64."""

    epoch: int
    anchor: Rows
    partner: Rows
    occurrence: Rows
    meaning: Rows


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on. `catalog` rows up to `n_train` are training images, later ones validation."""

    catalog: Catalog
    n_train: int
    plan: PairPlan
    store: PixelStore
    source: str
    unreadable: int
    split_seed: int

    @property
    def train_rows(self) -> Rows:
        return np.arange(self.n_train)

    @property
    def validation_rows(self) -> Rows:
        return np.arange(self.n_train, len(self.catalog))


def load_data(recipe: PretrainRecipe, *, pixel_cache: Path | None = None) -> TrainingData:
    """Scans the source, plans the pairs and reads the pixels.

    pixel_cache: a folder in which stores are kept and shared between runs over the same images.
    Raises: UserError for a source, column or value that is not there, and for a split without images.
    """
    source = open_source(recipe.data.source)
    scan = source.scan()
    catalog, n_train = select_rows(recipe, scan.catalog)
    plan = plan_pairs(catalog.select(np.arange(n_train)), recipe.pairs, draw_seed=recipe.seed)
    store = _pixels(source, catalog, recipe.data.store_size, pixel_cache)
    return TrainingData(
        catalog, n_train, plan, store, source.spec, len(scan.problems), recipe.data.split_seed
    )


def select_rows(recipe: PretrainRecipe, catalog: Catalog) -> tuple[Catalog, int]:
    """The training images, then the validation images; and how many of the former there are."""
    data = recipe.data
    catalog = label(catalog, data)
    keep = np.ones(len(catalog), dtype=bool)
    for column, allowed in data.where.items():
        if column not in catalog.table.column_names:
            raise unknown("data.where", column, catalog.table.column_names)
        keep &= np.array([value in allowed for value in catalog.column(column)], dtype=bool)
    if not keep.any():
        raise UserError("data.where", "must leave some images", dict(data.where), "loosen the filter")
    catalog = catalog.select(keep)
    split = catalog.column("split")
    train = np.flatnonzero(split == data.split)
    if not len(train):
        present = sorted({str(name) for name in split if name is not None})
        raise unknown("data.split", data.split, present)
    validation = np.flatnonzero(split == recipe.monitor.split)
    if recipe.monitor.split == data.split:
        raise UserError("monitor.split", "must differ from data.split", data.split)
    return catalog.select(np.concatenate([train, validation])), len(train)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in `n` pairs. Raises: UserError if there is none."""
    if batch_size > n:
        raise UserError("batch_size", f"must be at most the {n} pairs of an epoch", batch_size)
    return n // batch_size


def batches(
    plan: PairPlan, *, seed: int, batch_size: int, start: int, stop: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """The batches of steps `start` to `stop` - 1, a pure function of the arguments.

    batch_size: over all `world` processes; this one, `rank`, gets every world-th pair.
    """
    assert batch_size % world == 0
    assert 0 <= rank < world
    per_epoch = steps_per_epoch(plan.n, batch_size)
    epoch, pairs, order = -1, None, np.empty(0, dtype=np.int64)
    for step in range(start, stop):
        if step // per_epoch != epoch or pairs is None:
            epoch = step // per_epoch
            pairs, order = plan.epoch(epoch), keyed.permutation(seed, "order", epoch=epoch, n=plan.n)
        first = step % per_epoch * batch_size
        yield _batch(plan, pairs, epoch, order[first : first + batch_size][rank::world])


def _batch(plan: PairPlan, pairs: EpochPairs, epoch: int, chosen: Rows) -> Batch:
    occurrence = pairs.occurrence[chosen]
    return Batch(epoch, pairs.anchor[chosen], pairs.partner[chosen], occurrence, plan.meaning[occurrence])


def near(store: PixelStore, device: torch.device) -> PixelStore:
    """The store in the device's own memory, where it leaves at least half of what is free there."""
    if device.type != "cuda":
        return store
    free, _ = torch.cuda.mem_get_info(device)
    return store.resident(device) if store.pixels.nbytes <= free // 2 else store


def _pixels(source: Source, catalog: Catalog, size: int, cache: Path | None) -> PixelStore:
    if cache is None:
        return PixelStore.build(source, catalog, size)
    path = cache / f"pixels-{rows_hash(catalog)[:32]}-{size}"
    with _turn(cache / f".{path.name}.lock"):
        return PixelStore.open_or_build(source, catalog, size, path)


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Waits until no other process is inside for the same path: runs side by side build a store once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
