"""A store whose images stay in their files and are decoded at every use: for what does not fit in memory.

Its pixels are those of a `PixelStore` of the same images, bit for bit, but for JPEG files of which at least
twice the store's size is there: those are decoded at a half, a quarter or an eighth (libjpeg's scaled inverse
DCT), and differ as one way of making an image smaller does from another. They depend on file and size only.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs.catalog import images
from sempairs.catalog.sources.base import FileSource, Source, UnreadableImage, unreadable
from sempairs.catalog.table import Catalog
from sempairs.views.store import Bytes, image_bytes, on_white

# The batch in work and the one that is read ahead.
_KEPT = 2


@dataclass(frozen=True)
class _Batch:
    """Images being read: `pixels` (n, C, S, S) at `place[row]`, whole once all of `reading` are done."""

    place: dict[int, int]
    pixels: Tensor
    reading: list[Future[None]]


class FileStore:
    """Images (N, C, S, S) uint8, row i the image of the catalogue's row i, read from `source` when asked for.

    channels: 4 gives alpha last, 3 lays transparent images on white. workers: threads that decode, a core
    each by default.
    """

    def __init__(
        self, source: Source, catalog: Catalog, size: int, *, channels: int = 4, workers: int | None = None
    ) -> None:
        assert channels in (3, 4)
        self.size, self.channels = size, channels
        self._source, self._catalog, self._workers = source, catalog, workers
        self._pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), "decode")
        self._ahead: deque[_Batch] = deque(maxlen=_KEPT)

    def __len__(self) -> int:
        return len(self._catalog)

    def on_white(self) -> FileStore:
        """The store with three channels; itself where it has them."""
        if self.channels == 3:
            return self
        return FileStore(self._source, self._catalog, self.size, channels=3, workers=self._workers)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Starts to read a batch in the background. The last two are kept until others take their place, so
        that an image shown in two views is decoded once."""
        self._ahead.append(self._read(rows.tolist()))

    def take(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Images (B, C, S, S) uint8 on `device`; read now, where no batch read ahead has them all.

        Raises: UserError naming the first image that cannot be read.
        """
        asked = rows.tolist()
        held = (batch for batch in self._ahead if all(row in batch.place for row in asked))
        batch = next(held, None) or self._read(asked)
        places = [batch.place[row] for row in asked]
        for place in places:
            batch.reading[place].result()
        return batch.pixels[torch.tensor(places, dtype=torch.int64)].to(device)

    def _read(self, rows: Iterable[int]) -> _Batch:
        place = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        pixels = torch.empty(len(place), self.channels, self.size, self.size, dtype=torch.uint8)
        out = pixels.numpy()

        def work(row: int, i: int) -> None:
            out[i] = self._image(self._catalog.value("uri", row))

        return _Batch(place, pixels, [self._pool.submit(work, row, i) for row, i in place.items()])

    def _image(self, uri: str) -> Bytes:
        try:
            image = self._scaled(uri) or self._source.open_image(uri)
        except UnreadableImage as error:
            raise unreadable([(uri, error)], self._source.spec) from None
        if self.channels == 4 or image.mode == "RGB":
            return image_bytes(image, self.size, self.channels)
        # As a store in memory does it: first resized, then laid on white.
        return on_white(torch.from_numpy(image_bytes(image, self.size, 4).copy())[None])[0].numpy()

    def _scaled(self, uri: str) -> Image.Image | None:
        """The image from its file, None where the source keeps no files or the file is damaged."""
        if not isinstance(self._source, FileSource):
            return None
        try:
            return images.decode(self._source.read_bytes(uri), square=self.size)
        except UnreadableImage:
            return None
