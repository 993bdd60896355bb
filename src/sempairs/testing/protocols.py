"""Checks of a protocol: it says what it is, and gives on a made-up problem what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.protocols.base import Protocol
from sempairs.evaluation.tasks.base import Classification, Fold, MultiLabel

Check = Callable[[str, Context, Any], None]


def made_up_context(count: int = 120) -> Context:
    """Make a context of an untrained encoder and the first `count` of scikit-learn's digits, at no cost."""
    from sempairs.catalog.sources import open_source
    from sempairs.encoders import EncoderConfig
    from sempairs.evaluation.target import random_target

    source = open_source("digits")
    catalog = source.scan().catalog.select(np.arange(count))
    encoder = EncoderConfig(options={"channels": [8, 8, 8, 8]})
    target = random_target(encoder, seed=0, size=16, mean=(0.5,) * 3, std=(0.5,) * 3, name="random")
    return Context(target, source, catalog)


def made_up_problem(kind: type, count: int) -> Any:
    """Make up a problem on `count` images, at least 100, of a type that needs labels only; else None."""
    rows = np.arange(count)
    if kind is Classification:
        # All scored: a protocol that draws episodes asks for twenty of each of five classes.
        fold = Fold(rows[: count // 2], rows[count // 2 : 3 * count // 4], rows)
        return Classification(rows % 5, tuple(f"class {i}" for i in range(5)), (fold,), rows.astype(str))
    if kind is MultiLabel:
        fold = Fold(rows[: count // 2], rows[count // 2 : 3 * count // 4], rows[3 * count // 4 :])
        labels = np.stack([rows % 2, rows % 3 == 0, rows % 5 == 0], axis=1).astype(np.int64)
        return MultiLabel(labels, ("a", "b", "c"), (fold,), rows.astype(str))
    return None


def check_described(name: str, context: Context, problem: Any) -> None:
    """Its name, metrics and summary; settings that are JSON and hold a version, and all of its own."""
    protocol = PROTOCOLS.get(name)
    assert protocol.name == name and protocol.takes and protocol.metrics
    assert set(protocol.plain) <= set(protocol.metrics)
    assert protocol.summary.strip() == protocol.summary != ""
    settings = protocol.settings(context.config)
    own = protocol.Config.model_fields.keys() - set(protocol.restated)
    assert (
        settings.keys() >= {"version", *own} and set(protocol.restated) <= protocol.Config.model_fields.keys()
    )
    assert json.loads(json.dumps(dict(settings))) == dict(settings)


def check_scores(name: str, context: Context, problem: Any) -> None:
    """Its metrics in their order, finite, in range, of images that are there; the same again."""
    protocol: Protocol = PROTOCOLS.get(name)
    protocol.check(problem, context.config)
    known: tuple[dict[Any, Any], ...] = (dict(context.known), {})
    first, second = (protocol.score(replace(context, known=each), problem) for each in known)
    undefined = first[0].extra.get("undefined", [])
    assert [one.metric for one in first] == [m for m in protocol.metrics if m not in undefined]
    for one, other in zip(first, second, strict=True):
        assert (one.value, one.n, one.selection) == (other.value, other.n, other.selection)
        assert np.isfinite(one.value)
        assert one.metric in protocol.plain or 0 <= one.value <= 1
        assert 0 < one.n <= len(problem.scored)
        assert one.selection and "test" not in one.selection
        json.dumps(dict(one.extra), allow_nan=False)
        if one.outcome is not None:
            assert set(one.outcome.rows) <= set(problem.scored)
            weights = 1 if one.outcome.weights is None else one.outcome.weights
            assert np.isclose(np.mean(one.outcome.values * weights), one.value)


#: The checks of a protocol; each takes its name, a context and a problem.
PROTOCOL_CHECKS: tuple[Check, ...] = (check_described, check_scores)


def check_protocol(name: str, context: Context, problem: Any = None) -> None:
    """Run every check on the protocol registered as `name`.

    context: an encoder and the images of a source. problem: one it takes, on these images; left out, a
    made-up one for each type that needs labels only. Raises: AssertionError, UserError.
    """
    kinds = PROTOCOLS.get(name).takes
    problems = [problem] if problem is not None else [made_up_problem(k, len(context.catalog)) for k in kinds]
    given = [each for each in problems if each is not None]
    assert given, f"{name} takes {[kind.__name__ for kind in kinds]}: give a problem"
    for each in given:
        for check in PROTOCOL_CHECKS:
            check(name, context, each)
