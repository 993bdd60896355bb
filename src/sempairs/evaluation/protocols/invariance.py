"""What an encoder is invariant to: transformations of a picture, grounds behind it, and another picture of
the same meaning. Ericsson et al. 2021b, arXiv:2111.11398: cosine of whitened features to the clean view.

The two last lie beyond any transformation pipeline. Whitening is fitted on training images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sempairs import keyed
from sempairs.catalog.sources import open_source
from sempairs.encoders import embed
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.perturbations.changed import embed_changed
from sempairs.evaluation.perturbations.transforms import TRANSFORMS, Apply
from sempairs.evaluation.perturbations.whitening import SHRINKAGE, Whitening
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.scores import Score, spread
from sempairs.evaluation.tasks.invariance import BackgroundInvariance, PairInvariance, TransformInvariance
from sempairs.progress import track
from sempairs.views.config import OPERATIONS, ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.store import PixelStore

Float = NDArray[np.float64]
BATCH = 256
GROUNDS = ("colour", "texture")
GIVEN = "given"
"""Grounds that the user gives as images."""


class _Whitened(Protocol):
    frozen = False
    plain = ("cosine",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """What decides the numbers beside the images."""
        return {"whitening": "reference", "shrinkage": SHRINKAGE, "seed": config.seed}


@PROTOCOLS.register
class Transforms(_Whitened):
    """The mean cosine over all transformations, each weighing alike; extra: by kind and strength."""

    name = "transforms-1"
    takes = (TransformInvariance,)
    metrics = ("cosine",)
    summary = "whitened cosine to the clean picture, twenty transformations at five strengths"

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """With every strength of every transformation."""
        return {
            **super().constants(config),
            "transforms": {name: [one.unit, *one.values] for name, one in TRANSFORMS.items()},
        }

    def score(self, context: Context, problem: TransformInvariance) -> list[Score]:
        """extra: by_transform {name: [mean cosine at each strength]}, and the spread over units."""
        whitening, clean = _clean(context, problem)
        store = context.pixels(problem.images)
        table: dict[str, list[float]] = {}
        per_image = np.zeros(len(problem.images))
        for number, (name, one) in enumerate(
            track(TRANSFORMS.items(), total=len(TRANSFORMS), what="transforms")
        ):
            draws = keyed.uniform(
                context.config.seed, "views", occurrence=np.arange(len(store)), operation=number
            )[:, 0]

            cosines = [
                _cosine(whitening, clean, _embedded(context, store, one.apply, value, draws))
                for value in one.values
            ]
            table[name] = [float(c.mean()) for c in cosines]
            per_image += np.mean(cosines, axis=0) / len(TRANSFORMS)
        units = problem.units[problem.images]
        more = {"by_transform": table, **spread(per_image, units)}
        return [Score("cosine", float(per_image.mean()), len(per_image), "none", more)]


@PROTOCOLS.register
class Backgrounds(_Whitened):
    """The mean cosine of a drawing on white and on keyed grounds."""

    name = "backgrounds-1"
    takes = (BackgroundInvariance,)
    metrics = ("cosine",)
    summary = "whitened cosine between a drawing on white and on colours and textures"

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """With the kinds of ground."""
        return {**super().constants(config), "grounds": list(GROUNDS)}

    def score(self, context: Context, problem: BackgroundInvariance) -> list[Score]:
        """extra: by_ground, and the spread over units."""
        whitening, clean = _clean(context, problem)
        spec, part = context.target.spec, context.catalog.select(problem.images)
        store = PixelStore.build(context.source, part, spec.input_size, channels=4)
        rows, by_ground, per_image = np.arange(len(store)), {}, np.zeros(len(store))
        grounds = GROUNDS if problem.textures is None else (GIVEN,)
        for ground in grounds:
            behind = "white" if ground == GIVEN else ground
            config = ViewsConfig(
                size=spec.input_size, mean=spec.mean, std=spec.std, background=behind, without=OPERATIONS
            )
            laid = store if problem.textures is None else _on_textures(store, problem.textures, context)
            maker = ViewMaker(config, laid, seed=context.config.seed, device=context.device)

            def views(maker: ViewMaker = maker) -> Iterator[Tensor]:
                for start in range(0, len(rows), BATCH):
                    own = rows[start : start + BATCH]
                    yield maker.make(0, own, own, own, own).crops[0].pixels

            features = embed(context.target.encoder, views(), precision=context.config.settled_precision)
            cosines = _cosine(whitening, clean, features)
            by_ground[ground] = float(cosines.mean())
            per_image += cosines / len(grounds)
        more = {"by_ground": by_ground, **spread(per_image, problem.units[problem.images])}
        return [Score("cosine", float(per_image.mean()), len(rows), "none", more)]


@PROTOCOLS.register
class Pairs(_Whitened):
    """auroc: how often an image of the same meaning lies nearer than one of another; .5 is chance."""

    name = "pairs-1"
    takes = (PairInvariance,)
    metrics = ("auroc", "cosine")
    summary = "whitened cosine of pairs never seen in training, against images of other meanings"
    frozen = True

    def score(self, context: Context, problem: PairInvariance) -> list[Score]:
        """extra: chance_cosine, of images of other meanings, and the spread over units."""
        held = context.features(np.union1d(problem.scored, problem.fitted))
        whitening = Whitening.fitted(held.at(problem.reference))
        left, right = (whitening.unit(held.at(rows)) for rows in (problem.left, problem.right))
        own = np.sum(left * right, axis=1)
        others = left @ right.T
        apart = problem.apart[problem.left][:, None] != problem.apart[problem.right][None]
        below = (others < own[:, None]) + 0.5 * (others == own[:, None])
        count = apart.sum(axis=1)
        keep = count > 0
        nearer = (below * apart).sum(axis=1)[keep] / count[keep]
        units = problem.units[problem.left]
        extra = {"chance_cosine": float(others[apart].mean()) if apart.any() else None}
        n = len(problem.scored)
        return [
            Score("auroc", float(nearer.mean()), n, "none", {**extra, **spread(nearer, units[keep])}),
            Score("cosine", float(own.mean()), n, "none", {**extra, **spread(own, units)}),
        ]


def _on_textures(store: PixelStore, spec: str, context: Context) -> PixelStore:
    """The pictures of a store with alpha, each on a keyed test image of the source `spec`, three channels."""
    source = open_source(spec)
    catalog = source.scan().catalog
    catalog = catalog.select(catalog.column("split") == "test")
    if not len(catalog):
        raise UserError(f"grounds {spec}", "must have images of the split test")
    textures = PixelStore.build(source, catalog, store.size, channels=3)
    drawn = keyed.uniform(context.config.seed, "grounds", occurrence=np.arange(len(store)))[:, 0]
    chosen = torch.from_numpy((drawn * len(textures)).astype(np.int64))
    laid = torch.empty_like(store.pixels[:, :3])
    for start in range(0, len(store), BATCH):
        part = slice(start, start + BATCH)
        pixels = store.pixels[part].float()
        alpha = pixels[:, 3:] / 255
        behind = textures.pixels[chosen[part]].float()
        laid[part] = (pixels[:, :3] * alpha + behind * (1 - alpha)).round().to(torch.uint8)
    return PixelStore(laid, store.rows_hash)


def _clean(context: Context, problem: TransformInvariance) -> tuple[Whitening, Float]:
    held = context.features(np.union1d(problem.images, problem.reference))
    whitening = Whitening.fitted(held.at(problem.reference))
    return whitening, whitening.unit(held.at(problem.images))


def _cosine(whitening: Whitening, clean: Float, features: NDArray[np.float32]) -> Float:
    return np.asarray(np.sum(clean * whitening.unit(features), axis=1))


def _embedded(
    context: Context, store: PixelStore, apply: Apply, value: float, draws: Float
) -> NDArray[np.float32]:
    """Features of the store's pictures under one transformation; draws: (N,), one a picture."""

    def change(images: Tensor, part: slice) -> Tensor:
        return apply(images, value, torch.from_numpy(draws[part]).to(images))

    return embed_changed(context, store, change)
