"""What the encoders of two arms see: neighbours and maps of held-out images, and how alike the two are.

Written once the cells of the primary contrast's first method and seed are finished, as WebP files with an
index, so that a report needs neither data nor torch. Images are a keyed draw, none selected.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sempairs.config import validate
from sempairs.files import atomic_folder, write_json
from sempairs.study.folder import cell_folder, read_outcome
from sempairs.study.plan import Plan

IMAGES, QUERIES, NEIGHBOURS = 300, 6, 6
SIDE, SMALL = 64, 30
FOLDER = "sights"


def write_sights(plan: Plan, out: Path) -> bool:
    """`out`/sights, if it can be: both cells finished, and labelled images of a split nobody trained on.

    Returns whether it was written now.
    """
    from sempairs.catalog.pictures import Pictures
    from sempairs.catalog.sources import open_source
    from sempairs.evaluation.comparison import pictures
    from sempairs.evaluation.comparison.compare import likeness
    from sempairs.evaluation.features import compute_features
    from sempairs.evaluation.target import open_target
    from sempairs.keyed import text_key
    from sempairs.training.recipe import PretrainRecipe

    method, seed = next(iter(plan.study.methods)), plan.study.seeds[0]
    arms = (plan.primary.control, plan.primary.treatment)
    cells = [plan.find(method, arm, seed) for arm in arms]
    if (out / FOLDER).exists() or any(read_outcome(out, cell).state != "finished" for cell in cells):
        return False
    recipe = validate(PretrainRecipe, cells[0].recipe)
    source = open_source(recipe.data.source)
    catalog = source.scan().catalog
    labelled = np.array([name is not None for name in catalog.column("category")], dtype=bool)
    rows = np.flatnonzero((catalog.column("split") == "test") & labelled)
    if len(rows) < 2 * NEIGHBOURS:
        return False
    key = text_key(0, "examples", catalog.column("image_id")[rows].tolist())
    order = np.argsort(key, kind="stable")[:IMAGES]
    part = catalog.select(rows[order])
    opened = Pictures(part)
    small, large = (
        [pictures.thumbnail(opened, row, side) for row in range(len(part))] for side in (SMALL, SIDE)
    )
    meaning = np.unique(part.column("category").astype(str), return_inverse=True)[1]
    queries = np.arange(QUERIES)
    features = [compute_features(open_target(cell_folder(out, cell)), source, part) for cell in cells]
    with atomic_folder(out / FOLDER) as folder:
        for arm, values in zip(arms, features, strict=True):
            near = pictures.neighbour_rows(values, queries, NEIGHBOURS)
            sheet = pictures.neighbour_sheet(large, queries, near, meaning)
            sheet.save(folder / f"{arm}-neighbours.webp", quality=80, method=6)
            pictures.embedding_map(values, small).save(folder / f"{arm}-map.webp", quality=80, method=6)
        write_json(
            folder / "index.json",
            {
                "method": method,
                "seed": seed,
                "arms": list(arms),
                "images": len(part),
                "cka": likeness(features[0], features[1]),
            },
        )
    return True
