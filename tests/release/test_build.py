"""A release of pairs: what it holds, that it equals what it came from, and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.sources import open_source
from sempairs.catalog.splits import assign_splits
from sempairs.config import validate
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.table import PairSet, open_released, save_with_baselines
from sempairs.release import ReleaseFacts, build_release, verify_release, writer
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

ARMS = ("semantic", "augmented", "image_matched")
FREE = ReleaseFacts(licence="CC-BY-4.0")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_what_it_holds(ready: Path) -> None:
    names = set(files_of(ready / "full"))
    shards = {name for name in names if name.startswith("data/")}
    assert names - shards == {
        "README.md", "DATASHEET.md", "croissant.json", "release.json", "checksums.sha256", ".gitattributes",
        "LICENSES/CC-BY-4.0.txt", *(f"pairs/{arm}.parquet" for arm in ARMS),
    }  # fmt: skip
    assert len([name for name in shards if name.startswith("data/train-")]) > 2
    assert verify_release(ready / "full", pixels=True) == ()
    assert verify_release(ready / "references") == ()
    about = read_json(ready / "full" / "release.json")
    assert about["counts"]["images"] == 42
    assert set(about["counts"]["images_by_split"]) == {"train", "validation", "test"}


def test_image_bytes_are_those_of_the_files(ready: Path) -> None:
    seen = {}
    for file in sorted((ready / "full" / "data").iterdir()):
        table = pq.read_table(file, partitioning=None)
        ids = table.column("image_id").to_pylist()
        assert ids == sorted(ids)
        held = sum(len(row["bytes"]) for row in table.column("image").to_pylist())
        assert held <= 6000
        seen |= {row["image"]["path"]: row["image"]["bytes"] for row in table.to_pylist()}
    photos = ready / "photos"
    assert seen == {p.relative_to(photos).as_posix(): p.read_bytes() for p in photos.rglob("*.*")}


def test_references_hold_no_image_and_no_place(ready: Path) -> None:
    whole = b"".join(files_of(ready / "references").values())
    for photo in (ready / "photos").rglob("*.*"):
        assert photo.read_bytes()[-64:] not in whole
    table = pq.read_table(ready / "references" / "data" / "train-00000.parquet")
    assert "image" not in table.column_names
    sizes = dict(zip(table.column("uri").to_pylist(), table.column("file_size").to_pylist(), strict=True))
    assert sizes == {uri: (ready / "photos" / uri).stat().st_size for uri in sizes}
    assert set(table.column("licence").to_pylist()) == {None}
    for name, data in files_of(ready / "references").items() | files_of(ready / "full").items():
        assert str(ready).encode() not in data, name


def test_pair_sets_come_back_equal(ready: Path) -> None:
    for arm in ARMS:
        folder = ready / "pairs" if arm == "semantic" else ready / "pairs" / arm
        before, after = PairSet.open(folder), open_released(ready / "full", arm)
        assert after.manifest_hash == before.manifest_hash
        assert after.table.equals(before.table)
        assert after.config == before.config
        assert after.pairs_per_epoch == before.pairs_per_epoch
        assert (after.catalog_hash, after.catalog_images) == (before.catalog_hash, before.catalog_images)
        assert list(after.catalog.column("image_id")) == list(before.catalog.column("image_id"))
    assert PairSet.open(ready / "full").manifest_hash == PairSet.open(ready / "pairs").manifest_hash
    assert PairSet.open(ready / "references").manifest_hash == PairSet.open(ready / "pairs").manifest_hash


@pytest.mark.parametrize("arm", ARMS)
def test_plans_are_equal(ready: Path, arm: str) -> None:
    def plan(source: str, file: Path) -> Any:
        catalog = assign_splits(open_source(source).scan().catalog, seed=0)
        catalog = catalog.select(catalog.column("split") == "train")
        config = PairsConfig(relation="listed", file=str(file), arm=arm)
        return plan_pairs(catalog, config, draw_seed=5)

    a = plan(f"folder:{ready / 'photos'}", ready / "pairs")
    b = plan(f"release:{ready / 'full'}", ready / "full")
    assert a.manifest_hash == b.manifest_hash and a.semantic_hash == b.semantic_hash
    for epoch in (0, 3):
        for x, y in zip(a.epoch(epoch), b.epoch(epoch), strict=True):
            assert np.array_equal(x, y)
    assert np.array_equal(a.meaning, b.meaning)


def test_trains_to_the_same_weights(ready: Path, tmp_path: Path) -> None:
    def run(source: str, file: Path, out: Path) -> str:
        recipe = {
            "data": {"source": source, "store_size": 16},
            "pairs": {"relation": "listed", "file": str(file)},
            "views": {"recipe": "lab", "size": 16},
            "encoder": {"arch": "tiny-resnet", "options": {"channels": [8, 8, 8, 8]}},
            "method": {"name": "simclr", "hidden": 16, "out": 8},
            "optimiser": {"name": "adamw", "lr": 0.002},
            "schedule": {"duration": "3 steps"},
            "batch_size": 4,
            "speed": {"device": "cpu", "precision": "32-true", "threads": 1},
            "monitor": {"log_every": 2, "every": "0 steps", "tensorboard": False},
        }
        return pretrain(validate(PretrainRecipe, recipe), out).weight_hash

    before = run(f"folder:{ready / 'photos'}", ready / "pairs", tmp_path / "a")
    assert run(f"release:{ready / 'full'}", ready / "full", tmp_path / "b") == before


def test_same_input_same_bytes(
    tmp_path: Path, draw: Callable[..., Path], pairs_of: Callable[..., Path]
) -> None:
    made = []
    for name, backwards in (("a", False), ("b", True)):
        photos = draw(tmp_path / name)
        pairs = pairs_of(photos, tmp_path / name / "pairs", backwards=backwards)
        images = open_source(f"folder:{photos}").scan().catalog
        images = assign_splits(images, seed=0)
        if backwards:
            images = images.select(np.arange(len(images))[::-1])
        for references in (False, True):
            out = tmp_path / name / f"out{references}"
            build_release(
                pairs, out, name="tiny", version="1.0.0", facts=FREE, images=images,
                references_only=references, shard_bytes=5000,
            )  # fmt: skip
        made.append([files_of(tmp_path / name / f"out{r}") for r in (False, True)])
    assert made[0] == made[1]


def test_released_again_from_the_release(ready: Path, tmp_path: Path) -> None:
    about = read_json(ready / "full" / "release.json")
    facts = validate(ReleaseFacts, about["facts"])
    images = open_source(f"release:{ready / 'full'}").scan().catalog
    build_release(
        ready / "full", tmp_path / "again", name="tiny", version="1.0.0", facts=facts, images=images,
        shard_bytes=6000,
    )  # fmt: skip
    assert files_of(tmp_path / "again") == files_of(ready / "full")


def test_a_pool_comes_back(ready: Path, tmp_path: Path, pairs_of: Callable[..., Path]) -> None:
    pairs = pairs_of(ready / "photos", tmp_path / "pool", mode="redrawn")
    build_release(pairs, tmp_path / "rel", name="pool", version="0.1.0", facts=FREE)
    assert [p.name for p in (tmp_path / "rel" / "pairs").iterdir()] == ["semantic.parquet"]
    before, after = PairSet.open(pairs), PairSet.open(tmp_path / "rel")
    assert after.manifest_hash == before.manifest_hash
    assert after.table.column("partner").null_count == len(after)
    assert verify_release(tmp_path / "rel") == ()


def test_bare_pixels_become_png(tmp_path: Path) -> None:
    catalog = open_source("digits").scan().catalog
    catalog = catalog.select(np.arange(60)).with_column("split", ["train"] * 60)
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="same_category"))
    build_release(tmp_path / "pairs", tmp_path / "rel", name="digits", version="1.0.0")
    assert verify_release(tmp_path / "rel", pixels=True) == ()
    released, digits = open_source(f"release:{tmp_path / 'rel'}"), open_source("digits")
    for row in released.scan().catalog.table.slice(0, 9).to_pylist():
        image = released.open_image(row["uri"])
        assert np.array_equal(np.asarray(image), np.asarray(digits.open_image(row["uri"])))
        assert pixel_hash(image) == row["pixel_hash"]


def test_images_of_two_sources_with_one_name(tmp_path: Path, draw: Callable[..., Path]) -> None:
    parts = []
    for name, stem in (("one", "01"), ("two", "03")):
        photos = draw(tmp_path / name)
        for kind in ("cat", "dog", "owl"):
            (photos / kind / "same.png").write_bytes((photos / kind / f"{stem}.png").read_bytes())
        catalog = open_source(f"folder:{photos}").scan().catalog
        catalog = catalog.select([uri.endswith("same.png") for uri in catalog.column("uri")])
        ids = [f"{name}/{image}" for image in catalog.column("image_id")]
        parts.append(catalog.with_column("image_id", ids).with_column("split", ["train"] * 3).table)
    both = Catalog.from_table(pa.concat_tables(parts))
    save_with_baselines(tmp_path / "pairs", both, PairsConfig(relation="same_category"))
    build_release(tmp_path / "pairs", tmp_path / "rel", name="both", version="1.0.0", facts=FREE)
    assert verify_release(tmp_path / "rel") == ()
    uris = open_source(f"release:{tmp_path / 'rel'}").scan().catalog.column("uri")
    assert len(set(uris)) == 6
    assert all(uri.startswith(("one/", "two/")) for uri in uris)


def test_reference_images_do_not_open(ready: Path) -> None:
    source = open_source(f"release:{ready / 'references'}")
    with pytest.raises(UnreadableImage, match="references only; run `sempairs release join`"):
        source.open_image("cat/00.jpg")


def _build(pairs: Path, out: Path, **given: Any) -> None:
    build_release(pairs, out, **{"name": "tiny", "version": "1.0.0", "facts": FREE, **given})


def test_places_of_lists_are_not_told(ready: Path, tmp_path: Path) -> None:
    catalog = PairSet.open(ready / "pairs").catalog
    ids = catalog.column("image_id").tolist()
    (tmp_path / "secret").mkdir()
    file = tmp_path / "secret" / "mine.csv"
    file.write_text(
        "anchor,partner\n" + "".join(f"{a},{b}\n" for a, b in zip(ids[::2], ids[1::2], strict=True))
    )
    config = PairsConfig(relation="listed", file=str(file))
    save_with_baselines(tmp_path / "pairs", catalog, config)
    _build(tmp_path / "pairs", tmp_path / "out")
    assert read_json(tmp_path / "out" / "release.json")["pairs"]["config"]["file"] == "mine.csv"
    assert all(b"secret" not in data for data in files_of(tmp_path / "out").values())
    before, after = PairSet.open(tmp_path / "pairs"), PairSet.open(tmp_path / "out")
    assert after.manifest_hash == before.manifest_hash


def test_format_1_has_no_pairs(release: Path) -> None:
    with pytest.raises(UserError, match="is a release without pairs"):
        PairSet.open(release)


def test_checksums_are_sha256sum_s(ready: Path) -> None:
    lines = (ready / "full" / "checksums.sha256").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((ready / "full" / name).read_bytes()).hexdigest() == digest
    assert len(lines) == len(files_of(ready / "full")) - 2  # but itself and .gitattributes


def test_writer_writes_format_1_still(release: Path) -> None:
    assert read_json(release / "release.json")["format"] == "sempairs.release/1"
    assert writer.CARD == "README.md"


def test_mined_pairs_do_not_tell_where_their_embeddings_lay(ready: Path, tmp_path: Path) -> None:
    catalog = PairSet.open(ready / "pairs").catalog
    ids, hashes = (tuple(catalog.column(name)) for name in ("image_id", "file_hash"))
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    (tmp_path / "secret").mkdir()
    Embeddings(ids, hashes, vectors, {"encoder": "x"}).save(tmp_path / "secret" / "table.parquet")
    config = PairsConfig(
        relation="neighbour", embeddings=str(tmp_path / "secret" / "table.parquet"), min_similarity=0,
        mutual=False,
    )  # fmt: skip
    save_with_baselines(tmp_path / "pairs", catalog, config)
    _build(tmp_path / "pairs", tmp_path / "out")
    assert all(b"secret" not in data for data in files_of(tmp_path / "out").values())
    before, after = PairSet.open(tmp_path / "pairs"), PairSet.open(tmp_path / "out")
    assert after.manifest_hash == before.manifest_hash
    assert after.table.column("score").equals(before.table.column("score"))
    assert before.mining is not None and before.mining["encoder"] == "x"
    assert after.mining == before.mining  # whoever trains on the release declares the encoder, too
    assert verify_release(tmp_path / "out") == ()
