"""Tasks run on an encoder: the one door to every number of this project's studies.

Validation images choose λ and nothing else; the weights are those of the last epoch. `Result.extra` holds:
encoder and data (hashes of the weights, and of the task's images and labels), classes, fit_images,
validation_images, what the task left out (`notes`), unreadable (images the source could not read), leakage
(which keys were compared with pretraining's record, or why none), fit_seen_in_pretraining (images fitted on
that pretraining has seen: allowed, and said), device, commit, and what the protocol adds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs import __version__
from sempairs.catalog.sources import Scan, Source, open_source
from sempairs.encoders import EncoderConfig
from sempairs.errors import UserError
from sempairs.evaluation import features as frozen
from sempairs.evaluation import knn, leakage, linear, retrieval
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.records import Result, append_results, read_results
from sempairs.evaluation.scores import Features, Score
from sempairs.evaluation.target import Target, open_target, random_target
from sempairs.evaluation.tasks import TASKS, Classification, Problem, Task
from sempairs.files import stable_hash
from sempairs.views.config import IMAGENET_MEAN, IMAGENET_STD

DEFAULT_TASKS = ("emoji-subgroup", "emoji-subgroup-held-out", "emoji-retrieval", "digits")


def evaluate(
    encoder: str | Path,
    tasks: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    config: EvaluationConfig | None = None,
    data: str | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[Result]:
    """Runs `tasks` on an encoder and appends a row a number to `out`, task by task.

    encoder: a run folder, an encoder's folder or encoder.json, or random:ARCH, with weights of `seed`.
    tasks: names; none: `DEFAULT_TASKS`, or the labels of `data` where that is given. data: a source in place
    of the bundled emoji-pairs. cache: a folder for pixels and features, shared between calls.
    Raises: UserError for names, paths and values that do not hold, and if a scored image was in pretraining.
    """
    asked = _open_tasks(tasks, data)
    target = open_target(encoder, seed=seed)
    return _evaluate(target, asked, out, config or EvaluationConfig(), cache, device)


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
    """The floor: the weights a run of this seed starts from, untrained. Otherwise as `evaluate`."""
    target = random_target(encoder, seed=seed, size=size, mean=mean, std=std, name=name)
    return _evaluate(target, _open_tasks(tasks, None), out, config or EvaluationConfig(), cache, device)


def _open_tasks(names: Sequence[str], data: str | None) -> list[Task]:
    chosen = list(names) or ([data] if data is not None else list(DEFAULT_TASKS))
    if len(set(chosen)) < len(chosen):
        raise UserError("--task", "must name each task once", chosen)
    tasks = [TASKS.get(name) for name in chosen]
    if data is None or not names:
        return tasks
    open_source(data)
    return [task.at(data) for task in tasks]


def _evaluate(
    target: Target,
    tasks: Sequence[Task],
    out: str | Path | None,
    config: EvaluationConfig,
    cache: str | Path | None,
    device: str,
) -> list[Result]:
    from sempairs.training.provenance import code_state

    place = _device(device)
    if out is not None and Path(out).exists():
        read_results(out)  # never adds to a file that is something else
    results: list[Result] = []
    code = code_state()["commit"]
    ready: list[tuple[Source, Scan, list[_Prepared]]] = []
    for spec in dict.fromkeys(task.source for task in tasks):
        source = open_source(spec)
        scan = source.scan()
        own = [task for task in tasks if task.source == spec]
        ready.append((source, scan, _prepare(target, source, scan, own, config)))
    # Whatever can be refused has been: from here on things are computed and written.
    for source, scan, prepared in ready:
        # The tasks of a source share their features: each image is embedded once.
        rows = np.unique(np.concatenate([p.rows for p in prepared]))
        catalog = scan.catalog.select(rows)
        values = frozen.compute_features(
            target, source, catalog,
            precision=config.precision, cache=None if cache is None else Path(cache), device=place,
        )  # fmt: skip
        known: dict[Hashable, linear.Choice] = {}
        for one in prepared:
            found = [
                _result(target, one, score, config, {"device": place, "commit": code})
                for score in _score(Features(rows, values), one.problem, config, place, known)
            ]
            if out is not None:
                append_results(out, found)
            results += found
    order = {task.name: i for i, task in enumerate(tasks)}
    return sorted(results, key=lambda result: order[result.task])


@dataclass(frozen=True)
class _Prepared:
    """A task with its problem on the catalogue of its source. rows: every image it needs."""

    task: Task
    problem: Problem
    rows: NDArray[np.int64]
    facts: Mapping[str, Any]


def _prepare(
    target: Target, source: Source, scan: Scan, tasks: Sequence[Task], config: EvaluationConfig
) -> list[_Prepared]:
    """The problems of one source's tasks. Raises: UserError if one cannot be posed or scores a seen image."""
    problems = []
    for task in tasks:
        try:
            problems.append(task.build(scan.catalog, config))
        except UserError as error:
            raise UserError(f"task {task.name}: {error}", "") from None
    needed = [np.union1d(problem.scored, problem.fitted) for problem in problems]
    exposure, seen = target.exposure, np.zeros(len(scan.catalog), dtype=bool)
    checked: str | list[str] = f"not checked: {target.weights}, no pretraining is recorded"
    if exposure is not None:
        hashed = scan.catalog
        if exposure.pixel_hashes:
            hashed = leakage.fill_pixel_hashes(source, hashed, np.unique(np.concatenate(needed)))
        seen = leakage.seen(exposure, hashed, source.spec)
        known = (exposure.file_hashes, exposure.pixel_hashes, exposure.groups)
        checked = [name for name, values in zip(leakage.COLUMNS, known, strict=True) if values]
    prepared = []
    for task, problem, rows in zip(tasks, problems, needed, strict=True):
        leakage.refuse_seen(task.name, scan.catalog, problem.scored, seen)
        facts = {
            "data": scan.catalog.select(rows).content_hash(),
            "unreadable": len(scan.problems),
            "notes": dict(problem.notes),
            "leakage": checked,
            "fit_seen_in_pretraining": int(seen[problem.fitted].sum()),
        }
        if isinstance(problem, Classification):
            facts["classes"] = len(problem.classes)
            facts["fit_images"] = len(problem.folds[0].fit)
            facts["validation_images"] = len(problem.folds[0].validation)
        prepared.append(_Prepared(task, problem, rows, facts))
    return prepared


def _score(
    features: Features,
    problem: Problem,
    config: EvaluationConfig,
    device: str,
    known: dict[Hashable, linear.Choice],
) -> list[Score]:
    if not isinstance(problem, Classification):
        return retrieval.score(features, problem)
    scores = linear.score(features, problem, config.lambda_grid, device=device, known=known)
    for name in config.knn:
        scores += knn.score(features, problem, name)
    return scores


def _result(
    target: Target, one: _Prepared, score: Score, config: EvaluationConfig, facts: Mapping[str, Any]
) -> Result:
    settings: dict[str, Any] = {
        "task": dict(one.task.rule),
        "protocol": {"name": score.protocol, "metric": score.metric, **score.settings},
        "features": {**frozen.SETTINGS, "precision": config.precision},
    }
    if isinstance(one.problem, Classification):
        settings["images"] = config.model_dump(include={"max_fit_images", "folds", "repeats", "seed"})
    return Result(
        run=target.name,
        task=one.task.name,
        protocol=score.protocol,
        metric=score.metric,
        value=score.value,
        n=score.n,
        settings_hash=stable_hash(settings),
        selection=f"weights: {target.weights}; {score.selection}",
        primary=(score.protocol, score.metric) == (one.task.protocol, one.task.metric),
        extra={
            "encoder": target.spec.weight_hash,
            "sempairs": __version__,
            **facts,
            **one.facts,
            **score.extra,
        },
    )


def _device(name: str) -> str:
    cuda = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not cuda):
        raise UserError("device", "must be auto, cpu, or cuda on a machine that has it", name)
    return "cuda" if cuda and name != "cpu" else "cpu"
