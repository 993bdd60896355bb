"""The recipes that reproduce published numbers: they hold, and they run on tiny copies of their data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sempairs.config import validate
from sempairs.methods import METHODS
from sempairs.recipes import recipe_path
from sempairs.study.plan import resolve
from sempairs.study.recipe import StudyRecipe, load_study
from sempairs.training import PretrainRecipe, pretrain

ROOT = Path(__file__).parents[2]
SCALES = {"cifar10": "cifar-r18", "cifar100": "cifar-r18", "imagenet100": None, "imagenet": "imagenet-r50"}


def reproduction(name: str) -> Path:
    return recipe_path(f"reproduction-{name}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 and CIFAR-100 in their archives' layout, ImageNet in folders, all tiny."""
    file = ROOT / "tests" / "evaluation" / "transfer_sets.py"
    spec = importlib.util.spec_from_file_location("tiny_sets", file)
    assert spec is not None and spec.loader is not None
    sets: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sets)
    root = tmp_path_factory.mktemp("data")
    sets.cifar10(root)
    sets.cifar100(root)
    for kind, wnid in enumerate(("n01440764", "n01443537")):
        for part, count in (("train", 6), ("val", 2)):
            folder = root / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(sets.pixels(kind, number)).resize((40, 36))
                picture.save(folder / f"{wnid}_{number}.JPEG")
    return root


@pytest.mark.parametrize("name", SCALES)
def test_every_cell_holds_and_says_what_is_published(name: str) -> None:
    study = load_study(reproduction(name))
    for method, overrides in study.methods.items():
        resolved = [resolve(study, method, arm, 0) for arm in study.arms]
        registered = method.replace("-", "_")
        assert resolved[0]["method"]["name"] == registered
        assert resolved[0] | {"pairs": None} == resolved[1] | {"pairs": None}
        scale = SCALES[name]
        if scale is not None:
            preset = METHODS.get(registered).presets[scale].config.model_dump(mode="json")
            # The recipe writes ten digits.
            assert resolved[0]["method"] == {
                key: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                for key, value in preset.items()
            }
        assert "optimiser" in overrides
    header = reproduction(name).read_text(encoding="utf-8").split("\nname:")[0]
    assert all(word in header for word in ("# Command:", "# Data:", "# Time:", "# Expected:"))
    assert all(f"#   {method} " in header for method in study.methods)


def claiming(preset: str) -> set[str]:
    """The methods that have published settings at a scale, as recipes write their names."""
    return {name.replace("_", "-") for name in METHODS.names() if preset in METHODS.get(name).presets}


def test_a_method_stands_where_it_claims_published_numbers_and_nowhere_else() -> None:
    """SePP-ID needs a table of neighbours beside the images; ImageNet-100 has no run of RINCE's."""
    there = {name: set(load_study(reproduction(name)).methods) for name in SCALES}
    small, large = (claiming(preset) - {"sepp-id"} for preset in ("cifar-r18", "imagenet-r50"))
    assert there["cifar10"] == there["cifar100"] == small
    assert there["imagenet"] == large
    assert there["imagenet100"] == large - {"rince"}


def a_step(study: StudyRecipe, method: str, arm: str, source: str, out: Path, **changes: Any) -> None:
    """One step of a cell as the recipe has it, with a tiny encoder on tiny data."""
    settings = resolve(study, method, arm, 0)
    settings["data"] |= {"source": source}
    settings |= {"encoder": {"arch": "tiny-resnet"}, "batch_size": 8, **changes}
    settings["schedule"] |= {"duration": "1 steps", "warm_up": "0 steps"}
    settings["speed"] |= {"device": "cpu", "threads": 1}
    settings["monitor"] |= {"every": "0 steps", "tensorboard": False}
    summary = pretrain(validate(PretrainRecipe, settings), out)
    assert summary.steps == 1


@pytest.mark.parametrize(
    ("name", "method", "arm"),
    [
        ("cifar10", "simclr", "augmented"),
        ("cifar10", "moco-v3", "semantic"),
        ("cifar10", "simsiam", "augmented"),
        ("cifar10", "supervised", "augmented"),
        ("cifar100", "leoclr", "semantic"),
        ("cifar100", "vicreg", "semantic"),
        ("cifar100", "supcon", "augmented"),
    ],
)
def test_a_step_on_a_tiny_cifar(data: Path, tmp_path: Path, name: str, method: str, arm: str) -> None:
    a_step(load_study(reproduction(name)), method, arm, f"dataset:{name}:{data}", tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "method", "arm"),
    [("imagenet100", "barlow-twins", "augmented"), ("imagenet", "swav", "semantic")],
)
def test_a_step_on_a_tiny_imagenet(data: Path, tmp_path: Path, name: str, method: str, arm: str) -> None:
    study = load_study(reproduction(name))
    a_step(study, method, arm, f"imagenet:{data / 'imagenet'}", tmp_path / "run", batch_size=4)
