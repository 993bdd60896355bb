"""Few-shot episodes: 5 ways, 5 shots, 15 queries a way, 600 episodes. Ericsson et al. 2021,
arXiv:2011.13377, few_shot.py, after Guo et al. 2020, arXiv:1912.07200.

An episode draws five classes and twenty images of each; a query goes to the nearest class mean of the
supporting images (squared Euclidean distance between features as they are: the prototypical network's rule,
Snell et al. 2017, arXiv:1703.05175, with nothing trained). The value is the mean over episodes, with the
half width 1.96 s / sqrt(episodes) of its interval, s the deviation over episodes. Episodes are keyed, and
drawn from the scored images, of classes with at least twenty of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sempairs import keyed
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig
from sempairs.evaluation.scores import Score
from sempairs.evaluation.tasks.base import Classification

WAYS, SHOTS, QUERIES = 5, 5, 15
Int = NDArray[np.int64]


class FewShotConfig(ProtocolConfig):
    """How many episodes are drawn."""

    episodes: Annotated[int, Field(ge=2)] = 600


@PROTOCOLS.register
class FewShot(Protocol):
    """Mean accuracy over episodes."""

    name = "few-shot-5-5"
    takes = (Classification,)
    metrics = ("accuracy",)
    summary = "5-way 5-shot episodes, nearest class mean, 15 queries a way, 600 episodes (Ericsson)"
    Config = FewShotConfig
    frozen = False  # of a problem it needs the scored images only

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """Ways, shots, queries, the classifier."""
        return {
            "ways": WAYS,
            "shots": SHOTS,
            "queries": QUERIES,
            "classifier": "nearest mean, squared Euclidean",
        }

    def check(self, problem: Classification, config: EvaluationConfig) -> None:
        """Raises: UserError if fewer than five classes have twenty scored images."""
        enough = len(_eligible(problem))
        if enough < WAYS:
            raise UserError(
                f"protocol {self.name}",
                f"needs {WAYS} classes of at least {SHOTS + QUERIES} scored images",
                enough,
            )

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: interval, the half width; episodes; classes drawn from."""
        features = context.features(problem.scored)
        pools, config = _eligible(problem), context.config
        count = config.of(FewShotConfig).episodes
        hits, used = np.empty(count), []
        truth = np.repeat(np.arange(WAYS), QUERIES)
        for episode in range(count):
            rows = draw(pools, episode, seed=config.seed)
            values = features.at(rows.ravel()).astype(np.float64).reshape(WAYS, SHOTS + QUERIES, -1)
            means, queries = values[:, :SHOTS].mean(1), values[:, SHOTS:].reshape(WAYS * QUERIES, -1)
            distance = ((queries[:, None] - means[None]) ** 2).sum(2)
            hits[episode] = (distance.argmin(1) == truth).mean()
            used.append(rows[:, SHOTS:].ravel())
        half = float(1.96 * hits.std() / np.sqrt(count))
        extra = {"interval": half, "episodes": count, "few_shot_classes": len(pools)}
        images = len(np.unique(np.concatenate(used)))
        return [Score("accuracy", float(hits.mean()), images, "none", extra)]


def draw(pools: list[Int], episode: int, *, seed: int) -> Int:
    """Rows (ways, shots + queries) of one keyed episode: classes without repeats, and so their images."""

    def first(n: int, slot: int, count: int) -> Int:
        key = keyed.uniform(seed, "episodes", epoch=episode, occurrence=np.arange(n), slot=slot)[:, 0]
        return np.argsort(key, kind="stable")[:count]

    classes = first(len(pools), 0, WAYS)
    return np.stack(
        [pools[c][first(len(pools[c]), 1 + way, SHOTS + QUERIES)] for way, c in enumerate(classes)]
    )


def _eligible(problem: Classification) -> list[Int]:
    """The scored rows of each class that has enough of them."""
    rows = problem.scored
    pools = (rows[problem.labels[rows] == label] for label in range(len(problem.classes)))
    return [pool for pool in pools if len(pool) >= SHOTS + QUERIES]
