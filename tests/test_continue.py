"""The commands of docs/continue.md run in order, on tiny images; and what its recipes hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sempairs.training.trackers import read_metrics

from sempairs.config import load_config
from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.files import read_json
from sempairs.training.recipe import PretrainRecipe

PAGE = Path(__file__).parents[1] / "docs" / "continue.md"
SNIPPET = re.compile(r"<!-- run -->\n```bash\n(.*?)```", re.DOTALL)
# What makes a run small: the commands are otherwise those of the page.
SMALL = (
    "views.size=32", "data.store_size=32", "schedule.duration=4 steps", "schedule.warm_up=1 steps",
    "monitor.every=2 steps", "batch_size=16", "method.hidden=16", "method.out=8", "speed.threads=1",
    "speed.precision=32-true", "monitor.drift.below=0.9", "monitor.tensorboard=false",
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


def test_every_command_of_the_page_runs_in_order(workplace: Path) -> None:
    snippets = SNIPPET.findall(PAGE.read_text(encoding="utf-8"))
    assert len(snippets) == 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    small = " ".join(f"--set '{item}'" for item in SMALL)
    for code in snippets:
        lines = [f"{line} {small}" if " pretrain " in line else line for line in code.splitlines()]
        if "unlabelled" in code:
            lines = [line.replace("--set 'monitor.drift.below=0.9'", "") for line in lines]
        lines = [f"{line} --arch resnet10t" if " import " in line else line for line in lines]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=workplace, capture_output=True,
            text=True, timeout=280, env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
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
