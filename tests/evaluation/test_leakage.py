"""Rule 3 on constructed cases: what counts as seen, what does not, and what the error says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation import leakage
from sempairs.evaluation.leakage import Exposure

HERE, ELSEWHERE = "folder:here", "folder:elsewhere"


def catalog(**columns: Any) -> Catalog:
    n = len(next(iter(columns.values())))
    ids = [f"image {i}" for i in range(n)]
    plain = {"file_hash": [f"file {i}" for i in range(n)], "uri": ids, "width": [1] * n, "height": [1] * n}
    return Catalog.from_columns({"image_id": ids, "source": [HERE] * n, **plain, **columns})


def exposure(files: Any = (), pixels: Any = (), groups: Any = (), source: str = HERE) -> Exposure:
    return Exposure(source, frozenset(files), frozenset(pixels), frozenset(groups))


def seen(record: Exposure, images: Catalog, source: str = HERE) -> list[bool]:
    return leakage.seen(record, images, source).tolist()


def test_equal_bytes_are_seen_under_any_id_and_source() -> None:
    images = catalog(file_hash=["a", "b", "c"])
    assert seen(exposure(files=["b", "x"]), images) == [False, True, False]
    assert seen(exposure(files=["b"], source=ELSEWHERE), images) == [False, True, False]


def test_equal_ids_are_not_equal_images() -> None:
    assert seen(exposure(files=["other"]), catalog(file_hash=["a"])) == [False]


def test_equal_pixels_are_seen_and_null_equals_nothing() -> None:
    images = catalog(pixel_hash=["p", None, "q"])
    assert seen(exposure(pixels=["q"]), images) == [False, False, True]


def test_a_group_is_seen_within_its_source_only() -> None:
    images = catalog(split_group=["1f600", "1f601", None])
    assert seen(exposure(groups=["1f601"]), images) == [False, True, False]
    assert seen(exposure(groups=["1f601"], source=ELSEWHERE), images) == [False, False, False]


def test_an_image_seen_elsewhere_brings_its_group() -> None:
    """Pretraining met image 0 in another source; image 1 shares its group here, image 2 does not."""
    images = catalog(file_hash=["a", "b", "c"], split_group=["g", "g", "h"])
    assert seen(exposure(files=["a"], groups=["h"], source=ELSEWHERE), images) == [True, True, False]


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 3)))
def test_seen_is_the_written_rule(files: set[int], pixels: set[int], groups: set[int]) -> None:
    group = [i % 4 for i in range(10)]
    images = catalog(
        file_hash=[f"f{i}" for i in range(10)],
        pixel_hash=[f"p{i}" for i in range(10)],
        split_group=[f"g{g}" for g in group],
    )
    record = exposure({f"f{i}" for i in files}, {f"p{i}" for i in pixels}, {f"g{i}" for i in groups})
    reached = groups | {group[i] for i in files | pixels}
    assert seen(record, images) == [group[i] in reached for i in range(10)]


def test_refusal_names_how_many_and_which() -> None:
    images = catalog(file_hash=list("abcdef"))
    was_seen = np.array([True, True, True, True, False, True])
    with pytest.raises(UserError) as error:
        leakage.refuse_seen("digits", images, np.array([0, 1, 2, 3, 4]), was_seen)
    line = str(error.value)
    assert "task digits" in line
    assert "4 of 5 were seen: image 0, image 1, image 2 and 1 more" in line
    leakage.refuse_seen("digits", images, np.array([4]), was_seen)


def test_pixels_are_compared_across_file_formats(tmp_path: Path) -> None:
    """The same picture as PNG and as BMP: other bytes, another id, and still seen."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    for name in ("one.png", "two.bmp"):
        folder = tmp_path / name.split(".")[1] / "class"
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name)
    trained = open_source(f"folder:{tmp_path / 'png'}").scan(decode=True).catalog
    record = exposure(trained.column("file_hash"), trained.column("pixel_hash"), source=ELSEWHERE)
    source = open_source(f"folder:{tmp_path / 'bmp'}")
    images = source.scan().catalog
    assert seen(record, images) == [False]
    filled = leakage.fill_pixel_hashes(source, images, np.array([0]))
    assert filled.column("pixel_hash").tolist() == trained.column("pixel_hash").tolist()
    assert seen(record, filled) == [True]


def test_only_missing_pixel_hashes_are_computed() -> None:
    class Unopened:
        spec = HERE

        def open_image(self, uri: str) -> Image.Image:
            raise AssertionError(f"{uri} was opened")

    images = catalog(pixel_hash=["p", None])
    assert leakage.fill_pixel_hashes(Unopened(), images, np.array([0])) is images  # type: ignore[arg-type]


def test_the_record_of_a_run_is_read_with_nulls_left_out(tmp_path: Path) -> None:
    path = tmp_path / "exposure.parquet"
    columns = {"file_hash": ["a", "b"], "pixel_hash": [None, "p"], "split_group": ["g", None]}
    pq.write_table(pa.table({"image_id": ["x", "y"], **columns}), path)
    found = leakage.read_exposure(path, "folder:not-there-any-more")
    assert found == exposure({"a", "b"}, {"p"}, {"g"}, source="folder:not-there-any-more")
    assert leakage.read_exposure(path, f"folder:{tmp_path}/../{tmp_path.name}").source == f"folder:{tmp_path}"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="no readable record of exposure"):
        leakage.read_exposure(path, HERE)


def test_of_joined_sources_each_is_known_by_its_own_name(tmp_path: Path) -> None:
    """Groups of a part are compared with those of the same source, and no other, and its near-copies count as
    those of one source."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    lines = "".join(f"- {{source: 'folder:{tmp_path / name}', name: {name}}}\n" for name in ("one", "two"))
    (tmp_path / "parts.yaml").write_text(f"parts:\n{lines}")
    path = tmp_path / "exposure.parquet"
    columns = {"file_hash": ["a", "b"], "pixel_hash": [None, None], "split_group": ["g", "h"]}
    pq.write_table(pa.table({"image_id": ["one/x", "two/y"], **columns}), path)
    joined = f"joined:{tmp_path / 'parts.yaml'}"
    found = leakage.read_exposure(path, joined)
    images = catalog(split_group=["g", "h", "k"])
    assert seen(found, images, f"folder:{tmp_path / 'one'}") == [True, False, False]
    assert seen(found, images, f"folder:{tmp_path / 'two'}") == [False, True, False]
    assert seen(found, images, joined) == [True, True, False]
    assert seen(found, images, ELSEWHERE) == [False, False, False]
    assert leakage.allowed(None, found, f"folder:{tmp_path / 'two'}") == leakage.OWN_SOURCE
    assert leakage.allowed(None, found, ELSEWHERE) == leakage.OTHER_SOURCE
