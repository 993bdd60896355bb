"""`catalog:PATH`: a saved scan, reopened from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources import open_source
from sempairs.errors import UserError

WritePng = Callable[..., Path]


def test_images_are_read_where_they_were_found(
    tmp_path: Path, write_png: WritePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "pets" / "cat" / "1.png", 1)
    monkeypatch.chdir(tmp_path)
    scanned = open_source("folder:pets").scan().catalog
    scanned.save("saved.arrow")
    saved = open_source("catalog:saved.arrow")
    monkeypatch.chdir("/")
    again = open_source(saved.spec)
    assert again.scan().catalog == scanned
    assert again.open_image("cat/1.png").size == (6, 4)
    with pytest.raises(UnreadableImage):
        again.open_image("cat/2.png")


def test_several_sources(tmp_path: Path, write_png: WritePng) -> None:
    write_png(tmp_path / "a" / "x" / "1.png", 1, (6, 4))
    write_png(tmp_path / "b" / "y" / "1.png", 2, (3, 3))
    parts = [open_source(f"folder:{tmp_path / name}").scan().catalog.table for name in "ab"]
    Catalog.from_table(pa.concat_tables(parts)).save(tmp_path / "both.arrow")
    source = open_source(f"catalog:{tmp_path / 'both.arrow'}")
    assert source.open_image("x/1.png").size == (6, 4)
    assert source.open_image("y/1.png").size == (3, 3)
    with pytest.raises(UnreadableImage, match="no image"):
        source.open_image("z/1.png")


def test_one_uri_in_two_sources_is_refused(tmp_path: Path, write_png: WritePng) -> None:
    for name in "ab":
        write_png(tmp_path / name / "1.png", ord(name))
    parts = [open_source(f"folder:{tmp_path / name}").scan().catalog.table for name in "ab"]
    Catalog.from_table(pa.concat_tables(parts)).save(tmp_path / "both.arrow")
    with pytest.raises(UserError, match=r"one uri for images of two sources, got '1\.png'"):
        open_source(f"catalog:{tmp_path / 'both.arrow'}").open_image("1.png")


def test_a_source_that_is_gone(tmp_path: Path, write_png: WritePng) -> None:
    write_png(tmp_path / "a" / "1.png")
    open_source(f"folder:{tmp_path / 'a'}").scan().catalog.save(tmp_path / "a.arrow")
    (tmp_path / "a").rename(tmp_path / "moved")
    source = open_source(f"catalog:{tmp_path / 'a.arrow'}")
    assert len(source.scan().catalog) == 1
    with pytest.raises(UserError, match="existing path"):
        source.open_image("1.png")


def test_catalogues_do_not_name_catalogues(tmp_path: Path, write_png: WritePng) -> None:
    write_png(tmp_path / "a" / "1.png")
    path = tmp_path / "a.arrow"
    catalog = open_source(f"folder:{tmp_path / 'a'}").scan().catalog
    catalog.with_column("source", [f"catalog:{path}"]).save(path)
    with pytest.raises(UserError, match="another catalogue"):
        open_source(f"catalog:{path}").open_image("1.png")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="existing path"):
        open_source(f"catalog:{tmp_path / 'absent.arrow'}")
    (tmp_path / "no.arrow").write_bytes(b"no")
    with pytest.raises(UserError, match="not a valid catalogue"):
        open_source(f"catalog:{tmp_path / 'no.arrow'}")
