"""What a protocol is: named settings that turn an encoder and a problem into numbers.

A protocol is one class, `@PROTOCOLS.register`, in one file; the suite runs it on every problem of a type it
takes. A name carries its version: `linear-1` never changes what it does. All that decides a number beside the
images is in `settings`, which goes whole into the result's settings hash.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.sources import Source
from sempairs.catalog.table import Catalog
from sempairs.evaluation import features as frozen
from sempairs.evaluation.config import PROTOCOLS, EvaluationConfig, ProtocolConfig
from sempairs.evaluation.scores import Features, Score
from sempairs.evaluation.target import Target
from sempairs.files import read_json, stable_hash, write_json
from sempairs.views.store import PixelStore

__all__ = ["PROTOCOLS", "Context", "Protocol", "ProtocolConfig"]

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """What a protocol may use: the encoder, and the images of one source, which its problems index by row.

    cache: a folder for pixels and features shared between calls; None: kept for this one only. known: what
    protocols have worked out on these images, by key, for each other's use. kept: a folder for what one
    protocol has done so far on one problem, from which it goes on after it was killed; None: it starts over.
    """

    target: Target
    source: Source
    catalog: Catalog
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    device: str = "cpu"
    cache: Path | None = None
    known: dict[Hashable, Any] = field(default_factory=dict)
    kept: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.config.settled(self.device))

    def features(self, rows: Int) -> Features:
        """Give frozen features that hold at least these rows of the catalogue; each image is embedded once.

        In the cache they lie under the hash of the weights and of the images. Raises: UserError for an image
        that cannot be read, and for features that are not finite.
        """
        held = self.known.get("features")
        missing = np.unique(rows) if held is None else np.setdiff1d(rows, held.rows)
        if held is not None and not len(missing):
            assert isinstance(held, Features)
            return held
        values = frozen.compute_features(
            self.target, self.source, self.catalog.select(missing),
            precision=self.config.settled_precision, cache=self.cache, device=self.device,
        )  # fmt: skip
        found = Features(missing, values) if held is None else held.joined(missing, values)
        self.known["features"] = found
        return found

    def pixels(self, rows: Int, size: int | None = None) -> PixelStore:
        """Decode the images at `rows`, in that order, on white: row i of the store is rows[i].

        size: the side in pixels; None: the encoder's input size. Raises: UserError as `PixelStore` does.
        """
        side = self.target.spec.input_size if size is None else size
        return frozen.pixel_store(self.source, self.catalog.select(rows), side, self.cache)

    def once(self, key: Any, compute: Callable[[Context], Any]) -> Any:
        """A JSON value that a protocol works out once on a problem, also when it is killed later.

        key: a JSON value that no other value of the protocol has. compute: is given a context in which what
        it trains is kept until the value is known.
        """
        if self.kept is None:
            return compute(self)
        place = self.kept / stable_hash(key)[:16]
        known = place.with_suffix(".json")
        if not known.exists():
            write_json(known, compute(replace(self, kept=place)))
        shutil.rmtree(place, ignore_errors=True)
        return read_json(known)


class Protocol(ABC):
    """takes: types of problem. metrics: the names it gives. summary: one line, for people.

    Config: its settings, reached by `--set` under their own names; `context.config.of(Config)` gives them to
    `score`. restated: those that `constants` says in its own words, or that decide no number; all others are
    in `settings`, and so in the settings hash, as they are. plain: those metrics that are no fractions, and
    are printed as they are. frozen: scores the frozen features of every image of a problem, so that the suite
    embeds those of all tasks together.
    """

    name: str
    takes: tuple[type, ...]
    metrics: tuple[str, ...]
    summary: str
    Config: type[ProtocolConfig] = ProtocolConfig
    restated: tuple[str, ...] = ()
    version: int = 1
    plain: tuple[str, ...] = ()
    frozen: bool = True

    def settings(self, config: EvaluationConfig) -> dict[str, Any]:
        """Give all that decides a number beside the images, as JSON: its settings, `constants`, version."""
        own = config.of(self.Config).model_dump(mode="json", exclude=set(self.restated))
        fixed = self.constants(config)
        assert not own.keys() & fixed.keys(), f"{self.name}: a setting is said twice"
        return {**own, **fixed, "version": self.version}

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """Give what decides a number beside its own settings, as JSON: fixed numbers, and of `config` what
        every evaluation has, such as the seed, where it is used."""
        return {}

    def beside(self, config: EvaluationConfig) -> bool:
        """Tell whether it is run beside the tasks' own protocols where none is asked for by name."""
        return False

    def check(self, problem: Any, config: EvaluationConfig) -> None:  # noqa: B027 (most refuse nothing)
        """Check a problem before anything is computed. Raises: UserError if it cannot be scored."""

    @abstractmethod
    def score(self, context: Context, problem: Any) -> list[Score]:
        """Compute the numbers on one problem, in the order of `metrics`."""
