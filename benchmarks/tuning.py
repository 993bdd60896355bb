"""Whether each method trains at the size of the lab: a small grid on validation images, then fresh seeds.

    python benchmarks/tuning.py [--methods simclr byol] [--jobs 2] [--work DIR]

Every method gets the same grid of learning rates and the same budget, on the augmented and on the semantic
arm of emoji-pairs, with one seed. What counts is kNN accuracy (k = 20, T = .07, categories) on images of the
validation split after the last epoch, never an earlier one, averaged over the two arms, which then share the
setting; test images are not touched. The best of the grid is then trained with other seeds, and compared with
what its own initial weights score before the first step. Seeds are none of those that studies use. References
that use labels, and SePP-ID, which is MoCo v2 where no pair has a neighbour, take one setting, not a grid.

Every cell is kept in DIR as it ends, so the script can be stopped and goes on. Writes
benchmarks/results/tuning.csv, one row a cell, and prints the table of docs/methods.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from sempairs.files import read_json, stable_hash, write_json

RESULTS = Path(__file__).parent / "results" / "tuning.csv"
RATES = (0.002, 0.008)
ARMS = ("augmented", "semantic")
GRID_SEED, CHECK_SEEDS = 1000, (1001,)
ONE_SETTING = {"supcon": 0.002, "supervised": 0.002, "sepp_id": 0.002}
EPOCHS = 14
FIELDS = ("stage", "method", "lr", "arm", "seed", "random", "knn", "gain", "feature_std", "rankme")

BASE: dict[str, Any] = {
    "data": {"source": "emoji-pairs", "split": "train", "store_size": 64},
    "pairs": {"relation": "cross_domain", "mode": "redrawn"},
    "views": {"recipe": "lab", "size": 32},
    "encoder": {"arch": "tiny-resnet", "options": {"channels": [16, 32, 64, 128], "stem_width": 8}},
    "schedule": {"duration": f"{EPOCHS} epochs", "warm_up": "1 epochs"},
    "batch_size": 128,
    "speed": {"precision": "bf16-mixed", "threads": 1},
    "monitor": {"every": f"{EPOCHS} epochs", "images": 2000, "tensorboard": False},
    "checkpoint": {"every": f"{EPOCHS} epochs"},
}


def recipe(method: str, lr: float, arm: str, seed: int, more: dict[str, Any]) -> dict[str, Any]:
    """The run's recipe; `more` are settings of the method other than its defaults."""
    return BASE | {
        "seed": seed,
        "pairs": {**BASE["pairs"], "arm": arm},
        "method": {"name": method, **more},
        "optimiser": {"name": "adamw", "lr": lr, "weight_decay": 0.01},
    }


def run_cell(settings: dict[str, Any], work: Path) -> dict[str, float]:
    """Trains once and reads the first and the last probe; a cell that was run before is read only."""
    name = stable_hash(settings)[:24]
    kept = work / f"{name}.json"
    if not kept.exists():
        source = work / f"{name}.yaml"
        source.write_text(json.dumps(settings))
        command = [
            sys.executable,
            "-m",
            "sempairs",
            "pretrain",
            str(source),
            "--out",
            str(work / name),
            "--resume",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEMPAIRS_QUIET": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            # A rate under which a method diverges is an outcome.
            write_json(
                kept, {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed"}
            )
        else:
            lines = (work / name / "metrics.jsonl").read_text().splitlines()
            probes = [line for line in map(json.loads, lines) if line["kind"] == "probe"]
            first, last = probes[0], probes[-1]
            write_json(
                kept,
                {"random": first["knn"], **{key: last[key] for key in ("knn", "feature_std", "rankme")}},
            )
    return read_json(kept)


def cells(stage: str, method: str, rates: Sequence[float], seed: int, more: dict[str, Any]) -> Iterator[Any]:
    for lr, arm in itertools.product(rates, ARMS):
        yield {"stage": stage, "method": method, "lr": lr, "arm": arm, "seed": seed, "more": more}


def run_all(wanted: list[dict[str, Any]], work: Path, jobs: int) -> list[dict[str, Any]]:
    """The rows of these cells, `jobs` trained side by side."""

    def one(cell: dict[str, Any]) -> dict[str, Any]:
        found = run_cell(recipe(*(cell[key] for key in ("method", "lr", "arm", "seed", "more"))), work)
        row = {key: cell[key] for key in FIELDS if key in cell} | found
        if "knn" in row:
            row["gain"] = 100 * (row["knn"] - row["random"])
        print({key: row.get(key) for key in ("method", "lr", "arm", "seed", "gain", "error")}, flush=True)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, wanted))


def main() -> None:
    from sempairs.methods import METHODS

    parser = argparse.ArgumentParser(description="A small grid for each method.")
    parser.add_argument("--methods", nargs="+", default=METHODS.names())
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings of the methods"
    )
    parser.add_argument("--check-seeds", type=int, nargs="+", default=CHECK_SEEDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    more = {key: json.loads(value) for key, value in (item.split("=", 1) for item in options.set)}
    wanted: list[dict[str, Any]] = []
    for method in options.methods:
        rates = [ONE_SETTING[method]] if method in ONE_SETTING else RATES
        wanted += cells("grid", method, rates, GRID_SEED, more)
    rows = run_all(wanted, options.work, options.jobs)
    wanted = []
    for seed in options.check_seeds:
        for method in options.methods:
            wanted += cells("check", method, [best_rate(rows, method)], seed, more)
    rows += run_all(wanted, options.work, options.jobs)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))


def best_rate(rows: list[dict[str, Any]], method: str) -> float:
    """The rate of the grid with the best kNN averaged over the arms; a rate that failed in one is out."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["method"] == method and row["stage"] == "grid" and "knn" in row:
            found.setdefault(row["lr"], []).append(row["knn"])
    whole = {lr: mean(values) for lr, values in found.items() if len(values) == len(ARMS)}
    return max(whole, key=whole.__getitem__)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: of each method the gains of the grid, and the chosen rate with fresh seeds, in points."""
    lines = [
        "| method | gains of the grid: augmented; semantic | lr | random | augmented | semantic |",
        "|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method and "knn" in row]
        tried = [
            " · ".join(f"{r['gain']:+.1f}" for r in of_method if r["stage"] == "grid" and r["arm"] == arm)
            for arm in ARMS
        ]
        checks = [row for row in of_method if row["stage"] == "check"]
        gains = [mean(row["gain"] for row in checks if row["arm"] == arm) for arm in ARMS]
        lines.append(
            f"| `{method}` | {'; '.join(tried)} | {checks[0]['lr']:g} "
            f"| {100 * mean(row['random'] for row in checks):.1f} | {gains[0]:+.1f} | {gains[1]:+.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
