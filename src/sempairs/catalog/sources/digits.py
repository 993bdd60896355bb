"""`digits`: scikit-learn's handwritten digits, which come with the package."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources.base import Scan, source_kind
from sempairs.catalog.sources.reading import Measured, Member, measure_pixels, scan_members
from sempairs.errors import UserError

KIND = "digits"


@source_kind(KIND, summary="scikit-learn's handwritten digits, 8 x 8", example=KIND)
class DigitsSource:
    """1,797 digits, bright on black, ten categories; 17 levels of grey spread over 0 to 255.

    Alpaydin and Kaynak 1998, UCI Machine Learning Repository. An image has no file: its `file_hash` is that
    of its 64 bytes.
    """

    spec = KIND

    def __init__(self, rest: str = "") -> None:
        if rest:
            raise UserError("source digits", "takes nothing after a colon", rest, "write digits")

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            pixels = self._pixels(uri)
            return measure_pixels(_rgb(pixels), pixels.tobytes(), decode=decode)

        known = {
            "licence": "CC-BY-4.0",
            "attribution": "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits",
        }
        members = [
            Member(f"{row:04d}", f"{KIND}/{row:04d}", {**known, "category": str(label)})
            for row, label in enumerate(_load()[1])
        ]
        return scan_members(self.spec, members, measure, workers=workers, progress=progress)

    def open_image(self, uri: str) -> Image.Image:
        return _rgb(self._pixels(uri))

    def _pixels(self, uri: str) -> np.ndarray:
        images = _load()[0]
        if not (uri.isascii() and uri.isdecimal() and int(uri) < len(images)):
            raise UnreadableImage(f"no image {uri!r} in this source")
        found: np.ndarray = images[int(uri)]
        return found


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) uint8 and labels (1797,)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target


def _rgb(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")
