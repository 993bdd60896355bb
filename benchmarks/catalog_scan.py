"""Catalogue of a folder of small JPEGs, against Hugging Face `datasets`' imagefolder on the same folder.

    python benchmarks/catalog_scan.py [--images 100000] [--rounds 3] [--cold]

The folder has 100 classes of JPEGs of 64 px, written before the clock starts. In turns, each in a process of
its own on an otherwise idle machine, from a call to a table that can be used:

ours          sempairs data scan: walk, read, SHA-256 of every file, header; the catalogue saved
imagefolder   load_dataset("imagefolder", data_dir=...), into an empty cache; it does not hash files
rescan        ours again, nothing changed
changed       ours again, one image in a hundred written anew

Imports are not counted on either side. Figures are images a second, the median over rounds, and the medians
over rounds of the ratios within a round; the order of ours and imagefolder alternates. With --cold the system
forgets the files it has in memory before each of them (needs root; slows down whatever else runs).
Writes benchmarks/results/catalog_scan.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "catalog_scan.json"
CLASSES, SIDE = 100, 64
# At least as many images a second as imagefolder.
AIM = 1.0

SCAN = """
import sys, time
from pathlib import Path
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.files import open_known, save_stamps
import pyarrow.compute, PIL.Image, PIL.JpegImagePlugin
folder, out = sys.argv[1], Path(sys.argv[2])
began = time.perf_counter()
source = open_source(f"folder:{folder}")
scan = source.scan(known=open_known(out, source.spec))
scan.catalog.save(out)
save_stamps(out, scan, source.spec, decoded=False)
print(time.perf_counter() - began, len(scan.catalog), scan.reused)
"""
IMAGEFOLDER = """
import sys, time
import datasets, PIL.Image, PIL.JpegImagePlugin
import datasets.packaged_modules.imagefolder.imagefolder
datasets.disable_progress_bars()
folder, cache = sys.argv[1:]
began = time.perf_counter()
found = datasets.load_dataset("imagefolder", data_dir=folder, cache_dir=cache, split="train")
print(time.perf_counter() - began, len(found), 0)
"""


def write_images(folder: Path, n: int) -> None:
    """`n` JPEGs of about 2 kB, in classes; the same for the same `n`."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number:03d}").mkdir(parents=True)
    for number in range(n):
        write_image(folder, number, Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)))


def write_image(folder: Path, number: int, picture: Any) -> None:
    target = folder / f"class{number % CLASSES:03d}" / f"{number:07d}.jpg"
    picture.resize((SIDE, SIDE)).save(target, quality=85)


def change(folder: Path, n: int, turn: int) -> int:
    """Writes one image in a hundred anew; returns how many."""
    from PIL import Image

    chosen = random.Random(turn).sample(range(n), max(1, n // 100))
    for number in chosen:
        colour = (turn * 40 % 256, number % 256, number // 256 % 256)
        write_image(folder, number, Image.new("RGB", (8, 8), colour))
    return len(chosen)


def drop_cache() -> None:
    """Makes the system forget the files it has in memory."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(script: str, folder: Path, place: Path, expected: int, reused: int = 0) -> float:
    """Images a second. Raises: RuntimeError if the process found other images than there are."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(place)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SEMPAIRS_QUIET": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, found, again = done.stdout.split()[-3:]
    if int(found) != expected or int(again) != reused:
        raise RuntimeError(f"{found} images, {again} of them known; expected {expected} and {reused}")
    return expected / float(seconds)


def measure(images: int, rounds: int, work: Path, *, cold: bool) -> dict[str, Any]:
    folder = work / "images"
    write_images(folder, images)
    speeds: dict[str, list[float]] = {"ours": [], "imagefolder": [], "rescan": [], "changed": []}
    for turn in range(rounds):
        out = work / f"{turn}.arrow"
        contenders = {"ours": (SCAN, out), "imagefolder": (IMAGEFOLDER, work / f"cache{turn}")}
        for name in list(contenders) if turn % 2 == 0 else reversed(list(contenders)):
            if cold:
                drop_cache()
            speeds[name].append(timed(contenders[name][0], folder, contenders[name][1], images))
        speeds["rescan"].append(timed(SCAN, folder, out, images, images))
        speeds["changed"].append(timed(SCAN, folder, out, images, images - change(folder, images, turn)))
        said = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"round {turn + 1}, images a second: {said}", flush=True)
    ratios = {
        f"{left}_to_{right}": statistics.median(
            a / b for a, b in zip(speeds[left], speeds[right], strict=True)
        )
        for left, right in (("ours", "imagefolder"), ("rescan", "ours"), ("changed", "ours"))
    }
    return {
        "images": images,
        "bytes": sum(file.stat().st_size for file in folder.rglob("*.jpg")),
        "cold": cold,
        "images_per_second": speeds,
        "median_images_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "ratios": ratios,
        "aim": AIM,
        "aim_met": ratios["ours_to_imagefolder"] >= AIM,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Scanning a folder of small JPEGs.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="Drop the page cache before each contender.")
    parser.add_argument("--work", type=Path, help="Where the images are written; removed again.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="catalog-scan-") as work:
        found = measure(options.images, options.rounds, Path(work), cold=options.cold)
    print(json.dumps({"median": found["median_images_per_second"], **found["ratios"]}, indent=2))

    import torch

    from sempairs.files import write_json
    from sempairs.runs.sessions import environment

    machine = environment(torch.device("cpu"))
    machine["versions"] |= {"datasets": version("datasets")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/catalog_scan.py --images {options.images} --rounds {options.rounds}"
    command += " --cold" * options.cold
    write_json(options.out, {"command": command, "environment": machine, "results": [found]})


if __name__ == "__main__":
    main()
