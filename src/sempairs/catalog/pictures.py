"""The pictures of a catalogue, wherever its rows say they come from."""

from __future__ import annotations

import threading

from PIL import Image

from sempairs.catalog.sources.base import Source, open_source
from sempairs.catalog.table import Catalog


class Pictures:
    """Opens images by row; the sources that the column `source` names are opened when first needed.

    Safe to use from several threads.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._source = catalog.column("source")
        self._uri = catalog.column("uri")
        self._open: dict[str, Source] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uri)

    def source(self, row: int) -> Source:
        """The source of a row. Raises: UserError if it is not where it was."""
        spec = str(self._source[row])
        with self._lock:
            if spec not in self._open:
                self._open[spec] = open_source(spec)
            return self._open[spec]

    def image(self, row: int) -> Image.Image:
        """RGB or RGBA, upright, fully loaded. Raises: UserError, UnreadableImage."""
        return self.source(row).open_image(str(self._uri[row]))
