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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from sempairs.catalog.columns import Labels, as_text, known_columns, on_columns
from sempairs.catalog.images import UnreadableImage, decode
from sempairs.catalog.names import escape_name, printable, unescape_name
from sempairs.catalog.sources.base import Problem, Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import SPLIT_NAMES, Measured, Member, measure_bytes, scan_members
from sempairs.catalog.table import SCHEMA
from sempairs.errors import UserError, unknown

_KEPT = ("concept", "domain", "split", "split_group", "licence", "attribution")
_IMAGE = "image"
_SPLIT_WORD = re.compile(r"([a-z]+)(?:[-_.]|$)")
_CACHED_GROUPS = 4


@source_kind("parquet", summary="Hugging Face image datasets as Parquet", example="parquet:dataset/data")
class ParquetSource:
    """One Parquet file, or all of a folder (hidden ones aside, links not followed).

    The image column is the one that the Hugging Face metadata calls an Image, else the first struct with
    `bytes`, else a binary column `image`, else the only binary column. The category is the first ClassLabel's
    name, else the column `category` (a path), or one called so usually, as `label` (see `columns`). The
    columns concept, domain, split, split_group, licence and attribution are taken over whatever Arrow type
    they have, and further columns of text, numbers and booleans are kept as text; notes name those taken for
    others and those left out. Without a split column, the name of a shard (`train-00000-of-00004.parquet`) or
    of its folder gives the split. A row with a split of an unknown name is reported and left out.
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
        notes: dict[str, None] = {}
        without: list[str] = []
        for name, shard in sorted(self._shards.items()):
            try:
                rows, said = shard.describe()
            except UnreadableImage as error:
                problems.append(Problem(name, str(error)))
                continue
            notes |= dict.fromkeys(said)
            of_shard = _split_of(name)
            found = 0
            for row, columns in enumerate(rows):
                uri = f"{name}#{row:09d}"
                given = columns.get("split")
                if given is not None and given.lower() not in SPLIT_NAMES:
                    problems.append(Problem(uri, str(unknown("split", given, SPLIT_NAMES))))
                    continue
                split = SPLIT_NAMES.get((given or "").lower(), of_shard)
                found += split is not None
                members.append(Member(uri, self._prefix + uri, {**columns, "split": split}))
            if not found:
                without.append(name)
        if 0 < len(without) < len(self._shards) and any(m.columns["split"] for m in members):
            notes[f"the images of {len(without):,} shards have no split, among them {without[0]}"] = None
        return scan_members(
            self.spec, members, measure, workers=workers, progress=progress, problems=problems, notes=notes
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

    def describe(self) -> tuple[list[dict[str, str | None]], list[str]]:
        """What is known about each row beside its image, as catalogue columns; and notes on what was taken
        and left out. Raises: UnreadableImage."""
        with self._lock:
            self._open()
            layout = self._layout
            table = self._reading(lambda: self._file.read(columns=list(layout.columns)))
        rows: list[dict[str, str | None]] = [{} for _ in range(table.num_rows)]
        notes = [*layout.notes]
        for own, name in layout.columns.items():
            values = table.column(own).to_pylist()
            names = layout.class_names.get(own)
            if name == "category" or names is not None:
                labels = Labels(own, names)
                found = list(map(labels.category, values))
                notes += labels.notes()
            else:
                found, wrong = _texts(values)
                if wrong and name == "split":
                    raise UnreadableImage(f"column {own} must hold the names of splits, and {wrong}")
                notes += [f"column {escape_name(own)} is left out: it {wrong}"] if wrong else []
            for row, value in zip(rows, found, strict=True):
                row[name] = value
        return rows, notes

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
            named = value.get("path") if isinstance(value, dict) else None
            only = f", only the name of a file, {named}, which is not read" if named else ""
            raise UnreadableImage(f"the row holds no image bytes{only}")
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


def _texts(values: list[Any]) -> tuple[list[str | None], str]:
    """Values as text; or nulls, and why they cannot be."""
    try:
        return [None if (text := as_text(value)) is None else printable(text) for value in values], ""
    except ValueError as error:
        said = "holds bytes that are no text" if isinstance(error, UnicodeError) else str(error)
        return [None] * len(values), said


@dataclass(frozen=True)
class _Layout:
    """Which column of a shard holds the image, the catalogue's name of each other column that is read, the
    class names of those that hold numbers of classes, and what is to be said about it."""

    image: str
    columns: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _layout(schema: pa.Schema) -> _Layout:
    """Raises: UnreadableImage if no column holds images."""
    features = _features(schema)
    if len(set(schema.names)) != len(schema.names):
        raise UnreadableImage("two columns have one name")
    image, notes = _image_column(schema, features)
    class_names = {
        name: tuple(map(str, found))
        for name in schema.names
        if name in features and isinstance(found := _class_names(features[name]), list)
    }
    others = [name for name in schema.names if name != image]
    columns = known_columns(others, [*_KEPT, "category"])
    flat = (name for name in class_names if not pa.types.is_nested(schema.field(name).type))
    classes = [name for name in flat if name not in columns]
    if classes and not any(own in class_names for own, name in columns.items() if name == "category"):
        # What a ClassLabel calls a class goes before any other column.
        columns = {own: name for own, name in columns.items() if name != "category"}
        columns[classes[0]] = "category"
    # A ClassLabel or `label` is what nearly all such files have, and needs no word.
    usual = {
        own for own, name in columns.items() if name == "category" and (own in class_names or own == "label")
    }
    notes += on_columns({own: name for own, name in columns.items() if own not in usual})
    left_out = []
    for name in others:
        if name in columns:
            continue
        if name in SCHEMA.names or not name.isprintable() or not _is_plain(schema.field(name).type):
            left_out.append(name)
        else:
            columns[name] = name
    if left_out:
        notes.append(f"columns left out: {', '.join(map(escape_name, left_out))}")
    return _Layout(image, columns, class_names, tuple(notes))


def _image_column(schema: pa.Schema, features: Mapping[str, Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The column that holds images, and what is to be said about the choice."""
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    found += [column.name for column in schema if _holds_files(column.type)]
    binary = [column.name for column in schema if _holds_bytes(column.type)]
    found += [name for name in binary if name == _IMAGE]
    if not found and len(binary) == 1:
        found = binary
    if not found:
        has = ", ".join(f"{escape_name(column.name)} ({column.type})" for column in schema)[:300]
        raise UnreadableImage(f"no column holds images (a struct with bytes, or binary `image`), but {has}")
    more = [name for name in dict.fromkeys(found) if name != found[0]]
    taken = found[0] if found[0] == _IMAGE and not more else f"{found[0]}, not {', '.join(more)}"
    notes = [f"images taken from the column {escape_name(taken)}"] if more else []
    if not more and found[0] != _IMAGE:
        notes = [f"images taken from the column {escape_name(found[0])}"]
    return found[0], notes


def _features(schema: pa.Schema) -> dict[str, Mapping[str, Any]]:
    """Hugging Face's description of the columns that are there; empty if it is absent or damaged."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {name: kind for name, kind in described if name in schema.names and isinstance(kind, Mapping)}


def _class_names(feature: Mapping[str, Any]) -> object:
    """The names of a ClassLabel, or of a list of them."""
    inner = feature.get("feature")
    if isinstance(inner, Mapping):
        return _class_names(inner)
    return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def _holds_files(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(part.name == "bytes" for part in kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Binary of any form, also as lists of bytes."""
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_uint8(kind.value_type))
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(test(kind) for test in tests)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a further column of this type is kept: text, numbers, booleans."""
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
    )
    return any(test(kind) for test in tests)
