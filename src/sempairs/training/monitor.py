"""Whether the features stay healthy, and what they are good for, on clean views of held-out images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.encoders import Encoder, embed
from sempairs.errors import UserError
from sempairs.methods.multicrop import code_warning
from sempairs.metrics import feature_std, knn_accuracy, rankme
from sempairs.training.data import Rows, TrainingData, numbered, sample
from sempairs.training.drift import Reference, drifted
from sempairs.training.recipe import MonitorConfig, SpeedConfig
from sempairs.views.maker import ViewMaker

BATCH = 256
# Directions that projections vary in. On made-up data (tests/methods/test_collapse.py) healthy ones had 3 to
# 6, collapsed ones 1.0 to 1.5.
LEAST_PROJECTION_RANK = 2.0


@dataclass(frozen=True)
class ProbeImages:
    """The rows a probe looks at: `health` for std and RankMe; `fit` and `score` for kNN, with labels."""

    health: Rows
    fit: Rows
    score: Rows
    fit_labels: NDArray[np.int64]
    score_labels: NDArray[np.int64]
    notes: tuple[str, ...]


def choose_images(config: MonitorConfig, data: TrainingData, *, seed: int) -> ProbeImages:
    """The probe's images, a keyed sample that runs over the same images share; and what is left out, why."""
    notes: list[str] = []
    health = data.validation_rows
    if len(health) < 2:
        notes.append(f"no {config.split} images: feature std and RankMe are taken on training images")
        health = data.train_rows
    labels = numbered(data.catalog, config.label)
    fit, score = (rows[labels[rows] >= 0] for rows in (data.train_rows, data.validation_rows))
    if not len(fit) or not len(score):
        which = "training" if not len(fit) else config.split
        notes.append(f"no {which} images with a {config.label}: the kNN probe is left out")
        fit = score = np.empty(0, dtype=np.int64)
    health, fit, score = (sample(data.catalog, rows, config.images, seed) for rows in (health, fit, score))
    return ProbeImages(health, fit, score, labels[fit], labels[score], tuple(notes))


class Monitor:
    """Looks at an encoder through clean views of its images; looking changes nothing in the run."""

    def __init__(
        self,
        config: MonitorConfig,
        data: TrainingData,
        maker: ViewMaker,
        speed: SpeedConfig,
        reference: Reference | None = None,
    ) -> None:
        self.config, self.maker, self.speed, self.reference = config, maker, speed, reference
        # The split's seed: every run over the same images is probed with the same ones.
        self.images = choose_images(config, data, seed=data.split_seed)

    def probe(self, encoder: Encoder) -> dict[str, float]:
        """std and effective rank of the features and, where there are labels, kNN accuracy; that of the
        reference task as `reference_knn`.

        feature_std: see `relative_std`; about 1 when the features fill the sphere, 0 when collapsed (Chen and
        He 2021, arXiv:2011.10566, section 4.1).
        rankme: Garrido et al. 2023, arXiv:2210.02885, Eq. 1.
        Raises: UserError for features that are not finite.
        """
        images = self.images
        health = self._features(encoder, images.health)
        out = {"feature_std": relative_std(health), "rankme": float(rankme(health))}
        if len(images.score):
            same = np.array_equal(images.score, images.health)
            score = health if same else self._features(encoder, images.score)
            out["knn"] = self._knn(
                self._features(encoder, images.fit), images.fit_labels, score, images.score_labels
            )
        if self.reference is not None:
            task = self.reference
            fit, score = (self._features(encoder, rows, task.maker) for rows in (task.fit, task.score))
            out["reference_knn"] = self._knn(fit, task.fit_labels, score, task.score_labels)
        return out

    def _knn(self, fit: Any, fit_labels: Any, score: Any, score_labels: Any) -> float:
        k, temperature = min(self.config.k, len(fit)), self.config.temperature
        return knn_accuracy(fit, fit_labels, score, score_labels, k=k, temperature=temperature)

    def drifted(self, probe: Mapping[str, float], first: Mapping[str, float]) -> list[str]:
        """What the alarm has to say about a probe. first: the one before training."""
        alarm = self.config.drift
        return [] if alarm is None else drifted(alarm, probe, first, self.config.split)

    def warnings(self, probe: Mapping[str, float], first: Mapping[str, float], progress: float) -> list[str]:
        """What to tell the user about a probe, when the share `progress` of the steps has been taken.

        first: the probe before training, empty where it is not known.
        """
        found = (self._collapse(probe), self._learns_little(probe, first, progress))
        return [warning for warning in found if warning]

    def _collapse(self, probe: Mapping[str, float]) -> str | None:
        std = probe["feature_std"]
        if std >= self.config.collapse_below:  # false for NaN as well
            return None
        return (
            f"the features are collapsing: their std is {std:.3f} of that of features that fill the sphere "
            f"(warned of below {self.config.collapse_below:g}), RankMe {probe['rankme']:.1f}; "
            f"lower the learning rate, or look at the method's loss terms"
        )

    def _learns_little(
        self, probe: Mapping[str, float], first: Mapping[str, float], progress: float
    ) -> str | None:
        if "knn" not in probe or "knn" not in first or progress < self.config.little_after:
            return None
        if probe["knn"] - first["knn"] >= self.config.little_below:
            return None
        before, least, share = first["knn"], self.config.little_below, self.config.little_after
        return (
            f"the encoder has learned little: kNN accuracy on {self.config.split} images is "
            f"{probe['knn']:.3f}, and was {before:.3f} with the weights it started from (warned of below a "
            f"gain of {least:g} after {share:.0%} of the steps); look at the learning rate, at branches of "
            f"the encoder that begin at zero, and at the loss beside its chance level"
        )

    def _features(self, encoder: Encoder, rows: Rows, maker: ViewMaker | None = None) -> NDArray[np.float32]:
        clean = (maker or self.maker).clean
        pieces = (clean(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
        features = embed(
            encoder,
            pieces,
            precision="bf16" if self.speed.settled().precision == "bf16-mixed" else "float32",
            channels_last=self.speed.channels_last,
        )
        if not np.isfinite(features).all():
            remedy = "lower the learning rate or set clip"
            raise UserError(
                "features", "must be finite, but the last step made some that are not", remedy=remedy
            )
        return features


def projection_warning(means: Mapping[str, float]) -> str | None:
    """What to tell the user about projections or codes, of the methods that measure them (`methods.health`,
    `methods.multicrop`)."""
    rank = means.get("projection_rank", math.inf)
    if rank >= LEAST_PROJECTION_RANK:
        return code_warning(means)
    return (
        f"the projections are collapsing: they vary in {rank:.1f} directions (warned of below "
        f"{LEAST_PROJECTION_RANK:g}); lower the learning rate, or look at the method's loss terms"
    )


def relative_std(features: NDArray[np.float32]) -> float:
    """Mean std of the columns of unit-length `features` (N, D), times sqrt(D)."""
    return float(feature_std(features)) * math.sqrt(features.shape[1])
