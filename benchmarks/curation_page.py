"""The curation page in headless Chromium: until the first pair is seen, and from one pair to the next.

    python benchmarks/curation_page.py [--pairs 100000] [--rounds 5] [--verdicts 200]

Serves that many pairs of emoji-pairs with `sempairs curate`, opens the page in a fresh browser profile every
round, and judges by key. Times are the browser's own, in milliseconds:

first     from navigation to the frame in which both pictures of the first pair are painted
next      from a verdict's key to the frame in which the next pair is painted
answered  from sending a verdict to its acknowledgement: it is on disk then

and the page's heap, after a collection of garbage, before and after the verdicts of a round.
Writes benchmarks/results/curation_page.json.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Browser, sync_playwright

from sempairs.catalog.sources import open_source
from sempairs.files import write_json
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines
from sempairs.runs.sessions import environment

RESULTS = Path(__file__).parent / "results" / "curation_page.json"
AIMS = {"first": 1000.0, "answered": 50.0}

# Runs before the page's own scripts. The page's policy binds the page, not the browser's owner.
FIRST = """addEventListener('DOMContentLoaded', () => {
  performance.setResourceTimingBufferSize(100000);
  const stage = document.getElementById('stage');
  const watch = new MutationObserver(() => {
    if (stage.getAttribute('aria-busy') !== 'false') return;
    watch.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.firstSeen = performance.now(); }));
  });
  watch.observe(stage, { attributeFilter: ['aria-busy'] });
});"""
JUDGE = """async (wanted) => {
  const stage = document.getElementById('stage'), taken = [];
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const seen = async () => { do await frame(); while (stage.getAttribute('aria-busy') !== 'false'); };
  for (let i = 0; i < wanted; i += 1) {
    await new Promise((done) => setTimeout(done, 100));  // nobody judges faster than ten pairs a second
    const start = performance.now();
    document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ynu'[i % 3] }));
    await seen();
    taken.push(performance.now() - start);
  }
  const said = () => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/api/verdicts'));
  while (said().length < wanted) await frame();
  return { next: taken, answered: said().map((entry) => entry.duration) };
}"""


def build(folder: Path, count: int) -> Path:
    """So many different pairs of emoji: what they mean is of no matter here."""
    catalog = open_source("emoji-pairs").scan().catalog
    table = catalog.table
    ids = np.array(table.column("image_id").to_pylist())[table.column("split").to_numpy() == "train"]
    draws = np.random.default_rng(0)
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < count:
        a, b = sorted(draws.integers(len(ids), size=2).tolist())
        if a != b:
            chosen[a, b] = None
    listed = folder / "list.csv"
    with listed.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["anchor", "partner"])
        writer.writerows((ids[a], ids[b]) for a, b in chosen)
    out_folder = folder / "pairs"
    save_with_baselines(out_folder, catalog, PairsConfig(relation="listed", file=str(listed)))
    return out_folder


def heap(page: Any) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"])


def one_round(browser: Browser, address: str, reviewer: str, verdicts: int) -> dict[str, list[float]]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(FIRST)
    page.goto(f"{address}?reviewer={reviewer}")
    while not page.evaluate("window.firstSeen"):
        page.wait_for_timeout(20)
    first = page.evaluate("window.firstSeen")
    before = heap(page)
    found = page.evaluate(JUDGE, verdicts)
    after = heap(page)
    context.close()
    return {"first": [first], **found, "heap_before": [before], "heap_after": [after]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verdicts", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = build(Path(place), asked.pairs)
        command = [sys.executable, "-m", "sempairs", "curate", str(folder), "--port", "0", "--sample", "1000"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            assert server.stdout is not None
            address = next(line.split()[1] for line in server.stdout if line.startswith("open http"))
            for number in range(asked.rounds):
                for name, values in one_round(browser, address, f"reviewer{number}", asked.verdicts).items():
                    found.setdefault(name, []).extend(values)
        finally:
            browser.close()
            server.terminate()
            server.wait(20)

    def summary(values: list[float]) -> dict[str, float]:
        return {
            "median": statistics.median(values),
            "p95": float(np.quantile(values, 0.95)),
            "most": max(values),
            "n": len(values),
        }

    result = {name: summary(values) for name, values in found.items()}
    for name, row in result.items():
        aim = f" (aim: under {AIMS[name]:,.0f})" if name in AIMS else ""
        print(f"{name:12} median {row['median']:,.1f}  95% {row['p95']:,.1f}  most {row['most']:,.1f}{aim}")
    report = {
        "pairs": asked.pairs,
        "rounds": asked.rounds,
        "aims": AIMS,
        "result": result,
        "environment": environment(torch.device("cpu")),
    }
    write_json(asked.out, report)


if __name__ == "__main__":
    main()
