"""The record of what an encoder was shown: what is written, inherited, and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.catalog.exposure import (
    EXPOSURE,
    Inherited,
    read_record,
    record_beside,
    sketches_of,
    write_record,
)
from sempairs.catalog.images import pixel_hash
from sempairs.catalog.sources import Source, open_source
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import sha256_file


def photographs(folder: Path, count: int, seed: int) -> tuple[Source, Catalog]:
    """Noise of 24 pixels, one file an image."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    source = open_source(f"folder:{folder}")
    return source, source.scan().catalog


def write(path: Path, of: tuple[Source, Catalog], inherited: Inherited | None = None) -> Path:
    write_record(path, of[1], np.arange(len(of[1])), of[0], inherited or Inherited())
    return path


def test_a_folder_has_pixel_hashes_and_sketches(tmp_path: Path) -> None:
    source, catalog = photographs(tmp_path / "one", 5, 0)
    table, unknown = read_record(write(tmp_path / EXPOSURE, (source, catalog)))
    expected = [pixel_hash(source.open_image(uri)) for uri in catalog.column("uri")]
    assert table.column("pixel_hash").to_pylist() == expected
    assert set(table.column("source").to_pylist()) == {source.spec} and unknown == ()
    sketches, rows = sketches_of(table.column("sketch"))
    assert sketches.shape == (5, 1152) and rows.tolist() == [0, 1, 2, 3, 4]


def test_what_is_inherited_stands_in_the_heirs_record(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", photographs(tmp_path / "one", 3, 0), Inherited((), ("a list",)))
    second = write(tmp_path / "b.parquet", photographs(tmp_path / "two", 4, 1), Inherited((first,)))
    third = write(
        tmp_path / "c.parquet", photographs(tmp_path / "three", 2, 2), Inherited((second,), ("more",))
    )
    table, unknown = read_record(third)
    assert unknown == ("more", "a list")
    hashes = [set(read_record(p)[0].column("pixel_hash").to_pylist()) for p in (first, second, third)]
    assert len(table) == 9 and hashes[0] < hashes[1] < hashes[2]


def test_a_cache_spares_reading_the_images_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, catalog = photographs(tmp_path / "one", 4, 0)
    rows, cache = np.arange(4), tmp_path / "cache"
    write_record(tmp_path / "a", catalog, rows, source, Inherited(), cache=cache)

    def unopened(uri: str) -> Image.Image:
        raise AssertionError(uri)

    monkeypatch.setattr(source, "open_image", unopened)
    write_record(tmp_path / "b", catalog, rows, source, Inherited(), cache=cache)
    assert pq.read_table(tmp_path / "a").equals(pq.read_table(tmp_path / "b"))


def test_a_record_that_is_named_must_be_there_and_be_that_one(tmp_path: Path) -> None:
    assert record_beside(tmp_path, None, field="encoder") is None
    with pytest.raises(UserError, match=r"encoder lacks exposure\.parquet.*copy exposure\.parquet"):
        record_beside(tmp_path, "0" * 64, field="encoder")
    path = write(tmp_path / EXPOSURE, photographs(tmp_path / "one", 2, 0))
    assert record_beside(tmp_path, sha256_file(path), field="encoder") == path
    with pytest.raises(UserError, match="is not the record"):
        record_beside(tmp_path, "0" * 64, field="encoder")
