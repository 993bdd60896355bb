"""`sempairs pairs build | stats`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sempairs.catalog import Catalog
from sempairs.cli.pairs import app
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.table import PairSet


def call(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def source(drawings: Catalog, tmp_path: Path) -> str:
    drawings.save(tmp_path / "drawings.arrow")
    return f"catalog:{tmp_path / 'drawings.arrow'}"


def test_build_and_stats(source: str, drawings: Catalog, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    built = call("build", source, "--relation", "cross_domain", "--count", 8, "--seed", 2, "--out", out)
    assert "cross_domain, fixed, semantic arm" in built
    expected = plan_pairs(drawings, PairsConfig(relation="cross_domain", count=8, seed=2))
    assert PairSet.open(out).manifest_hash == expected.manifest_hash
    assert call("stats", out) == built
    found = json.loads(call("stats", out, "--json", "--batch-size", 8))
    assert (found["pairs_per_epoch"], found["images"], found["negatives"]) == (8, 16, 14)
    assert json.loads(call("stats", out / "image_matched", "--json"))["arm"] == "image_matched"


def test_a_recipe_says_it_too_and_options_overrule_it(source: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    pairs = "{relation: cross_domain, mode: redrawn, arm: augmented}"
    recipe.write_text(
        f"data: {{source: '{source}', where: {{domain: [a, b]}}}}\npairs: {pairs}\nbatch_size: 8\n"
    )
    call("build", recipe, "--out", tmp_path / "one")
    one = PairSet.open(tmp_path / "one")
    assert (one.config.mode, one.config.arm, len(one)) == ("redrawn", "semantic", 24)
    call("build", recipe, "--mode", "fixed", "--set", "pairs.count=3", "--out", tmp_path / "two")
    assert len(PairSet.open(tmp_path / "two")) == 3
    recipe.write_text(f"base:\n  data: {{source: '{source}'}}\n  pairs: {pairs}\narms: {{}}\n")
    call("build", recipe, "--out", tmp_path / "three")
    assert len(PairSet.open(tmp_path / "three")) == 36


def test_dry_run_prints_the_configuration_and_writes_nothing(source: str, tmp_path: Path) -> None:
    printed = call(
        "build", source, "--relation", "sibling", "--depth", 2, "--out", tmp_path / "no", "--dry-run"
    )
    assert "relation: sibling" in printed and "depth: 2" in printed
    assert not (tmp_path / "no").exists()


def test_a_source_without_splits_gets_those_of_pretraining(make: Any, tmp_path: Path) -> None:
    from sempairs.catalog.splits import assign_splits

    catalog = make([f"{i:03d}" for i in range(100)], category=[f"k{i % 5}" for i in range(100)])
    catalog.save(tmp_path / "c.arrow")
    common = ("build", f"catalog:{tmp_path / 'c.arrow'}", "--relation", "same_category", "--split-seed", 3)
    call(*common, "--out", tmp_path / "train")
    train = assign_splits(catalog, seed=3)
    train = train.select(train.column("split") == "train")
    expected = plan_pairs(train, PairsConfig(relation="same_category"))
    assert PairSet.open(tmp_path / "train").manifest_hash == expected.manifest_hash
    call(*common, "--split", "all", "--out", tmp_path / "all")
    everything = PairSet.open(tmp_path / "all")
    everything.validate()
    assert len(everything) > expected.n


def test_mistakes_are_one_line_and_leave_nothing_behind(source: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cross = ("--relation", "cross_domain", "--out", out)
    (tmp_path / "bad.yaml").write_text(f"data: {{source: '{source}'}}\npairs: {{relations: sibling}}\n")
    (tmp_path / "list.yaml").write_text(f"data: {{source: '{source}'}}\npairs: [1]\n")
    (tmp_path / "where.yaml").write_text(f"data: {{source: '{source}', where: {{set: [a]}}}}\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    cases = [
        (refused("build", source, "--out", out), "--relation is required"),
        (
            refused("build", source, "--relation", "cross_domian", "--out", out),
            "pairs.relation is unknown, got 'cross_domian'; did you mean 'cross_domain'",
        ),
        (
            refused("build", source, *cross, "--mixed", 2),
            "pairs.mixed must be in [0, 1] all through training, got 2",
        ),
        (refused("build", source, *cross, "--count", 0), "pairs.count must be greater than or equal to 1"),
        (
            refused("build", source, *cross, "--split", "trian"),
            "--split is unknown, got 'trian'; did you mean",
        ),
        (
            refused("build", source, *cross, "--domain-column", "set"),
            "pairs.domain_column is unknown, got 'set'",
        ),
        (refused("build", "nothing:at-all", *cross), "source is unknown"),
        (refused("build", tmp_path / "absent.yaml", *cross), "recipe does not exist"),
        (refused("build", tmp_path / "binary", *cross), "recipe is not a text file"),
        (refused("build", tmp_path / "bad.yaml", *cross), "pairs.relations is not a known key; did you mean"),
        (refused("build", tmp_path / "list.yaml", *cross), "pairs must be a section of keys and values"),
        (refused("build", tmp_path / "where.yaml", *cross), "data.where is unknown, got 'set'"),
        (
            refused("build", source, "--relation", "cross_domain", "--out", tmp_path / "used"),
            "--out must be a new or empty folder",
        ),
        (refused("stats", tmp_path / "absent"), "is no folder of pairs"),
    ]
    for message, expected in cases:
        assert expected in message
        assert "\n" not in message
    assert not out.exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_one_image_a_class_is_explained(make: Any, tmp_path: Path) -> None:
    make("a b c", category=["x", "y", "z"]).save(tmp_path / "c.arrow")
    source = f"catalog:{tmp_path / 'c.arrow'}"
    message = refused(
        "build", source, "--relation", "same_category", "--split", "all", "--out", tmp_path / "o"
    )
    assert "no category has two different pictures" in message


def test_help_loads_nothing_heavy() -> None:
    heavy = "('numpy', 'pyarrow', 'torch')"
    code = f"import sys, sempairs.cli.pairs; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
