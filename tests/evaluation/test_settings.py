"""Settings of protocols: keys of one flat section, part of the settings hash, and hashes that stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
from pydantic import Field

from sempairs.config import Ramp, load_config, save_config, validate
from sempairs.errors import UserError
from sempairs.evaluation import config as settings
from sempairs.evaluation.config import EvaluationConfig, ProtocolConfig, Protocols
from sempairs.evaluation.protocols import PROTOCOLS, Context, Protocol
from sempairs.evaluation.protocols.few_shot import FewShotConfig
from sempairs.evaluation.protocols.linear import LinearConfig
from sempairs.evaluation.scores import Score
from sempairs.evaluation.suite import settings_of
from sempairs.evaluation.tasks.base import Classification, Fold, MultiLabel, Problem, Retrieval, Task
from sempairs.evaluation.tasks.coarse_to_fine import CoarseToFine
from sempairs.evaluation.tasks.invariance import (
    BackgroundInvariance,
    PairInvariance,
    Structure,
    TransformInvariance,
)
from sempairs.files import stable_hash
from sempairs.study.recipe import StudyRecipe

# Of the first version of each protocol: what was measured then must stay comparable.
HASHES: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "settings_hashes.json").read_text())
CHANGES: tuple[dict[str, Any], ...] = (
    {}, {"lambdas": [1.0]}, {"lambdas": 7}, {"epochs": 1}, {"steps": 3}, {"episodes": 4},
    {"probe_views": "none"}, {"fine_tune_rates": [0.01]}, {"fine_tune_decays": [0.0]},
    {"svm_costs": [1.0, 0.1]}, {"knn": []}, {"max_fit_images": 300}, {"seed": 3}, {"repeats": 1, "folds": 4},
    {"precision": "bf16"}, {"near_copies": 0.5},
)  # fmt: skip
ROWS, UNITS = np.arange(4), np.arange(4).astype(str)
FOLDS = (Fold(ROWS, ROWS, ROWS),)
PROBLEMS: tuple[Problem, ...] = (
    Classification(ROWS, ("a", "b"), FOLDS, UNITS),
    CoarseToFine(ROWS, ("a", "b"), FOLDS, UNITS),
    MultiLabel(ROWS[:, None], ("a",), FOLDS, UNITS),
    Retrieval(ROWS, ROWS, ROWS, UNITS),
    TransformInvariance(ROWS, ROWS, UNITS),
    BackgroundInvariance(ROWS, ROWS, UNITS),
    PairInvariance(ROWS, ROWS, ROWS, ROWS, UNITS),
    Structure(ROWS, ROWS, ROWS, UNITS),
)
INPUT = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


def hash_of(name: str, **given: Any) -> str:
    """The settings hash of a protocol's first metric, on a problem it takes."""
    protocol = PROTOCOLS.get(name)
    (problem,) = (each for each in PROBLEMS if type(each) is protocol.takes[0])
    task = Task(
        "t", "digits", "linear-1", "accuracy", {"task": "t", "version": 1}, lambda catalog, config: problem
    )
    config = EvaluationConfig(**{"precision": "float32", **given})
    return stable_hash(settings_of(task, problem, protocol, protocol.metrics[0], config, INPUT))


@pytest.mark.parametrize("name", HASHES)
def test_settings_hashes_stay_what_they_were(name: str, tmp_path: Path) -> None:
    """And no setting that is not named beside the hash changes it."""
    (tmp_path / "list.txt").write_text("b.png\na.png\n")
    known = HASHES[name]
    for change in CHANGES:
        expected = known.get(json.dumps(change), known["as published"])
        assert hash_of(name, **change) == expected, change
    listed = {"low_shot_lists": {"low-shot-1": str(tmp_path / "list.txt")}}
    assert hash_of(name, **listed) == known.get("low_shot_lists", known["as published"])


def test_null_is_as_published() -> None:
    """As recipes wrote it where the settings of all protocols were written out."""
    nothing = dict.fromkeys(
        ["epochs", "steps", "episodes", "fine_tune_rates", "fine_tune_decays", "svm_costs"]
    )
    for name in HASHES:
        assert hash_of(name, **nothing) == HASHES[name]["as published"]


def test_only_what_was_given_is_kept(tmp_path: Path) -> None:
    """As JSON values, so that a file gives back the same."""
    config = EvaluationConfig(lambdas=(1, 0.5), episodes=4, low_shot_lists={"low-shot-1": "a.txt"}, seed=2)
    save_config(config, tmp_path / "c.yaml")
    assert load_config(EvaluationConfig, tmp_path / "c.yaml") == config
    kept = config.model_dump(mode="json", exclude_unset=True)
    assert kept == {
        "seed": 2, "lambdas": [1.0, 0.5], "episodes": 4, "low_shot_lists": {"low-shot-1": "a.txt"},
    }  # fmt: skip
    assert config != EvaluationConfig(seed=2)
    assert config.of(FewShotConfig).episodes == 4 and EvaluationConfig().of(FewShotConfig).episodes == 600


# A protocol's own settings ------------------------------------------------------------------------


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> Protocols:
    """The registry with all that is in it, to add to: what is added is gone afterwards."""
    PROTOCOLS.names()
    registry, entries = PROTOCOLS._registry, dict(PROTOCOLS._registry._entries)
    monkeypatch.setattr(PROTOCOLS, "_owners", dict(PROTOCOLS._owners))
    monkeypatch.setattr(registry, "_entries", entries)
    return PROTOCOLS


class SharpConfig(ProtocolConfig):
    """sharpness: a number. epochs: shared with others. inner: a section of its own."""

    class Inner(ProtocolConfig):
        depth: int = 2

    sharpness: Annotated[float, Field(gt=0)] = 2.0
    ramp: Ramp = Ramp(((0.0, 1.0),))
    inner: Inner = Inner()


def protocol_of(config: type[ProtocolConfig], name: str = "sharp-1") -> type[Protocol]:
    class Sharp(Protocol):
        takes = (Classification,)
        metrics = ("accuracy",)
        summary = "made up"
        Config: ClassVar[type[ProtocolConfig]] = config

        def score(self, context: Context, problem: Any) -> list[Score]:
            return []

    Sharp.name = name
    return Sharp


def test_a_setting_is_a_key_and_in_the_hash_by_being_a_field(protocols: Protocols) -> None:
    protocols.register(protocol_of(SharpConfig))
    before = hash_of("sharp-1")
    assert protocols.get("sharp-1").settings(EvaluationConfig()) == {
        "sharpness": 2.0, "ramp": 1.0, "inner": {"depth": 2}, "version": 1,
    }  # fmt: skip
    changes: tuple[dict[str, Any], ...] = (
        {"sharpness": 3}, {"ramp": [[0, 0], [1, 1]]}, {"inner": {"depth": 3}},
    )  # fmt: skip
    assert len({before, *(hash_of("sharp-1", **change) for change in changes)}) == 4
    for change in changes:
        config = EvaluationConfig(**change)
        assert validate(EvaluationConfig, config.model_dump(mode="json")) == config
        assert hash_of("linear-1", **change) == HASHES["linear-1"]["as published"]
    study = {"evaluation": {"sharpness": 3, "lambdas": 2}}
    read = validate(StudyRecipe, study_of(study)).evaluation
    assert (read.of(SharpConfig).sharpness, read.of(LinearConfig).lambdas) == (3, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sharpnes": 1}, "evaluation.sharpnes is not a known key; did you mean 'sharpness'?"),
        ({"sharpness": 0}, "evaluation.sharpness must be greater than 0, got 0"),
        ({"inner": {"dpth": 1}}, "evaluation.inner.dpth is not a known key; did you mean 'depth'?"),
        ({"lambdas": [0]}, "evaluation.lambdas must be a list of numbers greater than 0, got [0]"),
        ({"episods": 5}, "evaluation.episods is not a known key; did you mean 'episodes'?"),
        ({"max_fit_image": 5}, "did you mean 'max_fit_images'?"),
    ],
)
def test_a_mistake_is_one_line(given: dict[str, Any], said: str, protocols: Protocols) -> None:
    protocols.register(protocol_of(SharpConfig))
    with pytest.raises(UserError) as error:
        validate(StudyRecipe, study_of({"evaluation": given}))
    assert said in str(error.value) and "\n" not in str(error.value)


def study_of(changes: dict[str, Any]) -> dict[str, Any]:
    contrast = {"treatment": "a", "control": "b", "may_differ": ["pairs.arm"], "primary": True}
    return {
        "name": "s", "question": "?", "base": {}, "methods": {"m": {}}, "arms": {"a": {}, "b": {}},
        "contrasts": [contrast], "seeds": [0], "tasks": ["digits"], **changes,
    }  # fmt: skip


def test_a_shared_name_is_one_setting_that_each_gives_a_default(protocols: Protocols) -> None:
    class Longer(ProtocolConfig):
        sharpness: Annotated[float, Field(gt=0)] = 9.0

    protocols.register(protocol_of(SharpConfig))
    protocols.register(protocol_of(Longer, "sharp-2"))
    protocols.register(protocol_of(Longer, "sharp-3"))
    defaults = [protocols.get(f"sharp-{i}").settings(EvaluationConfig())["sharpness"] for i in (1, 2, 3)]
    assert defaults == [2.0, 9.0, 9.0]
    given = EvaluationConfig(sharpness=4)
    assert {protocols.get(f"sharp-{i}").settings(given)["sharpness"] for i in (1, 2, 3)} == {4.0}


class Whole(ProtocolConfig):
    episodes: float = 3.0


class Loose(ProtocolConfig):
    episodes: int = 3


class Taken(ProtocolConfig):
    folds: int = 3


class Bare(ProtocolConfig):
    sharpness: float


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Whole, "'episodes' is <class 'float'>, and <class 'int'> in FewShotConfig: one name, one type"),
        (Loose, "'episodes' is"),
        (Taken, "the setting 'folds' is called as one that every evaluation has"),
        (Bare, "the setting 'sharpness' needs a default"),
    ],
)
def test_a_clash_is_an_error_at_registration(
    config: type[ProtocolConfig], said: str, protocols: Protocols
) -> None:
    with pytest.raises(ValueError, match="protocol 'sharp-1': ") as error:
        protocols.register(protocol_of(config))
    assert said in str(error.value)
    assert "sharp-1" not in protocols.names()
    assert settings.PROTOCOLS.settings()["episodes"].annotation is int


PLUGIN = """
from sempairs.evaluation.protocols import PROTOCOLS, Protocol, ProtocolConfig
from sempairs.evaluation.tasks.base import Classification

class HalfConfig(ProtocolConfig):
    halves: int = 2

@PROTOCOLS.register
class Half(Protocol):
    name = "half-1"
    takes = (Classification,)
    metrics = ("accuracy",)
    summary = "made up"
    Config = HalfConfig

    def score(self, context, problem):
        return []
"""


def test_a_plugin_that_a_study_names_brings_its_settings(tmp_path: Path) -> None:
    """Also where its base recipe alone names it."""
    (tmp_path / "half.py").write_text(PLUGIN)
    recipe = study_of({"base": {"plugins": ["half.py"]}, "evaluation": {"halves": 5}})
    (tmp_path / "study.json").write_text(json.dumps(recipe))
    code = (
        "import json; from sempairs.config import validate; from sempairs.study.recipe import StudyRecipe;"
        "print(validate(StudyRecipe, json.load(open('study.json'))).evaluation.model_dump()['halves'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.stdout.strip() == "5", done.stderr[-2000:]
