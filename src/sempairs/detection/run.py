"""A detection run from encoder to results; interrupted anywhere, it goes on bit for bit (on a CPU)."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from sempairs import __version__
from sempairs.catalog.voc import VOC_CLASSES
from sempairs.config import load_config, save_config
from sempairs.detection import scoring
from sempairs.detection.config import DetectRecipe
from sempairs.detection.data import (
    class_names,
    open_data,
    refuse_unknown_classes,
    training_batches,
)
from sempairs.detection.identity import data_hash, refuse_seen
from sempairs.detection.model import build_detector
from sempairs.detection.page import write_page
from sempairs.detection.records import DetectionSet
from sempairs.detection.training import Log, Processes, Trainer, processes
from sempairs.encoders import weight_hash
from sempairs.errors import UserError
from sempairs.evaluation.records import Result, read_results
from sempairs.evaluation.target import Target, open_target
from sempairs.files import atomic_write, folder_lock, stable_hash, write_json
from sempairs.metrics import Detections
from sempairs.precision import auto_precision, emulation_note
from sempairs.progress import bar
from sempairs.training import folder
from sempairs.training.checkpoint import clear_partial, disk_full_is_told, find_checkpoint, save_checkpoint
from sempairs.training.loop import Meter
from sempairs.training.provenance import code_state
from sempairs.training.run import Interrupted, say, stop_signals

RESULTS, PAGE, DETECTIONS = "results.jsonl", "index.html", "detections"
SELECTION = "last iteration"


@dataclass
class Progress:
    """What of a run is no tensor. lines: of metrics.jsonl so far."""

    meter: Meter = field(default_factory=Meter)
    lines: list[dict[str, float]] = field(default_factory=list)


def detect(
    recipe: DetectRecipe, out: str | Path, *, resume: bool = False, device: str = "auto"
) -> list[Result]:
    """Trains a detector on an encoder as `recipe` says, scores it, and leaves everything in `out`.

    resume: go on from the last checkpoint; start afresh where there is none; where the run is finished,
    return its results and change nothing. The detector scored is that of the last iteration, always.
    Raises: UserError for whatever of encoder, data, recipe or folder does not hold; Interrupted on Ctrl-C,
    after saving.
    """
    target = Path(out)
    recipe, asked = _settled(recipe, target, device, resume=resume), recipe.settings.precision
    if (target / folder.RECIPE).exists() and resume and folder.has_state(target):
        _refuse_other_recipe(target, recipe)
        if folder.finished(target) is not None:
            return read_results(target / RESULTS)
    folder.refuse_if_used(target, resume=resume)
    scoring.need_coco_eval()
    with processes(device, recipe.settings) as where:
        emulated = emulation_note(where.device.type) if asked == "bf16" and where.first else None
        if emulated:
            say(emulated)
        run = _Run(recipe, target, where)
        if not where.first:
            return run.execute()
        with folder_lock(target), disk_full_is_told(target):
            folder.refuse_if_used(target, resume=resume)
            return run.execute()


def _settled(recipe: DetectRecipe, out: Path, device: str, *, resume: bool) -> DetectRecipe:
    """With the precision that `auto` takes: that of a run that goes on, else what suits the device."""
    if recipe.settings.precision != "auto":
        return recipe
    if resume and (out / folder.RECIPE).exists() and folder.has_state(out):
        taken = load_config(DetectRecipe, out / folder.RECIPE).settings.precision
    else:
        taken = auto_precision(device if device == "cpu" else "auto")
    return recipe.model_copy(update={"settings": recipe.settings.model_copy(update={"precision": taken})})


class _Run:
    """One session. Everything that can be wrong with the recipe shows here, before the folder is touched."""

    def __init__(self, recipe: DetectRecipe, out: Path, where: Processes) -> None:
        self.recipe, self.out, self.where, self.config = recipe, out, where, recipe.settings
        self.target: Target = open_target(recipe.encoder, seed=recipe.seed, prefix=recipe.prefix)
        read = open_data(recipe.data)
        train = [read(name) for name in self.config.train]
        self.tests = [read(name) for name in self.config.test]
        self.notes = list(dict.fromkeys(note for one in (*train, *self.tests) for note in one.notes))
        self.classes = class_names(train, self.config.classes)
        for one in (*train, *self.tests):
            refuse_unknown_classes(one, self.classes)
        for one in self.tests:
            refuse_seen(one, train, self.target)
        pictures = [picture for one in train for picture in one.pictures]
        self.pictures = [p for p in pictures if p.objects or not self.config.skip_empty]
        if not self.pictures:
            raise UserError("training sets", "must hold pictures with objects", list(self.config.train))
        detector = build_detector(
            self.target.encoder, self.config, classes=len(self.classes), mean=self.target.spec.mean,
            std=self.target.spec.std, seed=recipe.seed, sync=where.world > 1,
        )  # fmt: skip
        self.trainer = Trainer(detector, self.config, recipe.seed, where)
        self.identity = {
            "training data": data_hash(DetectionSet("train", tuple(self.pictures))),
            "encoder": weight_hash(self.target.encoder.model),
        }
        self.progress = Progress()

    def execute(self) -> list[Result]:
        start = self._resume()
        if self.where.first:
            save_config(self.recipe, self.out / folder.RECIPE)
            self._note()
        self._train(start)
        renewing = range(self.config.iterations, self.config.iterations + self.config.precise_norm)
        if renewing:
            self.trainer.renew_statistics(self._batches(renewing), self.config.iterations)
        if not self.where.first:
            return []
        results = [row for one in self.tests for row in self._score(one)]
        # Written anew, whole: a session that was killed here has left rows of the same numbers.
        with atomic_write(self.out / RESULTS) as temporary:
            temporary.write_text("".join(row.to_json() + "\n" for row in results), encoding="utf-8")
        write_json(self.out / folder.FINISHED, {"format": 1, "iterations": self.config.iterations})
        return results

    def _resume(self) -> int:
        """The step to go on from, 0 for a start."""
        found = find_checkpoint(self.out / folder.CHECKPOINTS)
        if self.where.first:
            clear_partial(self.out)
            clear_partial(self.out / folder.CHECKPOINTS)
            for path, reason in found.rejected:
                say(f"checkpoint {path.name} is corrupt ({reason}); using the previous one")
                folder.remove(path)
        if found.checkpoint is None:
            return 0
        scalars = found.checkpoint.scalars
        changed = [name for name, value in self.identity.items() if scalars["identity"].get(name) != value]
        if changed:
            remedy = "restore it, or start afresh in another folder"
            raise UserError(changed[0], "is another than when the run began", remedy=remedy)
        self.trainer.restore(found.checkpoint.tensors)
        self.progress = Progress(Meter(**scalars["meter"]), scalars["lines"])
        if self.where.first:
            say(f"going on from step {found.checkpoint.step} of {self.config.iterations}")
        return found.checkpoint.step

    def _note(self) -> None:
        """Says what is easily overlooked."""
        for note in self.notes:
            say(note)
        share = self.config.batch_size // self.where.world
        if self.config.trains_norm and self.config.batch_size < 8:
            say(
                f"statistics of normalisation come from batches of {self.config.batch_size} images, which is "
                f"few; norm=fixed and extra_norm=false do without"
            )
        if self.where.world > 1:
            say(f"{self.where.world} processes, {share} images each")

    def _batches(self, steps: range) -> Any:
        return training_batches(
            self.pictures, self.classes, self.config, seed=self.recipe.seed, steps=steps,
            rank=self.where.rank, world=self.where.world,
        )  # fmt: skip

    def _train(self, start: int) -> None:
        total = self.config.iterations
        began = perf_counter()
        stop = threading.Event()
        with (
            stop_signals(stop),
            bar(total=total, what="detect", unit="step", initial=start) as shown,
        ):
            for step, samples in enumerate(self._batches(range(start, total)), start):
                numbers = self.trainer.step(step, samples)
                taken = step + 1
                if not self.where.first:
                    continue
                self.progress.meter.add(numbers)
                if taken % self.config.log_every == 0 or taken == total:
                    means = self._log(taken)
                    rate = (taken - start) * self.config.batch_size / (perf_counter() - began)
                    shown.set_postfix_str(f"loss {means['loss']:.4f}, {rate:,.1f} images/s", refresh=False)
                shown.update(1)
                if taken % self.config.checkpoint_every == 0 or taken == total or stop.is_set():
                    self._save(taken)
                if stop.is_set() and taken < total:
                    raise Interrupted(
                        f"stopped and saved after step {taken} of {total}; go on with the same command and "
                        f"--resume"
                    )

    def _log(self, taken: int) -> Log:
        means = self.progress.meter.take()
        self.progress.lines.append({"step": taken, **means})
        # Whole, from what the state holds: after a resume no line stands there twice.
        with atomic_write(self.out / folder.METRICS) as temporary:
            lines = [json.dumps(line, sort_keys=True) + "\n" for line in self.progress.lines]
            temporary.write_text("".join(lines), encoding="utf-8")
        return means

    def _save(self, taken: int) -> None:
        meter = {"sums": self.progress.meter.sums, "count": self.progress.meter.count}
        scalars = {"identity": self.identity, "meter": meter, "lines": self.progress.lines}
        save_checkpoint(self.out / folder.CHECKPOINTS, taken, self.trainer.state(), scalars)

    def _score(self, one: DetectionSet) -> list[Result]:
        found = scoring.detect_all(self.trainer.detector, one, self.classes, self.config, self.where.device)
        scores = scoring.score(one, found, self.classes)
        title = one.name.replace("/", "-")
        scoring.write_detections(self.out / f"{DETECTIONS}-{title}.parquet", one, found, self.classes)
        self._draw(one, found, scores, title)
        return self._results(one, scores)

    def _draw(self, one: DetectionSet, found: Detections, scores: scoring.Scores, title: str) -> None:
        if self.config.pictures:
            name = PAGE if one is self.tests[0] else f"{title}.html"
            write_page(
                self.out / name, one, found, self.classes, scores, heading=self._task(one),
                run=f"{self.target.name}, {self.recipe.protocol_name}", count=self.config.pictures,
                seed=self.recipe.seed,
            )  # fmt: skip

    def _task(self, one: DetectionSet) -> str:
        return f"detection {task_name(self.recipe.data, one.name, self.classes)}"

    def _results(self, one: DetectionSet, scores: scoring.Scores) -> list[Result]:
        code = code_state()
        spec = self.target.spec  # pictures have their own size here
        settings = {
            **self.recipe.measured(), "task": self._task(one), "classes": list(self.classes),
            "input": {"mean": list(spec.mean), "std": list(spec.std)},
        }  # fmt: skip
        extra = {
            "encoder": self.target.spec.weight_hash,
            "sempairs": __version__,
            "commit": code.commit,
            "code": code.package_sha256,
            "device": self.where.device.type,
            "processes": self.where.world,
            "batch_per_process": self.config.batch_size // self.where.world,
            "seed": self.recipe.seed,
            "data": data_hash(one),
            "training_data": self.identity["training data"],
            "training_images": len(self.pictures),
            "classes": len(self.classes),
            "per_class": scores.per_class,
        }
        return [
            Result(
                run=self.target.name,
                task=self._task(one),
                protocol=self.recipe.protocol_name,
                metric=metric,
                value=value,
                n=len(one.pictures),
                settings_hash=stable_hash({**settings, "metric": metric}),
                selection=f"weights: {self.target.weights}; detector: {SELECTION}",
                primary=metric == scoring.PRIMARY,
                extra=extra,
            )
            for metric, value in scores.metrics.items()
        ]


def task_name(data: str, image_set: str, classes: Sequence[str]) -> str:
    """ "voc07-test" for VOC's own 20 classes; otherwise the folder's name with that of the set."""
    kind, _, rest = data.partition(":")
    year, _, name = image_set.partition("/")
    if kind == "voc" and tuple(classes) == VOC_CLASSES:
        return f"voc{year.removeprefix('VOC')[2:]}-{name}"
    path = Path(rest).expanduser().resolve()
    place = path.parent.name if path.name == "VOCdevkit" else path.name
    return f"{place}-{name or image_set}"


def _refuse_other_recipe(out: Path, recipe: DetectRecipe) -> None:
    started = folder.flat(load_config(DetectRecipe, out / folder.RECIPE).model_dump(mode="json"))
    asked = folder.flat(recipe.model_dump(mode="json"))
    differing = sorted(key for key in started.keys() | asked.keys() if started.get(key) != asked.get(key))
    if differing:
        shown = ", ".join(f"{k} ({started.get(k)!r} -> {asked.get(k)!r})" for k in differing[:6])
        remedy = "resume with what it was started with, or choose another --out"
        raise UserError("recipe", f"differs from that of the run in {out}: {shown}", remedy=remedy)
