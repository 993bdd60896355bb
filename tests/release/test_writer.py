from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.files import sha256_file
from sempairs.release import manifest_hash, write_release
from sempairs.release.card import markdown_table

Make = Callable[..., tuple[Catalog, dict[str, bytes]]]
Write = Callable[..., Path]


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_a_release_holds(release: Path) -> None:
    files = _files(release)
    assert set(files) == {
        "README.md", "LICENSES/MIT.txt", "release.json", "checksums.sha256", ".gitattributes",
        "data/train.parquet",
        "data/validation.parquet", "data/test.parquet", "data/unassigned.parquet",
    }  # fmt: skip
    about = json.loads(files["release.json"])
    assert about["counts"]["images"] == 9
    assert about["counts"]["concepts"] == 5
    assert about["counts"]["images_by_split"] == {"train": 3, "validation": 2, "test": 2, "unassigned": 2}
    assert about["seed"] == 0
    not_listed = {"checksums.sha256", ".gitattributes"}
    listed = dict(line.split("  ")[::-1] for line in files["checksums.sha256"].decode().splitlines())
    assert listed == {name: sha256_file(release / name) for name in files.keys() - not_listed}


def test_rows_are_sorted_and_hold_the_images(release: Path, make: Make) -> None:
    _, data = make()
    seen: dict[str, bytes] = {}
    for file in (release / "data").iterdir():
        table = pq.read_table(file, partitioning=None)
        ids = table.column("image_id").to_pylist()
        assert ids == sorted(ids)
        seen |= {row["image"]["path"]: row["image"]["bytes"] for row in table.to_pylist()}
    assert seen == data


def test_same_input_same_bytes(tmp_path: Path, write: Write, make: Make) -> None:
    catalog, data = make()
    turned = catalog.select(np.arange(len(catalog))[::-1])
    assert _files(write(tmp_path / "a", catalog, data)) == _files(write(tmp_path / "b", turned, data))


def test_manifest_is_of_pixels_not_of_their_packing(make: Make) -> None:
    one, other = make(kind="PNG", compress_level=0)[0], make(kind="PNG", compress_level=9)[0]
    assert set(one.column("file_hash")).isdisjoint(other.column("file_hash"))
    assert manifest_hash(one) == manifest_hash(other)
    without = [c.with_column("pixel_hash", [None] * len(c)) for c in (one, other)]
    assert manifest_hash(without[0]) != manifest_hash(without[1])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(9)), row=st.integers(0, 8), column=st.sampled_from(["concept", "licence"]))
def test_manifest_hash_follows_content_alone(make: Make, order: list[int], row: int, column: str) -> None:
    catalog, _ = make()
    moved = catalog.select(order).with_column("source", ["elsewhere"] * 9)
    assert manifest_hash(moved) == manifest_hash(catalog)
    values = catalog.column(column).tolist()
    values[row] = "other"
    assert manifest_hash(catalog.with_column(column, values)) != manifest_hash(catalog)


def test_wrong_bytes_leave_nothing_behind(tmp_path: Path, write: Write, make: Make) -> None:
    catalog, data = make()
    data["set/5.webp"] += b"x"
    with pytest.raises(UserError, match=r"image set/5\.webp is not the file"):
        write(tmp_path / "out", catalog, data)
    assert list(tmp_path.iterdir()) == []


def test_no_images_and_taken_folder(tmp_path: Path, write: Write, make: Make) -> None:
    catalog, data = make()
    with pytest.raises(UserError, match="at least one image"):
        write(tmp_path / "out", catalog.select([]), data)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="new or empty folder"):
        write(tmp_path / "taken", catalog, data)
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_many_row_groups(tmp_path: Path, make: Make) -> None:
    catalog, data = make(9)
    n = 1300
    rows = np.arange(n) % 9
    big = catalog.select(rows).with_column("image_id", [f"i{k:05d}" for k in range(n)])
    big = big.with_column("uri", [f"u{k:05d}" for k in range(n)]).with_column("split", ["train"] * n)
    uris = catalog.column("uri")
    by_uri = {f"u{k:05d}": data[uris[rows[k]]] for k in range(n)}
    write_release(
        tmp_path / "big", name="big", version="1", catalog=big, read=by_uri.__getitem__, card="", licences={},
        facts={},
    )  # fmt: skip
    file = pq.ParquetFile(tmp_path / "big" / "data" / "train.parquet")
    assert file.num_row_groups == 3
    assert file.read(["image"]).column("image").to_pylist()[-1]["bytes"] == by_uri["u01299"]


def test_card_front_matter_and_tables(release: Path) -> None:
    _, matter, body = (release / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(matter)
    assert said["license"] == ["mit"]
    assert said["size_categories"] == ["n<1K"]
    paths = {entry["split"]: entry["path"] for entry in said["configs"][0]["data_files"]}
    assert list(paths) == ["train", "validation", "test", "unassigned"]
    assert all((release / path).is_file() for path in paths.values())
    assert "| all | 3 | 2 | 2 | 2 | 9 |" in body
    assert "| d1 | 0 | 2 | 0 | 2 | 4 |" in body
    assert "| MIT |  | 9 |" in body


def test_markdown_table_escapes() -> None:
    lines = markdown_table(["a", "n"], [["x|y", 1234]]).splitlines()
    assert lines == ["| a | n |", "| --- | ---: |", "| x\\|y | 1,234 |"]


def test_hugging_face_reads_it(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(release), cache_dir=cache)
    assert {name: len(part) for name, part in loaded.items()} == {
        "train": 3, "validation": 2, "test": 2, "unassigned": 2,
    }  # fmt: skip
    assert isinstance(loaded["train"].features["image"], datasets.Image)
    assert loaded["train"][0]["image"].size == (4, 5)
    assert loaded["train"][0]["image"].mode == "RGBA"
    file = str(release / "data" / "test.parquet")
    alone = datasets.load_dataset("parquet", data_files=file, cache_dir=cache)
    assert isinstance(alone["train"].features["image"], datasets.Image)
