"""What pretraining saw comes along with whatever comes from a run, and near-copies of it are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from sempairs.catalog.sources import open_source
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.evaluation import leakage
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.export import export_features
from sempairs.evaluation.records import Result
from sempairs.evaluation.suite import evaluate
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.training.data import select_rows
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

QUICK = EvaluationConfig(lambdas=(1.0,), knn=())


def pictures(folder: Path, seed: int, *, classes: int = 2, count: int = 20) -> str:
    """Blocks of random colours, 48 pixels."""
    rng = np.random.default_rng(seed)
    for kind in range(classes):
        (folder / f"c{kind}").mkdir(parents=True)
        for number in range(count):
            blocks = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            image = Image.fromarray(blocks).resize((48, 48), Image.Resampling.BICUBIC)
            image.save(folder / f"c{kind}" / f"{seed}-{number}.png")
    return f"folder:{folder}"


def files_of(source: str) -> list[Path]:
    return sorted(Path(source.removeprefix("folder:")).rglob("*.png"))


def changed(source: str, folder: Path) -> str:
    """Mirrored, cropped and recompressed copies of all pictures."""
    for file in files_of(source):
        place = folder / file.parent.name / f"{file.stem}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.mirror(Image.open(file)).crop((2, 0, 48, 46)).save(place, quality=80)
    return f"folder:{folder}"


def recipe(source: str, **changes: Any) -> PretrainRecipe:
    data = {
        "data": {"source": source, "store_size": 32},
        "pairs": {"relation": "same_category", "mode": "redrawn"},
        "views": {"recipe": "lab", "size": 32},
        "encoder": {"arch": "tiny-resnet", "options": {"channels": [8, 8, 8, 8], "stem_width": 8}},
        "method": {"name": "simclr", "temperature": 0.2},
        "optimiser": {"name": "adamw", "lr": 0.002},
        "schedule": {"duration": "1 steps", "warm_up": "0 steps"},
        "batch_size": 8,
        "speed": {"threads": 1},
        "monitor": {"every": "0 epochs", "images": 50},
    }
    return validate(PretrainRecipe, {**data, **changes}, where="recipe")


def trained(out: Path, source: str, **changes: Any) -> Path:
    pretrain(recipe(source, **changes), out)
    return out


def scored(encoder: Path, data: str, **settings: Any) -> list[Result]:
    return evaluate(encoder, data=data, config=QUICK.model_copy(update=settings), protocols=["linear-1"])


def mined(features: Path) -> dict[str, Any]:
    return {
        "relation": "neighbour", "embeddings": str(features), "mode": "redrawn", "min_similarity": -1.0,
        "max_similarity": 1.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("first")
    source = pictures(place / "train", 0)
    return trained(place / "run", source), source


@pytest.fixture(scope="module")
def copies(first: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return changed(first[1], tmp_path_factory.mktemp("copies"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pictures(tmp_path_factory.mktemp("fresh"), 7)


def test_the_same_pixels_in_another_file_are_refused(first: tuple[Path, str], tmp_path: Path) -> None:
    for file in files_of(first[1]):
        place = tmp_path / file.parent.name / f"{file.stem}.bmp"
        place.parent.mkdir(exist_ok=True)
        Image.open(file).save(place)
    with pytest.raises(UserError, match="were seen"):
        scored(first[0], f"folder:{tmp_path}")


def test_near_copies_are_refused_and_knowingly_listed(
    first: tuple[Path, str], copies: str, fresh: str
) -> None:
    with pytest.raises(UserError, match=r"near-copies of seen ones: .*mirrored.*--set near_copies=") as error:
        scored(first[0], copies)
    named = float(str(error.value).rsplit("near_copies=", 1)[1])
    extra = scored(first[0], copies, near_copies=named)[0].extra["near_copies_of_pretraining"]
    assert extra["allowed"] == named and 0.5 < extra["share"] <= named
    assert set(extra["first"][0]) == {"image", "seen", "how", "difference"}
    assert "mirrored" in extra["first"][0]["how"]
    clean = [scored(first[0], fresh, near_copies=share)[0] for share in (None, 1.0)]
    assert clean[0].extra["near_copies_of_pretraining"]["images"] == 0
    assert clean[0].extra["leakage"] == ["file_hash", "pixel_hash", "near_copies"]
    assert clean[0].settings_hash == clean[1].settings_hash


def test_a_run_that_starts_from_the_weights_inherits(
    first: tuple[Path, str], copies: str, fresh: str, tmp_path: Path
) -> None:
    encoder = {**recipe(fresh).encoder.model_dump(), "weights": str(first[0] / "encoder.safetensors")}
    with pytest.raises(UserError, match="near-copies"):
        scored(trained(tmp_path / "heir", fresh, encoder=encoder), copies)
    # Without their folder it is not known what the weights were trained on, and the result says so.
    shutil.copy(first[0] / "encoder.safetensors", tmp_path / "alone.safetensors")
    encoder["weights"] = str(tmp_path / "alone.safetensors")
    said = scored(trained(tmp_path / "alone", fresh, encoder=encoder), copies)[0].extra["leakage"]
    assert any("not known" in text and "alone.safetensors" in text for text in said)


def test_pairs_bring_what_the_encoder_that_mined_them_was_shown(
    first: tuple[Path, str], copies: str, fresh: str, tmp_path: Path
) -> None:
    features = tmp_path / "features.parquet"
    export_features(first[0], fresh, features)
    with pytest.raises(UserError, match="near-copies"):
        scored(trained(tmp_path / "direct", fresh, pairs=mined(features)), copies)
    config = PairsConfig(**mined(features))
    images, trained_on = select_rows(recipe(fresh), open_source(fresh).scan().catalog)
    save_with_baselines(tmp_path / "pairs", images.select(np.arange(trained_on)), config)
    listed = {"relation": "listed", "file": str(tmp_path / "pairs"), "mode": "redrawn"}
    with pytest.raises(UserError, match="near-copies"):
        scored(trained(tmp_path / "by_folder", fresh, pairs=listed), copies)
    PairSet.open(tmp_path / "pairs").save(tmp_path / "saved")
    assert (tmp_path / "saved" / "exposure.parquet").is_file()
    (tmp_path / "pairs" / "exposure.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks exposure\.parquet"):
        trained(tmp_path / "bare", fresh, pairs=listed)


def test_untrained_features_bring_nothing(fresh: str, tmp_path: Path) -> None:
    features = tmp_path / "features.parquet"
    export_features("random:tiny-resnet", fresh, features)
    assert not features.with_name("features.parquet.exposure.parquet").exists()
    run = trained(tmp_path / "run", fresh, pairs=mined(features))
    leakage = scored(run, pictures(tmp_path / "other", 11))[0].extra["leakage"]
    assert not any("not known" in text for text in leakage)


def test_a_copied_encoder_folder_keeps_the_record_or_is_refused(
    first: tuple[Path, str], copies: str, tmp_path: Path
) -> None:
    for name in ("encoder.json", "encoder.safetensors"):
        shutil.copy(first[0] / name, tmp_path / name)
    assert json.loads((tmp_path / "encoder.json").read_text())["exposure"]
    with pytest.raises(UserError, match=r"lacks exposure\.parquet"):
        scored(tmp_path, copies)
    shutil.copy(first[0] / "exposure.parquet", tmp_path)
    with pytest.raises(UserError, match="near-copies"):
        scored(tmp_path, copies)


def test_a_few_copies_within_one_source_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "both"
    train, test = (files_of(pictures(root / name, seed)) for seed, name in enumerate(("train", "test")))
    for number in range(2):
        ImageOps.mirror(Image.open(train[number])).save(test[number])
    run = trained(tmp_path / "run", f"folder:{root}")
    seen = scored(run, f"folder:{root}", near_copies=None)[0].extra["near_copies_of_pretraining"]
    assert seen["allowed"] == 0.1 and 1 <= seen["images"] <= 2
    assert "are near-copies" in capsys.readouterr().err
    with pytest.raises(UserError, match="near-copies"):
        scored(run, f"folder:{root}", near_copies=0.0)


def test_near_copies_are_searched_once_for_a_cache_and_an_altered_one_is_refused(
    first: tuple[Path, str], copies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QUICK.model_copy(update={"near_copies": 1.0})

    def run(cache: Path | None) -> dict[str, Any]:
        found = evaluate(first[0], data=copies, config=config, protocols=["linear-1"], cache=cache)
        return found[0].extra["near_copies_of_pretraining"]

    searches: list[int] = []
    search = leakage.near_copies
    monkeypatch.setattr(leakage, "near_copies", lambda *a, **k: searches.append(1) or search(*a, **k))
    assert run(None) == run(tmp_path) == run(tmp_path)
    assert len(searches) == 2
    (kept,) = tmp_path.glob("near-copies-*.npz")
    arrays = dict(np.load(kept))
    np.savez(kept, **(arrays | {name: arrays[name][:1] for name in ("left", "right")}))
    with pytest.raises(UserError, match="was altered after it was written"):
        run(tmp_path)
