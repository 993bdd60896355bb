"""Pictures as the page shows them: encoded once, the recent ones kept."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from sempairs.catalog.pictures import Pictures
from sempairs.catalog.table import Catalog

SIZES = (256, 512, 0)
"""Longest side in pixels; 0 is the picture's own size. Pictures are never enlarged."""
_KEPT = 64 << 20
_LARGEST = 16_000  # WebP ends at 16,383
_EXACT = 160 * 160  # up to so many pixels nothing is lost in encoding: small drawings are compared by eye


class Thumbnails:
    """WebP bytes of catalogue rows. Safe to use from several threads. Keeps at most `kept` bytes."""

    def __init__(self, catalog: Catalog, *, kept: int = _KEPT) -> None:
        self._pictures = Pictures(catalog)
        self._found: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept, self._held = kept, 0
        self._lock = threading.Lock()

    def of(self, row: int, size: int) -> bytes:
        """The picture of a row with its longest side at most `size`, alpha kept.

        Raises: UserError, UnreadableImage if it cannot be read any more.
        """
        assert size in SIZES
        with self._lock:
            if (found := self._found.get((row, size))) is not None:
                self._found.move_to_end((row, size))
                return found
        data = self._encode(row, size)
        with self._lock:
            if (row, size) not in self._found:
                self._found[row, size] = data
                self._held += len(data)
            while self._held > self._kept:
                self._held -= len(self._found.popitem(last=False)[1])
        return data

    def _encode(self, row: int, size: int) -> bytes:
        image = self._pictures.image(row)
        image.thumbnail((size or _LARGEST, size or _LARGEST))
        out = io.BytesIO()
        exact = image.width * image.height <= _EXACT
        image.save(out, "WEBP", lossless=exact, quality=90, method=2, exact=exact)
        return out.getvalue()
