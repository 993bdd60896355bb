"""What a protocol is: named settings that turn an encoder and a problem into numbers.

A protocol is one file here that registers itself; the suite runs it on every problem of a type it takes.
A name carries its version: `linear-1` never changes what it does. All that decides a number beside the images
is in `settings`, which goes whole into the result's settings hash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.sources import Source
from sempairs.catalog.table import Catalog
from sempairs.evaluation import features as frozen
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.scores import Features, Score
from sempairs.evaluation.target import Target
from sempairs.registry import Registry
from sempairs.views.store import PixelStore

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """What a protocol may use: the encoder, and the images of one source, which its problems index by row.

    cache: a folder for pixels and features shared between calls; None: kept for this one only. known: what
    protocols have worked out on these images, by key, for each other's use.
    """

    target: Target
    source: Source
    catalog: Catalog
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    device: str = "cpu"
    cache: Path | None = None
    known: dict[Hashable, Any] = field(default_factory=dict)

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


class Protocol(ABC):
    """takes: types of problem. metrics: the names it gives. summary: one line, for people.

    plain: those metrics that are no fractions, and are printed as they are. frozen: scores the frozen
    features of every image of a problem, so that the suite embeds those of all tasks together.
    """

    name: str
    takes: tuple[type, ...]
    metrics: tuple[str, ...]
    summary: str
    plain: tuple[str, ...] = ()
    frozen: bool = True

    @abstractmethod
    def settings(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """Give all settings as JSON values, with those that `config` lowers."""

    def check(self, problem: Any, config: EvaluationConfig) -> None:  # noqa: B027 (most refuse nothing)
        """Check a problem before anything is computed. Raises: UserError if it cannot be scored."""

    @abstractmethod
    def score(self, context: Context, problem: Any) -> list[Score]:
        """Compute the numbers on one problem, in the order of `metrics`."""


P = TypeVar("P", bound=Protocol)
#: The protocols, by their names.
PROTOCOLS: Registry[Protocol] = Registry("protocol", "sempairs.evaluation.protocols")


def register(protocol: P) -> P:
    """Register a protocol under its name."""
    PROTOCOLS.register(protocol)
    return protocol
