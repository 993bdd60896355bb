"""Material across games: fitted on the textures of one game, scored on those of the other, both ways.

The user builds texture-pairs (`tools/README.md`) and gives its folder.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Task
from sempairs.evaluation.tasks.split import classify, unit_names

LEAST = 2
"""Training textures (split groups) of a material in each game."""


@TASKS.register(
    "texture-pairs",
    summary="what material a new texture shows, fitted on another game",
    example="texture-pairs:PATH",
)
def texture_pairs(rest: str) -> Task:
    """A fold for each game: fitted on the training textures of the others, scored on its test textures."""
    rule = {"task": "texture-pairs", "version": 1, "label": "concept", "apart": "domain", "least": LEAST}
    source = f"release:{rest}"
    return Task(f"texture-pairs:{rest}", source, "linear-1", "accuracy", rule, _across)


def _across(catalog: Catalog, config: EvaluationConfig) -> Classification:
    """Materials of which every game has `LEAST` training textures; others are left out and counted."""
    split, game, material = (catalog.column(name) for name in ("split", "domain", "concept"))
    games = sorted({str(name) for name in game if name is not None})
    if len(games) < 2:
        remedy = "give the folder that tools/build_texture_pairs.py wrote"
        raise UserError("the images", "must be of two games or more (their domain)", len(games), remedy)
    units, shared = unit_names(catalog), {str(m) for m in material if m is not None}
    for one in games:
        own = (game == one) & (split == "train")
        textures = Counter(name for name, _ in set(zip(material[own], units[own], strict=True)))
        shared &= {name for name, count in textures.items() if count >= LEAST}
    if len(shared) < 2:
        rule = f"must show two materials of which every game trains {LEAST} textures"
        raise UserError("the images", rule, sorted(shared))
    values = np.array([m if m in shared else None for m in material], dtype=object)
    made = [
        classify(
            catalog,
            config,
            fit=(split == "train") & (game != one),
            validation=(split == "validation") & (game != one),
            test=(split == "test") & (game == one),
            values=values,
        )
        for one in games
    ]
    if len({own.classes for own in made}) > 1:
        raise UserError("max_fit_images", "must leave every material in each game", config.max_fit_images)
    folds = tuple(fold for own in made for fold in own.folds)
    notes = {"games": games, "unshared_material_images": int(sum(m not in shared for m in material))}
    return Classification(made[0].labels, made[0].classes, folds, made[0].units, notes)
