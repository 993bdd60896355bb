"""What a task is: a dataset, a split of it, a label, and the one protocol and metric that count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.sources.base import SOURCES
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError, unknown
from sempairs.evaluation.config import EvaluationConfig
from sempairs.registry import Registry

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Rows of the catalogue: fitted on, choosing λ, scored. kNN takes the first two as its bank."""

    fit: Int
    validation: Int
    test: Int


class Problem(ABC):
    """What is to be scored; a protocol says which types it takes. notes: what was left out, as JSON."""

    if TYPE_CHECKING:  # a field of each

        @property
        def notes(self) -> Mapping[str, Any]: ...

    @property
    @abstractmethod
    def scored(self) -> Int:
        """Rows of the catalogue that are scored, which pretraining may not have seen."""

    @property
    @abstractmethod
    def fitted(self) -> Int:
        """Rows of the catalogue that are only fitted on."""

    def identity(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """What of `config` decided the images, beside the task's rule; goes into the settings hash."""
        return {}


class Folded(Problem):
    """A problem whose images are fitted on and scored fold by fold."""

    if TYPE_CHECKING:  # fields of each

        @property
        def classes(self) -> tuple[str, ...]: ...
        @property
        def folds(self) -> tuple[Fold, ...]: ...
        @property
        def units(self) -> NDArray[np.str_]: ...

    @property
    def scored(self) -> Int:
        """Rows that any fold scores."""
        return _rows(fold.test for fold in self.folds)

    @property
    def fitted(self) -> Int:
        """Rows that any fold fits on."""
        return _rows(part for fold in self.folds for part in (fold.fit, fold.validation))

    def identity(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """How many images are fitted on, how they are folded, and the seed of both."""
        return config.model_dump(include={"max_fit_images", "folds", "repeats", "seed"})


@dataclass(frozen=True)
class Classification(Folded):
    """Predict `labels`, (N,) over the catalogue, indices into `classes`, from features, in each fold.

    units: (N,) names of what must not be divided, and what a bootstrap resamples. An image scored in several
    folds counts once, with the mean of its scores. notes: what was left out, as JSON values.
    """

    labels: Int
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MultiLabel(Folded):
    """Say of each image which of `classes` it shows. labels: (N, K) over the catalogue, 1 where it does, 0
    where not, -1 where that image does not count for that class (VOC's "difficult").

    folds, units, notes: as `Classification` has them.
    """

    labels: Int
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Retrieval(Problem):
    """Find for each query row the gallery rows of equal `meaning`, (N,) over the catalogue."""

    queries: Int
    gallery: Int
    meaning: Int
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> Int:
        """Queries and gallery: pretraining may have seen neither."""
        return np.union1d(self.queries, self.gallery)

    @property
    def fitted(self) -> Int:
        """Nothing is fitted."""
        return np.empty(0, dtype=np.int64)


def _rows(parts: Iterable[Int]) -> Int:
    return np.unique(np.concatenate(list(parts)))


@dataclass(frozen=True)
class Task:
    """name: as asked for. source: where its images are. protocol, metric: its one primary number.

    rule: what decides the images and labels beside the settings; goes into the settings hash.
    movable: whether another source may be put in the place of its own. beside: further protocols that are
    run where none is asked for.
    """

    name: str
    source: str
    protocol: str
    metric: str
    rule: Mapping[str, Any]
    build: Callable[[Catalog, EvaluationConfig], Problem]
    movable: bool = False
    beside: tuple[str, ...] = ()

    def at(self, source: str) -> Task:
        """Pose the same task on another source's images. Raises: UserError if it has a source of its own."""
        if not self.movable:
            remedy = "leave --data out, or name the source as the task"
            raise UserError(f"task {self.name}", "has its own images, and takes no --data", source, remedy)
        return replace(self, source=source)


@dataclass(frozen=True)
class Family:
    """Tasks of one kind. open: takes what follows the colon in a task's name, "" where nothing does."""

    name: str
    open: Callable[[str], Task]
    summary: str
    example: str


class Tasks:
    """All tasks by name: registered families, and beside them any source that has labels."""

    def __init__(self) -> None:
        self._families: Registry[Family] = Registry("task", "sempairs.evaluation.tasks")
        self._of_source: Callable[[str], Task]

    def register(
        self, name: str, *, summary: str, example: str = ""
    ) -> Callable[[Callable[[str], Task]], Callable[[str], Task]]:
        """Register a function from the rest of a task's name to the task, as a decorator."""

        def file(make: Callable[[str], Task]) -> Callable[[str], Task]:
            self._families.register(Family(name, make, summary, example or name))
            return make

        return file

    def register_for_sources(self, make: Callable[[str], Task]) -> Callable[[str], Task]:
        """Decorator of the one function that makes a task of a source which is no family of its own."""
        self._of_source = make
        return make

    def get(self, spec: str) -> Task:
        """Look up the task called `spec`: `emoji-subgroup`, `stamps:PATH`, or any source, `folder:PATH`.

        Raises: UserError for an unknown name (with the choices and the nearest), or a path it cannot use.
        """
        from sempairs.catalog.sources import open_source

        kind, _, rest = spec.partition(":")
        if kind in self._families.names():
            task = self._families.get(kind).open(rest)
        elif kind in SOURCES.names():
            task = self._of_source(spec)
        else:
            sources = [f"{name}:…" for name in SOURCES.names() if name not in self._families.names()]
            raise unknown("task", spec, [*self._families.names(), *sources])
        open_source(task.source)  # a path that is not there is said before anything is computed
        return task

    def names(self) -> tuple[str, ...]:
        """List the names of the registered families, sorted."""
        return self._families.names()

    def families(self) -> dict[str, Family]:
        """Give the registered families by name."""
        return {name: self._families.get(name) for name in self._families.names()}


#: The tasks, by their names; what follows a colon goes to the task.
TASKS = Tasks()


def no_rest(name: str, rest: str) -> None:
    """Raises: UserError if something follows the name of a task that takes nothing."""
    if rest:
        raise UserError(f"task {name}", "takes nothing after a colon", rest, f"write {name}")
