"""Frozen features of images: each image whole, on white, at the encoder's input size, seen once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sempairs.catalog.sources import Source
from sempairs.catalog.table import Catalog
from sempairs.encoders import embed
from sempairs.encoders.features import batch_that_fits
from sempairs.errors import UserError
from sempairs.evaluation.target import Target
from sempairs.files import atomic_write, sha256_bytes, stable_hash
from sempairs.precision import Precision
from sempairs.runs.sessions import package_sha256
from sempairs.views.config import ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.store import PixelStore, rows_hash, store_key

SETTINGS = {
    "picture": "central square, triangle filter, on white",
    "features": "encoder output",
    "version": 1,
}
#: Bytes of pixels that are held at once where no folder is there to keep them in.
PART = 128 << 20


def compute_features(
    target: Target,
    source: Source,
    catalog: Catalog,
    *,
    precision: Precision = "float32",
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    batch: int | None = None,
) -> NDArray[np.float32]:
    """Features (N, D) of a catalogue's images, rows as in the catalogue.

    cache: a folder where pixels and features are kept, under hashes of images, weights, settings and the
    package's code; nothing is kept without it, and images are read part by part. batch: images embedded at
    once; by default `batch_that_fits`. Raises: UserError for an image that cannot be read, and for features
    that are not finite.
    """
    spec = target.spec
    images = stable_hash([rows_hash(catalog), spec.input_size])
    place = torch.device(device)
    kept = None
    if cache is not None:
        # The arithmetic differs between devices and numbers of threads only in the last bits of float32.
        key = [images, spec.weight_hash, spec.config.model_dump(mode="json"), spec.mean, spec.std]
        key += [precision, place.type, SETTINGS, package_sha256()]
        kept = cache / f"features-{stable_hash(key)[:32]}.npz"
        if kept.exists():
            return _read(kept, len(catalog), spec.width)
    config = ViewsConfig(size=spec.input_size, mean=spec.mean, std=spec.std)
    encoder = target.encoder.to(place)
    step = batch or batch_that_fits(encoder, spec.input_size)
    part = len(catalog) if cache is not None else max(1, PART // (3 * spec.input_size**2 * step)) * step

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(catalog), part):
            rows = np.arange(start, min(start + part, len(catalog)))
            some = catalog if len(rows) == len(catalog) else catalog.select(rows)
            store = pixel_store(source, some, spec.input_size, cache, shown=some is catalog)
            maker = ViewMaker(config, store, seed=0, device=place)
            for i in range(0, len(store), step):
                yield maker.clean(np.arange(i, min(i + step, len(store))))

    total = -(-len(catalog) // step)
    features = embed(encoder, batches(), precision=precision, progress=True, total=total)
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise UserError(f"encoder {target.name}", f"gives features that are not finite for {bad} images")
    if kept is not None:
        with atomic_write(kept) as temporary:
            np.savez(temporary, features=features, sha256=np.array(sha256_bytes(features.tobytes())))
    return features


def pixel_store(
    source: Source, catalog: Catalog, size: int, cache: Path | None, *, shown: bool = True
) -> PixelStore:
    """Pixels of a catalogue's images, laid on white, rows as in the catalogue; kept in `cache` if given."""
    if cache is None:
        return PixelStore.build(source, catalog, size, channels=3, shown=shown)
    path = cache / f"scored-{store_key(catalog, size)}"
    if path.exists():
        return PixelStore.open(path, catalog=catalog, size=size)
    # Two processes that build the same store both finish; the files are equal and written whole.
    return PixelStore.build(source, catalog, size, path, channels=3)


def _read(path: Path, rows: int, width: int) -> NDArray[np.float32]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            features, digest = kept["features"], str(kept["sha256"])
    except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(str(path), f"cannot be read ({error})", remedy="remove it") from None
    if digest != sha256_bytes(features.tobytes()):
        raise UserError(str(path), "was altered after it was written", remedy="remove it")
    if features.shape != (rows, width) or features.dtype != np.float32:
        raise UserError(str(path), f"must hold ({rows}, {width}) float32", features.shape, "remove it")
    return np.asarray(features, dtype=np.float32)
