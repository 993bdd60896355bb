"""A pretraining run from recipe to encoder on disk; interrupted anywhere, it goes on bit for bit."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from sempairs.config import save_config
from sempairs.encoders import Encoder, build_encoder, save_encoder, weight_hash
from sempairs.errors import UserError
from sempairs.files import folder_lock, read_json, sha256_file, write_json
from sempairs.methods import build_method
from sempairs.precision import emulation_note
from sempairs.progress import bar
from sempairs.training import folder, processes, provenance
from sempairs.training.cached import micro_batch_note
from sempairs.training.checkpoint import (
    Found,
    disk_full_is_told,
    find_checkpoint,
    save_checkpoint,
)
from sempairs.training.crops import check_crops
from sempairs.training.data import batches, epoch_steps, load_data, near, read_ahead
from sempairs.training.failure import keep_failure
from sempairs.training.loop import Log, Meter, NonFiniteLossError, Trainer, make_fabric, run_steps
from sempairs.training.monitor import Monitor, projection_warning, relative_std
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.trackers import Trackers
from sempairs.views.maker import ViewMaker
from sempairs.views.store import rows_hash

ECHO = 3.0  # seconds in which a second signal may be the first one's echo


@dataclass(frozen=True)
class RunSummary:
    """What a run came to. seconds: in the loop, over all sessions. loss: mean of the last line of metrics."""

    out: Path
    steps: int
    loss: float
    probe: Log
    seconds: float
    weight_hash: str
    resumed_from: int | None = None  # step; None for a start
    already_finished: bool = False


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the system's request to end, after the state was saved; the text says how to go on."""


@dataclass
class Progress:
    """What of a run is neither weights nor optimiser; its JSON form is part of a checkpoint."""

    meter: Meter = field(default_factory=Meter)
    loss: float = 0.0
    probe: Log = field(default_factory=dict)
    first: Log = field(default_factory=dict)  # the probe before training
    seconds: float = 0.0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Progress:
        return cls(**{**data, "meter": Meter(**data["meter"])})


def pretrain(
    recipe: PretrainRecipe,
    out: str | Path,
    *,
    resume: bool = False,
    pixel_cache: Path | None = None,
    on_session: Callable[[provenance.Session], None] | None = None,
) -> RunSummary:
    """Pretrains an encoder as `recipe` says and leaves everything about it in the folder `out`.

    resume: go on from the last checkpoint in `out`; start afresh where there is none; return at once where
    the run is finished. pixel_cache: a folder where decoded pixels are kept for runs over the same images.
    on_session: called with the record of this session before its first step.
    Raises: UserError for whatever of recipe, data or folder does not hold, for a full disk and for a loss
    that is not finite; Interrupted on Ctrl-C, after saving.
    Started by torchrun or srun, the processes train as one; the first alone writes into `out`. What is wrong
    in one of them is raised in all, or ends them.
    """
    target = Path(out)
    if resume and (target / folder.RECIPE).exists() and folder.has_state(target):
        folder.refuse_other_recipe(target, recipe)
        done = folder.finished(target)
        if done is not None:
            return _summary(target, done, already_finished=True)
    folder.refuse_if_used(target, resume=resume)
    # A run that goes on elsewhere keeps the precision it began with; a new one has nothing to keep.
    kept = folder.kept_precision(target) if resume and folder.has_state(target) else None
    asked, recipe = recipe, recipe.model_copy(update={"speed": recipe.speed.settled(kept)})
    fabric = make_fabric(recipe.speed)
    with arithmetic_threads(recipe.speed.threads), ExitStack() as held:
        # Everything that can be wrong with the recipe shows here, before the folder is touched.
        run = _Run(recipe, asked, target, pixel_cache, fabric, on_session)

        def hold() -> None:
            held.enter_context(folder_lock(target))
            folder.refuse_if_used(target, resume=resume)

        with processes.lost_partner_is_told(), disk_full_is_told(target):
            processes.from_first(hold)
            return run.execute()


class _Run:
    """One session of a run. asked: the recipe before `auto` was settled, as the folder keeps it."""

    def __init__(
        self,
        recipe: PretrainRecipe,
        asked: PretrainRecipe,
        out: Path,
        pixel_cache: Path | None,
        fabric: Any,
        on_session: Callable[[provenance.Session], None] | None,
    ) -> None:
        self.recipe, self.asked, self.out, self.on_session = recipe, asked, out, on_session
        self.pixel_cache = pixel_cache
        self.inherited = provenance.inherited(recipe)
        processes.share_of(recipe.batch_size)
        self.data = load_data(recipe, pixel_cache=pixel_cache)
        self.per_epoch = epoch_steps(self.data.plan, recipe.sampler, recipe.batch_size)
        self.total = recipe.schedule.duration.steps(self.per_epoch)
        self.warm_up = recipe.schedule.warm_up.steps(self.per_epoch)
        if self.total < 1:
            raise UserError("schedule.duration", "must be at least one step", str(recipe.schedule.duration))
        if self.warm_up > self.total:
            rule = f"must be at most the duration, {self.total} steps"
            raise UserError("schedule.warm_up", rule, f"{self.warm_up} steps")
        encoder = build_encoder(recipe.encoder, seed=recipe.seed)
        check_crops(recipe, encoder)
        meanings = int(self.data.plan.meaning.max()) + 1
        method = build_method(
            recipe.method,
            encoder,
            encoder.width,
            seed=recipe.seed,
            meanings=meanings,
            objective=recipe.objective,
        )
        initial = {"encoder": weight_hash(encoder.model), "method": weight_hash(method)}
        store = near(self.data.store, fabric.device)
        self.maker = ViewMaker(
            recipe.views, store, seed=recipe.seed, device=fabric.device, slots=method.slots,
            domains=self.data.domains(recipe.pairs.domain) if method.needs_domains else None,
        )  # fmt: skip
        self.trainer = Trainer(recipe, method, fabric, total=self.total, warm_up=self.warm_up)
        self.monitor = Monitor(recipe.monitor, self.data, self.maker, recipe.speed)
        self.facts = provenance.measure(
            recipe, self.data, steps=self.total, steps_per_epoch=self.per_epoch, warm_up=self.warm_up,
            initial_weights=initial,
        )  # fmt: skip
        # What a checkpoint must have been made of for this session to go on with it.
        self.identity = {
            "manifest_hash": self.data.plan.manifest_hash,
            "anchor_hash": self.data.plan.anchor_hash,
            "images_hash": rows_hash(self.data.catalog),  # pairs are known by ids: not by what the files hold
            "initial_weights": initial["method"],
            "pixels": self.data.pixels_sha256 or self.data.pixels,
        }
        processes.refuse_unless_same({**self.identity, "precision": recipe.speed.precision})
        self.progress = Progress()
        self.trackers: Trackers | None = None  # of the first process
        self.warned = False  # of the projections, once a session

    def execute(self) -> RunSummary:
        start = self._resume()
        processes.from_first(lambda: self._begin(start))
        try:
            if start is None:
                self._probe(0)
            self._train(start or 0)
        except NonFiniteLossError as error:
            processes.from_first(partial(self._keep_failure, error))
            raise
        finally:
            if self.trackers is not None:
                self.trackers.close()
        return _summary(self.out, processes.from_first(self._finish), resumed_from=start)

    def _begin(self, start: int | None) -> None:
        self._describe(start)
        tracking = self.recipe.monitor.tensorboard
        tables = self.recipe.monitor.csv
        self.trackers = Trackers(self.out, after_step=start or 0, tensorboard=tracking, csv=tables)

    def _resume(self) -> int | None:
        """The step to go on from; None for a start."""
        found = processes.from_first(self._find)
        if found.checkpoint is None:
            return None
        last = found.checkpoint
        scalars = last.scalars
        kept = scalars["identity"]
        changed = [name for name, value in self.identity.items() if kept.get(name, value) != value]
        if changed:
            remedy = "restore the images, or start afresh in another folder"
            raise UserError("data", f"gives another {changed[0]} than when the run began", remedy=remedy)
        for path, reason in found.rejected:
            say(f"checkpoint {path.name} is corrupt ({reason}); using the previous one, of step {last.step}")
            if processes.rank() == 0:
                folder.remove(path)
        self.trainer.restore(last.tensors)
        self.progress = Progress.from_json(scalars["progress"])
        say(f"going on from step {last.step} of {self.total}")
        return last.step

    def _find(self) -> Found:
        found = find_checkpoint(self.out / folder.CHECKPOINTS)
        folder.clean(self.out, afresh=found.checkpoint is None)
        return found

    def _describe(self, start: int | None) -> None:
        """Writes what is known before the first step; a resumed session adds itself to the sessions."""
        session = provenance.session(self.trainer.fabric.device, from_step=start or 0)
        if self.on_session is not None:
            self.on_session(session)
        earlier = self._sessions() if start is not None else ()
        made_of = provenance.Provenance(
            recipe=self.recipe.model_dump(mode="json"), measured=self.facts, sessions=(*earlier, session)
        )
        record = made_of.record()
        machine = {name: record[name] for name in provenance.Machine.model_fields}
        save_config(self.asked, self.out / folder.RECIPE)
        resolved = record.keys() - {"format", "sessions", "initial_weights", *machine} | {"processes"}
        write_json(self.out / folder.RESOLVED, {name: record[name] for name in resolved})
        write_json(self.out / folder.ENVIRONMENT, {**machine, "sessions": record["sessions"]})
        write_json(self.out / folder.PROVENANCE, record)
        if start is None or not (self.out / folder.EXPOSURE).is_file():
            exposure = self.out / folder.EXPOSURE
            provenance.write_exposure(exposure, self.data, self.inherited, cache=self.pixel_cache)
        difference = provenance.uncommitted() if session.code.dirty else ""
        folder.remove(self.out / folder.DIFFERENCE)
        if difference:
            (self.out / folder.DIFFERENCE).write_text(difference, encoding="utf-8")
        if self.data.unreadable:
            say(f"{self.data.unreadable} unreadable images are left out; `sempairs data scan` lists them")
        for note in self.monitor.images.notes:
            say(note)
        shown, pairs = self.per_epoch * self.recipe.batch_size, self.data.plan.n
        if pairs - shown >= self.recipe.batch_size:
            say(f"sampler: an epoch shows {shown:,} of the {pairs:,} pairs, other ones each time")
        half = self.recipe.speed.precision == "bf16-mixed"
        emulated = emulation_note(self.trainer.fabric.device.type) if half else None
        if emulated:
            say(emulated)
        # Micro-batches of one number, of all processes, are normalised together.
        micro, batch = self.recipe.micro_batch, self.recipe.batch_size
        statistics = micro_batch_note(self.trainer.method, micro and micro * processes.count(), batch)
        if statistics:
            say(statistics)

    def _sessions(self) -> tuple[provenance.Session, ...]:
        """Those before this one. Raises: UserError if their record is missing or damaged."""
        path = self.out / folder.PROVENANCE
        record = read_json(path)
        if record.get("format") == 1:  # begun by a version that did not hash the package's files
            earlier = read_json(self.out / folder.ENVIRONMENT)["sessions"]
            unknown = {"package_sha256": "unknown"}
            return tuple(provenance.Session(**{**one, "code": unknown | one["code"]}) for one in earlier)
        return provenance.Provenance.parse(record, str(path)).sessions

    def _train(self, start: int) -> None:
        recipe = self.recipe
        log_every = recipe.monitor.log_every
        probe_every = recipe.monitor.every.steps(self.per_epoch)
        save_every = max(1, recipe.checkpoint.every.steps(self.per_epoch))
        plan = batches(
            self.data.plan, seed=recipe.seed, batch_size=recipe.batch_size, start=start, stop=self.total,
            rank=processes.rank(), world=processes.count(), partners=recipe.objective.shown_partners,
            sampler=recipe.sampler,
        )  # fmt: skip
        began = perf_counter() - self.progress.seconds
        with (
            stop_signals(self.trainer.stop),
            bar(total=self.total, what="pretrain", unit="step", initial=start) as shown,
        ):

            def after(taken: int, numbers: Log, embeddings: Tensor) -> None:
                self.progress.meter.add(numbers)
                if taken % log_every == 0 or taken == self.total:
                    means = self._log(taken, embeddings)
                    level = f" (chance {means['loss_chance']:.4f})" if "loss_chance" in means else ""
                    rate = f"{means['pairs_per_second']:,.0f} pairs/s"
                    shown.set_postfix_str(f"loss {means['loss']:.4f}{level}, {rate}", refresh=False)
                shown.update(1)
                if probe_every and (taken % probe_every == 0 or taken == self.total):
                    self._probe(taken)
                self.progress.seconds = perf_counter() - began
                stopping = self.trainer.stopping
                if taken % save_every == 0 or taken == self.total or stopping:
                    processes.from_first(partial(self._save, taken))
                if stopping and taken < self.total:
                    raise Interrupted(
                        f"stopped and saved after step {taken} of {self.total}; go on with the same command "
                        f"and --resume"
                    )

            run_steps(self.trainer, self.maker, read_ahead(plan, self.maker), start=start, after=after)

    def _log(self, taken: int, embeddings: Tensor) -> Log:
        means = self.progress.meter.take()
        self.progress.loss = means["loss"]
        means["batch_std"] = relative_std(processes.gather_rows(embeddings).float().cpu().numpy())
        means["pairs_per_second"] = self.recipe.batch_size / (means["data_seconds"] + means["step_seconds"])
        means["epoch"] = taken / self.per_epoch
        levels = self.trainer.method.levels(self.recipe.batch_size)
        if levels is not None:
            means |= {"loss_chance": levels.chance, "loss_collapse": levels.collapse}
        self._write("train", taken, means)
        warning = projection_warning(means) if taken > self.warm_up and not self.warned else None
        if warning:
            self.warned = True
            say(f"step {taken}: {warning}")
        return means

    def _probe(self, taken: int) -> None:
        if not self.recipe.monitor.every.amount:
            return
        self.progress.probe = processes.from_first(lambda: self.monitor.probe(self._encoder()))
        self._write("probe", taken, {**self.progress.probe, "epoch": taken / self.per_epoch})
        if not taken:
            self.progress.first = self.progress.probe
            return
        progress = taken / self.total
        for warning in self.monitor.warnings(self.progress.probe, self.progress.first, progress):
            say(f"step {taken}: {warning}")

    def _write(self, kind: str, taken: int, values: Log) -> None:
        if self.trackers is not None:
            self.trackers.write(kind, taken, values)

    def _save(self, taken: int) -> None:
        assert self.trackers is not None
        # The record first: a state on disk never lacks the lines before it.
        self.trackers.sync()
        scalars = {"identity": self.identity, "progress": asdict(self.progress)}
        save_checkpoint(self.out / folder.CHECKPOINTS, taken, self.trainer.state(), scalars)

    def _keep_failure(self, error: NonFiniteLossError) -> NoReturn:
        """Saves what gave a loss that is not finite: state, pairs, pixels. Raises: UserError that says so."""
        meanings = int(self.data.plan.meaning.max()) + 1
        facts = {"steps": self.total, "meanings": meanings, "processes": processes.count()}
        ids, state = self.data.catalog.column("image_id"), self.trainer.state()
        raise keep_failure(self.out, error, state=state, image_ids=ids, facts=facts) from None

    def _encoder(self) -> Encoder:
        encoder = self.trainer.method.exported_encoder()
        assert isinstance(encoder, Encoder)
        return encoder

    def _finish(self) -> dict[str, Any]:
        """Writes the encoder and, last of all, that the run is complete."""
        views = self.recipe.views
        save_encoder(
            self.out, self._encoder(), self.recipe.encoder,
            input_size=views.size, mean=views.mean, std=views.std,
            exposure=sha256_file(self.out / folder.EXPOSURE),
        )  # fmt: skip
        done = {
            "format": 1,
            "steps": self.total,
            "loss": self.progress.loss,
            "probe": self.progress.probe,
            "seconds": self.progress.seconds,
            "weight_hash": weight_hash(self._encoder().model),
            "files": {name: sha256_file(self.out / name) for name in folder.sealed(self.out)},
        }
        write_json(self.out / folder.FINISHED, done)
        return done


def say(line: str) -> None:
    """One line to the user on stderr, beside a progress bar that may be there, from the first process."""
    if processes.rank() == 0:
        tqdm.write(line, file=sys.stderr)


def _summary(out: Path, done: dict[str, Any], **more: Any) -> RunSummary:
    fields = ("steps", "loss", "probe", "seconds", "weight_hash")
    return RunSummary(out=out, **{name: done[name] for name in fields}, **more)


@contextmanager
def arithmetic_threads(count: int | None) -> Iterator[None]:
    """torch's number of threads for arithmetic, inside the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def stop_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM sets `stop`; a second one stops at once, without saving."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    asked = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if stop.is_set():
            # What a terminal sends to all, torchrun passes on to each once more.
            if processes.count() > 1 and monotonic() < asked + ECHO:
                return
            raise KeyboardInterrupt
        asked = monotonic()
        stop.set()
        say("stopping after this step; once more stops at once, without saving")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
