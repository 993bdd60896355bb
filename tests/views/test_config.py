"""View recipes as configs."""

from __future__ import annotations

import pytest

from sempairs.config import load_config, save_config, validate
from sempairs.errors import UserError
from sempairs.views.config import RECIPES, ViewsConfig


@pytest.mark.parametrize("recipe", RECIPES.names())
def test_saving_and_loading_gives_the_same_config(tmp_path, recipe):
    config = ViewsConfig(
        recipe=recipe, size=48, without=("jitter", "blur"), background="texture", crop_scale=(0.3, 0.9)
    )
    save_config(config, tmp_path / "views.yaml")
    assert load_config(ViewsConfig, tmp_path / "views.yaml") == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"recipe": "simclrr"}, "recipe must be one of byol, lab, moco-v2, simclr, got 'simclrr'"),
        ({"without": ["jiter"]}, "without.0 must be 'crop'"),
        ({"crop_scale": [0.5, 1.5]}, "crop_scale must be two shares"),
        ({"crop_scale": [0.5, 0.2]}, "crop_scale must be two shares"),
        ({"jitter_strength": 3.0}, "jitter_strength must be at most 2.5 for simclr"),
        ({"std": [1.0, 0.0, 1.0]}, "std must be above 0"),
        ({"size": 2}, "size must be greater than or equal to 4"),
        ({"backgroud": "white"}, "did you mean 'background'?"),
    ],
)
def test_a_value_out_of_its_rule_is_one_line(values, said):
    with pytest.raises(UserError) as caught:
        validate(ViewsConfig, values)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_overrides_reach_the_recipe():
    resolved = ViewsConfig(recipe="moco-v2", jitter_strength=0.5, crop_scale=(0.5, 0.6)).resolved()
    assert resolved.jitter_strength == (0.2, 0.2, 0.2, 0.05)
    assert resolved.crop_scale == (0.5, 0.6)
