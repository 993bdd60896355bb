"""The commands of docs/continue.md run in order, on tiny images; and what its recipes hold."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sempairs.cli.main import run
from sempairs.config import load_config
from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.files import read_json
from sempairs.runs.trackers import read_metrics
from sempairs.training.recipe import PretrainRecipe

PAGE = Path(__file__).parents[1] / "docs" / "continue.md"
SNIPPET = re.compile(r"<!-- run -->\n```bash\n(.*?)```", re.DOTALL)
# What makes a run small: the commands are otherwise those of the page.
SMALL = (
    "views.size=32", "data.store_size=32", "schedule.duration=4 steps", "schedule.warm_up=1 steps",
    "monitor.every=2 steps", "batch_size=16", "method.hidden=16", "method.out=8", "speed.threads=1",
    "speed.precision=32-true", "monitor.tensorboard=false",
)  # fmt: skip


def draw(folder: Path, classes: int, each: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for number in range(classes):
        (folder / f"class{number}").mkdir(parents=True)
        base = random.uniform(40, 215, (2, 2, 3)).repeat(16, 0).repeat(16, 1)
        for i in range(each):
            noisy = np.clip(base + random.normal(0, 30, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"class{number}" / f"{i}.png")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and reference/, and other.pth, a checkpoint of a timm model."""
    folder = tmp_path_factory.mktemp("continue")
    draw(folder / "photos", 3, 24, 0)
    draw(folder / "reference", 2, 16, 1)
    weights = build_encoder(EncoderConfig(arch="resnet10t"), seed=3).model.state_dict()
    torch.save({"state_dict": weights, "arch": "resnet10t"}, folder / "other.pth")
    return folder


def commands() -> list[list[str]]:
    """Those of the page, made small."""
    found = [
        shlex.split(line) for code in SNIPPET.findall(PAGE.read_text("utf-8")) for line in code.splitlines()
    ]
    for words in found:
        if words[1] == "pretrain":
            words += [word for item in SMALL for word in ("--set", item)]
        if words[1] == "pretrain" and words[2] == "continue-folder":
            words += ["--set", "monitor.drift.below=0.9"]
        if words[1] == "import":
            words += ["--arch", "resnet10t", "--input-size", "32"]
        if words[1] == "evaluate":
            words += ["--protocol", "knn-20-0.07"]
    return found


def test_every_command_of_the_page_runs_in_order(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")
    done = commands()
    assert [words[:2] for words in done] == [
        ["sempairs", verb] for verb in ("import", "pretrain", "pretrain", "evaluate", "evaluate", "pretrain")
    ]
    for words in done:
        assert run(words[1:]) == 0, f"{words}\n{capsys.readouterr().err[-2000:]}"
    resolved = read_json(workplace / "runs" / "on" / "resolved.json")
    assert resolved["encoder"]["arch"] == "resnet10t" and resolved["optimiser"]["pull"] == 1.0
    probes = [
        line for line in read_metrics(workplace / "runs" / "watched" / "metrics.jsonl") if "rankme" in line
    ]
    assert len(probes) == 3 and all("reference_knn" in line for line in probes)
    for name in ("other", "on"):
        assert (workplace / "runs" / f"{name}.jsonl").stat().st_size > 0


@pytest.mark.parametrize("name", ["continue-folder", "continue-unlabelled"])
def test_recipes_go_on_slowly(name: str) -> None:
    recipe = load_config(PretrainRecipe, name)
    assert recipe.encoder.arch == "saved" and recipe.optimiser.pull > 0
    assert [recipe.optimiser.encoder_scale.at(p) for p in (0.0, 0.04, 0.05, 1.0)] == [0, 0, 0.1, 0.1]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
