"""The reproduction benchmark at a tiny size: every method on both sides, the table, and going on."""

from __future__ import annotations

import csv
import gzip
import math
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("lightly")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    import reproduction

    return reproduction


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments for tiny runs on 90 grey pictures of three classes, in Fashion-MNIST's files."""
    root = tmp_path_factory.mktemp("fashion")
    draw = np.random.default_rng(0)
    for name, n in (("train", 90), ("t10k", 30)):
        labels = np.arange(n, dtype=np.uint8) % 3
        images = draw.integers(0, 60, (n, 28, 28), dtype=np.uint8) + (labels * 90)[:, None, None]
        for what, array in (("images-idx3", images.astype(np.uint8)), ("labels-idx1", labels)):
            start = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{name}-{what}-ubyte.gz").write_bytes(gzip.compress(start + array.tobytes()))
    sizes = ["--images", "64", "--epochs", "2", "--batch", "32", "--channels", "8", "8", "16", "16"]
    out = ["--cells", str(root / "cells"), "--out", str(root / "out.csv"), "--jobs", "1", "--seeds", "3"]
    return ["--source", f"fashion-mnist:{root}", *sizes, *out]


def test_every_method_on_both_sides(benchmark_module: ModuleType, options: list[str]) -> None:
    from lightly_methods import LIGHTLY

    assert set(benchmark_module.SHARED) == set(LIGHTLY)
    chosen = benchmark_module.parse(options)
    for method in benchmark_module.SHARED:
        for side in (benchmark_module.OURS, benchmark_module.THEIRS):
            row = benchmark_module.run_cell(chosen, benchmark_module.Cell(method, side, 3))
            assert (row["method"], row["side"], row["seed"]) == (method, side, 3)
            assert 0 <= row["knn"] <= 100 and 0 <= row["linear"] <= 100
            assert row["training_seconds"] > 0


def test_both_sides_begin_with_the_same_weights_and_images(
    benchmark_module: ModuleType, options: list[str]
) -> None:
    chosen = benchmark_module.parse([*options, "--lr", "1e-30"])
    scores = {}
    for side in (benchmark_module.OURS, benchmark_module.THEIRS, benchmark_module.RANDOM):
        row = benchmark_module.run_cell(chosen, benchmark_module.Cell("vicreg", side, 3))
        scores[side] = row["linear"]
    # Untrained but for running statistics: the same weights see the same images, so both sides score alike,
    # and colours of the classes tell most apart. (All, while the encoder's branches began at zero.)
    assert scores[benchmark_module.OURS] == scores[benchmark_module.THEIRS] > 90
    assert scores[benchmark_module.RANDOM] >= 90
    images = benchmark_module.images_of(benchmark_module.recipe(chosen, "simclr", 3), Path(chosen.cells))
    assert images.train.shape == (64, 3, 28, 28)
    assert len(images.test_labels) == 30


def test_a_stopped_run_goes_on_and_the_table_is_printed(
    benchmark_module: ModuleType, options: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")
    arguments = [*options, "--methods", "vicreg"]
    chosen = benchmark_module.parse(arguments)
    known = benchmark_module.Cell("vicreg", benchmark_module.THEIRS, 3)
    kept = {
        "method": "vicreg",
        "side": "lightly",
        "seed": 3,
        "knn": 1.0,
        "linear": 2.0,
        "training_seconds": 4.0,
    }
    benchmark_module.write_json(benchmark_module.cell_file(chosen, known), kept)
    monkeypatch.setattr(sys, "argv", ["reproduction.py", *arguments])
    assert benchmark_module.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "3 cells, 2 to run" in shown
    assert "| vicreg | linear |" in shown
    with open(chosen.out, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["side"] for row in rows] == ["random", "sempairs", "lightly"]
    assert rows[2]["linear"] == "2.0"
    assert rows[0]["images"] == "64"


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    from reproduction_table import paired

    mean, half = paired([1.0, 2.0, 4.0], [0.0, 2.0, 1.0])
    # Differences 1, 0, 3: mean 4/3, standard deviation sqrt(7/3); t with 2 degrees of freedom is 4.302653.
    assert mean == pytest.approx(4 / 3)
    assert half == pytest.approx(4.302653 * math.sqrt(7 / 3) / math.sqrt(3), rel=1e-6)
    assert paired([1.0], [0.5]) == (0.5, math.inf)


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (1.0, 0.5, "better"),
        (0.2, 0.1, "better"),
        (1.0, 2.0, "within noise"),
        (-3.0, math.inf, "within noise"),
        (-0.4, 0.1, "worse"),
        (-0.6, 0.1, "worse"),
    ],
)
def test_verdicts(mean: float, half: float, expected: str) -> None:
    from reproduction_table import verdict

    assert verdict(mean, half) == expected
