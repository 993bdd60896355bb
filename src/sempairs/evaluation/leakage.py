"""Rule 3: a scored image was never in pretraining, nor was anything that must share its split.

What pretraining can show is in the run's `exposure.parquet`. An image counts as seen if that table has its
file hash or its pixel hash, or if its `split_group` was seen: names of groups are compared only within one
source (another source's group "7" is not this one's), and an image of the task that was seen, whatever it was
called in pretraining, brings its whole group with it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.sources import Source, open_source
from sempairs.catalog.sources.base import unreadable
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]
COLUMNS = ("file_hash", "pixel_hash", "split_group")


@dataclass(frozen=True)
class Exposure:
    """What pretraining could show. source: the spec it was read from; groups: names within that source."""

    source: str
    file_hashes: frozenset[str]
    pixel_hashes: frozenset[str]
    groups: frozenset[str]


def read_exposure(path: Path, source: str) -> Exposure:
    """The record a run left; source: as its recipe names it. Raises: UserError if it is damaged."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(COLUMNS), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(str(path), f"is no readable record of exposure ({error})") from None
    with suppress(UserError):  # the images may be gone from this machine; hashes are compared all the same
        source = open_source(source).spec
    values = (frozenset(table.column(name).drop_null().to_pylist()) for name in COLUMNS)
    return Exposure(source, *values)


def fill_pixel_hashes(source: Source, catalog: Catalog, rows: Int) -> Catalog:
    """The catalogue with the pixel hashes of `rows` computed where they are null; reads those images."""
    from sempairs.catalog.sources.reading import in_threads, worker_count

    column, uris = catalog.column("pixel_hash"), catalog.column("uri")
    missing = [int(row) for row in rows if column[row] is None]
    if not missing:
        return catalog

    broken: list[tuple[str, object]] = []

    def hashed(row: int) -> str | None:
        try:
            return pixel_hash(source.open_image(uris[row]))
        except UnreadableImage as error:
            broken.append((uris[row], error))
            return None

    column[missing] = list(in_threads(hashed, missing, worker_count(None)))
    if broken:
        raise unreadable(sorted(broken, key=lambda one: one[0]), source.spec)
    return catalog.with_column("pixel_hash", column)


def seen(exposure: Exposure, catalog: Catalog, source: str) -> Mask:
    """Which images of a task's catalogue, (N,), pretraining has seen; source: the spec they come from."""
    by_content = _isin(catalog, "file_hash", exposure.file_hashes)
    by_content |= _isin(catalog, "pixel_hash", exposure.pixel_hashes)
    group = catalog.column("split_group")
    reached = {name for name in group[by_content] if name is not None}
    if source == exposure.source:
        reached |= exposure.groups
    return by_content | _isin(catalog, "split_group", reached)


def refuse_seen(task: str, catalog: Catalog, scored: Int, was_seen: Mask) -> None:
    """Raises: UserError with the number and examples of scored images that pretraining has seen."""
    leaked = scored[was_seen[scored]]
    if not len(leaked):
        return
    names = catalog.column("image_id")[leaked[:3]]
    more = f" and {len(leaked) - 3} more" if len(leaked) > 3 else ""
    raise UserError(
        f"task {task}",
        f"must score images that pretraining has not seen, but {len(leaked)} of {len(scored)} were seen: "
        f"{', '.join(names)}{more}",
        remedy="pretrain on the training split only, or evaluate on other images",
    )


def _isin(catalog: Catalog, column: str, wanted: AbstractSet[str]) -> Mask:
    import pyarrow.compute as pc

    if not wanted:
        return np.zeros(len(catalog), dtype=bool)
    values = pa.array(sorted(wanted), type=pa.string())
    found = pc.is_in(catalog.table.column(column), value_set=values, skip_nulls=True)
    return np.array(found.to_numpy(), dtype=bool)
