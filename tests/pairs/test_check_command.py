"""`sempairs pairs check` looks at a list with the splits that `pairs build` would give the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog import SPLITS, Catalog
from sempairs.catalog.sources import open_source
from sempairs.catalog.splits import assign_splits
from sempairs.cli.main import run


@pytest.mark.parametrize("seed", [0, 7])
def test_the_seed_of_the_splits(tmp_path: Path, capsys: Any, seed: int) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for i in range(20):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "a" / f"{i:02}.png")
    source = f"folder:{tmp_path / 'photos'}"
    catalog = assign_splits(open_source(source).scan().catalog, seed=seed)
    ids = catalog.column("image_id")[catalog.column("split") == "train"]
    rows = [f"{a},{b}" for a, b in zip(ids[::2], ids[1::2], strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["anchor,partner", *rows]) + "\n")
    arguments = [source, str(tmp_path / "list.csv")]
    assert run(["pairs", "check", *arguments, "--split-seed", str(seed)]) == 0
    assert "7 pairs, none of them bad" in capsys.readouterr().out
    assert run(["pairs", "check", *arguments, "--split-seed", str(8 - seed)]) == 2
    assert "is not among the 14 images given" in capsys.readouterr().out
    build = ["pairs", "build", source, "--relation", "listed", "--file", str(tmp_path / "list.csv")]
    assert run([*build, "--split-seed", str(seed), "--out", str(tmp_path / "pairs")]) == 0


def test_splits_that_were_drawn_do_not_divide_a_list_of_all_images(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "d" / "cat").mkdir(parents=True)
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(tmp_path / "d" / "cat" / f"{i:02}.png")
    rows = [f"d/cat/{i:02}.png,cat/{i + 6:02}.png" for i in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["anchor,partner", *rows]) + "\n")
    source, file = f"folder:{tmp_path / 'd'}", str(tmp_path / "list.csv")
    assert run(["pairs", "check", source, file, "--split", "all"]) == 0
    build = ["pairs", "build", source, "--relation", "listed", "--file", file, "--out", str(tmp_path / "p")]
    assert run([*build, "--split", "all"]) == 0
    out = capsys.readouterr()
    assert "pairs an epoch                       6" in out.out
    assert "drawn by key" not in out.err
    assert run(["pairs", "check", source, file]) == 2
    out = capsys.readouterr()
    assert "is not among the 8 images given (all of the split train)" in out.out
    assert "has a split of its own; drawn by key, seed 0: train 8, validation 2, test 2" in out.err
    # Any other relation pairs within the splits that pretraining will have.
    whole = ["pairs", "build", source, "--relation", "same_category", "--out", str(tmp_path / "q")]
    assert run([*whole, "--split", "all"]) == 0
    assert set(Catalog.open(tmp_path / "q" / "catalog.arrow").column("split")) == set(SPLITS)
