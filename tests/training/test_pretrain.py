"""A run from recipe to encoder: what it leaves, what it measures, and what it refuses."""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sempairs.config import load_config
from sempairs.encoders import build_encoder, load_encoder
from sempairs.errors import UserError
from sempairs.runs.checkpoint import load_checkpoint
from sempairs.runs.sessions import package_sha256
from sempairs.runs.trackers import read_metrics
from sempairs.training.data import batches, load_data
from sempairs.training.monitor import Monitor, choose_images, relative_std
from sempairs.training.provenance import Provenance
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain
from sempairs.views.maker import ViewMaker

MakeRecipe = Callable[..., PretrainRecipe]


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(out / "metrics.jsonl") if line["kind"] == kind]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_run_leaves_everything(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(speed__precision="bf16-mixed", monitor__tensorboard=True, clip=1.0)
    summary = pretrain(recipe, tmp_path / "run")
    out = tmp_path / "run"
    assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == {
        "recipe.yaml", "resolved.json", "environment.json", "provenance.json", "exposure.parquet",
        "metrics.jsonl", "checkpoint", "encoder.json", "encoder.safetensors", "finished.json", "tensorboard",
        "train.csv", "probe.csv",
    } | ({"uncommitted.diff"} if (out / "uncommitted.diff").exists() else set())  # fmt: skip
    assert load_config(PretrainRecipe, out / "recipe.yaml") == recipe
    assert sorted(p.name for p in (out / "checkpoint").iterdir()) == ["step-00000009", "step-00000010"]

    encoder = load_encoder(out)
    assert encoder.spec.weight_hash == summary.weight_hash == read(out / "finished.json")["weight_hash"]
    assert encoder.spec.input_size == 16
    assert encoder(torch.zeros(2, 3, 16, 16)).shape == (2, encoder.spec.width)
    saved = load_checkpoint(out / "checkpoint" / "step-00000010").tensors
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(saved[f"method/encoder.model.{name}"], value), name

    train, probes = lines(out, "train"), lines(out, "probe")
    assert [line["step"] for line in train] == [2, 4, 6, 8, 10]
    assert [line["step"] for line in probes] == [0, 5, 10]
    for line in train:
        assert line["data_seconds"] > 0 and line["step_seconds"] > 0
        rate = 12 / (line["data_seconds"] + line["step_seconds"])
        assert line["pairs_per_second"] == pytest.approx(rate)
        assert 0 < line["batch_std"] < 2
        assert line["gradient_norm"] > 0
        assert "same_meaning_negatives" in line
    assert train[0]["lr"] == pytest.approx((0.001 + 0.002) / 2)
    assert probes[-1].keys() >= {"knn", "feature_std", "rankme"}
    assert summary.probe["knn"] == probes[-1]["knn"]
    assert summary.loss == train[-1]["loss"]
    assert (summary.steps, summary.resumed_from, summary.already_finished) == (10, None, False)


def test_provenance_says_what_a_certificate_compares(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(schedule__duration="1 epochs", schedule__warm_up="0 steps")
    data = load_data(recipe)
    pretrain(recipe, tmp_path / "run")
    found = read(tmp_path / "run" / "provenance.json")
    for section, fields in recipe.model_dump(mode="json").items():
        if isinstance(fields, dict):
            assert found[section].items() >= fields.items()
        else:
            assert found[section] == fields
    steps = data.plan.n // 12
    assert found["pairs"]["manifest_hash"] == data.plan.manifest_hash
    assert found["pairs"]["anchor_hash"] == data.plan.anchor_hash
    assert found["pairs"]["per_epoch"] == sum(found["pairs"]["class_histogram"].values()) == data.plan.n
    assert found["pairs"]["images"] == len(data.plan.images)
    assert found["schedule"]["steps"] == steps
    assert found["images_shown"] == 2 * 12 * steps
    assert found["threads"] == 1
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["versions"]["lightning-fabric"]
    assert found["hardware"]["cores"] >= 1

    exposure = pq.read_table(tmp_path / "run" / "exposure.parquet")
    assert exposure.column_names == [
        "image_id", "file_hash", "pixel_hash", "split_group", "source", "sketch",
    ]  # fmt: skip
    shown = data.catalog.column("image_id")[data.plan.images]
    assert exposure["image_id"].to_pylist() == shown.tolist()
    validation = data.catalog.column("image_id")[data.validation_rows]
    assert not set(exposure["image_id"].to_pylist()) & set(validation)


def test_arms_differ_in_the_pairs_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Initial weights, anchors, meanings and the anchors' views are those of the other arm."""
    from sempairs.study.certificate import check_pair

    records = {}
    for arm in ("semantic", "augmented"):
        recipe = make_recipe(pairs__arm=arm, pairs__mode="fixed", batch_size=8, schedule__duration="2 steps")
        pretrain(recipe, tmp_path / arm)
        found = read(tmp_path / arm / "provenance.json")
        made_of = Provenance.parse(found)
        assert made_of.record() == found
        assert made_of.recipe == recipe.model_dump(mode="json")
        records[arm] = made_of.comparable()
    assert records["semantic"]["code.package_sha256"] == package_sha256()
    assert records["semantic"]["initial_weights"] == records["augmented"]["initial_weights"]
    names = {"contrast": "c", "method": "m", "seed": 0}
    check = check_pair(records["semantic"], records["augmented"], ["pairs.arm"], **names)  # type: ignore[arg-type]
    assert check.undeclared == {}
    assert set(check.allowed) == {"pairs.arm", "pairs.manifest_hash", "pairs.images"}
    assert "images_shown" in check.matched


OBJECTIVES = {
    "joint": ({"name": "joint"}, 3, 2),
    "two heads": ({"name": "joint", "heads": "two"}, 3, 2),
    "several": ({"name": "several", "partners": 3}, 4, 4),
    "joint, several": ({"name": "joint", "partners": 2}, 4, 3),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_control_of_an_objective_has_equal_crops_that_are_views_of_the_anchor(
    make_recipe: MakeRecipe, tmp_path: Path, case: str
) -> None:
    """Each crop of the augmented arm is another view of the anchor; crops of anchors are equal in both."""
    from sempairs.study.certificate import check_pair

    objective, crops, images = OBJECTIVES[case]
    records, made = {}, {}
    for arm in ("semantic", "augmented"):
        recipe = make_recipe(objective=objective, pairs__arm=arm, batch_size=8, schedule__duration="2 steps")
        data, partners = load_data(recipe), recipe.objective.shown_partners
        batch = next(batches(data.plan, seed=recipe.seed, batch_size=8, start=0, stop=1, partners=partners))
        maker = ViewMaker(recipe.views, data.store, seed=recipe.seed, slots=recipe.objective.slots)
        made[arm] = batch, maker.make(*batch)
        pretrain(recipe, tmp_path / arm)
        records[arm] = Provenance.parse(read(tmp_path / arm / "provenance.json")).comparable()
    semantic, augmented = made["semantic"], made["augmented"]
    assert all((rows == augmented[0].anchor.reshape(rows.shape[0], *[1] * (rows.ndim - 1))).all()
               for rows in augmented[0].rows())  # fmt: skip
    assert len(augmented[1].crops) == len(semantic[1].crops) == crops
    for number, one in enumerate(augmented[1].crops):
        for other in augmented[1].crops[number + 1 :]:
            assert all(not torch.equal(a, b) for a, b in zip(one.pixels, other.pixels, strict=True))
    for ours, theirs in zip(semantic[1].crops, augmented[1].crops, strict=True):
        assert ours.member == theirs.member
        assert torch.equal(ours.pixels, theirs.pixels) == (ours.member == "anchor")
    names: dict[str, Any] = {"contrast": "c", "method": "m", "seed": 0}
    check = check_pair(records["semantic"], records["augmented"], ["pairs.arm"], **names)
    assert check.undeclared == {}
    assert {"crops_per_pair", "images_shown", "objective.name", "initial_weights.method"} <= set(
        check.matched
    )
    assert records["semantic"]["crops_per_pair"] == crops
    assert records["semantic"]["images_shown"] == images * 8 * 2


def test_the_seed_decides(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    hashes = [
        pretrain(make_recipe(seed=seed, schedule__duration="2 steps"), tmp_path / f"{number}").weight_hash
        for number, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_measuring_changes_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    often = make_recipe(monitor__every="1 steps", monitor__log_every=1, checkpoint__every="1 steps")
    never = make_recipe(monitor__every="0 steps", monitor__log_every=100, checkpoint__every="99 steps")
    assert pretrain(often, tmp_path / "a").weight_hash == pretrain(never, tmp_path / "b").weight_hash
    assert lines(tmp_path / "b", "probe") == []


def test_channels_last_and_bf16_agree_with_plain_float32(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def losses(name: str, **speed: Any) -> np.ndarray:
        changes = {f"speed__{key}": value for key, value in speed.items()}
        recipe = make_recipe(monitor__log_every=1, monitor__every="0 steps", optimiser__lr=1e-4, **changes)
        pretrain(recipe, tmp_path / name)
        return np.array([line["loss"] for line in lines(tmp_path / name, "train")])

    plain = losses("plain", channels_last=False, precision="32-true")
    assert losses("layout", channels_last=True, precision="32-true") == pytest.approx(plain, rel=2e-3)
    assert losses("bf16", channels_last=True, precision="bf16-mixed") == pytest.approx(plain, rel=0.05)


def test_clipping_bounds_the_step(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """With plain SGD the weights move by at most the rate times the bound."""
    recipe = make_recipe(
        clip=0.01, optimiser={"name": "sgd", "lr": 0.5, "momentum": 0.0}, schedule__duration="1 steps",
        schedule__warm_up="0 steps", monitor__log_every=1,
    )  # fmt: skip
    pretrain(recipe, tmp_path / "run")
    tensors = load_checkpoint(tmp_path / "run" / "checkpoint" / "step-00000001").tensors
    start = dict(build_encoder(recipe.encoder, seed=recipe.seed).named_parameters())
    moved = [tensors[f"method/encoder.{name}"] - value.detach() for name, value in start.items()]
    assert 0 < float(torch.stack([m.square().sum() for m in moved]).sum().sqrt()) <= 0.5 * 0.01 * 1.001
    assert lines(tmp_path / "run", "train")[0]["gradient_norm"] > 0.01


def test_images_without_labels_train_without_a_knn_probe(
    make_recipe: MakeRecipe, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    recipe = make_recipe(data__source=f"folder:{flat}", pairs={"relation": "augmented", "mode": "redrawn"})
    summary = pretrain(recipe, tmp_path / "run")
    assert "no training images with a category: the kNN probe is left out" in capsys.readouterr().err
    assert summary.probe.keys() == {"feature_std", "rankme"}


def test_collapsed_features_are_warned_of(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    data = load_data(recipe)
    monitor = Monitor(recipe.monitor, data, ViewMaker(recipe.views, data.store, seed=0), recipe.speed)
    encoder = build_encoder(recipe.encoder, seed=0)
    healthy = monitor.probe(encoder)
    assert monitor.warnings(healthy, {}, 1.0) == []
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.01)  # every channel alike
    collapsed = monitor.probe(encoder)
    assert collapsed["feature_std"] < 0.01
    (warning,) = monitor.warnings(collapsed, {}, 1.0)
    assert "collapsing" in warning


def test_an_encoder_that_learns_little_is_told(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    data = load_data(recipe)
    monitor = Monitor(recipe.monitor, data, ViewMaker(recipe.views, data.store, seed=0), recipe.speed)
    probe, first = {"feature_std": 0.9, "rankme": 3.0, "knn": 0.305}, {"knn": 0.300}
    (warning,) = monitor.warnings(probe, first, 0.25)
    assert "learned little: kNN accuracy on validation images is 0.305, and was 0.300" in warning
    assert monitor.warnings(probe, first, 0.24) == []  # too early to tell
    assert monitor.warnings({**probe, "knn": 0.311}, first, 1.0) == []
    assert monitor.warnings(probe, {}, 1.0) == []  # nothing to compare with


def test_a_run_that_learns_nothing_says_so_while_it_runs_and_after_resuming(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No gain is as large as one, so all are too small; the first probe outlives an interruption."""
    changes = {"monitor__little_below": 1.0, "monitor__every": "2 steps", "checkpoint__every": "2 steps"}
    recipe = make_recipe(schedule__duration="4 steps", **changes)
    pretrain(recipe, tmp_path / "run")
    said = capsys.readouterr().err
    assert "step 2: the encoder has learned little" in said
    assert "step 4: the encoder has learned little" in said
    (tmp_path / "run" / "finished.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "step-00000004")
    pretrain(recipe, tmp_path / "run", resume=True)
    assert "step 4: the encoder has learned little" in capsys.readouterr().err


@pytest.mark.parametrize("objective", [{"name": "pair"}, {"name": "joint"}])
def test_chance_and_collapse_stand_beside_each_loss(
    make_recipe: MakeRecipe, tmp_path: Path, objective: dict[str, Any]
) -> None:
    recipe = make_recipe(
        schedule__duration="2 steps", objective=objective, monitor__tensorboard=True, monitor__log_every=1
    )
    pretrain(recipe, tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert all(line["loss_chance"] == line["loss_collapse"] == math.log(2 * 12 - 1) for line in lines)
    header = (tmp_path / "run" / "train.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "loss_chance", "loss_collapse"} <= set(header)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"train/loss", "train/loss_chance", "train/loss_collapse"} <= set(events.Tags()["scalars"])


def test_std_of_features_that_fill_the_sphere_is_one() -> None:
    features = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    assert relative_std(features) == pytest.approx(1, abs=0.01)
    assert relative_std(np.ones((10, 4), dtype=np.float32)) == pytest.approx(0, abs=1e-6)


def test_the_probes_sample_is_keyed_and_within_its_split(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(monitor__images=5)
    data = load_data(recipe)
    chosen = choose_images(recipe.monitor, data, seed=0)
    assert len(chosen.health) == len(chosen.fit) == len(chosen.score) == 5
    assert set(chosen.score) <= set(data.validation_rows) and set(chosen.fit) <= set(data.train_rows)
    assert (chosen.fit == choose_images(recipe.monitor, data, seed=0).fit).all()
    assert (chosen.fit != choose_images(recipe.monitor, data, seed=1).fit).any()
    categories = data.catalog.column("category")
    same = categories[chosen.fit][:, None] == categories[chosen.score]
    assert ((chosen.fit_labels[:, None] == chosen.score_labels) == same).all()


def test_a_loss_that_is_not_finite_stops_and_leaves_what_made_it(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(
        optimiser={"name": "sgd", "lr": 1e37}, schedule__warm_up="0 steps", monitor__log_every=1
    )
    with pytest.raises(UserError) as raised:
        pretrain(recipe, tmp_path / "run")
    out = tmp_path / "run"
    step = lines(out, "train")[-1]["step"] + 1
    assert f"must be finite, but is nan at step {step}" in str(raised.value) or f"inf at step {step}" in str(
        raised.value
    )
    state = load_checkpoint(out / "failure")
    assert state.step == step - 1
    assert len(state.scalars["pairs"]) == 12
    assert state.scalars["pairs"][0] in str(raised.value)
    assert str(out / "failure") in str(raised.value)
    assert state.tensors["views/1"].shape == (12, 3, 16, 16)
    assert not (out / "finished.json").exists()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: to a program, a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_last_checkpoint(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sempairs.runs import engine

    recipe = make_recipe(schedule__duration="6 steps")
    whole = pretrain(recipe, tmp_path / "whole")
    real, out = engine.save_checkpoint, tmp_path / "run"

    def then_full(folder: Path, step: int, *rest: Any) -> Path:
        if step == 3:
            return real(folder, step, *rest)
        with file_size_limit(50_000):
            return real(folder, step, *rest)

    monkeypatch.setattr(engine, "save_checkpoint", then_full)
    with pytest.raises(UserError, match=r"could not be written to .*free some space.*--resume"):
        pretrain(recipe, out)
    monkeypatch.undo()
    assert [p.name for p in (out / "checkpoint").iterdir()] == ["step-00000003"]
    summary = pretrain(recipe, out, resume=True)
    assert summary.resumed_from == 3
    assert summary.weight_hash == whole.weight_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 100}, "batch_size must be at most the"),
        ({"schedule__duration": "0 steps"}, r"schedule\.duration must be at least one step"),
        ({"schedule__warm_up": "11 steps"}, r"schedule\.warm_up must be at most the duration, 10 steps"),
        ({"data__source": "folder:/no/such/place"}, "must be an existing path"),
        ({"data__source": "foldr:x"}, "did you mean 'folder'"),
        ({"encoder__arch": "resnet51"}, r"encoder\.arch is unknown.*did you mean 'resnet"),
    ],
)
def test_a_recipe_that_does_not_hold_leaves_nothing(
    make_recipe: MakeRecipe, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        pretrain(make_recipe(**changes), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_processes_that_nothing_known_started_are_refused(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"WORLD_SIZE is of processes started by hand.*use torchrun"):
        pretrain(make_recipe(), tmp_path / "run")


def test_threads_are_set_recorded_and_put_back(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    pretrain(make_recipe(speed__threads=2, schedule__duration="2 steps"), tmp_path / "run")
    assert read(tmp_path / "run" / "environment.json")["threads"] == 2
    assert torch.get_num_threads() == before
