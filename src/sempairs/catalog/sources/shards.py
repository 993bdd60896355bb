"""`parquet:PATH`: Parquet files in Hugging Face's image layout, an `image` struct of `bytes` and `path`.

The images are in the file; `path` is only a name and is never followed.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from sempairs.catalog.images import UnreadableImage, decode
from sempairs.catalog.names import category_path, class_name, escape_name, unescape_name
from sempairs.catalog.sources.base import Problem, Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import SPLIT_NAMES, Measured, Member, measure_bytes, scan_members
from sempairs.errors import UserError

_KEPT = ("concept", "domain", "split_group", "licence", "attribution")
_SPLIT_WORD = re.compile(r"([a-z]+)(?:[-_.]|$)")
_CACHED_GROUPS = 4


@source_kind("parquet", summary="Hugging Face image datasets as Parquet", example="parquet:dataset/data")
class ParquetSource:
    """One Parquet file, or all of a folder (hidden ones aside, links not followed).

    The image column is the one that the Hugging Face metadata calls an Image, else the first struct with
    `bytes`, else a binary column `image`. The category is the first ClassLabel's name, else the column
    `category` (a path) or `label`. The text columns concept, domain, split, split_group, licence and
    attribution are taken over. Without a split column, the name of a shard (`train-00000-of-00004.parquet`)
    or of its folder gives the split.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path("parquet", rest)
        self.spec = f"parquet:{self.root}"
        alone = self.root.is_file()
        files = [self.root] if alone else _shards_under(self.root)
        if not files:
            raise UserError(f"source {self.spec}", "must hold .parquet files, and has none")
        base = self.root.parent if alone else self.root
        self._shards = {escape_name(str(file.relative_to(base))): _Shard(file) for file in files}
        self._prefix = "" if alone else f"{escape_name(self.root.name) or 'parquet'}/"

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            return measure_bytes(self.read_bytes(uri), decode=decode)

        members: list[Member] = []
        problems: list[Problem] = []
        for name, shard in sorted(self._shards.items()):
            try:
                rows = shard.describe()
            except UnreadableImage as error:
                problems.append(Problem(name, str(error)))
                continue
            of_shard = _split_of(name)
            for row, columns in enumerate(rows):
                uri = f"{name}#{row:09d}"
                split = SPLIT_NAMES.get((columns.get("split") or "").lower(), of_shard)
                members.append(Member(uri, self._prefix + uri, {**columns, "split": split}))
        return scan_members(
            self.spec, members, measure, workers=workers, progress=progress, problems=problems
        )

    def open_image(self, uri: str) -> Image.Image:
        return decode(self.read_bytes(uri))

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is not there or damaged."""
        name, _, row = uri.rpartition("#")
        if name not in self._shards or not (row.isascii() and row.isdecimal()):
            raise UnreadableImage(f"no image {uri!r} in this source")
        return self._shards[name].image(int(row))


def _shards_under(root: Path) -> list[Path]:
    files = [path for path in root.rglob("*.parquet") if not path.is_symlink() and path.is_file()]
    return sorted(p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts))


def _split_of(name: str) -> str | None:
    """From the shard's file name, else from the folders above it, the nearest first."""
    for part in reversed(unescape_name(name).split("/")):
        word = _SPLIT_WORD.match(part.lower())
        if word and word.group(1) in SPLIT_NAMES:
            return SPLIT_NAMES[word.group(1)]
    return None


class _Shard:
    """One Parquet file: opened when first used, read a row group at a time, the last few groups kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._layout = _Layout("")
        self._ends: list[int] = []  # number of rows up to and with each row group
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def describe(self) -> list[dict[str, str | None]]:
        """What is known about each row beside its image, as catalogue columns. Raises: UnreadableImage."""
        with self._lock:
            self._open()
            layout = self._layout
            wanted = [*layout.texts, *([layout.category] if layout.category else [])]
            table = self._reading(lambda: self._file.read(columns=wanted))
        rows: list[dict[str, str | None]] = [{} for _ in range(table.num_rows)]
        for name in wanted:
            for row, value in zip(rows, table.column(name).to_pylist(), strict=True):
                if name == layout.category:
                    row["category"] = _category(value, layout.class_names)
                else:
                    row[name] = value
        return rows

    def image(self, row: int) -> bytes:
        """The bytes of the image file in a row. Raises: UnreadableImage."""
        with self._lock:
            self._open()
            group = bisect.bisect_right(self._ends, row)
            if group == len(self._ends):
                raise UnreadableImage(f"{self._path.name} has no row {row}")
            column = self._group(group)
        value = column[row - (self._ends[group - 1] if group else 0)].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise UnreadableImage("the row holds no image bytes")
        return bytes(data)

    def _group(self, group: int) -> Any:
        if group not in self._groups:
            names = [self._layout.image]
            table = self._reading(lambda: self._file.read_row_group(group, columns=names))
            self._groups[group] = table.column(0)
            if len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]

    def _open(self) -> None:
        if self._file is not None:
            return
        import pyarrow.parquet as pq

        file = self._reading(lambda: pq.ParquetFile(self._path))
        self._layout = _layout(file.schema_arrow)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._ends = list(itertools.accumulate(sizes))
        self._file = file

    def _reading(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise UnreadableImage(f"{self._path.name} is damaged, or no Parquet file ({error})") from None


@dataclass(frozen=True)
class _Layout:
    """Which columns of a shard hold the image, the category, and text to take over."""

    image: str
    category: str | None = None
    class_names: tuple[str, ...] | None = None
    texts: tuple[str, ...] = ()


def _layout(schema: pa.Schema) -> _Layout:
    """Raises: UnreadableImage if no column holds images."""
    features = _features(schema)
    images = [name for name in features if features[name].get("_type") == "Image"]
    images += [column.name for column in schema if _holds_images(column)]
    if not images:
        raise UnreadableImage("no column holds images (a struct with bytes, or binary `image`)")
    labels = [name for name in features if features[name].get("_type") == "ClassLabel"]
    category = next(iter(labels + [name for name in ("category", "label") if name in schema.names]), None)
    names = features[category].get("names") if category in features else None
    return _Layout(
        images[0],
        category,
        tuple(map(str, names)) if isinstance(names, list) else None,
        tuple(name for name in (*_KEPT, "split") if _is_text(schema, name)),
    )


def _features(schema: pa.Schema) -> dict[str, Mapping[str, Any]]:
    """Hugging Face's description of the columns that are there; empty if it is absent or damaged."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {name: kind for name, kind in described if name in schema.names and isinstance(kind, Mapping)}


def _holds_images(column: pa.Field) -> bool:
    if pa.types.is_struct(column.type):
        return any(part.name == "bytes" for part in column.type)
    return column.name == "image" and str(column.type) in ("binary", "large_binary")


def _is_text(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type if name in schema.names else None
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return str(kind) in ("string", "large_string")


def _category(value: object, class_names: tuple[str, ...] | None) -> str | None:
    if value is None:
        return None
    if class_names is not None and isinstance(value, int):
        # -1 is Hugging Face's "no label".
        known = 0 <= value < len(class_names)
        return category_path(class_name(class_names[value])) if known else None
    return category_path(str(value))
