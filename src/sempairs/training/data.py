"""Images, pairs and batches of a run.

The catalogue holds the training images first, then the probe's validation images, so that one pixel store
serves both and rows of the pair plan are rows of the store. The batches of an epoch cut a keyed order of its
pairs into equal pieces (`samplers`); the last incomplete one is dropped, and as the order differs by epoch,
so do the pairs dropped.
"""

from __future__ import annotations

import fcntl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.catalog.labelling import filtered, label
from sempairs.catalog.sources import Source, open_source, scan_and_tell
from sempairs.catalog.sources.joined import PART, SHARE
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError, unknown
from sempairs.pairs.plan import EpochPairs, PairPlan, plan_pairs
from sempairs.training.recipe import DataConfig, PretrainRecipe
from sempairs.training.samplers import SamplerConfig, Shuffled, steps_per_epoch
from sempairs.views.maker import ViewMaker
from sempairs.views.photos import FileStore
from sempairs.views.store import ImageStore, PixelStore, store_key

Rows = NDArray[np.int64]


class Batch(NamedTuple):
    """One rank's share of a step: rows of the catalogue, and the keys of every draw. All (B,) int64.

    further: (B, K) rows of the partners after the first, None where an anchor has one.
    """

    epoch: int
    anchor: Rows
    partner: Rows
    occurrence: Rows
    meaning: Rows
    further: Rows | None = None

    def rows(self) -> list[Rows]:
        """Those of images."""
        return [self.anchor, self.partner, *([] if self.further is None else [self.further])]


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on. `catalog` rows up to `n_train` are training images, later ones validation."""

    catalog: Catalog
    n_train: int
    plan: PairPlan
    store: ImageStore
    source: str
    unreadable: int
    split_seed: int

    @property
    def pixels(self) -> str:
        """Where the pixels are kept, as `data.store` names it: memory or files."""
        return "memory" if isinstance(self.store, PixelStore) else "files"

    def domains(self, column: str) -> Rows:
        """(len(catalog),) a number for each value of a column, -1 where there is none.

        Raises: UserError if the catalogue has no such column.
        """
        if column not in self.catalog.names:
            raise unknown("pairs.domain_column", column, self.catalog.names)
        return self.catalog.coded(column)[0].astype(np.int64)

    @cached_property
    def pixels_sha256(self) -> str | None:
        """Of the pixels that crops are cut from; None where they are decoded from the files at every use."""
        return self.store.content_hash() if isinstance(self.store, PixelStore) else None

    @property
    def train_rows(self) -> Rows:
        return np.arange(self.n_train)

    @property
    def validation_rows(self) -> Rows:
        return np.arange(self.n_train, len(self.catalog))


def load_data(recipe: PretrainRecipe, *, pixel_cache: Path | None = None) -> TrainingData:
    """Scans the source, plans the pairs and reads the pixels, unless these stay in their files.

    pixel_cache: a folder in which stores of pixels are kept and shared between runs over the same images.
    Raises: UserError for a source, column or value that is not there, and for a split without images.
    """
    source = open_source(recipe.data.source)
    scan = scan_and_tell(source)
    catalog, n_train = select_rows(recipe, scan.catalog)
    plan = plan_pairs(catalog.select(np.arange(n_train)), recipe.pairs, draw_seed=recipe.seed)
    store = open_store(recipe.data, source, catalog, pixel_cache)
    return TrainingData(
        catalog, n_train, plan, store, source.spec, len(scan.problems), recipe.data.split_seed
    )


def select_rows(recipe: PretrainRecipe, catalog: Catalog) -> tuple[Catalog, int]:
    """The training images, then the validation images; and how many of the former there are."""
    data = recipe.data
    catalog = filtered(label(catalog, data), data.where)
    codes, splits = catalog.coded("split")
    if data.split not in splits:
        raise unknown("data.split", data.split, sorted(splits))
    train, validation = (
        np.flatnonzero(codes == (splits.index(name) if name in splits else len(splits)))
        for name in (data.split, recipe.monitor.split)
    )
    if recipe.monitor.split == data.split:
        raise UserError("monitor.split", "must differ from data.split", data.split)
    return catalog.select(np.concatenate([train, validation])), len(train)


def epoch_steps(plan: PairPlan, sampler: SamplerConfig, batch_size: int) -> int:
    """Batches an epoch. Where the parts of a joined source have shares of every batch, an epoch ends when the
    first part, for its share, is used up.

    Raises: UserError if there is none, a part has no pair, or another sampler is to keep to shares.
    """
    parts = _shares(plan)
    if parts is None:
        return sampler.steps(plan.meaning, batch_size)
    if not isinstance(sampler, Shuffled):
        rule = "must be shuffled where the parts of data.source have shares"
        raise UserError("sampler", rule, sampler.name, "leave the shares out, or set sampler to shuffled")
    return steps_per_epoch(sum(quota for _, quota in parts), batch_size)


def epoch_order(plan: PairPlan, sampler: SamplerConfig, batch_size: int, *, seed: int, epoch: int) -> Rows:
    """Occurrences in the order of an epoch, each at most once, a pure function of the arguments.

    With shares, each part has an order of its own, of which the epoch takes the beginning, and the parts are
    spread evenly: any stretch has each part's share of it, to within one pair.
    """
    parts = _shares(plan)
    if parts is None:
        return sampler.order(plan.meaning, batch_size, seed=seed, epoch=epoch)
    taken, place = [], []
    for number, (occurrences, quota) in enumerate(parts):
        order = keyed.permutation(seed, f"order of part {number}", epoch=epoch, n=len(occurrences))
        taken.append(occurrences[order[:quota]])
        place.append((np.arange(quota) + 0.5) / quota)
    return np.concatenate(taken)[np.argsort(np.concatenate(place), kind="stable")]


def _shares(plan: PairPlan) -> list[tuple[Rows, int]] | None:
    """The occurrences of each part of a joined source, parts by name, and how many of them an epoch takes;
    None where parts have no shares."""
    catalog = plan.catalog
    if SHARE not in catalog.names or PART not in catalog.names or catalog.array(SHARE).null_count:
        return None
    codes, names = catalog.coded(PART)
    part, share = codes[plan.rows[plan.selection.anchor]], catalog.column(SHARE)
    found = [
        (np.flatnonzero(part == code), code) for code in sorted(range(len(names)), key=names.__getitem__)
    ]
    for occurrences, code in found:
        if not len(occurrences):
            raise UserError("data.source", "must have pairs in each part", names[code], "leave the part out")
    wanted = np.array([share[np.flatnonzero(codes == code)[0]] for _, code in found])
    size = min(len(each) / w for (each, _), w in zip(found, wanted / wanted.sum(), strict=True))
    quota = np.floor(wanted / wanted.sum() * size + 1e-9).astype(int).clip(min=1)
    return [(each, int(q)) for (each, _), q in zip(found, quota, strict=True)]


def batches(
    plan: PairPlan,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    rank: int = 0,
    world: int = 1,
    partners: int = 1,
    sampler: SamplerConfig | None = None,
) -> Iterator[Batch]:
    """The batches of steps `start` to `stop` - 1, a pure function of the arguments.

    partners: of each anchor. sampler: null for the shuffled one.
    batch_size: over all `world` processes; this one, `rank`, gets the rank-th piece, so that rows gathered in
    order of rank stand as in one process, and queues of them hold the same.
    """
    assert batch_size % world == 0
    assert 0 <= rank < world
    sampler = sampler or Shuffled()
    per_epoch = epoch_steps(plan, sampler, batch_size)
    epoch, pairs, further, order = -1, None, None, np.empty(0, dtype=np.int64)
    for step in range(start, stop):
        if step // per_epoch != epoch or pairs is None:
            epoch = step // per_epoch
            pairs, further, order = None, None, order[:0].copy()  # let go of the last epoch before the next
            pairs = plan.epoch(epoch)
            order = epoch_order(plan, sampler, batch_size, seed=seed, epoch=epoch)
            further = plan.further(epoch, partners - 1) if partners > 1 else None
        share = batch_size // world
        first = step % per_epoch * batch_size + rank * share
        chosen = order[first : first + share]
        batch = _batch(plan, pairs, epoch, chosen)
        yield batch if further is None else batch._replace(further=further[chosen])


def _batch(plan: PairPlan, pairs: EpochPairs, epoch: int, chosen: Rows) -> Batch:
    occurrence = pairs.occurrence[chosen]
    return Batch(epoch, pairs.anchor[chosen], pairs.partner[chosen], occurrence, plan.meaning[occurrence])


def read_ahead(batches: Iterable[Batch], maker: ViewMaker) -> Iterator[Batch]:
    """The same batches; while one is worked on, the pixels of the next are read in the background."""
    waiting: deque[Batch] = deque()
    for batch in batches:
        maker.prefetch(*batch.rows())
        waiting.append(batch)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def open_store(data: DataConfig, source: Source, catalog: Catalog, cache: Path | None = None) -> ImageStore:
    """The pixels of a catalogue, where `data.store` wants them; auto: in memory up to `data.memory` GiB (of
    three channels), which follows from recipe and catalogue whatever the machine."""
    size = data.store_size
    fits = len(catalog) * 3 * size * size <= data.memory * 2**30
    if data.store == "files" or (data.store == "auto" and not fits):
        return FileStore(source, catalog, size)
    if cache is None:
        return PixelStore.build(source, catalog, size)
    path = cache / f"pixels-{store_key(catalog, size)}-{size}"
    with _turn(cache / f".{path.name}.lock"):
        return PixelStore.open_or_build(source, catalog, size, path)


def near(store: ImageStore, device: torch.device) -> ImageStore:
    """The store in the device's own memory, where it leaves at least half of what is free there."""
    if device.type != "cuda" or not isinstance(store, PixelStore):
        return store
    free, _ = torch.cuda.mem_get_info(device)
    return store.resident(device) if store.pixels.nbytes <= free // 2 else store


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Waits until no other process is inside for the same path: runs side by side build a store once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
