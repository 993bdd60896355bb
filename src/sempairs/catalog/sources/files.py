"""Sources that are image files under one folder: reading them fast, and only what changed since a scan."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from sempairs.catalog import images
from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import unescape_name
from sempairs.catalog.sources.base import Problem, Scan
from sempairs.catalog.sources.reading import (
    MAX_FILE_BYTES,
    Measured,
    Member,
    measure_bytes,
    read_inside,
    scan_members,
)
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import atomic_write, resolve_inside, sha256_file

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe does not wait
# Another number where a reader would find other rows in the same files.
_VERSION = "1"


@dataclass(frozen=True)
class Found:
    """The images of a source before they are read, what cannot be used, how many files were passed by, and,
    a line each, what was taken for granted."""

    members: Sequence[Member]
    problems: Sequence[Problem] = ()
    ignored: int = 0
    notes: Sequence[str] = ()


class Stamp(NamedTuple):
    """By what a file is taken for unchanged: bytes, and time of the last change in nanoseconds."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FilesScan(Scan):
    """A scan, the stamp of each row's file, and how many images were not read again."""

    stamps: tuple[Stamp, ...] = field(default=(), compare=False)
    reused: int = field(default=0, compare=False)


class FilesSource:
    """A source whose uris are escaped names of files under `root`. Each kind says what they are in `find`."""

    spec: str
    root: Path
    # Whether `find` walks the root. A name given by somebody may lead through links, out of the root.
    walks: ClassVar[bool] = True

    def find(self) -> Found:
        """The images there are. Raises: UserError if the source cannot be used."""
        raise AssertionError(f"{type(self).__name__} must say which images there are")

    def scan(
        self,
        *,
        workers: int | None = None,
        progress: bool = False,
        decode: bool = False,
        known: Known | None = None,
    ) -> FilesScan:
        """As every source. Files that `known` has with the same size and time are not read again: a file that
        was changed with its size and time kept (`touch -r`) goes unnoticed."""
        usable = known if known is not None and (known.decoded or not decode) else None
        stamps: dict[str, Stamp] = {}
        reused: set[str] = set()

        def measure(uri: str) -> Measured:
            name = unescape_name(uri)
            if (
                usable is not None
                and (old := usable.look_up(uri)) is not None
                and old[0] == self._stamp(name)
            ):
                reused.add(uri)
                stamps[uri], measured = old
                return measured if decode else measured._replace(pixel_hash=None)
            stamps[uri], data = self._content(name)
            return measure_bytes(data, decode=decode)

        found = self.find()
        scan = scan_members(
            self.spec,
            found.members,
            measure,
            workers=workers,
            progress=progress,
            problems=found.problems,
            ignored=found.ignored,
            notes=found.notes,
        )
        uris = scan.catalog.table.column("uri").to_pylist()
        return FilesScan(
            scan.catalog,
            scan.problems,
            scan.ignored,
            scan.notes,
            stamps=tuple(map(stamps.__getitem__, uris)),
            reused=len(reused),
        )

    def open_image(self, uri: str) -> Image.Image:
        return images.decode(self.read_bytes(uri))

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is gone or too large."""
        return read_inside(self.root, unescape_name(uri))

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return _stamp(os.stat(os.path.join(self.root, name)))
        except (OSError, ValueError):
            return None

    def _content(self, name: str) -> tuple[Stamp, bytes]:
        """The stamp, taken first, and the bytes of a file. Raises: UnreadableImage, as `read_inside`."""
        try:
            # The system resolves the path once; Python's resolving it costs as much as all else of a scan.
            with os.fdopen(self._open(name), "rb") as handle:
                found = os.fstat(handle.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise UnreadableImage("not a regular file")
                if found.st_size > MAX_FILE_BYTES:
                    raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
                return _stamp(found), handle.read()
        except FileNotFoundError:
            raise UnreadableImage("no such file") from None
        except IsADirectoryError:
            raise UnreadableImage("not a regular file") from None
        except UserError as error:
            raise UnreadableImage(error) from None
        except OSError as error:
            raise UnreadableImage(error.strerror or error) from None

    def _open(self, name: str) -> int:
        if self.walks:
            try:
                return os.open(os.path.join(self.root, name), _FLAGS | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno != errno.ELOOP:  # not a link
                    raise
        return os.open(resolve_inside(self.root, name), _FLAGS)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_mtime_ns)


class Known:
    """What an earlier scan of the same source measured, from its catalogue and the stamps beside it."""

    def __init__(self, catalog: Catalog, stamps: pa.Table, *, decoded: bool) -> None:
        self.decoded = decoded
        self._row = {uri: row for row, uri in enumerate(catalog.table.column("uri").to_pylist())}
        self._size = np.asarray(stamps.column("size"))
        self._mtime = np.asarray(stamps.column("mtime_ns"))
        self._columns = [catalog.column(name) for name in Measured._fields]

    def look_up(self, uri: str) -> tuple[Stamp, Measured] | None:
        """What the file was like when it was measured, and what was measured."""
        row = self._row.get(uri)
        if row is None:
            return None
        digest, width, height, pixels = (column[row] for column in self._columns)
        return Stamp(int(self._size[row]), int(self._mtime[row])), Measured(
            digest, int(width), int(height), pixels
        )


def stamps_path(catalog: Path) -> Path:
    """Where the stamps of a saved catalogue lie: beside it, `pets.arrow.stamps`."""
    return catalog.with_name(f"{catalog.name}.stamps")


def save_stamps(catalog: Path, scan: FilesScan, spec: str, *, decoded: bool) -> None:
    """Writes what a later scan needs, beside a catalogue that has just been saved; whole or not at all."""
    about = {"version": _VERSION, "catalog": sha256_file(catalog), "spec": spec, "decoded": str(decoded)}
    columns = {
        "size": pa.array((stamp.size for stamp in scan.stamps), type=pa.int64()),
        "mtime_ns": pa.array((stamp.mtime_ns for stamp in scan.stamps), type=pa.int64()),
    }
    table = pa.table(columns).replace_schema_metadata(about)
    path = stamps_path(catalog)
    try:
        with atomic_write(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as file:
            file.write_table(table)
    except OSError as error:
        raise UserError(str(path), f"cannot be written ({error.strerror or error})") from None


def open_known(catalog: Path, spec: str) -> Known | None:
    """What was measured by the scan that wrote `catalog`; None where it was none of `spec`, or either file is
    absent, or was changed or damaged since."""
    try:
        with pa.OSFile(str(stamps_path(catalog)), "rb") as source:
            stamps = pa.ipc.open_file(source).read_all()
        about = {key.decode(): value.decode() for key, value in (stamps.schema.metadata or {}).items()}
        expected = {"version": _VERSION, "spec": spec, "catalog": sha256_file(catalog)}
        if {name: about.get(name) for name in expected} != expected:
            return None
        stamps.validate(full=True)
        found = Catalog.open(catalog)
        if len(found) != len(stamps):
            return None
        return Known(found, stamps, decoded=about.get("decoded") == "True")
    except (OSError, pa.ArrowException, UserError, KeyError, UnicodeDecodeError):
        return None
