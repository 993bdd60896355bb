"""Memory that a catalogue of a million images adds to the peak of training.

    python benchmarks/memory.py [--images 1000000] [--steps 20]

A synthetic catalogue with ids, uris, hashes, categories and splits as ImageNet's have them, saved as Arrow
IPC, is trained on through `catalog:`. In a process of its own each, with many images and with 1,000, all that
a run does with a catalogue: select the images, plan the pairs, choose the probe's images, the facts with all
their hashes, the exposure, and batches of two epochs; without pixels, encoder and probe, whose memory does
not depend on the number of images. For each kind of pairs the peaks of both are compared:

anonymous  memory of the process's own, sampled every 2 ms (RssAnon): what a machine has to have
resident   the same and the pages of mapped files, which the system may drop at any time (VmHWM)

Figures are bytes an image: the difference of the peaks by the difference of the numbers of images. Writes
benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "memory.json"
AIM = 200.0  # bytes an image, anonymous
CLASSES, FEW = 1000, 1000
# A catalogue that comes without splits, so that they are drawn.
NO_SPLITS = "redrawn-no-splits"
PAIRS = {
    "redrawn": {"relation": "same_category", "mode": "redrawn"},
    "fixed": {"relation": "same_category", "mode": "fixed"},
    "augmented": {"relation": "augmented"},
    NO_SPLITS: {"relation": "same_category", "mode": "redrawn"},
}


def write_catalog(path: Path, n: int, *, splits: bool = True) -> None:
    """A catalogue of n images in up to 1,000 classes, 19 of 20 of them in the split train; sorted by id.

    splits: whether it says so.
    """
    from sempairs.catalog.table import Catalog

    classes = min(CLASSES, n // 50)
    per_class = -(-n // classes)
    rows = [(f"n{2084071 + 37 * c:08d}", i) for c in range(classes) for i in range(per_class)][:n]
    names = [
        f"{'train' if i % 20 else 'val'}/{wnid}/{wnid}_{i * 7919 % 1000003:06d}.JPEG" for wnid, i in rows
    ]
    columns = {
        "image_id": [f"imagenet/{name}" for name in names],
        "file_hash": [hashlib.sha256(name.encode()).hexdigest() for name in names],
        "uri": names,
        "width": [500] * n,
        "height": [375] * n,
        "source": ["imagenet:/data/ILSVRC2012"] * n,
        "category": [wnid for wnid, _ in rows],
        "split": [("train" if i % 20 else "validation") if splits else None for _, i in rows],
    }
    Catalog.from_columns(columns).in_order().save(path)


class Peak:
    """The most anonymous memory of this process while inside, in bytes."""

    def __init__(self) -> None:
        self.bytes, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.bytes = max(self.bytes, status("RssAnon"))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the system does not say {name}")


def train(catalog: Path, pairs: dict[str, Any], steps: int, trace: bool) -> dict[str, int]:
    """Does what a run does with a catalogue; returns its peaks."""
    import numpy as np

    from sempairs.catalog.sources import open_source
    from sempairs.config import validate
    from sempairs.pairs.plan import plan_pairs
    from sempairs.training import provenance
    from sempairs.training.data import TrainingData, batches, select_rows
    from sempairs.training.monitor import choose_images
    from sempairs.training.recipe import PretrainRecipe
    from sempairs.training.samplers import steps_per_epoch
    from sempairs.views.photos import FileStore

    recipe = validate(
        PretrainRecipe,
        {
            "data": {"source": f"catalog:{catalog}", "store": "files"},
            "pairs": pairs,
            "views": {"recipe": "simclr"},
            "encoder": {"arch": "resnet50"},
            "method": {"name": "simclr"},
            "optimiser": {"name": "sgd", "lr": 0.1},
            "schedule": {"duration": "10 epochs"},
            "batch_size": 256,
        },
    )

    def stage(name: str) -> None:
        if trace:
            print(f"{name}: now {status('RssAnon') >> 20} MiB, peak {peak.bytes >> 20}", file=sys.stderr)

    with Peak() as peak:
        stage("start")
        source = open_source(recipe.data.source)
        scan = source.scan()
        chosen, n_train = select_rows(recipe, scan.catalog)
        stage("select_rows")
        plan = plan_pairs(chosen.select(np.arange(n_train)), recipe.pairs, draw_seed=recipe.seed)
        stage("plan_pairs")
        data = TrainingData(
            chosen, n_train, plan, FileStore(source, chosen, 256), source.spec, 0, recipe.data.split_seed
        )
        choose_images(recipe.monitor, data, seed=data.split_seed)
        stage("choose_images")
        per_epoch = steps_per_epoch(plan.n, recipe.batch_size)
        weights = {"encoder": "", "method": ""}
        facts = provenance.measure(
            recipe, data, steps=1, steps_per_epoch=per_epoch, warm_up=0, initial_weights=weights
        )
        stage("facts")
        with tempfile.TemporaryDirectory() as folder:
            provenance.write_exposure(Path(folder) / "exposure.parquet", data, read_pixels=False)
        stage("write_exposure")
        middle = max(0, per_epoch - steps // 2)
        stop = per_epoch + steps // 2
        for batch in batches(plan, seed=0, batch_size=recipe.batch_size, start=middle, stop=stop):
            assert len(batch.anchor) == recipe.batch_size
        stage("batches")
    return {"anonymous": peak.bytes, "resident": status("VmHWM"), "pairs": facts.pairs.per_epoch}


def measured(catalog: Path, pairs: dict[str, Any], steps: int, trace: bool) -> dict[str, int]:
    """`train` in a process of its own."""
    request = json.dumps({"catalog": str(catalog), "pairs": pairs, "steps": steps, "trace": trace})
    done = subprocess.run(
        [sys.executable, __file__, "--inside", request],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "SEMPAIRS_QUIET": "1"},
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory that a million images add to training.")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--trace", action="store_true", help="say what each stage adds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        request = json.loads(options.inside)
        print(
            json.dumps(train(Path(request["catalog"]), request["pairs"], request["steps"], request["trace"]))
        )
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.pairs:
            many, few = (Path(folder) / f"{n}-{name == NO_SPLITS}.arrow" for n in (options.images, FEW))
            for path, n in ((many, options.images), (few, FEW)):
                if not path.exists():
                    write_catalog(path, n, splits=name != NO_SPLITS)
            base = measured(few, PAIRS[name], options.steps, False)
            most = measured(many, PAIRS[name], options.steps, options.trace)
            each = {
                kind: (most[kind] - base[kind]) / (options.images - FEW) for kind in ("anonymous", "resident")
            }
            results[name] = {"peaks": {"1000": base, str(options.images): most}, "bytes_an_image": each}
            said = ", ".join(f"{kind} {value:.0f}" for kind, value in each.items())
            print(f"{name}: {said} bytes an image (aim {AIM:g} anonymous)", flush=True)
    met = all(result["bytes_an_image"]["anonymous"] < AIM for result in results.values())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    from sempairs.files import write_json

    record = {"command": "python benchmarks/memory.py", "images": options.images, "results": results}
    write_json(options.out, {**record, "aim": AIM, "aim_met": met})


if __name__ == "__main__":
    main()
