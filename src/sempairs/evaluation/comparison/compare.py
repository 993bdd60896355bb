"""Two encoders on the same images: paired differences, their intervals and tests, and where each one wins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs import __version__
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources import open_source, scan_and_tell
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.comparison import pictures
from sempairs.evaluation.comparison.page import render
from sempairs.evaluation.comparison.records import Compared, Comparison, Example, TaskComparison
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.scores import Features, Outcome, Score
from sempairs.evaluation.suite import DEFAULT_TASKS, chosen_device, prepare
from sempairs.evaluation.target import Target, open_target
from sempairs.evaluation.tasks import TASKS
from sempairs.files import atomic_folder, write_json
from sempairs.keyed import text_key
from sempairs.metrics import linear_cka, mcnemar, unit_bootstrap
from sempairs.pages import picture_uri

FORMAT = "sempairs.comparison/1"
SHOWN, QUERIES, NEIGHBOURS, MAPPED = 12, 6, 6, 300
SIDE, SMALL = 64, 30

Int = NDArray[np.int64]


def compare(
    first: str | Path,
    second: str | Path,
    tasks: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    config: EvaluationConfig | None = None,
    data: str | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[TaskComparison]:
    """Scores both encoders on each task and writes `out`: comparison.json and index.html, a new folder.

    first, second, tasks, data, cache, seed: as `evaluate` has them. Tasks must have outcomes image by image:
    classification and retrieval. Raises: UserError as `evaluate`, and for tasks that have none.
    """
    config = config or EvaluationConfig()
    chosen = list(tasks) or ([data] if data is not None else list(DEFAULT_TASKS))
    if len(set(chosen)) < len(chosen):
        raise UserError("--task", "must name each task once", chosen)
    if out is not None:  # a folder that cannot be written to is said before anything is scored
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        if not os.access(Path(out).parent, os.W_OK):
            raise UserError("--out", "must be in a folder that can be written to", str(out))
    targets = open_target(first, seed=seed), open_target(second, seed=seed)
    names = _names(first, second, targets)
    place, folder = chosen_device(device), None if cache is None else Path(cache)
    compared = [_compare(targets, name, config, data if tasks else None, folder, place) for name in chosen]
    found = Comparison(names, tuple(compared))
    if out is not None:
        with atomic_folder(out) as temporary:
            about = {
                "format": FORMAT,
                "sempairs": __version__,
                "encoders": [
                    {"name": n, "weights": t.spec.weight_hash, "kind": t.kind, "input": t.spec.input}
                    for n, t in zip(names, targets, strict=True)
                ],
                "config": config.model_dump(mode="json"),
                "tasks": [asdict(one.result) for one in found.tasks],
            }
            write_json(temporary / "comparison.json", about)
            (temporary / "index.html").write_text(render(found), encoding="utf-8")
    return [one.result for one in found.tasks]


def _names(first: str | Path, second: str | Path, targets: tuple[Target, Target]) -> tuple[str, str]:
    a, b = (target.name for target in targets)
    return (a, b) if a != b else (str(first), str(second))


def _compare(
    targets: tuple[Target, Target],
    name: str,
    config: EvaluationConfig,
    data: str | None,
    cache: Path | None,
    device: str,
) -> Compared:
    task = TASKS.get(name) if data is None else TASKS.get(name).at(data)
    protocol = PROTOCOLS.get(task.protocol)
    source = open_source(task.source)
    scan = scan_and_tell(source)
    scores: list[Score] = []
    outcomes: list[Outcome] = []
    features: list[Features] = []
    for target in targets:
        # Refuses, as `evaluate` does, to score what the pretraining of either has seen.
        (one,) = prepare(target, source, scan, [task], [protocol], config)
        context = Context(target, source, scan.catalog, config, device, cache)
        every = protocol.score(context, one.problem)
        scores.append(next(score for score in every if score.metric == task.metric))
        outcome = scores[-1].outcome
        if outcome is None:  # said after the first encoder, not after both
            raise UserError(f"task {name}", "has no outcome image by image, so nothing can be paired")
        outcomes.append(outcome)
        features.append(context.features(one.problem.scored))
    a, b = outcomes
    assert np.array_equal(a.rows, b.rows)
    of_a, of_b = (held.at(a.rows) for held in features)
    binary = all(np.isin(outcome.values, (0.0, 1.0)).all() for outcome in (a, b))
    test = mcnemar(a.values == 1, b.values == 1) if binary else None
    low, high = interval(a, b, seed=config.seed)
    result = TaskComparison(
        task.name, protocol.name, task.metric, scores[0].value, scores[1].value,
        scores[1].value - scores[0].value, low, high, len(a.rows), len(np.unique(a.units)),
        test.first_only if test else None, test.second_only if test else None, test.p if test else None,
        likeness(of_a, of_b),
    )  # fmt: skip
    return _shown(result, scan.catalog, a, b, of_a, of_b)


def interval(a: Outcome, b: Outcome, *, seed: int) -> tuple[float, float]:
    """95% interval of the mean difference, B's less A's, images weighing as they do in the score."""
    difference = b.values - a.values
    return unit_bootstrap(difference if a.weights is None else difference * a.weights, a.units, seed=seed)


def likeness(left: NDArray[np.float32], right: NDArray[np.float32]) -> float | None:
    """Linear CKA of two encoders' features of the same images; None where one has collapsed to a point."""
    flat = any((features == features[0]).all() for features in (left, right))
    return None if flat else linear_cka(left, right)


def _shown(
    result: TaskComparison,
    catalog: Catalog,
    a: Outcome,
    b: Outcome,
    of_a: NDArray[np.float32],
    of_b: NDArray[np.float32],
) -> Compared:
    """Examples by keyed draw among all that fit: none is chosen for its looks."""
    part = catalog.select(a.rows)
    ids, truth = part.column("image_id"), _truth(part)
    opened = Pictures(part)
    key = text_key(0, "examples", ids.tolist())

    def wins(better: Outcome, worse: Outcome) -> list[int]:
        margin = better.values - worse.values
        order = np.lexsort((key, -margin))
        return [int(i) for i in order[:SHOWN] if margin[i] > 0]

    lists = wins(a, b), wins(b, a)
    examples = tuple(tuple(_example(ids, truth, a, b, i) for i in places) for places in lists)
    thumbs = {
        str(ids[i]): picture_uri(pictures.thumbnail(opened, i, SIDE)) for places in lists for i in places
    }
    # Neighbours and maps of a keyed part, the same for both encoders.
    some = np.sort(np.argsort(key, kind="stable")[:MAPPED])
    small = [pictures.thumbnail(opened, int(i), SMALL) for i in some]
    large = [pictures.thumbnail(opened, int(i), SIDE) for i in some]
    meaning = np.unique(truth[some], return_inverse=True)[1]
    queries = np.argsort(key[some], kind="stable")[:QUERIES]
    sheets, maps = [], []
    for features in (of_a[some], of_b[some]):
        near = pictures.neighbour_rows(features, queries, NEIGHBOURS)
        sheets.append(picture_uri(pictures.neighbour_sheet(large, queries, near, meaning)))
        maps.append(picture_uri(pictures.embedding_map(features, small)))
    return Compared(result, examples[0], examples[1], thumbs, (sheets[0], sheets[1]), (maps[0], maps[1]))


def _example(ids: Any, truth: Any, a: Outcome, b: Outcome, i: int) -> Example:
    said = (a.said[i], b.said[i]) if a.said is not None and b.said is not None else None
    return Example(str(ids[i]), str(truth[i]), said)


def _truth(catalog: Catalog) -> NDArray[np.str_]:
    """What each image shows, in words: its category, else its concept."""
    pairs = zip(catalog.column("category"), catalog.column("concept"), strict=True)
    return np.array([str(category or concept or "") for category, concept in pairs])
