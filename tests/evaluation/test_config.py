"""Settings: an exact round trip, Ericsson's grid, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sempairs.config import load_config, save_config, validate
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.linear import LinearConfig


@pytest.mark.parametrize(
    "config", [EvaluationConfig(), EvaluationConfig(lambdas=(0.5, 2.0), knn=(), precision="bf16")]
)
def test_settings_survive_their_file(config: EvaluationConfig, tmp_path: Path) -> None:
    save_config(config, tmp_path / "c.yaml")
    assert load_config(EvaluationConfig, tmp_path / "c.yaml") == config


def test_the_default_grid_is_ericssons() -> None:
    np.testing.assert_allclose(EvaluationConfig().of(LinearConfig).grid, np.logspace(-6, 5, 45))
    assert EvaluationConfig(lambdas=(10.0, 0.1, 10.0)).of(LinearConfig).grid == (0.1, 10.0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"lambdas": [0.0]}, "greater than 0"),
        ({"lambdas": []}, "lambdas"),
        ({"folds": 2}, "greater than or equal to 3"),
        ({"max_fit_images": 3}, "greater than or equal to 10"),
        ({"knn": ["knn-20-0.07", "knn-20-0.07"]}, "twice"),
        ({"precison": "bf16"}, "did you mean 'precision'"),
    ],
)
def test_settings_out_of_their_rule_are_named(data: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as error:
        validate(EvaluationConfig, data)
    assert says in str(error.value)
