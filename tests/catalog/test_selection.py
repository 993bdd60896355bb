"""Which images a recipe's data section asks for: the same for pretraining and for building pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sempairs.catalog import Catalog
from sempairs.catalog.selection import DataConfig, DataSection, filtered, select_images
from sempairs.cli.main import run
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.training.recipe import PretrainRecipe


def catalog_of(categories: Sequence[str | None], **more: Any) -> Catalog:
    n = len(categories)
    columns: dict[str, Any] = {
        "image_id": [f"{i:03d}" for i in range(n)],
        "file_hash": [f"{i:064x}" for i in range(n)],
        "uri": [f"{i}.png" for i in range(n)],
        "width": [4] * n,
        "height": [4] * n,
        "source": ["folder:/absent"] * n,
        "category": categories,
    }
    return Catalog.from_columns(columns | more)


class TestFilter:
    def test_values_and_those_that_no_image_has(self, capsys: pytest.CaptureFixture[str]) -> None:
        catalog = catalog_of(["cat", "caf\u00e9", None, "dog"], year=["2007", "2012", "2012", None])
        assert len(filtered(catalog, {"category": ["cat", "cafe\u0301"]})) == 2
        assert len(filtered(catalog, {"year": (2007,)})) == 1
        assert len(filtered(catalog, {"category": [None], "year": ["2012"]})) == 1
        assert capsys.readouterr().err == ""
        assert len(filtered(catalog, {"category": ["cat", "dgo"]})) == 1
        assert "data.where.category: no image has 'dgo'; did you mean 'dog'?" in capsys.readouterr().err

    def test_mistakes(self) -> None:
        catalog = catalog_of(["cat"])
        with pytest.raises(UserError, match=r"data\.where\.category must be a list of values, got 'cat'"):
            filtered(catalog, {"category": "cat"})
        with pytest.raises(
            UserError, match=r"data\.where is unknown, got 'categry'; did you mean 'category'"
        ):
            filtered(catalog, {"categry": ["cat"]})
        with pytest.raises(UserError, match=r"data\.where must leave some images"):
            filtered(catalog, {"category": ["dog"]})


class TestSelect:
    catalog = catalog_of(["b", "a", "b", "a", "b"], split=["test", "validation", "train", None, "train"])

    def ids(self, *, where: dict[str, list[str]] | None = None, **options: Any) -> tuple[list[str], int]:
        data = DataConfig(source="digits", split=options.pop("split", "train"), where=where or {})
        chosen, first = select_images(self.catalog, data, **options)
        return chosen.column("image_id").tolist(), first

    def test_the_split_comes_first_and_further_ones_after(self) -> None:
        assert self.ids() == (["002", "004"], 2)
        assert self.ids(then=("validation",)) == (["002", "004", "001"], 2)
        assert self.ids(then=("absent", "test")) == (["002", "004", "000"], 2)
        assert self.ids(then=("validation",), where={"category": ["b"]}) == (["002", "004"], 2)

    def test_all_is_every_image_where_it_is_allowed(self) -> None:
        assert self.ids(split="all", whole=True) == ([f"{i:03d}" for i in range(5)], 5)
        with pytest.raises(
            UserError, match=r"data\.split is unknown, got 'all'; choose from: test, train, va"
        ):
            self.ids(split="all")

    def test_an_unknown_split_is_called_as_the_caller_does(self) -> None:
        with pytest.raises(UserError, match=r"--split is unknown, got 'trian'; did you mean 'train'"):
            self.ids(split="trian", whole=True, field="--split")

    def test_splits_are_drawn_or_not(self) -> None:
        bare, data = catalog_of(["a"] * 20), DataConfig(source="digits", split="all")
        assert None not in select_images(bare, data, whole=True)[0].column("split")
        assert set(select_images(bare, data, whole=True, draw=False)[0].column("split")) == {None}


def test_building_pairs_takes_every_key_that_pretraining_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints those that were given, with the options."""
    assert PretrainRecipe.model_fields["data"].annotation is DataConfig
    data = validate(
        DataSection, {"data": {"source": "digits", "where": {"score": [1.5, None, "a", 3, True]}}}
    )
    assert data.data.where == {"score": (1.5, None, "a", 3, True)}
    every = DataConfig(source="digits", classes=3, tree="wordnet").model_dump(mode="json")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"data": every, "pairs": {"relation": "augmented"}}))
    build = ["pairs", "build", str(tmp_path / "all.yaml"), "--out", str(tmp_path / "out"), "--dry-run"]
    assert run([*build, "--split", "all"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"] == every | {"split": "all"}
    (tmp_path / "few.yaml").write_text("data: {source: digits}\npairs: {relation: augmented}\n")
    assert run([*build[:2], str(tmp_path / "few.yaml"), *build[3:], "--split-seed", "4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"] == {"source": "digits", "split_seed": 4}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("data.store=disk", "data.store must be 'auto', 'memory' or 'files'"),
        ("data.where={category: a}", "data.where.category must be a list of values, got 'a'"),
        ("data.spilt=all", "data.spilt is not a known key; did you mean 'split'?"),
    ],
)
def test_mistakes_in_the_section_are_one_line(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text("data: {source: digits}\npairs: {relation: augmented}\n")
    build = ["pairs", "build", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]
    assert run([*build, "--set", option]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
