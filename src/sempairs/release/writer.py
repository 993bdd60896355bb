"""Writes a release: a folder that says everything about itself.

    data/<split>.parquet   catalogue columns and the images' bytes, rows sorted by image_id
    release.json           name, version, counts, manifest hash, how it was built
    README.md              the card, with Hugging Face's front matter
    LICENSES/              the full text of every licence
    checksums.sha256       of all of these, as `sha256sum -c` reads it

The same catalogue and bytes give the same files, given the same version of pyarrow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog import SPLITS, Catalog
from sempairs.catalog.sources.release import ABOUT, DATA, FORMAT, IMAGE
from sempairs.errors import UserError
from sempairs.files import atomic_folder, sha256_bytes, sha256_file, write_json

CHECKSUMS = "checksums.sha256"
CARD = "README.md"
LICENCES = "LICENSES"
# Images without a split (held back for another purpose) have a file of their own.
UNASSIGNED = "unassigned"

_ROWS_PER_GROUP = 512
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
    """Writes the images of `catalog` to the new folder `out`; returns what `release.json` says.

    read: the bytes of the image file of a uri; they must have the row's `file_hash`.
    licences: text by file name, for `LICENSES/`. facts: further JSON values for `release.json`.
    Raises: UserError if `out` is in use, the catalogue is empty, or bytes differ from their hash. Nothing is
    left behind then.
    """
    if len(catalog) == 0:
        raise UserError("release", "must hold at least one image")
    ordered = catalog.in_order().with_column("source", [name] * len(catalog))
    about = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "manifest_hash": manifest_hash(ordered),
        "counts": counts(ordered),
        **facts,
    }
    with atomic_folder(out) as folder:
        for split, part in by_split(ordered).items():
            _write_parquet(folder / DATA / f"{split}.parquet", part, read)
        for file, text in licences.items():
            _write_text(folder / LICENCES / file, text)
        _write_text(folder / CARD, card)
        write_json(folder / ABOUT, about)
        _write_text(folder / CHECKSUMS, _checksums(folder))
    return about


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


def _write_parquet(path: Path, catalog: Catalog, read: Callable[[str], bytes]) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    table = catalog.table
    schema = table.schema.append(pa.field(IMAGE, _IMAGE_TYPE)).with_metadata(_HUGGING_FACE)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    # Images are compressed already; left plain, a reader gets at one without unpacking its neighbours.
    packing = {f.name: "zstd" for f in table.schema} | {f"{IMAGE}.bytes": "none", f"{IMAGE}.path": "zstd"}
    with pq.ParquetWriter(
        path,
        schema,
        compression=packing,
        use_dictionary=[text for text in texts if text not in _UNIQUE],
        write_statistics=[f.name for f in table.schema],
    ) as writer:
        for start in range(0, len(table), _ROWS_PER_GROUP):
            rows = table.slice(start, _ROWS_PER_GROUP)
            uris = rows.column("uri").to_pylist()
            data = [
                _checked(read, *row) for row in zip(uris, rows.column("file_hash").to_pylist(), strict=True)
            ]
            images = pa.StructArray.from_arrays(
                [pa.array(data, pa.binary()), pa.array(uris)], fields=list(_IMAGE_TYPE)
            )
            writer.write_table(rows.append_column(IMAGE, images).cast(schema), row_group_size=_ROWS_PER_GROUP)


def _checked(read: Callable[[str], bytes], uri: str, file_hash: str) -> bytes:
    data = read(uri)
    if sha256_bytes(data) != file_hash:
        raise UserError(
            f"image {uri}", "is not the file that the catalogue was made from", remedy="scan again"
        )
    return data


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _checksums(folder: Path) -> str:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)
