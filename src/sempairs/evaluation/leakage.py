"""Rule 3: a scored image was never in pretraining, nor was anything that must share its split.

What pretraining can show is in the run's `exposure.parquet`, with all that its encoder or pairs inherited.
An image counts as seen if that table has its file hash or its pixel hash, or if its `split_group` was seen:
names of groups are compared only within one source (another source's group "7" is not this one's), and an
image of the task that was seen, whatever it was called in pretraining, brings its whole group with it.

Near-copies of what was seen (see `sempairs.catalog.near_copies`) are searched among all scored images, too.
More than the share `near_copies` of the scored images refuse the task (a hundredth; a tenth where pretraining
and task name one source, whose splits are its own); fewer are listed in the result. Whoever wants to go on
knowingly raises that share (`--set near_copies=1`): the number and the first of them stand in each
result, beside the share that was allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sempairs.catalog.exposure import fingerprints, read_record, sketches_of
from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.near_copies import NearCopies, near_copies, sketch
from sempairs.catalog.sources import Source, open_source
from sempairs.catalog.sources.base import unreadable
from sempairs.catalog.sources.joined import JoinedSource
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import atomic_write, sha256_bytes, stable_hash
from sempairs.views.store import rows_hash

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]
Sketches = NDArray[np.uint8]
COLUMNS = ("file_hash", "pixel_hash", "split_group")
LISTED = 20
OWN_SOURCE, OTHER_SOURCE = 0.1, 0.01


@dataclass(frozen=True)
class Exposure:
    """What pretraining could show. source: the spec it was read from; groups: names within that source.

    elsewhere: groups by source, of what was inherited. sketches: (M, 1152) of the images `names` (M).
    unknown: what else the encoder was shown and no record tells.
    """

    source: str
    file_hashes: frozenset[str]
    pixel_hashes: frozenset[str]
    groups: frozenset[str]
    elsewhere: tuple[tuple[str, frozenset[str]], ...] = ()
    unknown: tuple[str, ...] = ()
    sketches: Sketches | None = field(default=None, compare=False, repr=False)
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)


def read_exposure(path: Path, source: str) -> Exposure:
    """The record a run left; source: as its recipe names it, for rows that name none. Raises: UserError if it
    is damaged."""
    table, unknown = read_record(path)
    source = _spec(source)
    files, pixels = (frozenset(table.column(n).drop_null().to_pylist()) for n in COLUMNS[:2])
    groups: dict[str, set[str]] = {}
    # Of an image's id only what stands before the first slash: where sources were joined, it tells which.
    starts = (name.partition("/")[0] for name in table.column("image_id").to_pylist())
    columns = (table.column(name).to_pylist() for name in ("source", "split_group"))
    for start, named, group in set(zip(starts, *columns, strict=True)):
        if group is not None:
            spec = source if named is None else _spec(named)
            for name in {spec, _parts(spec).get(start, spec)}:
                groups.setdefault(name, set()).add(group)
    own = frozenset(groups.pop(source, ()))
    others = tuple((name, frozenset(found)) for name, found in sorted(groups.items()))
    sketches, rows = sketches_of(table.column("sketch"))
    names = tuple(str(name) for name in table.column("image_id").take(pa.array(rows)).to_pylist())
    return Exposure(source, files, pixels, own, others, unknown, sketches if len(rows) else None, names)


def _spec(source: str) -> str:
    with suppress(UserError):  # the images may be gone from this machine; hashes are compared all the same
        return open_source(source).spec
    return source


@cache
def _parts(source: str) -> Mapping[str, str]:
    """Of a joined source the spec of each part, by what its ids begin with; of any other nothing."""
    with suppress(UserError):
        opened = open_source(source) if source.startswith("joined:") else None
        return opened.specs if isinstance(opened, JoinedSource) else {}
    return {}


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


def _image(source: Source, uri: str) -> Any:
    try:
        return source.open_image(uri)
    except UnreadableImage as error:
        raise UserError(uri, f"cannot be read ({error})", remedy="repair or remove it") from None


def seen(exposure: Exposure, catalog: Catalog, source: str) -> Mask:
    """Which images of a task's catalogue, (N,), pretraining has seen; source: the spec they come from."""
    by_content = _isin(catalog, "file_hash", exposure.file_hashes)
    by_content |= _isin(catalog, "pixel_hash", exposure.pixel_hashes)
    group = catalog.column("split_group")
    reached = {name for name in group[by_content] if name is not None}
    if source == exposure.source:
        reached |= exposure.groups
    for name, groups in exposure.elsewhere:
        reached |= groups if source == name else frozenset()
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


@dataclass(frozen=True, eq=False)
class SeenNearly:
    """Near-copies of what pretraining has seen: `found.left` are positions in `rows` of the catalogue, and
    `found.right` images of the exposure."""

    rows: Int
    found: NearCopies
    exposure: Exposure

    def of(self, catalog: Catalog, scored: Int) -> dict[str, Any]:
        """What a result says about the scored images: how many have near-copies, and the first of them."""
        copied = self.rows[self.found.left]
        mine = np.flatnonzero(np.isin(copied, scored))
        _, first = np.unique(copied[mine], return_index=True)
        chosen = mine[np.sort(first)]
        ids = catalog.column("image_id")
        listed = [
            {
                "image": str(ids[copied[at]]), "seen": self.exposure.names[self.found.right[at]],
                "how": self.found.how(int(at)), "difference": round(float(self.found.difference[at]), 3),
            }
            for at in chosen[:LISTED]
        ]  # fmt: skip
        return {"images": len(chosen), "share": len(chosen) / max(1, len(scored)), "first": listed}


def seen_nearly(
    exposure: Exposure, source: Source, catalog: Catalog, rows: Int, *, folder: Path | None = None
) -> SeenNearly | None:
    """Near-copies among the images at `rows`, each decoded once; None where the record has no sketches.

    folder: where what was found is kept, under hashes of the images, of what pretraining saw and of
    the package's code: the cells of a study search once. Raises: UserError for a file there that was altered.
    """
    if exposure.sketches is None:
        return None
    kept = None
    if folder is not None:
        from sempairs.runs.sessions import package_sha256

        shown = sha256_bytes(np.ascontiguousarray(exposure.sketches).tobytes())
        key = stable_hash([rows_hash(catalog.select(rows)), shown, package_sha256()])
        kept = folder / f"near-copies-{key[:32]}.npz"
        if kept.exists():
            return SeenNearly(rows, _kept(kept), exposure)
    uris = catalog.column("uri")[rows]
    drawn = [
        np.frombuffer(small, dtype=np.uint8) if small is not None else sketch(_image(source, uri))
        for uri, (_, small) in zip(uris, fingerprints(source, list(uris)), strict=True)
    ]
    found = near_copies(np.stack(drawn), exposure.sketches, shown=len(rows) > 2000)
    if kept is not None:
        arrays = {field.name: getattr(found, field.name) for field in fields(NearCopies)}
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays, sha256=np.array(_digest(arrays)))
    return SeenNearly(rows, found, exposure)


def _kept(path: Path) -> NearCopies:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(NearCopies)}
            digest = str(file["sha256"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(str(path), f"is damaged ({error})", remedy="remove it") from None
    if digest != _digest(arrays):
        raise UserError(str(path), "was altered after it was written", remedy="remove it")
    return NearCopies(**arrays)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    return sha256_bytes(b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays)))


def allowed(asked: float | None, exposure: Exposure, source: str) -> float:
    """The share of scored images that may be near-copies: what was asked for, or the default."""
    if asked is not None:
        return asked
    own = source == exposure.source or source in _parts(exposure.source).values()
    return OWN_SOURCE if own else OTHER_SOURCE


def refuse_nearly_seen(task: str, facts: dict[str, Any], limit: float) -> None:
    """Raises: UserError if more than the share `limit` of the scored images are near-copies of seen ones;
    facts: of `SeenNearly.of`."""
    if facts["share"] <= limit:
        return
    first = "; ".join(f"{one['image']} ({one['how']}) of {one['seen']}" for one in facts["first"][:3])
    more = _above(facts["share"])
    raise UserError(
        f"task {task}",
        f"must score images that pretraining has not seen, but {facts['images']} of those scored "
        f"({100 * facts['share']:.2g}%) are near-copies of seen ones: {first}",
        remedy=f"evaluate on other images, or go on knowingly with --set near_copies={more}",
    )


def _above(share: float) -> float:
    return min(1.0, float(np.ceil(100 * share)) / 100)


def _isin(catalog: Catalog, column: str, wanted: AbstractSet[str]) -> Mask:
    import pyarrow.compute as pc

    if not wanted:
        return np.zeros(len(catalog), dtype=bool)
    values = pa.array(sorted(wanted), type=pa.string())
    found = pc.is_in(catalog.table.column(column), value_set=values, skip_nulls=True)
    return np.array(found.to_numpy(), dtype=bool)
