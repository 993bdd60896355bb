"""What every kind of source offers, and how one is opened from its written form, `kind:rest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import printable
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.progress import tell
from sempairs.registry import Registry

__all__ = [
    "SOURCES",
    "FileSource",
    "Problem",
    "Scan",
    "Source",
    "SourceKind",
    "UnreadableImage",
    "existing_path",
    "open_source",
    "scan_and_tell",
    "source_kind",
    "unreadable",
]


@dataclass(frozen=True)
class Problem:
    """An image, row or folder that could not be used: where it lies (printable, see `names`) and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a scan found: a catalogue sorted by `image_id`, what it could not read, how many files it passed
    over because they are hidden or no images, and, a line each, what it took for granted or left out."""

    catalog: Catalog
    problems: tuple[Problem, ...] = ()
    ignored: int = 0
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Images of one kind in one place. `spec` opens the same source from any working directory."""

    spec: str

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        """Find all images. Every file's bytes and header are read; with `decode`, its pixels too, which fills
        `pixel_hash` and finds damage that a header does not show. The result does not depend on `workers`.

        Raises: UserError if there is nothing to read at all.
        """
        ...

    def open_image(self, uri: str) -> Image.Image:
        """Open the image that the catalogue's `uri` names: RGB or RGBA, upright, fully loaded. Safe to call
        from several threads.

        Raises: UnreadableImage if it is gone or damaged.
        """
        ...


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: `open` takes what follows the colon; summary and example are for `data list`."""

    name: str
    open: Callable[[str], Source]
    summary: str
    example: str


@runtime_checkable
class FileSource(Source, Protocol):
    """A source whose images are files, so that their very bytes can be passed on."""

    def read_bytes(self, uri: str) -> bytes:
        """Read the file of the image that the catalogue's `uri` names. Safe to call from several threads.

        Raises: UnreadableImage if it is gone, or this image is kept as pixels, not as a file.
        """
        ...


#: The kinds of source, by the word before the colon.
SOURCES: Registry[SourceKind] = Registry("source", "sempairs.catalog.sources")

S = TypeVar("S", bound=Callable[[str], Source])


def source_kind(name: str, *, summary: str, example: str) -> Callable[[S], S]:
    """Register a source class under `name`, as a decorator; the class is called with what follows `name:`."""

    def file(factory: S) -> S:
        SOURCES.register(SourceKind(name, factory, summary, example))
        return factory

    return file


def unreadable(broken: Sequence[tuple[str, object]], spec: str) -> UserError:
    """Make the error for images of the source `spec` that cannot be read: uri and reason of all, and how to
    go on without them."""
    shown = ", ".join(f"{uri} ({reason})" for uri, reason in broken[:_BROKEN_SHOWN])
    more = f" and {len(broken) - _BROKEN_SHOWN:,} more" if len(broken) > _BROKEN_SHOWN else ""
    one = len(broken) == 1
    # A saved catalogue is taken as it is: what it was made from has to be decoded.
    again = "SOURCE" if spec.startswith("catalog:") else printable(spec)
    remedy = (
        f"repair or remove {'it' if one else 'them'}, or leave {'it' if one else 'them'} out: `sempairs data "
        f"scan {again} --decode --out FILE.arrow`, then use catalog:FILE.arrow"
    )
    if one:
        return UserError(broken[0][0], f"cannot be read ({broken[0][1]})", remedy=remedy)
    return UserError(f"{len(broken):,} images", f"cannot be read: {shown}{more}", remedy=remedy)


# Images that cannot be read, named in one line.
_BROKEN_SHOWN = 50


def scan_and_tell(source: Source, *, progress: bool = False, decode: bool = False) -> Scan:
    """Scan a source; tell the user on stderr what was taken for granted, and how much could not be used."""
    scan = source.scan(progress=progress, decode=decode)
    for note in scan.notes:
        tell(f"{printable(source.spec)}: {note}")
    if scan.problems:
        first = f"{scan.problems[0].where}: {scan.problems[0].reason}"
        more = "`sempairs data scan` lists them" if len(scan.problems) > 1 else "it is left out"
        images = "images" if len(scan.problems) > 1 else "image"
        tell(f"{len(scan.problems):,} {images} could not be read; {more}; the first: {first}")
    return scan


_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "catalog"}


def open_source(spec: str) -> Source:
    """Open the source that `spec` names: `kind:rest`, or `kind` alone where the kind needs no more.

    Raises: UserError for an unknown kind (with the choices and the nearest), or a rest it cannot use.
    """
    kind, colon, rest = spec.partition(":")
    if spec and not colon and kind not in SOURCES.names() and Path(spec).exists():
        guess = _BY_SUFFIX.get(Path(spec).suffix, "folder")
        raise UserError("source", "must be written kind:path", spec, f"did you mean {guess}:{spec}?")
    return SOURCES.get(kind).open(rest)


def existing_path(kind: str, rest: str, *, folder: bool | None = None) -> Path:
    """Make `rest` an absolute path that exists; `folder`: whether it must be a folder (None: either).

    Raises: UserError if it is empty, absent, of the other kind, or cannot be written in a catalogue.
    """
    field = f"source {kind}:"
    if not rest:
        raise UserError(field, "needs a path", rest, f"write {kind}:PATH")
    try:
        rest.encode()
        path = Path(rest).expanduser().resolve()
        exists = path.exists()
    except (UnicodeEncodeError, OSError, RuntimeError, ValueError):
        raise UserError(field, "must be a path in valid UTF-8 that can be resolved", rest) from None
    if not exists:
        raise UserError(field, "must be an existing path", str(path))
    if folder is not None and path.is_dir() != folder:
        raise UserError(field, f"must be a {'folder' if folder else 'file'}", str(path))
    return path
