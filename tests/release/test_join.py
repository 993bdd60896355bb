"""References joined with one's own copy of the images."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs.catalog.sources import open_source
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.release import ReleaseFacts, build_release, join_release, verify_release
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain


@pytest.fixture
def own(ready: Path, tmp_path: Path) -> Path:
    """The user's copy: the same files in a folder of another name."""
    return Path(shutil.copytree(ready / "photos", tmp_path / "mine"))


def test_joined_release(ready: Path, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    assert join_release(ready / "references", f"folder:{own}", out, shard_bytes=6000) == ()
    assert verify_release(out, pixels=True) == ()
    joined, before = read_json(out / "release.json"), read_json(ready / "references" / "release.json")
    assert joined["images"] == "files" and joined["joined"] is True
    assert joined["manifest_hash"] == before["manifest_hash"]
    assert joined["pairs"] == before["pairs"]
    source = open_source(f"release:{out}")
    catalog = source.scan().catalog
    for uri in catalog.column("uri"):
        theirs = open_source(f"folder:{own}").open_image(uri)
        assert np.array_equal(np.asarray(source.open_image(uri)), np.asarray(theirs))
    assert PairSet.open(out).manifest_hash == PairSet.open(ready / "pairs").manifest_hash
    assert "may not be passed on" in (out / "README.md").read_text()
    assert "It holds no images" not in (out / "README.md").read_text()


def test_found_by_hash_under_other_names(ready: Path, own: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(own.rglob("*.*"), reverse=True)):
        shutil.move(file, flat / f"{number:03d}.jpg")
    assert join_release(ready / "references", f"folder:{flat}", tmp_path / "joined") == ()
    assert join_release(ready / "references", f"folder:{ready / 'photos'}", tmp_path / "same") == ()
    files = [sorted((tmp_path / name).rglob("*.*")) for name in ("joined", "same")]
    for a, b in zip(*files, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_a_catalogue_instead_of_copies(ready: Path, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined.arrow"
    assert join_release(ready / "references", f"folder:{own}", out) == ()
    source = open_source(f"catalog:{out}")
    catalog, released = source.scan().catalog, open_source(f"release:{ready / 'references'}").scan().catalog
    for column in ("image_id", "file_hash", "category", "split"):
        assert list(catalog.column(column)) == list(released.column(column))
    assert set(catalog.column("source")) == {f"folder:{own}"}
    assert source.open_image("owl/03.png").size == (16, 16)


def test_both_train_as_the_images_themselves(ready: Path, own: Path, tmp_path: Path) -> None:
    references = ready / "references"
    join_release(references, f"folder:{own}", tmp_path / "joined")
    join_release(references, f"folder:{own}", tmp_path / "joined.arrow")

    def run(source: str, file: Path, out: str) -> str:
        recipe: dict[str, Any] = {
            "data": {"source": source, "store_size": 16},
            "pairs": {"relation": "listed", "file": str(file)},
            "views": {"recipe": "lab", "size": 16},
            "encoder": {"arch": "tiny-resnet", "options": {"channels": [8, 8, 8, 8]}},
            "method": {"name": "simclr", "hidden": 16, "out": 8},
            "optimiser": {"name": "adamw", "lr": 0.002},
            "schedule": {"duration": "2 steps"},
            "batch_size": 4,
            "speed": {"device": "cpu", "precision": "32-true", "threads": 1},
            "monitor": {"log_every": 2, "every": "0 steps", "tensorboard": False},
        }
        return pretrain(validate(PretrainRecipe, recipe), tmp_path / out).weight_hash

    weights = run(f"folder:{ready / 'photos'}", ready / "pairs", "a")
    assert run(f"release:{tmp_path / 'joined'}", tmp_path / "joined", "b") == weights
    assert run(f"catalog:{tmp_path / 'joined.arrow'}", references, "c") == weights
    with pytest.raises(UserError, match="references only; run `sempairs release join` first"):
        run(f"release:{references}", references, "d")


def test_missing_and_different_images_are_listed(ready: Path, own: Path, tmp_path: Path) -> None:
    (own / "cat" / "03.png").unlink()
    changed = own / "owl" / "05.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    (own / "dog" / "09.png").rename(own / "dog" / "other.png")
    for out in ("joined", "joined.arrow"):
        problems = join_release(ready / "references", f"folder:{own}", tmp_path / out)
        assert [(p.where, p.reason) for p in problems] == [
            ("cat/03.png", "is missing"),
            ("owl/05.png", "has another file_hash than the released image"),
        ]
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_pixels_without_files(tmp_path: Path) -> None:
    catalog = open_source("digits").scan().catalog
    catalog = catalog.select(np.arange(40)).with_column("split", ["train"] * 40)
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="same_category"))
    facts = ReleaseFacts(licence="CC-BY-4.0")
    build_release(
        tmp_path / "pairs", tmp_path / "rel", name="digits", version="1.0.0", facts=facts,
        references_only=True,
    )  # fmt: skip
    assert join_release(tmp_path / "rel", "digits", tmp_path / "joined") == ()
    assert verify_release(tmp_path / "joined", pixels=True) == ()


def test_refused(ready: Path, own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds its images already"):
        join_release(ready / "full", f"folder:{own}", tmp_path / "out")
    with pytest.raises(UserError, match="source"):
        join_release(ready / "references", "folder:absent", tmp_path / "out")
    (tmp_path / "there.arrow").write_text("mine")
    for out in (tmp_path / "there.arrow", own):
        with pytest.raises(UserError, match=r"--out must be (new|a new or empty folder), got"):
            join_release(ready / "references", f"folder:{own}", out)
    assert (tmp_path / "there.arrow").read_text() == "mine"


def test_full_disk_leaves_nothing(
    ready: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sempairs.release import build

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "write_images", full)
    with pytest.raises(OSError, match="No space left"):
        join_release(ready / "references", f"folder:{own}", tmp_path / "joined")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_release_of_references_of_a_release(ready: Path, tmp_path: Path) -> None:
    """References made from another release are joined with that release."""
    facts = ReleaseFacts(licence="CC-BY-4.0")
    build_release(
        ready / "full", tmp_path / "rel", name="tiny", version="1.0.1", facts=facts, references_only=True
    )
    assert join_release(tmp_path / "rel", f"release:{ready / 'full'}", tmp_path / "joined") == ()
    assert verify_release(tmp_path / "joined") == ()
