"""Releases of pairs in other people's readers: Hugging Face, pandas, pyarrow, Croissant."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.release import ReleaseFacts, build_release

ARMS = ("semantic", "augmented", "image_matched")


@pytest.mark.parametrize("kind", ["full", "references"])
def test_hugging_face(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    root, cache = ready / kind, str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(root)) == ["images", "pairs"]
    images = datasets.load_dataset(str(root), cache_dir=cache)  # the default configuration
    assert sum(len(part) for part in images.values()) == 42
    assert set(images) == {"train", "validation", "test"}
    pairs = datasets.load_dataset(str(root), "pairs", cache_dir=cache)
    before = PairSet.open(ready / "pairs")
    assert set(pairs) == set(ARMS)
    for name in ("anchor", "partner", "relation"):
        assert list(pairs["semantic"][name]) == [str(v) for v in before.table.column(name).to_pylist()]
    known = {name for part in images.values() for name in part["image_id"]}
    assert {*pairs["semantic"]["anchor"], *pairs["semantic"]["partner"]} <= known
    assert ("image" in images["train"].features) == (kind == "full")
    if kind == "full":
        row = images["train"][0]
        with Image.open(ready / "photos" / row["uri"]) as photo:
            assert np.array_equal(np.asarray(row["image"]), np.asarray(photo))


def test_pandas(ready: Path) -> None:
    import pandas as pd

    images = pd.concat([pd.read_parquet(p) for p in sorted((ready / "full" / "data").iterdir())])
    pairs = pd.read_parquet(ready / "full" / "pairs" / "semantic.parquet")
    joined = pairs.merge(images, left_on="anchor", right_on="image_id").merge(
        images, left_on="partner", right_on="image_id", suffixes=("", "_partner")
    )
    assert len(joined) == len(pairs)
    assert (joined["category"] == joined["category_partner"]).all()
    with Image.open(io.BytesIO(joined["image"][0]["bytes"])) as image:
        assert image.size == (16, 16)


def test_plain_pyarrow(ready: Path) -> None:
    table = pq.read_table(ready / "full" / "data")
    assert len(table) == 42
    assert set(pq.read_table(ready / "full" / "pairs" / "augmented.parquet").column_names) >= {
        "anchor",
        "partner",
    }


@pytest.mark.parametrize("kind", ["full", "references"])
def test_croissant(ready: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant")
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path))
    dataset = mlc.Dataset(jsonld=str(ready / kind / "croissant.json"))
    assert not dataset.metadata.issues.errors
    # A citation is recommended, and this release has none; nothing else is left to wish for.
    assert all("citeAs" in str(warning) for warning in dataset.metadata.issues.warnings)
    names = [record_set.name for record_set in dataset.metadata.record_sets]
    assert names == ["images", *(f"pairs-{arm}" for arm in ARMS)]
    images = list(dataset.records("images"))
    assert len(images) == 42
    assert {record["images/category"] for record in images} == {b"cat", b"dog", b"owl"}
    if kind == "full":
        assert all(record["images/image"].size == (16, 16) for record in images)
    before = PairSet.open(ready / "pairs").table
    found = [
        (record["pairs-semantic/anchor"].decode(), record["pairs-semantic/partner"].decode())
        for record in dataset.records("pairs-semantic")
    ]
    ids = (before.column(name).to_pylist() for name in ("anchor", "partner"))
    assert found == list(zip(*ids, strict=True))


def test_croissant_says_what_the_files_are(ready: Path) -> None:
    import hashlib

    described = json.loads((ready / "full" / "croissant.json").read_text())
    files = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    for entry in files:
        data = (ready / "full" / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["contentSize"] == f"{len(data)} B"
    assert {entry["name"] for entry in files} == {
        p.relative_to(ready / "full").as_posix() for p in (ready / "full").rglob("*.parquet")
    }
    assert described["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert [person["name"] for person in described["creator"]] == ["Ann", "Ben"]
    assert described["datePublished"] == "2026-01-31"
    assert described["citeAs"] == "Ann and Ben (2026): Tiny pairs, version 1.0.0."
    card = (ready / "full" / "README.md").read_text()
    assert "## Citation\n\n```\nAnn and Ben (2026): Tiny pairs, version 1.0.0.\n```" in card


def test_front_matter(ready: Path) -> None:
    _, matter, body = (ready / "full" / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(matter)
    assert said["pretty_name"] == "Tiny pairs"
    assert said["license"] == ["cc-by-4.0"]
    assert [config["config_name"] for config in said["configs"]] == ["images", "pairs"]
    for config in said["configs"]:
        for entry in config["data_files"]:
            assert list((ready / "full").glob(entry["path"]))
    assert "| all |" in body
    assert "By Ann, Ben." in body


def test_names_of_columns_with_blanks(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlc = pytest.importorskip("mlcroissant")
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    catalog = PairSet.open(ready / "pairs").catalog
    for name in ("my column", "my_column"):
        catalog = catalog.with_column(name, [name] * len(catalog))
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="same_category"))
    build_release(
        tmp_path / "pairs", tmp_path / "out", name="tiny", version="1.0.0",
        facts=ReleaseFacts(licence="CC-BY-4.0"),
    )  # fmt: skip
    dataset = mlc.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    assert not dataset.metadata.issues.errors
    record = next(iter(dataset.records("images")))
    assert record["images/my_column_"] == b"my column"
    assert record["images/my_column"] == b"my_column"
