"""What `build_release` refuses, and that nothing is left behind or lost then."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sempairs.catalog.sources import open_source
from sempairs.catalog.splits import assign_splits
from sempairs.errors import UserError
from sempairs.files import write_json
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.release import ReleaseFacts, build_release, verify_release

FREE = ReleaseFacts(licence="CC-BY-4.0")


def _build(pairs: Path, out: Path, **given: Any) -> None:
    build_release(pairs, out, **{"name": "tiny", "version": "1.0.0", "facts": FREE, **given})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"name": "a/b"}, "--name must be letters"),
        ({"version": "one"}, "--version must be a version like 1.0.0, got 'one'"),
        ({"facts": None}, "--licence is required: the SPDX id of the licence of 30 images that state none"),
        ({"facts": None, "references_only": True}, "--licence is required: .* of the pair lists"),
        ({"facts": ReleaseFacts(licence="ISC")}, "ISC has no text at hand; give it with --licence-file"),
        ({"licence_files": {"MIT": "x"}}, "--licence-file must name a licence of the release"),
        ({"licence_files": {"CC-BY-4.0": "absent"}}, "licence CC-BY-4.0 has a text that cannot be read"),
        ({"shard_bytes": 3}, "--shard-size must be at least 1 KiB"),
    ],
)  # fmt: skip
def test_refused(ready: Path, tmp_path: Path, given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        _build(ready / "pairs", tmp_path / "out", **given)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "references_only"),
    [("image", False), ("image", True), ("image.bytes", False), ("file_size", True)],
)
def test_columns_that_a_release_needs_for_itself(
    ready: Path, tmp_path: Path, name: str, references_only: bool
) -> None:
    catalog = PairSet.open(ready / "pairs").catalog
    catalog = catalog.with_column(name, [f"scan {i}" for i in range(len(catalog))])
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="same_category"))
    with pytest.raises(UserError, match=f"column '{name}' is the name of a release's own column"):
        _build(tmp_path / "pairs", tmp_path / "out", references_only=references_only)
    assert not (tmp_path / "out").exists()


def test_given_licence_text(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "isc").write_text("Permission to use\n")
    _build(
        ready / "pairs", tmp_path / "out", facts=ReleaseFacts(licence="ISC"),
        licence_files={"ISC": tmp_path / "isc"},
    )  # fmt: skip
    assert (tmp_path / "out" / "LICENSES" / "ISC.txt").read_text() == "Permission to use\n"


def test_images_that_are_not_passed_on_need_no_licence_text(ready: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    catalog = open_source(f"folder:{ready / 'photos'}").scan().catalog
    catalog = catalog.with_column("licence", ["ISC"] * len(catalog))
    save_with_baselines(folder, catalog, PairsConfig(relation="same_category"))
    with pytest.raises(UserError, match="ISC has no text at hand"):
        _build(folder, tmp_path / "files", facts=FREE)
    _build(folder, tmp_path / "references", facts=FREE, references_only=True)
    assert verify_release(tmp_path / "references") == ()
    assert [p.name for p in (tmp_path / "references" / "LICENSES").iterdir()] == ["CC-BY-4.0.txt"]
    assert "the lists' text is in" in (tmp_path / "references" / "README.md").read_text()
    (tmp_path / "isc").write_text("Permission to use")
    _build(
        folder, tmp_path / "both", facts=FREE, references_only=True, licence_files={"ISC": tmp_path / "isc"}
    )
    assert (tmp_path / "both" / "LICENSES" / "ISC.txt").read_text() == "Permission to use"


def test_licences_of_a_release_are_carried_over(tmp_path: Path) -> None:
    catalog = open_source("emoji-pairs").scan().catalog
    catalog = catalog.select(catalog.column("split") == "validation")
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="cross_domain", count=40))
    _build(tmp_path / "pairs", tmp_path / "out", facts=ReleaseFacts())
    names = {file.name for file in (tmp_path / "out" / "LICENSES").iterdir()}
    assert names == {"Apache-2.0.txt", "CC-BY-4.0.txt", "MIT.txt", "MIT-emojibase-data.txt"}
    assert verify_release(tmp_path / "out", pixels=True) == ()


def test_an_image_that_changed(
    tmp_path: Path, draw: Callable[..., Path], pairs_of: Callable[..., Path]
) -> None:
    pairs = pairs_of(draw(tmp_path), tmp_path / "pairs")
    uri = PairSet.open(pairs).catalog.column("uri")[3]
    photo = tmp_path / "photos" / uri
    photo.write_bytes(photo.read_bytes() + b"x")
    for references in (False, True):
        with pytest.raises(UserError, match=f"image {uri} is not the file that the catalogue was made from"):
            _build(pairs, tmp_path / "out", references_only=references)
    photo.unlink()
    with pytest.raises(UserError, match=f"image {uri} cannot be read"):
        _build(pairs, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs", "photos"]


def test_a_baseline_of_other_pairs(ready: Path, tmp_path: Path, pairs_of: Callable[..., Path]) -> None:
    pairs = pairs_of(ready / "photos", tmp_path / "pairs")
    other = pairs_of(ready / "photos", tmp_path / "other", count=5)
    for arm in ("augmented", "image_matched"):
        (pairs / arm).rename(tmp_path / f"was-{arm}")
        (other / arm).rename(pairs / arm)
        with pytest.raises(UserError, match="is not the baseline of the pairs beside it"):
            _build(pairs, tmp_path / "out")
        (pairs / arm).rename(other / arm)
        (tmp_path / f"was-{arm}").rename(pairs / arm)
    _build(pairs, tmp_path / "out")


def test_images_that_contradict_the_pairs(ready: Path, tmp_path: Path) -> None:
    images = open_source(f"folder:{ready / 'photos'}").scan().catalog
    other = assign_splits(images, seed=1)
    with pytest.raises(UserError, match="--images must have the split that the pairs were built with"):
        _build(ready / "pairs", tmp_path / "out", images=other)
    hashes = images.column("file_hash")
    hashes[:] = "0" * 64
    with pytest.raises(UserError, match="--images must have the file_hash"):
        _build(
            ready / "pairs",
            tmp_path / "out",
            images=assign_splits(images, seed=0).with_column("file_hash", hashes),
        )


def test_pairs_edited_by_hand(ready: Path, tmp_path: Path, pairs_of: Callable[..., Path]) -> None:
    pairs = pairs_of(ready / "photos", tmp_path / "pairs")
    data = bytearray((pairs / "catalog.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (pairs / "catalog.arrow").write_bytes(bytes(data))
    with pytest.raises(UserError, match="was changed or cut short since it was written"):
        _build(pairs, tmp_path / "out")


@pytest.mark.parametrize("at", ["write_images", "checksums", "write_json"])
def test_full_disk_leaves_nothing(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    from sempairs.release import build

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "here")

    monkeypatch.setattr(build, at, full)
    with pytest.raises(OSError, match="No space left"):
        _build(ready / "pairs", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_full_in_the_middle_of_a_shard(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = pq.ParquetWriter.write_table, []

    def sometimes(self: Any, *given: Any, **named: Any) -> None:
        seen.append(1)
        if len(seen) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *given, **named)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", sometimes)
    with pytest.raises(OSError, match="No space left"):
        _build(ready / "pairs", tmp_path / "out", shard_bytes=2000)
    assert len(seen) == 3
    assert list(tmp_path.iterdir()) == []


def test_taken_folder_is_left_alone(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="--out must be a new or empty folder"):
        _build(ready / "pairs", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda about: about["pairs"].pop("sets"), "does not say what its pairs are"),
        (lambda about: about["pairs"]["config"].update(relation="x"), "relation"),
        (lambda about: about["pairs"]["sets"]["semantic"].update(file="../p.parquet"), "is missing"),
        (lambda about: about["pairs"]["sets"]["semantic"].update(manifest_hash="0"), "does not hold"),
        (lambda about: about.update(pairs=None), "without pairs"),
    ],
)  # fmt: skip
def test_pairs_of_an_edited_release(
    copied: Callable[[str], Path], edit: Callable[[dict[str, Any]], None], line: str
) -> None:
    root = copied("full")
    about = json.loads((root / "release.json").read_text())
    edit(about)
    write_json(root / "release.json", about)
    with pytest.raises(UserError, match=line):
        PairSet.open(root)


def test_a_missing_shard_is_noticed(copied: Callable[[str], Path]) -> None:
    root = copied("full")
    (root / "data" / "train-00001.parquet").unlink()
    with pytest.raises(UserError, match="must hold the 42 images of the release, got") as error:
        open_source(f"release:{root}").scan()
    assert "release verify" in str(error.value)
    assert [p.where for p in verify_release(root)] == ["data/train-00001.parquet"]
