"""The nearest neighbours of every image, against raw faiss with the same index.

    python benchmarks/neighbours.py [--vectors 1000000] [--width 256] [--rounds 2] [--threads 2]

ours   sempairs.pairs.neighbours.Searcher: trains an IVF, adds all vectors, measures on a sample how many
       lists it has to look into for the recall asked for, and searches the 5 nearest others of every vector
faiss  IndexIVFFlat by inner product with the same number of lists, of training vectors and of probes, which
       it is told: train, add, search of 6, as each vector finds itself

Synthetic vectors: a mixture of n / 100 Gaussians of equal weight in 32 dimensions, centres of standard
deviation 1 an axis and points `--spread` around them, turned into `--width` dimensions by a random
rotation, with noise of .02 in all of them; then of unit length. So neighbours lie on a surface of few
dimensions, as features of images do, and clusters overlap so far that one list holds only part of a
vector's neighbours. In turns, on an otherwise idle machine; figures are seconds, ratios within a round,
medians over rounds. recall@5 is measured anew against the exact neighbours of 1,000 vectors that no tuning
saw. Writes benchmarks/results/neighbours.json.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from sempairs.files import write_json
from sempairs.pairs.neighbours import Searcher, exact
from sempairs.runs.sessions import environment

RESULTS = Path(__file__).parent / "results" / "neighbours.json"
K, LATENT, NOISE, CHECKED = 5, 32, 0.02, 1000
AIMS = {"recall_at_least": 0.95, "ours_to_faiss_at_most": 1.1}

Float32 = NDArray[np.float32]
Int = NDArray[np.int64]


def mixture(n: int, width: int, spread: float, seed: int = 0) -> Float32:
    """Unit vectors (n, width), made a piece at a time."""
    rng = np.random.default_rng(seed)
    latent = min(LATENT, width)
    rotation = np.linalg.qr(rng.normal(size=(width, latent)))[0].T.astype(np.float32)
    centres = rng.normal(size=(max(2, n // 100), latent)).astype(np.float32)
    found = np.empty((n, width), dtype=np.float32)
    for start in range(0, n, 1 << 16):
        part = found[start : start + (1 << 16)]
        points = centres[rng.integers(len(centres), size=len(part))]
        points += spread * rng.standard_normal(points.shape, dtype=np.float32)
        part[:] = points @ rotation
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


def ours(vectors: Float32, recall: float) -> tuple[dict[str, float], Int, dict[str, int]]:
    """Seconds of each part and altogether, the neighbours, and the index's settings."""
    began = perf_counter()
    searcher = Searcher(vectors, K, kind="ivf", recall=recall)
    found, _ = searcher.nearest(np.arange(len(vectors)), K)
    total = perf_counter() - began
    return {**searcher.report.seconds, "total": total}, found, searcher.report.settings


def raw(vectors: Float32, settings: dict[str, int]) -> tuple[dict[str, float], Int]:
    """The same by faiss alone. Taking oneself out of the neighbours found is not part of the time."""
    width = vectors.shape[1]
    training = vectors[
        np.sort(np.random.default_rng(1).permutation(len(vectors))[: settings["training_points"]])
    ]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, settings["lists"], faiss.METRIC_INNER_PRODUCT)
    index.nprobe = settings["probes"]
    marks = [perf_counter()]
    index.train(training)
    marks.append(perf_counter())
    index.add(vectors)
    marks.append(perf_counter())
    found = index.search(vectors, K + 1)[1]
    marks.append(perf_counter())
    train, add, search = np.diff(marks).tolist()
    own = found == np.arange(len(vectors))[:, None]
    order = np.argsort(own, axis=1, kind="stable")[:, :K]
    seconds = {"train": train, "add": add, "search": search, "total": train + add + search}
    return seconds, np.take_along_axis(found, order, axis=1)


def recall_at_k(found: Int, rows: Int, truth: Int) -> float:
    shares = (len(set(a) & set(b)) / K for a, b in zip(found[rows].tolist(), truth.tolist(), strict=True))
    return statistics.mean(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description="Nearest neighbours, against raw faiss.")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--recall", type=float, default=AIMS["recall_at_least"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ.setdefault("SEMPAIRS_QUIET", "1")
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    vectors = mixture(options.vectors, options.width, options.spread)
    rows = np.sort(np.random.default_rng(2).permutation(len(vectors))[:CHECKED])
    truth = np.concatenate([exact(vectors, part, K)[0] for part in np.array_split(rows, 20)])

    seconds: dict[str, list[dict[str, float]]] = {"ours": [], "faiss": []}
    recall: dict[str, list[float]] = {"ours": [], "faiss": []}
    settings: dict[str, int] = {}
    for turn in range(options.rounds):
        # Every other round backwards: a machine that warms up or slows down favours nobody.
        for name in ("ours", "faiss") if turn % 2 == 0 else ("faiss", "ours"):
            if name == "ours":
                spent, found, settings = ours(vectors, options.recall)
            else:
                spent, found = raw(vectors, settings)
            seconds[name].append(spent)
            recall[name].append(recall_at_k(found, rows, truth))
            parts = ", ".join(f"{part} {value:.1f}" for part, value in spent.items())
            print(f"round {turn + 1}: {name:<6}{parts} s, recall@{K} {recall[name][-1]:.3f}", flush=True)
            del found
            gc.collect()

    totals = {name: [spent["total"] for spent in every] for name, every in seconds.items()}
    ratios = [a / b for a, b in zip(totals["ours"], totals["faiss"], strict=True)]
    ratio, reached = statistics.median(ratios), min(recall["ours"])
    met = {
        "recall_at_least": reached >= AIMS["recall_at_least"],
        "ours_to_faiss_at_most": ratio <= AIMS["ours_to_faiss_at_most"],
    }
    print(f"\n{options.vectors:,} x {options.width}, {settings}")
    aim = AIMS["ours_to_faiss_at_most"]
    print(f"ours takes {ratio:.2f} of faiss (aim at most {aim}), recall@{K} {reached:.3f}")
    machine = environment(torch.device("cpu"))
    machine["versions"] |= {"faiss-cpu": version("faiss-cpu")}
    machine["threads"] = options.threads
    result = {
        "vectors": options.vectors, "width": options.width, "spread": options.spread, "k": K,
        "index": settings, "seconds": seconds, "recall": recall, "ours_to_faiss": ratios,
        "median_seconds": {name: statistics.median(every) for name, every in totals.items()},
        "median_ours_to_faiss": ratio, "aims": AIMS, "aims_met": met,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out,
        {"command": "python benchmarks/neighbours.py", "environment": machine, "results": [result]},
    )


if __name__ == "__main__":
    main()
