"""Tasks run on an encoder: the one door to every number of this project's studies.

Validation images choose λ and nothing else; the weights are those of the last epoch. `Result.extra` holds:
encoder and data (hashes of the weights, and of the task's images and labels), classes, fit_images,
validation_images, what the task left out (`notes`), unreadable (images the source could not read), leakage
(which keys were compared with pretraining's record, what it does not know, or why none was
compared), near_copies_of_pretraining (scored images that are near-copies of seen ones),
fit_seen_in_pretraining (images fitted on that pretraining has seen: allowed, and said), device, commit and
code (of the package that scored: its commit and the hash of its files), and what the protocol adds.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs import __version__
from sempairs.catalog.sources import Scan, Source, open_source, scan_and_tell
from sempairs.encoders import EncoderConfig
from sempairs.errors import UserError
from sempairs.evaluation import features as frozen
from sempairs.evaluation import leakage
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS, Context, Protocol
from sempairs.evaluation.records import Result, append_results, read_results
from sempairs.evaluation.scores import Score
from sempairs.evaluation.target import Target, open_target, random_target
from sempairs.evaluation.tasks import TASKS, Problem, Task
from sempairs.evaluation.tasks.base import Folded
from sempairs.files import stable_hash
from sempairs.precision import emulation_note
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD

#: The tasks that are run where none is named.
DEFAULT_TASKS = ("emoji-subgroup", "emoji-subgroup-held-out", "emoji-retrieval", "digits")


def evaluate(
    encoder: str | Path,
    tasks: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    protocols: Sequence[str] = (),
    config: EvaluationConfig | None = None,
    data: str | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    prefix: str | None = None,
    device: str = "auto",
) -> list[Result]:
    """Run tasks on an encoder and append a row for each number to a file, task by task.

    Args:
        encoder: A run folder, an encoder's folder or encoder.json, or random:ARCH, with weights of `seed`.
        tasks: Names; none: `DEFAULT_TASKS`, or the labels of `data` where that is given.
        out: The results file; None: none is written.
        protocols: Names; none: each task's own.
        config: How tasks are run; None: the defaults.
        data: A source in place of the bundled emoji-pairs.
        cache: A folder for pixels and features, shared between calls.
        seed: Of the weights of random:ARCH.
        prefix: Of the encoder's keys in a checkpoint of another project, where there are several.
        device: `cpu`, `cuda`, or `auto`.

    Returns:
        The rows.

    Raises:
        UserError: for names, paths and values that do not hold, and if a scored image was in pretraining.
    """
    chosen = _open_protocols(protocols)
    asked = _open_tasks(tasks, data, chosen)
    target = open_target(encoder, seed=seed, prefix=prefix)
    return _evaluate(target, asked, chosen, out, config or EvaluationConfig(), cache, device)


def evaluate_random(
    encoder: EncoderConfig,
    seed: int,
    tasks: Sequence[str],
    out: str | Path | None = None,
    *,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    config: EvaluationConfig | None = None,
    cache: str | Path | None = None,
    name: str = "random",
    device: str = "auto",
) -> list[Result]:
    """Evaluate the floor: the weights that a run of this seed starts from, untrained.

    Args:
        encoder: The architecture.
        seed: Of the weights.
        tasks: Names.
        out: The results file; None: none is written.
        size: Side of the images in pixels.
        mean: Of the pixels, a channel each.
        std: Likewise.
        config: How tasks are run; None: the defaults.
        cache: A folder for pixels and features, shared between calls.
        name: The run's name in the rows.
        device: `cpu`, `cuda`, or `auto`.

    Returns:
        The rows.

    Raises:
        UserError: as `evaluate`.
    """
    target = random_target(encoder, seed=seed, size=size, mean=mean, std=std, name=name)
    return _evaluate(
        target, _open_tasks(tasks, None, []), [], out, config or EvaluationConfig(), cache, device
    )


def _open_tasks(names: Sequence[str], data: str | None, protocols: Sequence[Protocol]) -> list[Task]:
    chosen = list(names) or ([data] if data is not None else list(DEFAULT_TASKS))
    if len(set(chosen)) < len(chosen):
        raise UserError("--task", "must name each task once", chosen)
    tasks = [TASKS.get(name) for name in chosen]
    if protocols and not names and data is None:  # of the default tasks, those that these protocols can score
        kinds = {kind for protocol in protocols for kind in protocol.takes}
        tasks = [task for task in tasks if kinds.intersection(PROTOCOLS.get(task.protocol).takes)]
        if not tasks:
            asked = ", ".join(protocol.name for protocol in protocols)
            raise UserError("--task", "must name a task that these protocols can score", asked)
    if data is None or not names:
        return tasks
    open_source(data)
    return [task.at(data) for task in tasks]


def _open_protocols(names: Sequence[str]) -> list[Protocol]:
    if len(set(names)) < len(names):
        raise UserError("--protocol", "must name each protocol once", list(names))
    return [PROTOCOLS.get(name) for name in names]


def _evaluate(
    target: Target,
    tasks: Sequence[Task],
    protocols: Sequence[Protocol],
    out: str | Path | None,
    config: EvaluationConfig,
    cache: str | Path | None,
    device: str,
) -> list[Result]:
    from sempairs.runs.sessions import code_state

    place = chosen_device(device)
    emulated = emulation_note(place) if config.precision == "bf16" else None
    if emulated:
        print(emulated, file=sys.stderr)
    config = config.settled(place)
    kept = None if cache is None else Path(cache)
    if out is not None and Path(out).exists():
        read_results(out)  # never adds to a file that is something else
    results: list[Result] = []
    code = code_state()
    ready: list[tuple[Source, Scan, list[Prepared]]] = []
    for spec in dict.fromkeys(task.source for task in tasks):
        source = open_source(spec)
        scan = scan_and_tell(source)
        own = [task for task in tasks if task.source == spec]
        ready.append((source, scan, prepare(target, source, scan, own, protocols, config, kept)))
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    if out is not None:
        append_results(out, [])  # a place that cannot be written to is said now
    # Whatever can be refused has been: from here on things are computed and written.
    for source, scan, prepared in ready:
        context = Context(target, source, scan.catalog, config, place, kept)
        # The tasks of a source share their features: each image is embedded once.
        rows = [one.rows for one in prepared if any(protocol.frozen for protocol in one.protocols)]
        if rows:
            context.features(np.concatenate(rows))
        for one in prepared:
            for protocol in one.protocols:
                facts = {
                    "device": place,
                    "commit": code.commit,
                    "code": code.package_sha256,
                    **one.facts,
                }
                kept = _unfinished(target, one, protocol, config, facts, context.cache)
                found = [
                    _result(target, one, protocol, score, config, facts)
                    for score in protocol.score(replace(context, kept=kept), one.problem)
                ]
                if out is not None:
                    append_results(out, found)
                if kept is not None:
                    shutil.rmtree(kept, ignore_errors=True)
                results += found
    order = {task.name: i for i, task in enumerate(tasks)}
    return sorted(results, key=lambda result: order[result.task])


@dataclass(frozen=True)
class Prepared:
    """A task with its problem on the catalogue of its source. rows: every image it needs."""

    task: Task
    problem: Problem
    protocols: Sequence[Protocol]
    rows: NDArray[np.int64]
    facts: Mapping[str, Any]


def prepare(
    target: Target,
    source: Source,
    scan: Scan,
    tasks: Sequence[Task],
    protocols: Sequence[Protocol],
    config: EvaluationConfig,
    cache: Path | None = None,
) -> list[Prepared]:
    """The problems of one source's tasks. cache: as `evaluate` has it.

    Raises: UserError if one cannot be posed or scores a seen image.
    """
    problems = []
    for task in tasks:
        try:
            problems.append(task.build(scan.catalog, config))
        except UserError as error:
            raise UserError(f"task {task.name}: {error}", "") from None
    needed = [np.union1d(problem.scored, problem.fitted) for problem in problems]
    exposure, seen = target.exposure, np.zeros(len(scan.catalog), dtype=bool)
    nearly: leakage.SeenNearly | None = None
    checked: str | list[str] = f"not checked: {target.weights}, no pretraining is recorded"
    if exposure is not None:
        hashed = scan.catalog
        if exposure.pixel_hashes:
            hashed = leakage.fill_pixel_hashes(source, hashed, np.unique(np.concatenate(needed)))
        seen = leakage.seen(exposure, hashed, source.spec)
        known = (exposure.file_hashes, exposure.pixel_hashes, exposure.groups)
        checked = [name for name, values in zip(leakage.COLUMNS, known, strict=True) if values]
        checked += [f"not known: {text}" for text in exposure.unknown]
    for task, problem in zip(tasks, problems, strict=True):
        leakage.refuse_seen(task.name, scan.catalog, problem.scored, seen)
    if exposure is not None:
        scored = np.unique(np.concatenate([problem.scored for problem in problems]))
        nearly = leakage.seen_nearly(exposure, source, scan.catalog, scored, folder=cache)
        assert isinstance(checked, list)
        checked += ["near_copies"] if nearly is not None else []
    prepared = []
    for task, problem, rows in zip(tasks, problems, needed, strict=True):
        facts: dict[str, Any] = {
            "data": scan.catalog.select(rows).content_hash(),
            "unreadable": len(scan.problems),
            "notes": dict(problem.notes),
            "leakage": checked,
            "fit_seen_in_pretraining": int(seen[problem.fitted].sum()),
        }
        if nearly is not None and exposure is not None:
            copies = nearly.of(scan.catalog, problem.scored)
            allowed = leakage.allowed(config.near_copies, exposure, source.spec)
            leakage.refuse_nearly_seen(task.name, copies, allowed)
            facts["near_copies_of_pretraining"] = {**copies, "allowed": allowed}
            if copies["images"]:
                print(_near_note(task.name, copies), file=sys.stderr)
        if isinstance(problem, Folded):
            facts["classes"] = len(problem.classes)
            facts["fit_images"] = len(problem.folds[0].fit)
            facts["validation_images"] = len(problem.folds[0].validation)
        prepared.append(Prepared(task, problem, _suited(task, problem, protocols, config), rows, facts))
    return prepared


def _near_note(task: str, copies: Mapping[str, Any]) -> str:
    first = copies["first"][0]
    return (
        f"task {task}: {copies['images']} of the scored images are near-copies of what pretraining has seen, "
        f"such as {first['image']} ({first['how']}) of {first['seen']}; the results list them"
    )


def _suited(
    task: Task, problem: Problem, asked: Sequence[Protocol], config: EvaluationConfig
) -> list[Protocol]:
    """The protocols to run: of those asked for, those that take the problem; else the task's own and others
    beside it.

    Raises: UserError if none of those asked for takes it.
    """
    beside = [name for name in PROTOCOLS.names() if PROTOCOLS.get(name).beside(config)]
    names = dict.fromkeys([task.protocol, *task.beside, *beside])
    wanted = list(asked) or [PROTOCOLS.get(name) for name in names]
    suited = [protocol for protocol in wanted if isinstance(problem, protocol.takes)]
    if not suited:
        fitting = [n for n in PROTOCOLS.names() if isinstance(problem, PROTOCOLS.get(n).takes)]
        raise UserError(
            f"task {task.name}", f"poses a {type(problem).__name__} problem, and is scored by "
            f"{', '.join(fitting)}", ", ".join(protocol.name for protocol in wanted),
        )  # fmt: skip
    for protocol in suited:
        try:
            protocol.check(problem, config)
        except UserError as error:
            raise UserError(f"task {task.name}: {error}", "") from None
    return suited


def settings_of(
    task: Task,
    problem: Problem,
    protocol: Protocol,
    metric: str,
    config: EvaluationConfig,
    shown: Mapping[str, Any],
) -> dict[str, Any]:
    """All that decides a number beside weights and images, as JSON values; its hash is the settings hash.

    Args:
        task: Whose rule decided images and labels.
        problem: As the task posed it with `config`.
        protocol: With its own settings and constants.
        metric: Of the protocol.
        config: With its precision settled.
        shown: Size, mean and std of the encoder's input.

    Returns:
        The settings by part.
    """
    settings: dict[str, Any] = {
        "task": dict(task.rule),
        "protocol": {"name": protocol.name, "metric": metric, **protocol.settings(config)},
        "features": {**frozen.SETTINGS, "precision": config.settled_precision},
        "input": shown,
    }
    if images := problem.identity(config):
        settings["images"] = dict(images)
    return settings


def _unfinished(
    target: Target,
    one: Prepared,
    protocol: Protocol,
    config: EvaluationConfig,
    facts: Mapping[str, Any],
    cache: Path | None,
) -> Path | None:
    """Where a protocol keeps what it has done so far on a problem, until its rows are written."""
    if cache is None:
        return None
    known = [facts[name] for name in ("data", "device", "code")]
    made_of = [target.spec.weight_hash, one.task.name, config.seed, *known]
    key = stable_hash([*made_of, settings_of(one.task, one.problem, protocol, "", config, target.spec.input)])
    return cache / "unfinished" / key[:32]


def _result(
    target: Target,
    one: Prepared,
    protocol: Protocol,
    score: Score,
    config: EvaluationConfig,
    facts: Mapping[str, Any],
) -> Result:
    settings = settings_of(one.task, one.problem, protocol, score.metric, config, target.spec.input)
    return Result(
        run=target.name,
        task=one.task.name,
        protocol=protocol.name,
        metric=score.metric,
        value=score.value,
        n=score.n,
        settings_hash=stable_hash(settings),
        selection=f"weights: {target.weights}; {score.selection}",
        primary=(protocol.name, score.metric) == (one.task.protocol, one.task.metric),
        extra={"encoder": target.spec.weight_hash, "sempairs": __version__, **facts, **score.extra},
    )


def chosen_device(name: str) -> str:
    cuda = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not cuda):
        raise UserError("device", "must be auto, cpu, or cuda on a machine that has it", name)
    return "cuda" if cuda and name != "cpu" else "cpu"
