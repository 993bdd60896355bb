"""Writes a release: a folder that says everything about itself.

`write_release` is for images alone (format 1); `sempairs.release.build` adds pairs to them (format 2).

    data/<split>.parquet   catalogue columns and the images' bytes, rows sorted by image_id
    release.json           name, version, counts, manifest hash, how it was built
    README.md              the card, with Hugging Face's front matter
    LICENSES/              the full text of every licence
    checksums.sha256       of all of these, as `sha256sum -c` reads it
    .gitattributes         for whoever puts the folder into a repository; not in the checksums

The same catalogue and bytes give the same files, given the same version of pyarrow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog import SPLITS, Catalog
from sempairs.catalog.sources.reading import in_threads
from sempairs.catalog.sources.release import ABOUT, DATA, FORMAT_1, IMAGE
from sempairs.errors import UserError
from sempairs.files import atomic_folder, sha256_file, write_json
from sempairs.progress import bar
from sempairs.release.images import SIZE, WORKERS, checked

CHECKSUMS = "checksums.sha256"
CARD = "README.md"
ATTRIBUTES = ".gitattributes"
# Checksums cover exact bytes; and where Git LFS is at home, as on Hugging Face's Hub, it keeps the data.
ATTRIBUTES_TEXT = "* -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
# What version control, the Hub and file managers put into a folder is no part of a release, and not checked.
_FOREIGN = frozenset(
    [".git", ".gitattributes", ".gitignore", ".gitkeep", ".gitmodules", ".hg", ".hgignore", ".svn", ".jj",
     ".dvc", ".dvcignore", ".cache", ".huggingface", ".ds_store", "thumbs.db", "desktop.ini"]
)  # fmt: skip
LICENCES = "LICENSES"
# Images without a split (held back for another purpose) have a file of their own.
UNASSIGNED = "unassigned"

_ROWS_PER_GROUP = 512
_GROUP_BYTES = 16 << 20  # so that a reader of one photograph need not hold hundreds
# Each value is another one: a dictionary would only cost room.
_UNIQUE = ("image_id", "file_hash", "pixel_hash", "uri")
_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUGGING_FACE = {b"huggingface": json.dumps({"info": {"features": {IMAGE: {"_type": "Image"}}}}).encode()}


def write_release(
    out: str | Path,
    *,
    name: str,
    version: str,
    catalog: Catalog,
    read: Callable[[str], bytes],
    card: str,
    licences: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the images of a catalogue as a release. Nothing is left behind after an error.

    Args:
        out: The new folder.
        name: Of the dataset.
        version: Of the dataset, 1.0.0 for instance.
        catalog: The images.
        read: The bytes of the image file of a uri; they must have the row's `file_hash`.
        card: The text of `README.md`.
        licences: Text by file name, for `LICENSES/`.
        facts: Further JSON values for `release.json`.

    Returns:
        What `release.json` says.

    Raises:
        UserError: if `out` is in use, the catalogue is empty, or bytes differ from their hash.
    """
    if len(catalog) == 0:
        raise UserError("release", "must hold at least one image")
    refuse_columns(catalog)
    ordered = catalog.in_order().with_column("source", [name] * len(catalog))
    about = {
        "format": FORMAT_1,
        "name": name,
        "version": version,
        "manifest_hash": manifest_hash(ordered),
        "counts": counts(ordered),
        **facts,
    }
    with atomic_folder(out) as folder:
        write_images(folder / DATA, ordered, read)
        for file, text in licences.items():
            write_text(folder / LICENCES / file, text)
        write_text(folder / CARD, card)
        write_json(folder / ABOUT, about)
        write_text(folder / ATTRIBUTES, ATTRIBUTES_TEXT)
        write_text(folder / CHECKSUMS, checksums(folder))
    return about


def refuse_columns(catalog: Catalog, *, references_only: bool = False) -> None:
    """Raises: UserError for a column whose name a release needs for itself: no reader would take two."""
    for name in catalog.extra:
        # `image.bytes` is how Parquet calls a part of the column image.
        if name == IMAGE or name.startswith(f"{IMAGE}.") or (references_only and name == SIZE):
            rule = "is the name of a release's own column, and of a further one of the images"
            raise UserError(
                f"column {name!r}", rule, remedy="rename it in the source and build the pairs again"
            )


def manifest_hash(catalog: Catalog) -> str:
    """SHA-256 of what a release holds: every column of every image, independent of row order and of how the
    pictures are compressed (their `pixel_hash` counts; `file_hash` only where that is null)."""
    table = catalog.table
    picture = pc.coalesce(table.column("pixel_hash"), table.column("file_hash"))
    rest = table.drop_columns(["pixel_hash", "file_hash"])
    return Catalog(rest.append_column("picture", picture)).content_hash()


def counts(catalog: Catalog) -> dict[str, Any]:
    """How many images, concepts, categories, domains and split groups, and images by split and domain."""
    splits = Counter(split or UNASSIGNED for split in catalog.column("split"))
    domains = Counter(domain for domain in catalog.column("domain") if domain is not None)
    return {
        "images": len(catalog),
        "concepts": _distinct(catalog, "concept"),
        "categories": _distinct(catalog, "category"),
        "domains": len(domains),
        "split_groups": _distinct(catalog, "split_group"),
        "images_by_split": dict(splits),
        "images_by_domain": dict(domains),
    }


def by_split(catalog: Catalog) -> dict[str, Catalog]:
    """The rows of each split, in the order train, validation, test, unassigned; empty ones left out."""
    split = catalog.column("split")
    parts = {
        name: catalog.select(split == (None if name == UNASSIGNED else name))
        for name in (*SPLITS, UNASSIGNED)
    }
    return {name: part for name, part in parts.items() if len(part)}


def _distinct(catalog: Catalog, column: str) -> int:
    return int(pc.count_distinct(catalog.table.column(column), mode="only_valid").as_py())


def write_images(
    folder: Path,
    catalog: Catalog,
    read: Callable[[str], bytes] | None,
    *,
    shard_bytes: int | None = None,
    progress: bool = False,
) -> None:
    """Writes the images of each split under `folder`, in the catalogue's order.

    read: the bytes of a uri, checked against its `file_hash`; None leaves the images out.
    shard_bytes: of images, at most, in one file `<split>-00000.parquet` (a larger image is alone in one);
    None gives one file `<split>.parquet`.
    """
    folder.mkdir(exist_ok=True)
    for split, part in by_split(catalog).items():
        table = part.table
        groups = _groups(table, read, None if shard_bytes is None else min(shard_bytes, _GROUP_BYTES))
        shown = bar(total=len(part), what=f"writing {split}", unit="image") if progress else None
        writer, number, size = None, 0, 0
        try:
            for rows, data in groups:
                amount = sum(map(len, data))
                if writer and shard_bytes is not None and size + amount > shard_bytes:
                    writer.close()
                    writer, number, size = None, number + 1, 0
                name = f"{split}.parquet" if shard_bytes is None else f"{split}-{number:05d}.parquet"
                writer = writer or _parquet(folder / name, table.schema, with_images=read is not None)
                if read is not None:
                    images = [pa.array(data, pa.binary()), rows.column("uri").combine_chunks()]
                    column = pa.StructArray.from_arrays(images, fields=list(_IMAGE_TYPE))
                    rows = rows.append_column(IMAGE, column)
                writer.write_table(rows.cast(writer.schema), row_group_size=_ROWS_PER_GROUP)
                size += amount
                if shown is not None:
                    shown.update(len(rows))
        finally:
            if writer:
                writer.close()
            if shown is not None:
                shown.close()


def _parquet(path: Path, schema: pa.Schema, *, with_images: bool) -> Any:
    import pyarrow.parquet as pq

    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    packing = {f.name: "zstd" for f in schema}
    whole = schema.with_metadata(None)
    if with_images:
        whole = schema.append(pa.field(IMAGE, _IMAGE_TYPE)).with_metadata(_HUGGING_FACE)
        # Images are compressed already; left plain, a reader gets at one without unpacking its neighbours.
        packing |= {f"{IMAGE}.bytes": "none", f"{IMAGE}.path": "zstd"}
    return pq.ParquetWriter(
        path,
        whole,
        compression=packing,
        use_dictionary=[text for text in texts if text not in _UNIQUE],
        write_statistics=[f.name for f in schema],
    )


def _groups(
    table: pa.Table, read: Callable[[str], bytes] | None, limit: int | None
) -> Iterator[tuple[pa.Table, list[bytes]]]:
    """Rows and their images, a row group at a time: of so many rows, and `limit` bytes (or one image)."""
    if read is None:
        for start in range(0, len(table), _ROWS_PER_GROUP):
            yield table.slice(start, _ROWS_PER_GROUP), []
        return
    start, data, size = 0, list[bytes](), 0
    rows = zip(table.column("uri").to_pylist(), table.column("file_hash").to_pylist(), strict=True)
    for at, image in enumerate(in_threads(lambda row: checked(read, *row), rows, WORKERS)):
        too_big = limit is not None and size + len(image) > limit
        if data and (too_big or len(data) == _ROWS_PER_GROUP):
            yield table.slice(start, len(data)), data
            start, data, size = at, [], 0
        data.append(image)
        size += len(image)
    if data:
        yield table.slice(start, len(data)), data


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with Unix line ends, into a folder that is made if absent."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def is_foreign(name: str) -> bool:
    """Whether a relative name is, or lies in, what others put into the folder of a release."""
    return any(part.lower() in _FOREIGN for part in name.split("/"))


def checksums(folder: Path) -> str:
    """The lines of `checksums.sha256` for all files under `folder` that are part of the release."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = sorted(name for name in names if name != CHECKSUMS and not is_foreign(name))
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)
