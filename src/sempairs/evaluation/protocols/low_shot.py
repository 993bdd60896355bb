"""Fine-tuning on 1% or 10% of the labels. Caron et al. 2020 (SwAV), arXiv:2006.09882, A.5, eval_semisup.py.

20 epochs of SGD, batches of 256 (eight times 32), momentum .9, no decay, x .2 at epochs 12 and 16; rates of
trunk and head .02 and 5 for 1%, .01 and .2 for 10%. The last epoch is scored (SwAV's script
reports the best of them by its test images). The images: a keyed,
class-balanced share of those fitted on, validation included: of each class the same number, at least one;
the 1% are among the 10%. ImageNet's published lists (SimCLR's 1percent.txt and 10percent.txt) are taken from
a file by `low_shot_lists`. Departures: the central square, scored whole, as everywhere here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sempairs import keyed
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.probes import sgd
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification, Fold
from sempairs.files import stable_hash
from sempairs.texts import read_text

Int = NDArray[np.int64]
Names = NDArray[np.str_]


class LowShotConfig(sgd.EpochsConfig):
    """low_shot_lists: files that name the labelled images, one a line, for example ImageNet's published
    1percent.txt."""

    low_shot_lists: dict[Literal["low-shot-1", "low-shot-10"], str] = Field(default_factory=dict)

    def list_of(self, protocol: str) -> str | None:
        """The file that names a protocol's images, if there is one."""
        return {str(name): path for name, path in self.low_shot_lists.items()}.get(protocol)


class LowShot(Protocol):
    """Accuracy, and its mean over classes, after fine-tuning on `share` of the labels."""

    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    Config = LowShotConfig
    restated = ("epochs", "low_shot_lists")
    frozen = False
    share: float
    recipe: sgd.Recipe

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The recipe, the share and which images, the views."""
        own = config.of(LowShotConfig)
        path = own.list_of(self.name)
        images = {"listed": stable_hash(read_list(path))} if path else "keyed, class-balanced"
        share = {"share": self.share, "images": images}
        return {**own.taken(self.recipe).settings(), **share, "views": sgd.VIEWS}

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: labelled, the number of images fitted on, by fold."""
        chosen = [self._labelled(context, problem, fold) for fold in problem.folds]
        images = sgd.Images(context, np.concatenate(chosen))
        test = sgd.Images(context, problem.scored)
        recipe = context.config.of(LowShotConfig).taken(self.recipe)
        predicted = []
        for fold, rows in zip(problem.folds, chosen, strict=True):
            try:
                model = sgd.tune(
                    context, rows, problem.labels[rows], len(problem.classes), recipe, images, what=self.name
                )
            except sgd.Diverged as error:
                raise UserError(f"protocol {self.name}", f"cannot train this encoder: {error}") from None
            predicted.append(sgd.predict(context, model, test, fold.test))
        extra = {"labelled": [len(rows) for rows in chosen]}
        return classification_scores(
            problem, predicted, self.metrics, selection="none, last epoch", extra=extra
        )

    def _labelled(self, context: Context, problem: Classification, fold: Fold) -> Int:
        """The rows of a fold that are fitted on."""
        rows = np.concatenate([fold.fit, fold.validation])
        names = context.catalog.select(rows).column("image_id").astype(str)
        path = context.config.of(LowShotConfig).list_of(self.name)
        if path:
            return np.asarray(rows[listed(names, read_list(path), path)])
        return np.asarray(rows[balanced(problem.labels[rows], names, self.share, seed=context.config.seed)])


@PROTOCOLS.register
class LowShot1(LowShot):
    """Of 1%."""

    name = "low-shot-1"
    summary = "fine-tuning on 1% of the labels: 20 epochs, trunk 0.02, head 5.0 (SwAV)"
    share = 0.01
    recipe = sgd.Recipe("20 epochs", batch=256, rate=5.0, trunk_rate=0.02, schedule="steps", factor=0.2)


@PROTOCOLS.register
class LowShot10(LowShot):
    """Of 10%."""

    name = "low-shot-10"
    summary = "fine-tuning on 10% of the labels: 20 epochs, trunk 0.01, head 0.2 (SwAV)"
    share = 0.1
    recipe = sgd.Recipe("20 epochs", batch=256, rate=0.2, trunk_rate=0.01, schedule="steps", factor=0.2)


def balanced(labels: Int, names: Names, share: float, *, seed: int) -> Int:
    """Places of a class-balanced `share` of N images: of each class the nearest whole number to
    share * N / classes, at least one and at most all it has; a larger share holds a smaller one."""
    classes, of = np.unique(labels, return_inverse=True)
    each = max(1, round(share * len(labels) / len(classes)))
    key = keyed.text_key(seed, "splits", [f"low-shot/{name}" for name in names.tolist()])
    order = np.lexsort((key, of))
    starts = np.searchsorted(of[order], np.arange(len(classes)))
    rank = np.arange(len(order)) - starts[of[order]]
    return np.sort(order[rank < each])


def read_list(path: str) -> list[str]:
    """The names in a file, one a line; they may hold blanks. Raises: UserError if it cannot be read or holds
    none."""
    try:
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    except (OSError, UnicodeError) as error:
        raise UserError("low_shot_lists", f"cannot be read ({error})", path) from None
    if not lines:
        raise UserError("low_shot_lists", "must name images, one a line", path)
    return sorted(set(lines))


def listed(names: Names, wanted: Sequence[str], path: str) -> Int:
    """Places of the images that are listed, by their whole name or its last part.

    Raises: UserError if one of those listed is not there.
    """
    last = Counter(PurePosixPath(name).name for name in names)
    place = {PurePosixPath(name).name: i for i, name in enumerate(names)}
    place |= {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in place]
    several = [name for name in wanted if name not in names and last[name] > 1]
    if several:
        rule = f"must name images by their whole path where {last[several[0]]} end alike"
        raise UserError(f"low_shot_lists {path}", rule, several[0])
    if missing:
        rule = f"must name images that are fitted on, but {len(missing)} of {len(wanted)} are not among them"
        raise UserError(f"low_shot_lists {path}", rule, missing[0])
    return np.array(sorted({place[name] for name in wanted}), dtype=np.int64)
