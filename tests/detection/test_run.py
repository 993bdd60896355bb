"""Whole runs: learning, going on after a stop, results, the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from sempairs.cli.main import run as command
from sempairs.detection.config import PROTOCOLS, DetectionConfig, RecipeFile, make_recipe
from sempairs.detection.run import detect, task_name
from sempairs.detection.training import Trainer
from sempairs.encoders import load_encoder
from sempairs.errors import UserError
from sempairs.evaluation.records import read_results
from sempairs.recipes import FOLDER as RECIPES


def recipe(encoder, devkit, quick, *more, protocol="small-c4-1", **options):
    return make_recipe(
        str(encoder), data=f"voc:{devkit}", protocol=protocol, overrides=[*quick, *more], **options
    )


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def last_state(out: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((out / "checkpoint").glob("step-*"))[-1] / "tensors.safetensors")


def values(results):
    return [(row.task, row.metric, row.value, row.n, row.settings_hash) for row in results]


@pytest.mark.parametrize("protocol", ["small-c4-1", "small-fpn-1"])
def test_it_learns_eight_easy_pictures(encoder, devkit, quick, tmp_path, protocol):
    more = ["batch_size=8", "lr=0.05", "iterations=45", "milestones=[35]", "warm_up=5", "checkpoint_every=45"]
    more += ["log_every=10", "fpn_width=16", "head_width=32"]
    if protocol == "small-fpn-1":
        more += ["lr=0.02", "iterations=90", "milestones=[75]", "checkpoint_every=90"]
    results = detect(recipe(encoder, devkit, quick, *more, protocol=protocol), tmp_path / "run", device="cpu")
    losses = [line["loss"] for line in lines(tmp_path / "run")]
    assert losses[-1] < 0.6 * losses[0]
    found = {row.metric: row.value for row in results}
    assert found["AP50"] > 0.05  # of pictures that were not trained on
    assert found["voc07-mAP"] > 0.05
    assert 0 < found["AP"] <= found["AP50"]


def test_what_a_run_leaves(encoder, devkit, quick, tmp_path):
    out = tmp_path / "run"
    results = detect(recipe(encoder, devkit, quick), out, device="cpu")
    assert read_results(out / "results.jsonl") == results
    assert {row.metric for row in results if row.primary} == {"AP"}
    row = results[0]
    assert row.task == f"detection {devkit.parent.name}-test"
    assert (row.run, row.protocol, row.n) == ("small", "small-c4-1+changed", 4)
    assert row.selection == "weights: as given; detector: last iteration"
    assert row.extra["encoder"] == load_encoder(encoder).spec.weight_hash
    assert row.extra["training_images"] == 8
    assert len({r.settings_hash for r in results}) == len(results)
    table = pq.read_table(out / "detections-VOC2007-test.parquet")
    assert set(table.column("image_id").to_pylist()) <= {f"VOC2007/{i:06d}" for i in range(8, 12)}
    assert set(table.column("label").to_pylist()) <= {"disc", "square"}
    page = (out / "index.html").read_text()
    assert page.count("<figure") == 2 and "VOC2007/0000" in page
    assert "http://" not in page and "https://" not in page
    assert [line["step"] for line in lines(out)] == [1, 2, 3, 4]
    assert [line["lr"] for line in lines(out)] == pytest.approx([2e-5, 0.01001, 0.02, 0.002])


def test_a_stop_and_resume_is_no_stop_at_all(encoder, devkit, quick, tmp_path, monkeypatch):
    asked = recipe(encoder, devkit, quick, "iterations=5", "milestones=[4]")
    straight = detect(asked, tmp_path / "straight", device="cpu")

    step = Trainer.step

    def crash(self, number, samples):
        if number == 3:
            raise RuntimeError("power cut")
        return step(self, number, samples)

    monkeypatch.setattr(Trainer, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        detect(asked, tmp_path / "cut", device="cpu")
    monkeypatch.setattr(Trainer, "step", step)
    assert sorted(p.name for p in (tmp_path / "cut" / "checkpoint").iterdir()) == ["step-00000002"]
    torch.manual_seed(99)  # the state of the global generator is no part of a run
    resumed = detect(asked, tmp_path / "cut", resume=True, device="cpu")
    assert values(resumed) == values(straight)
    one, two = last_state(tmp_path / "straight"), last_state(tmp_path / "cut")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any("optimiser" in key for key in one)
    names = ("metrics.jsonl", "results.jsonl", "detections-VOC2007-test.parquet", "index.html")
    for name in names:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_a_finished_run_is_left_alone(encoder, devkit, quick, tmp_path):
    out = tmp_path / "run"
    asked = recipe(encoder, devkit, quick)
    first = detect(asked, out, device="cpu")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}
    assert detect(asked, out, resume=True, device="cpu") == first
    with pytest.raises(UserError, match="in use by a run"):
        detect(asked, out, device="cpu")
    with pytest.raises(UserError, match=r"settings\.lr \(0\.02 -> 0\.5\)"):
        detect(recipe(encoder, devkit, quick, "lr=0.5"), out, resume=True, device="cpu")
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}
    assert before == after


def test_frozen_and_random_weights(devkit, quick, tmp_path):
    wide = ["iterations=2", "precise_norm=0"]
    asked = recipe("random:tiny-resnet", devkit, quick, *wide, frozen=True)
    row = detect(asked, tmp_path / "run", device="cpu")[0]
    assert row.protocol == "small-c4-1-frozen+changed"
    assert row.selection.startswith("weights: untrained")


def test_pictures_seen_before_are_not_scored(encoder, devkit, quick, tmp_path):
    with pytest.raises(UserError, match="must hold no picture that the detector is trained on"):
        detect(recipe(encoder, devkit, quick, 'test=["VOC2007/val"]'), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_pictures_seen_in_pretraining_are_not_scored(encoder, devkit, quick, tmp_path):
    """A run folder as pretraining leaves it, with one test picture among what it showed."""
    import pyarrow as pa

    from sempairs.catalog.sources import open_source

    run = tmp_path / "pretrained"
    shutil.copytree(encoder, run)
    catalog = open_source(f"voc:{devkit}").scan().catalog
    seen = [i for i, split in enumerate(catalog.column("split")) if split == "test"][:1]
    columns = ["image_id", "file_hash", "pixel_hash", "split_group"]
    pq.write_table(catalog.table.select(columns).take(pa.array(seen)), run / "exposure.parquet")
    (run / "recipe.yaml").write_text(f"data: {{source: 'voc:{devkit}'}}\n")
    (run / "finished.json").write_text("{}\n")
    with pytest.raises(UserError, match="that pretraining has seen, but has VOC2007/000008;"):
        detect(recipe(run, devkit, quick), tmp_path / "out", device="cpu")


def test_a_checkpoint_of_other_data_is_refused(encoder, devkit, quick, tmp_path, monkeypatch):
    kit = tmp_path / "VOCdevkit"
    shutil.copytree(devkit, kit)
    asked = recipe(encoder, kit, quick)
    detect(asked, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "finished.json").unlink()
    file = kit / "VOC2007" / "Annotations" / "000001.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(UserError, match="training data is another than when the run began"):
        detect(asked, tmp_path / "run", resume=True, device="cpu")


MISTAKES = [
    ("no devkit", ["--data", "voc:EMPTY"], "must hold VOC2007 or VOC2012"),
    ("no such path", ["--data", "voc:EMPTY/absent"], "must be an existing path"),
    ("unknown kind", ["--data", "folder:EMPTY"], "voc:PATH"),
    ("no data", [], "--data is required"),
    ("missing set", ["--data", "voc:KIT", "--set", 'test=["VOC2007/tset"]'], "VOC2007/tset is missing"),
    ("missing year", ["--data", "voc:KIT", "--protocol", "voc-c4-1"], "with a year of VOC2007"),
    ("unknown protocol", ["--data", "voc:KIT", "--protocol", "voc-c4"], "did you mean 'voc-c4-1'"),
    ("class not in list", ["--data", "voc:KIT", "--set", "classes=[disc]"], "got 'square'"),
    ("unknown setting", ["--data", "voc:KIT", "--set", "iteratons=5"], "did you mean 'iterations'"),
    ("training on test", ["--data", "voc:KIT", "--set", 'train=["VOC2007/test"]'], "train on a test set"),
    ("no such device", ["--data", "voc:KIT", "--device", "tpu"], "--device must be auto, cpu, or cuda"),
    ("no such recipe", ["--data", "voc:KIT", "--recipe", "EMPTY/no.yaml"], "recipe does not exist"),
]


@pytest.mark.parametrize(("arguments", "said"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line(encoder, devkit, tmp_path, capsys, arguments, said):
    places = {"EMPTY": tmp_path, "KIT": devkit}
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    if "--protocol" not in arguments:
        arguments = [*arguments, "--protocol", "small-c4-1"]
    assert command(["detect", str(encoder), *arguments, "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and said in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["random:test_vit", "nowhere"])
def test_an_encoder_that_will_not_do_is_one_line(devkit, tmp_path, capsys, name):
    arguments = ["--data", f"voc:{devkit}", "--protocol", "small-c4-1", "--out", str(tmp_path / "out")]
    assert command(["detect", name, *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "must be a ResNet" in errors[0] or "must be a run folder" in errors[0]


def test_weights_that_do_not_fit_are_named(encoder, devkit, tmp_path, capsys):
    from safetensors.torch import save_file

    broken = tmp_path / "broken"
    shutil.copytree(encoder, broken)
    weights = load_file(broken / "encoder.safetensors")
    weights["backbone.layer1.0.conv1.weight"] = weights.pop("layer1.0.conv1.weight")
    save_file(weights, broken / "encoder.safetensors")
    arguments = ["--data", f"voc:{devkit}", "--protocol", "small-c4-1", "--out", str(tmp_path / "out")]
    assert command(["detect", str(broken), *arguments]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "lacks layer1.0.conv1.weight" in error


def test_the_loss_must_stay_finite(encoder, devkit, quick, tmp_path):
    asked = recipe(encoder, devkit, quick, "lr=1e12", "warm_up=0", "milestones=[]")
    with pytest.raises(UserError, match=r"loss must be finite at step \d"):
        detect(asked, tmp_path / "run", device="cpu")


def test_protocols_say_what_was_changed():
    def named(*overrides, frozen=False, protocol="voc-c4-1"):
        made = make_recipe(
            "random:resnet50", data="voc:x", protocol=protocol, overrides=overrides, frozen=frozen
        )
        return made.protocol_name

    assert named() == "voc-c4-1"
    assert named("workers=3", "checkpoint_every=7", 'test=["VOC2012/val"]') == "voc-c4-1"
    assert named(frozen=True) == "voc-c4-1-frozen"
    assert named("iterations=10", "milestones=[5]") == "voc-c4-1+changed"
    assert named("freeze=4", protocol="voc-fpn-1") == "voc-fpn-1+changed"
    assert named(frozen=True, protocol="voc-fpn-1") == "voc-fpn-1-frozen"


def test_published_settings():
    c4, fpn = PROTOCOLS["voc-c4-1"], PROTOCOLS["voc-fpn-1"]
    assert (c4.batch_size, c4.lr, c4.iterations, c4.milestones, c4.warm_up) == (
        16,
        0.02,
        24000,
        (18000, 22000),
        100,
    )
    assert (fpn.batch_size, fpn.lr, fpn.iterations, fpn.milestones) == (2, 0.0025, 144000, (96000, 128000))
    for one in (c4, fpn):
        assert (min(one.train_sizes), max(one.train_sizes), one.max_size, one.test_size) == (
            480,
            800,
            1333,
            800,
        )
        assert one.train == ("VOC2007/trainval", "VOC2012/trainval") and one.test == ("VOC2007/test",)
        assert DetectionConfig.model_validate_json(one.model_dump_json()) == one
    assert (c4.freeze, c4.norm, c4.extra_norm, c4.anchors) == (0, "batch", True, (32, 64, 128, 256, 512))


@pytest.mark.parametrize("file", sorted(RECIPES.glob("detect-*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_is_complete(file):
    made = make_recipe("random:resnet50", file=file)
    assert made.settings.iterations > 0
    assert RecipeFile.model_fields.keys() >= {"data", "protocol"}


def test_there_are_recipes():
    assert {p.stem for p in RECIPES.glob("detect-*.yaml")} == {"detect-coco", "detect-scenes", "detect-voc"}


def test_names_of_tasks(tmp_path):
    from sempairs.catalog.voc import VOC_CLASSES

    assert task_name("voc:VOCdevkit", "VOC2007/test", VOC_CLASSES) == "voc07-test"
    assert task_name(f"voc:{tmp_path}/scenes/VOCdevkit", "VOC2007/test", ("cat",)) == "scenes-test"
    assert task_name(f"coco:{tmp_path}/coco", "val2017", VOC_CLASSES) == "coco-val2017"


def test_the_verb_explains_itself(capsys):
    assert command(["detect", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--resume" in out and "--frozen" in out and "voc-c4-1" in out


def test_two_processes_share_the_work(encoder, devkit, quick, tmp_path):
    """On CPUs normalisation must be fixed: torch synchronises statistics on GPUs only."""
    more = ["norm=fixed", "precise_norm=0", "iterations=2", "milestones=[1]", "pictures=0"]
    options = [f for item in [*quick, *more] for f in ("--set", item)]
    arguments = ["detect", str(encoder), "--data", f"voc:{devkit}", "--protocol", "small-fpn-1", *options]
    arguments += ["--out", str(tmp_path / "run"), "--device", "cpu"]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "sempairs", *arguments],
            env={**os.environ, **place, "RANK": str(r), "LOCAL_RANK": str(r), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for r in (0, 1)
    ]  # fmt: skip
    ends = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    results = read_results(tmp_path / "run" / "results.jsonl")
    assert len(results) == 6 and results[0].extra["processes"] == 2
    assert len(lines(tmp_path / "run")) == 2


def test_statistics_of_batches_need_gpus_for_several_processes(encoder, devkit, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="needs SyncBN for several processes"):
        detect(recipe(encoder, devkit, quick), tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match="must be a multiple of the 2 processes"):
        detect(recipe(encoder, devkit, quick, "batch_size=3"), tmp_path / "run", device="cpu")
