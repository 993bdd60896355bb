"""Judging 100,000 pairs: how soon the first pair is there, how fast a verdict is on disk, what memory does.

    python benchmarks/curation.py [--pairs 100000] [--verdicts 2000] [--rounds 3]

A set of synthetic pairs (without pictures: none is asked for) is served as `sempairs curate` serves it, in
a process of its own, and judged over HTTP on loopback, one verdict after the other, each acknowledged only
when it is synced to disk. Aims: first pairs within 1 s of the server's saying its address, a verdict
acknowledged within 50 ms, memory the same after a tenth of the verdicts and at the end. `launch` is what
starting the program costs before that: importing, and checking the set against its hashes.
Writes `benchmarks/results/curation.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from sempairs.catalog import Catalog
from sempairs.curation.store import standing_verdicts
from sempairs.files import write_json
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines
from sempairs.runs.sessions import environment

RESULTS = Path(__file__).parent / "results" / "curation.json"
AIMS = {"first_pairs_seconds": 1.0, "verdict_milliseconds": 50.0, "memory_growth_mib": 16.0}
PAGE = 20


def build(folder: Path, pairs: int) -> None:
    """A set of so many pairs, in classes of 100."""
    n = 2 * pairs
    names = [f"photos/{i:07d}.jpg" for i in range(n)]
    catalog = Catalog.from_columns(
        {
            "image_id": names,
            "file_hash": [f"{i:064x}" for i in range(n)],
            "uri": names,
            "width": [640] * n,
            "height": [480] * n,
            "source": ["folder:photos"] * n,
            "category": [f"top/class {i // 200:05d}" for i in range(n)],
            "split": ["train"] * n,
        }
    )
    save_with_baselines(folder, catalog, PairsConfig(relation="same_category"))


class Server:
    """`sempairs curate` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        began = perf_counter()
        command = [sys.executable, "-m", "sempairs", "curate", str(folder), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        address = self.process.stdout.readline().split()[1]
        self.launch = perf_counter() - began
        self.port = int(address.split(":")[2].strip("/"))
        self.link = http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        content = json.dumps(body) if body else None
        self.link.request("POST" if body else "GET", path, content, headers)
        answer = self.link.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{path}: {found}")
        return found

    def mebibytes(self) -> float:
        """Resident memory of the server."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return kib / 1024

    def stop(self) -> None:
        self.link.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def measure(folder: Path, verdicts: int, reviewer: str) -> dict[str, Any]:
    """One start and so many verdicts, as the page asks for them: state, a page of pairs, a verdict each."""
    server = Server(folder)
    began = perf_counter()
    server.ask(f"/api/state?reviewer={reviewer}")
    page = server.ask(f"/api/pairs?queue=sample&reviewer={reviewer}&limit={PAGE}")
    first = perf_counter() - began
    waits: list[float] = []
    pages: list[float] = []
    early = server.mebibytes()
    page = server.ask(f"/api/pairs?queue=all&reviewer={reviewer}&limit={PAGE}")
    while len(waits) < verdicts:
        for pair in page["pairs"]:
            body = {
                "reviewer": reviewer,
                "pair": pair["id"],
                "verdict": ("yes", "no", "unsure")[len(waits) % 3],
                "reasons": [],
                "note": "",
                "queue": "all",
                "event": str(uuid.uuid4()),
            }
            asked = perf_counter()
            server.ask("/api/verdicts", body)
            waits.append(perf_counter() - asked)
        if len(waits) >= verdicts // 10 and len(waits) - len(page["pairs"]) < verdicts // 10:
            early = server.mebibytes()
        if page["next"] is None:
            break
        asked = perf_counter()
        page = server.ask(f"/api/pairs?queue=all&reviewer={reviewer}&limit={PAGE}&after={page['next']}")
        pages.append(perf_counter() - asked)
    late = server.mebibytes()
    server.stop()
    ordered = sorted(1000 * wait for wait in waits)
    return {
        "launch_seconds": server.launch,
        "first_pairs_seconds": first,
        "verdicts": len(waits),
        "verdict_milliseconds": {
            "median": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
            "most": ordered[-1],
        },
        "page_milliseconds": 1000 * statistics.median(pages) if pages else None,
        "memory_mib": {"after_a_tenth": early, "at_the_end": late},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Judging many pairs.")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--verdicts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--place", type=Path, default=None, help="where the set is made (a disk, not memory)")
    options = parser.parse_args()
    os.environ["SEMPAIRS_QUIET"] = "1"
    rounds = []
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        folder = Path(place) / "pairs"
        build(folder, options.pairs)
        for turn in range(options.rounds):
            # Every round resumes the log of those before, as another reviewer.
            rounds.append(measure(folder, options.verdicts, f"R{turn}"))
            told = rounds[-1]
            waits, memory = told["verdict_milliseconds"], told["memory_mib"]
            print(
                f"round {turn + 1}: launch {told['launch_seconds']:.2f} s, first pairs "
                f"{told['first_pairs_seconds']:.2f} s, verdict {waits['median']:.1f} ms "
                f"(p99 {waits['p99']:.1f}), "
                f"memory {memory['after_a_tenth']:.0f} to {memory['at_the_end']:.0f} MiB",
                flush=True,
            )
        began = perf_counter()
        rows = standing_verdicts(folder).num_rows
        reading = perf_counter() - began
    if rows != sum(told["verdicts"] for told in rounds):
        raise SystemExit(f"{rows} verdicts stand in the log, and {rounds} were acknowledged")
    worst = {
        "first_pairs_seconds": max(told["first_pairs_seconds"] for told in rounds),
        "verdict_milliseconds": max(told["verdict_milliseconds"]["p99"] for told in rounds),
        "memory_growth_mib": max(
            told["memory_mib"]["at_the_end"] - told["memory_mib"]["after_a_tenth"] for told in rounds
        ),
    }
    write_json(
        options.out,
        {
            "command": f"python benchmarks/curation.py --pairs {options.pairs} --verdicts {options.verdicts}",
            "environment": environment(torch.device("cpu")),
            "pairs": options.pairs,
            "rounds": rounds,
            "verdicts_kept": rows,
            "standing_verdicts_seconds": reading,
            "worst": worst,
            "aims": AIMS,
            "aims_met": {name: worst[name] <= aim for name, aim in AIMS.items()},
        },
    )
    print(f"{rows:,} verdicts kept, read in {reading:.2f} s; worst {worst}")


if __name__ == "__main__":
    main()
