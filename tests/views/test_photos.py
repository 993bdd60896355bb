"""The store that leaves images in their files gives what the store in memory gives."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sempairs.catalog.images import decode
from sempairs.catalog.sources import open_source
from sempairs.errors import UserError
from sempairs.views.config import ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.photos import FileStore
from sempairs.views.store import PixelStore

CPU = torch.device("cpu")
ORIENTATION = 0x0112


def smooth(width: int, height: int, seed: int, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, len(mode)), dtype=np.uint8)
    return Image.fromarray(coarse, mode).resize((width, height), Image.Resampling.BICUBIC)


def saved(folder: Path, images: dict[str, Image.Image], **options: object):
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        image.save(folder / name, **options)
    source = open_source(f"folder:{folder}")
    return source, source.scan().catalog


def test_files_give_the_very_pixels_of_memory(tmp_path):
    images = {f"{i}.png": smooth(30 + i, 20 + 3 * i, i) for i in range(5)}
    images |= {"c.png": smooth(40, 40, 9, "RGBA"), "g.png": smooth(33, 21, 8).convert("L")}
    source, catalog = saved(tmp_path, images)
    # Less than twice the size: nothing is scaled while it is decoded.
    source, catalog = saved(tmp_path, {f"{i}.jpg": smooth(31 + i, 31, i) for i in range(3)})
    memory, files = PixelStore.build(source, catalog, 16), FileStore(source, catalog, 16)
    assert (len(files), files.size, files.channels, memory.channels) == (10, 16, 4, 4)
    rows = np.array([3, 9, 0, 3, 5, 1, 2, 4, 6, 7, 8])
    assert torch.equal(files.take(rows, CPU), memory.take(rows, CPU))
    white = files.on_white()
    assert white.channels == 3 and white.on_white() is white
    assert torch.equal(white.take(rows, CPU), memory.on_white().take(rows, CPU))


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_decoded_small_is_close_to_one_decoded_whole(tmp_path, mode, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    images = {f"{i}.jpg": smooth(150 + 7 * i, 203 - 9 * i, i).convert(mode) for i in range(8)}
    source, catalog = saved(tmp_path, images, quality=92, exif=exif)
    data = source.read_bytes("0.jpg")
    assert decode(data, square=30).size == (30, 30)
    assert decode(data, square=76).size == decode(data).size
    rows = np.arange(8)
    memory = PixelStore.build(source, catalog, 30).take(rows, CPU).int()
    files = FileStore(source, catalog, 30, channels=3).take(rows, CPU).int()
    apart = (memory - files).abs().float()
    assert 0 < apart.mean() < 1 and apart.max() < 16


def test_what_is_read_ahead_changes_nothing_and_is_decoded_once(tmp_path):
    source, catalog = saved(tmp_path, {f"{i:02d}.png": smooth(20, 20, i) for i in range(24)})
    opened, lock, read = [], threading.Lock(), source.read_bytes

    def counted(uri: str) -> bytes:
        with lock:
            opened.append(uri)
        return read(uri)

    source.read_bytes = counted
    expected = PixelStore.build(source, catalog, 12)
    opened.clear()
    store = FileStore(source, catalog, 12, channels=3, workers=3)
    batches = np.random.default_rng(0).permutation(24).reshape(4, 6)
    store.prefetch(np.tile(batches[0], 2))
    for now, later in zip(batches, [*batches[1:], None], strict=True):
        if later is not None:
            store.prefetch(np.tile(later, 2))
        for part in (now[:4], now[2:], np.flip(now).copy()):
            assert torch.equal(store.take(part, CPU), expected.take(part, CPU))
    assert sorted(opened) == sorted(catalog.column("uri"))
    # Never more than two batches are kept: the first has to be read again.
    assert torch.equal(store.take(batches[0], CPU), expected.take(batches[0], CPU))
    assert len(opened) == 30


def test_views_are_the_same_from_files_and_from_memory(tmp_path):
    source, catalog = saved(tmp_path, {f"{i}.png": smooth(25, 18, i, "RGBA") for i in range(6)})
    anchor, partner = np.array([0, 2, 4, 1]), np.array([1, 2, 5, 0])
    for background in ("white", "colour"):
        config = ViewsConfig(size=8, background=background)
        makers = [
            ViewMaker(config, store, seed=1)
            for store in (FileStore(source, catalog, 14), PixelStore.build(source, catalog, 14))
        ]
        makers[0].prefetch(anchor, partner)
        views = [maker.make(0, anchor, partner, np.arange(4), anchor) for maker in makers]
        for ours, theirs in zip(views[0].crops, views[1].crops, strict=True):
            assert torch.equal(ours.pixels, theirs.pixels)
        assert torch.equal(makers[0].clean(anchor), makers[1].clean(anchor))


def test_a_source_of_bare_pixels_works_too(list_source, picture):
    source = list_source([picture(9, 7, seed=i) for i in range(3)])
    catalog = source.scan().catalog
    rows = np.array([2, 0])
    expected = PixelStore.build(source, catalog, 6).take(rows, CPU)
    assert torch.equal(FileStore(source, catalog, 6, channels=3).take(rows, CPU), expected)


def test_a_file_that_breaks_is_named_when_it_is_asked_for(tmp_path):
    source, catalog = saved(tmp_path, {f"{i}.jpg": smooth(40, 40, i) for i in range(4)})
    store = FileStore(source, catalog, 16)
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:300])
    store.prefetch(np.arange(4))
    store.take(np.array([0, 1, 3]), CPU)
    with pytest.raises(
        UserError, match=r"^2\.jpg cannot be read \(.*\); repair or remove it, or leave it out: .*--decode"
    ):
        store.take(np.array([2]), CPU)
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(UserError, match=r"^3\.jpg cannot be read \(.*no such file"):
        FileStore(source, catalog, 16).take(np.array([3, 3]), CPU)
