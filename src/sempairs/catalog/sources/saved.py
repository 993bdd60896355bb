"""`catalog:PATH`: a saved catalogue; its images are read where they were found."""

from __future__ import annotations

import functools
import threading

from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources.base import (
    FileSource,
    Scan,
    Source,
    existing_path,
    open_source,
    source_kind,
)
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError


@source_kind("catalog", summary="a catalogue that was saved by `data scan`", example="catalog:catalog.arrow")
class SavedSource:
    """Opens at once: nothing is scanned again, so `scan` takes the rows as saved, `decode` or not.

    Each image is read through the spec in its row's `source` column, which must still exist.
    """

    def __init__(self, rest: str) -> None:
        path = existing_path("catalog", rest, folder=False)
        self.spec = f"catalog:{path}"
        self._catalog = Catalog.open(path)
        self._lock = threading.Lock()

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        notes = ["taken as saved: what it was made from is not read or decoded again"] if decode else []
        return Scan(self._catalog, notes=tuple(notes))

    def open_image(self, uri: str) -> Image.Image:
        return self._source_of(uri).open_image(uri)

    def read_bytes(self, uri: str) -> bytes:
        """The image's file as it is. Raises: UnreadableImage if it is gone, or its source keeps pixels."""
        source = self._source_of(uri)
        if not isinstance(source, FileSource):
            raise UnreadableImage(f"{source.spec} keeps pixels, not files")
        return source.read_bytes(uri)

    def _source_of(self, uri: str) -> Source:
        with self._lock:
            specs = self._specs
            if len(specs) == 1:
                return self._open(specs[0])
            spec = self._by_uri.get(uri)
        if spec is None:
            raise UnreadableImage(f"no image {uri!r} in this catalogue")
        with self._lock:
            return self._open(spec)

    @functools.cached_property
    def _specs(self) -> list[str]:
        specs: list[str] = self._catalog.table.column("source").unique().to_pylist()
        return specs

    @functools.cached_property
    def _by_uri(self) -> dict[str, str]:
        found: dict[str, str] = {}
        columns = (self._catalog.column("uri"), self._catalog.column("source"))
        for uri, spec in zip(*columns, strict=True):
            if found.setdefault(uri, spec) != spec:
                raise UserError(self.spec, "must not use one uri for images of two sources", uri)
        return found

    @functools.cache  # noqa: B019 (a source lives as long as what it opened is wanted)
    def _open(self, spec: str) -> Source:
        if spec.startswith("catalog:"):
            raise UserError(f"{self.spec}, column source", "must not name another catalogue", spec)
        return open_source(spec)
