"""The transfer suite: every set found under a folder is scored; what is missing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS
from sempairs.evaluation.records import Result, read_results
from sempairs.evaluation.suite import evaluate
from sempairs.evaluation.target import open_target
from sempairs.evaluation.tasks.transfer import DATASETS, Dataset

FIELD = "--data-root"


@dataclass(frozen=True)
class Report:
    """missing: sets that are not there. failed: by task, why it could not be scored. incomplete: by task, how
    many of its images could not be read; it was scored on the others. passed_by: tasks that the protocols
    asked for do not take."""

    results: tuple[Result, ...]
    missing: tuple[Dataset, ...]
    failed: Mapping[str, str]
    incomplete: Mapping[str, int]
    passed_by: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all that was found was scored, on all of its images."""
        return not self.failed and not self.incomplete


def look(root: Path) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
    """The sets that lie under `root`, and those that do not. Raises: UserError if it is no folder."""
    if not root.is_dir():
        raise UserError(FIELD, "must be an existing folder", str(root))
    found = tuple(one for one in DATASETS if one.find(root) is not None)
    return found, tuple(one for one in DATASETS if one not in found)


def evaluate_transfer(
    encoder: str | Path,
    root: Path,
    out: str | Path | None = None,
    *,
    protocols: Sequence[str] = (),
    config: EvaluationConfig | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    prefix: str | None = None,
    device: str = "auto",
) -> Report:
    """Scores an encoder on the sets under `root`, one by one; a set that cannot be used stops no other.

    Arguments as of `suite.evaluate`.

    Raises: UserError if no set is found, none can be scored by the protocols, or the encoder or `out` cannot
    be used.
    """
    found, missing = look(root)
    if not found:
        raise UserError(
            FIELD, f"must hold a set of the transfer suite, and has none of {len(missing)}", str(root)
        )
    kinds = {kind for name in protocols for kind in PROTOCOLS.get(name).takes}
    open_target(encoder, seed=seed, prefix=prefix)  # what would fail for every set fails here
    if out is not None and Path(out).exists():
        read_results(out)
    results: list[Result] = []
    failed: dict[str, str] = {}
    incomplete: dict[str, int] = {}
    passed_by: list[str] = []
    for one in found:
        own = {"transfer-" + one.name: one.protocol} | dict.fromkeys(one.tasks[1:], "coarse-to-fine-1")
        asked = [
            name
            for name, protocol in own.items()
            if not kinds or any(issubclass(t, tuple(kinds)) for t in PROTOCOLS.get(protocol).takes)
        ]
        passed_by += [name for name in own if name not in asked]
        if not asked:
            continue
        try:
            scored = evaluate(
                encoder, [f"{name}:{root}" for name in asked], out, protocols=protocols, config=config,
                cache=cache, seed=seed, prefix=prefix, device=device,
            )  # fmt: skip
        except UserError as error:
            failed[f"transfer-{one.name}"] = str(error)
            continue
        results += scored
        unreadable = max((int(result.extra["unreadable"]) for result in scored), default=0)
        if unreadable:
            incomplete[f"transfer-{one.name}"] = unreadable
    if passed_by and not results and not failed:
        remedy = f"ask for one that scores {', '.join(passed_by)}"
        raise UserError("--protocol", "must score a set that was found", list(protocols), remedy)
    return Report(tuple(results), missing, failed, incomplete, tuple(passed_by))
