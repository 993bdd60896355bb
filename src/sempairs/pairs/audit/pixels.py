"""Small pictures of all images of a set, each decoded once; kept on disk, so that memory stays bounded."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.near_copies import SKETCH_BYTES, sketch
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.pairs.index import Int
from sempairs.progress import track

SIDE = 32
CHUNK = 4096
Float = NDArray[np.float32]


class SmallPictures:
    """RGBA pictures (n, SIDE, SIDE, 4) uint8 of the images of a catalogue, in a temporary file; and their
    `sketches` (n, 1152) for the search for near-copies.

    pixel_hashes: those of the catalogue, and of what was decoded where it has none. unreadable: item and
    reason of images that could not be decoded; their picture is transparent.
    """

    def __init__(self, images: Catalog) -> None:
        """Decodes all. Raises: UserError if the source of an image is not there."""
        self._folder = tempfile.mkdtemp(prefix="sempairs-audit-")
        try:
            shape = (len(images), SIDE, SIDE, 4)
            file = Path(self._folder, "pixels")
            with open(file, "wb") as handle:
                # A full disk is an error here; found out on writing to mapped memory, it ends the process.
                os.posix_fallocate(handle.fileno(), 0, math.prod(shape))
            self._store = np.memmap(file, np.uint8, "r+", shape=shape)
            self.sketches = np.zeros((len(images), SKETCH_BYTES), dtype=np.uint8)
            self.pixel_hashes: list[str | None] = list(images.column("pixel_hash"))
            self.unreadable: list[tuple[int, str]] = []
            self._decode(images)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SmallPictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _decode(self, images: Catalog) -> None:
        pictures = Pictures(images)
        known = [value is not None for value in self.pixel_hashes]

        def small(item: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None, str]:
            """The picture, its sketch, and its hash if that is asked for; or why there is none."""
            try:
                image = pictures.image(item)
            except UnreadableImage as error:
                return None, None, str(error)
            except UserError as error:
                remedy = "put the images back, or audit with --no-pixels"
                raise UserError("pixels", f"cannot be measured: {error}", remedy=remedy) from None
            digest = "" if known[item] else pixel_hash(image)
            reduced = image.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BOX)
            return np.asarray(reduced), sketch(image), digest

        found = in_threads(small, range(len(images)), worker_count(None))
        for item, (picture, drawn, text) in enumerate(
            track(found, total=len(images), what="decoding", unit="img")
        ):
            if picture is None or drawn is None:
                self.unreadable.append((item, text))
                continue
            self._store[item], self.sketches[item] = picture, drawn
            if text:
                self.pixel_hashes[item] = text

    def on_white(self, items: Int) -> Float:
        """Colours on a white ground, (B, SIDE, SIDE, 3) in [0, 1]."""
        straight = self._store[items].astype(np.float32) / np.float32(255)
        alpha = straight[..., 3:]
        ground: Float = straight[..., :3] * alpha + (1 - alpha)
        return ground

    def alpha(self, items: Int) -> Float:
        """Opacity, (B, SIDE, SIDE) in [0, 1]."""
        opacity: Float = self._store[items][..., 3].astype(np.float32) / np.float32(255)
        return opacity

    def vectors(self) -> Float:
        """Unit vectors (n, 256) of colours and opacity at 8 x 8, less their mean over the images: how alike
        pictures look where no encoder is at hand."""
        n, step = len(self._store), SIDE // 8
        found = np.empty((n, 8, 8, 4), dtype=np.float32)
        for start in range(0, n, CHUNK):
            items = np.arange(start, min(start + CHUNK, n))
            layers = np.concatenate([self.on_white(items), self.alpha(items)[..., None]], axis=-1)
            found[items] = layers.reshape(len(items), 8, step, 8, step, 4).mean(axis=(2, 4))
        flat = found.reshape(n, -1)
        flat -= flat.mean(axis=0)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        unit: Float = flat / np.maximum(length, 1e-6)
        return unit
