"""The pixel store: what it holds, on disk and in memory, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.views.store import PixelStore, image_bytes, rows_hash


def half_transparent(size: int) -> Image.Image:
    image = Image.new("RGBA", (size, size), (200, 0, 0, 255))
    image.paste((0, 90, 0, 0), (0, 0, size, size // 2))
    return image


def test_row_i_is_the_image_of_row_i(list_source, picture, tmp_path):
    source = list_source([picture(6, 6, seed=i) for i in range(20)])
    catalog = source.scan().catalog
    shuffled = catalog.select(np.random.default_rng(0).permutation(20))
    stores = [
        PixelStore.build(source, shuffled, 6, path, workers=workers)
        for path, workers in ((None, 1), (None, 4), (tmp_path / "a", 4))
    ]
    for store in stores:
        assert (len(store), store.channels, store.size) == (20, 3, 6)
        assert store.rows_hash == rows_hash(shuffled) != rows_hash(catalog)
        for row, uri in enumerate(shuffled.column("uri")):
            expected = np.asarray(source.open_image(uri)).transpose(2, 0, 1)
            assert np.array_equal(store.pixels[row].numpy(), expected)


def test_a_photograph_is_cut_to_its_centre_and_resized_with_antialiasing(picture):
    wide = picture(40, 20)
    expected = wide.resize((16, 8), Image.Resampling.BILINEAR).crop((4, 0, 12, 8))
    assert np.array_equal(image_bytes(wide, 8, 3), np.asarray(expected).transpose(2, 0, 1))
    upright = wide.transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(image_bytes(upright, 8, 3), image_bytes(wide, 8, 3).transpose(0, 2, 1))
    square = picture(20, 20)
    expected = square.resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(image_bytes(square, 8, 3), np.asarray(expected).transpose(2, 0, 1))


def test_colours_under_transparent_pixels_do_not_bleed():
    small = image_bytes(half_transparent(64), 8, 4)
    shown = small[:, small[3] > 0]
    assert (shown[0] >= 198).all() and (shown[1] == 0).all()


def test_alpha_is_kept_where_an_image_needs_it(list_source, picture):
    opaque = picture(8, 8).convert("RGBA")
    needing = list_source([picture(8, 8), opaque, half_transparent(8)])
    assert PixelStore.build(needing, needing.scan().catalog, 8).channels == 4
    plain = list_source([picture(8, 8), opaque])
    assert PixelStore.build(plain, plain.scan().catalog, 8).channels == 3
    white = PixelStore.build(needing, needing.scan().catalog, 8, channels=3)
    assert white.channels == 3
    assert (white.pixels[2, :, :4] == 255).all() and white.pixels[2, :, 4:].unique().tolist() == [0, 200]


def test_white_is_laid_under_as_pillow_does_it(list_source, picture):
    images = [picture(8, 8, "RGBA", seed=i) for i in range(5)]
    source = list_source(images)
    store = PixelStore.build(source, source.scan().catalog, 8)
    flat = store.on_white()
    assert flat.channels == 3 and flat.on_white() is flat and flat.rows_hash == store.rows_hash
    for row, image in enumerate(images):
        composed = Image.alpha_composite(Image.new("RGBA", (8, 8), "white"), image).convert("RGB")
        expected = torch.from_numpy(np.array(composed)).permute(2, 0, 1)
        assert (flat.pixels[row].int() - expected.int()).abs().max() <= 1


def test_a_store_in_a_file_opens_again_memory_mapped(list_source, picture, tmp_path):
    source = list_source([picture(9, 7, seed=i) for i in range(4)])
    catalog = source.scan().catalog
    built = PixelStore.build(source, catalog, 6, tmp_path / "deep" / "pixels")
    again = PixelStore.open(tmp_path / "deep" / "pixels", catalog=catalog, size=6)
    assert torch.equal(built.pixels, again.pixels) and built.rows_hash == again.rows_hash
    assert torch.equal(again.resident("cpu").pixels, again.pixels)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["pixels"]


def test_an_existing_store_is_opened_not_built(list_source, picture, tmp_path):
    source = list_source([picture(6, 6)])
    catalog = source.scan().catalog
    first = PixelStore.open_or_build(source, catalog, 6, tmp_path / "pixels")
    source.images = [None]
    assert torch.equal(PixelStore.open_or_build(source, catalog, 6, tmp_path / "pixels").pixels, first.pixels)


def test_an_unreadable_image_is_named_and_leaves_no_file(list_source, picture, tmp_path):
    source = list_source([picture(6, 6), None, picture(6, 6)])
    with pytest.raises(UserError, match=r"^1 cannot be read \(truncated\); repair"):
        PixelStore.build(source, source.scan().catalog, 6, tmp_path / "pixels")
    assert list(tmp_path.iterdir()) == []


def test_all_unreadable_images_are_named_at_once(list_source, picture, tmp_path):
    source = list_source([None if i in (1, 3, 4) else picture(6, 6, seed=i) for i in range(6)])
    names = ", ".join(rf"{i} \(truncated\)" for i in (1, 3, 4))
    line = rf"^3 images cannot be read: {names}; repair .* `sempairs data scan list: --decode --out"
    for path in (None, tmp_path / "pixels"):
        with pytest.raises(UserError, match=line):
            PixelStore.build(source, source.scan().catalog, 6, path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_this_store_is_refused_in_one_line(list_source, picture, tmp_path):
    source = list_source([picture(6, 6, seed=i) for i in range(3)])
    catalog = source.scan().catalog
    path = tmp_path / "pixels"
    PixelStore.build(source, catalog, 6, path)
    whole = path.read_bytes()

    def refusal(data: bytes | None = None, *, catalog: Catalog | None = None, size: int | None = None) -> str:
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            PixelStore.open(path, catalog=catalog, size=size)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return str(caught.value)

    assert "must hold images of 8 pixels, got 6" in refusal(size=8)
    assert "images of another catalogue" in refusal(catalog=catalog.select([2, 1, 0]))
    assert "is cut short" in refusal(whole[:-1])
    assert "is not a pixel store" in refusal(b"\x89PNG" * 2000)
    assert "is not a pixel store" in refusal(b"")
    header = json.dumps({"shape": "big"}).encode()
    assert "is not a pixel store" in refusal((b"sempairs pixels 1\n" + header).ljust(4096))
    path.unlink()
    assert "cannot be opened" in refusal()


def test_a_full_disk_is_one_line_and_leaves_nothing(list_source, picture, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    source = list_source([picture(6, 6)])
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)$"):
        PixelStore.build(source, source.scan().catalog, 6, tmp_path / "pixels")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_catalogue_is_refused(list_source, picture):
    source = list_source([picture(6, 6)])
    with pytest.raises(UserError, match="needs at least one image"):
        PixelStore.build(source, source.scan().catalog.select([]), 6)
