from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.release import EmojiPairsSource, ReleaseSource
from sempairs.errors import UserError
from sempairs.files import sha256_bytes
from sempairs.release import write_release

N = 11


@pytest.fixture
def images(noise: Callable[..., Image.Image]) -> list[Image.Image]:
    return [noise(seed, mode="RGBA") for seed in range(N)]


@pytest.fixture
def release(tmp_path: Path, images: list[Image.Image], to_bytes: Callable[..., bytes]) -> Path:
    data = {f"s/{i}.png": to_bytes(image) for i, image in enumerate(images)}
    columns = {
        "image_id": [f"tiny/{uri}" for uri in data],
        "file_hash": [sha256_bytes(value) for value in data.values()],
        "pixel_hash": [pixel_hash(image) for image in images],
        "uri": list(data),
        "width": [6] * N,
        "height": [4] * N,
        "source": ["x"] * N,
        "split": [("train", "test", None)[i % 3] for i in range(N)],
        "held_out": [True] * N,
    }
    write_release(
        tmp_path / "emoji-pairs",
        name="tiny",
        version="1",
        catalog=Catalog.from_columns(columns),
        read=data.__getitem__,
        card="",
        licences={},
        facts={},
    )
    return tmp_path / "emoji-pairs"


def test_catalogue_comes_back_without_images(release: Path) -> None:
    source = open_source(f"release:{release}")
    scan = source.scan()
    assert scan.problems == ()
    assert scan.catalog.extra == ("held_out",)
    ids = scan.catalog.column("image_id").tolist()
    assert ids == sorted(ids)
    assert len(ids) == N
    assert set(scan.catalog.column("source")) == {source.spec}
    assert open_source(source.spec).scan().catalog.content_hash() == scan.catalog.content_hash()


def test_images_by_uri_from_many_threads(release: Path, images: list[Image.Image]) -> None:
    source = ReleaseSource(str(release))
    wanted = np.random.default_rng(0).integers(0, N, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: source.open_image(f"s/{i}.png"), wanted))
    assert all(image.tobytes() == images[i].tobytes() for i, image in zip(wanted, found, strict=True))


@pytest.mark.parametrize("uri", ["s/99.png", "", "../release.json", "train.parquet#000000000"])
def test_unknown_uri(release: Path, uri: str) -> None:
    with pytest.raises(UnreadableImage, match="no image"):
        ReleaseSource(str(release)).open_image(uri)


def test_decoding_finds_pixels_that_are_not_the_recorded_ones(release: Path) -> None:
    source = ReleaseSource(str(release))
    assert source.scan(decode=True, workers=2).problems == ()
    file = release / "data" / "test.parquet"
    table = pq.read_table(file, partitioning=None)
    place = table.column_names.index("image")
    broken = table.column("image").to_pylist()
    broken[0], broken[1] = broken[1], {"bytes": b"nothing", "path": None}
    pq.write_table(table.set_column(place, "image", [broken]), file)
    scan = ReleaseSource(str(release)).scan(decode=True)
    assert [problem.where for problem in scan.problems] == ["s/1.png", "s/10.png"]
    assert "not the recorded ones" in scan.problems[0].reason
    assert len(scan.catalog) == N - 2


def test_emoji_pairs_where_sempairs_data_says(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_DATA", str(release.parent))
    source = open_source("emoji-pairs")
    assert source.spec == "emoji-pairs"
    assert len(source.scan().catalog) == N
    monkeypatch.setenv("SEMPAIRS_DATA", str(release))
    with pytest.raises(UserError, match="is not where it should be"):
        open_source("emoji-pairs")


def test_emoji_pairs_is_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEMPAIRS_DATA", raising=False)
    source = EmojiPairsSource()
    assert source.about["name"] == "emoji-pairs"
    with pytest.raises(UserError, match="takes no path"):
        open_source("emoji-pairs:somewhere")


def test_mistakes_are_one_line(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no release"):
        open_source(f"release:{tmp_path}")
    with pytest.raises(UserError, match="must be an existing path"):
        open_source(f"release:{tmp_path / 'absent'}")
    file = release / "data" / "train.parquet"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(
        UserError, match=r"train.parquet is damaged .*; try `sempairs release verify`"
    ) as caught:
        open_source(f"release:{release}").scan()
    assert "\n" not in str(caught.value)
    for path in (release / "data").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="has none"):
        open_source(f"release:{release}").scan()
    (release / "release.json").write_text("[]")
    with pytest.raises(UserError, match=r"format must be 'sempairs\.release/1'"):
        open_source(f"release:{release}")
