"""A detection run from encoder to results; interrupted anywhere, it goes on bit for bit (on a CPU)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor

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
from sempairs.detection.training import Processes, Trainer, processes
from sempairs.encoders import weight_hash
from sempairs.errors import UserError
from sempairs.evaluation.records import Result, read_results
from sempairs.evaluation.target import Target, open_target
from sempairs.files import atomic_write, stable_hash, write_json
from sempairs.metrics import Detections
from sempairs.precision import auto_precision, emulation_note
from sempairs.runs import engine, folder
from sempairs.runs.processes import say
from sempairs.runs.sessions import code_state
from sempairs.runs.trackers import Log, Meter, MetricsFile

RESULTS, PAGE, DETECTIONS = "results.jsonl", "index.html", "detections"
SELECTION = "last iteration"


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
    if engine.finished(target, recipe, resume=resume) is not None:
        return read_results(target / RESULTS)
    scoring.need_coco_eval()
    with processes(device, recipe.settings) as where:
        emulated = emulation_note(where.device.type) if asked == "bf16" else None
        if emulated:
            say(emulated)
        run = _Run(recipe, target, where)
        with engine.held(target, resume=resume):
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


class _Run(engine.Work):
    """One session. Everything that can be wrong with the recipe shows here, before the folder is touched."""

    what = "detect"

    def __init__(self, recipe: DetectRecipe, out: Path, where: Processes) -> None:
        super().__init__()
        self.recipe, self.out, self.where, self.config = recipe, out, where, recipe.settings
        self.total, self.save_every = self.config.iterations, self.config.checkpoint_every
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
        self.meter = Meter()
        self.metrics: MetricsFile | None = None  # of the first process
        self.began, self.start = 0.0, 0  # this session's first step: when, and which

    def execute(self) -> list[Result]:
        start = engine.resume(self, self.out) or 0
        if self.where.first:
            save_config(self.recipe, self.out / folder.RECIPE)
            self._note()
            self.metrics = MetricsFile(self.out / folder.METRICS, after_step=start)
        try:
            engine.drive(self, self.out, start=start)
        finally:
            if self.metrics is not None:
                self.metrics.close()
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

    def steps(self, start: int) -> Iterator[int]:
        self.began, self.start = perf_counter(), start
        for step, samples in enumerate(self._batches(range(start, self.total)), start):
            self.meter.add(self.trainer.step(step, samples))
            yield step + 1

    def after(self, taken: int) -> str | None:
        if taken % self.config.log_every and taken != self.total:
            return None
        means: Log = self.meter.take()
        if self.metrics is not None:
            self.metrics.write(None, taken, means)
        rate = (taken - self.start) * self.config.batch_size / (perf_counter() - self.began)
        return f"loss {means['loss']:.4f}, {rate:,.1f} images/s"

    def before_save(self) -> None:
        assert self.metrics is not None
        self.metrics.sync()

    def state(self) -> dict[str, Tensor]:
        return self.trainer.state()

    def scalars(self) -> dict[str, Any]:
        return {"meter": asdict(self.meter)}

    def restore(self, tensors: dict[str, Tensor], scalars: Mapping[str, Any]) -> None:
        self.trainer.restore(tensors)
        self.meter = Meter(**scalars["meter"])

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
