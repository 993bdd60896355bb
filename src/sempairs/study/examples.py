"""Pictures of what the two arms train on: the first pairs of the first batch, as they come, none selected.

Written once when a study starts, as PNG files with an index, so that a report needs neither data nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sempairs.config import validate
from sempairs.files import atomic_write, write_json
from sempairs.study.plan import Plan

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sempairs.training.data import TrainingData

ROWS = 6
SIDE = 112  # pixels of an original; views keep their own size


def write_examples(plan: Plan, out: Path) -> None:
    """`out`/examples: for each arm of the primary contrast, anchors, partners and a view of each."""
    from sempairs.training.data import load_data
    from sempairs.training.recipe import PretrainRecipe

    folder = out / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    method, seed = next(iter(plan.study.methods)), plan.study.seeds[0]
    arms: list[dict[str, Any]] = []
    for arm in (plan.primary.control, plan.primary.treatment):
        recipe = validate(PretrainRecipe, plan.find(method, arm, seed).recipe)
        data = load_data(recipe, pixel_cache=out / "pixels")
        arms.append({"arm": arm, "rows": _rows(folder, arm, recipe, data)})
    write_json(folder / "index.json", {"method": method, "seed": seed, "arms": arms})


def _rows(folder: Path, arm: str, recipe: Any, data: TrainingData) -> list[dict[str, dict[str, str]]]:
    import numpy as np

    from sempairs.catalog.sources import open_source
    from sempairs.training.data import Batch, batches
    from sempairs.views.maker import ViewMaker

    whole = next(batches(data.plan, seed=recipe.seed, batch_size=recipe.batch_size, start=0, stop=1))
    batch = Batch(whole.epoch, *(np.asarray(keys)[:ROWS] for keys in whole[1:5]))
    maker = ViewMaker(recipe.views, data.store, seed=recipe.seed, device="cpu")
    views = maker.make(*batch)
    of_anchor, of_partner = (_pictures(crop.pixels, recipe.views) for crop in views.crops[:2])
    source = open_source(recipe.data.source)
    rows = []
    for i in range(len(batch.anchor)):
        pictures = {
            "anchor": (_original(source, data, int(batch.anchor[i])), _name(data, int(batch.anchor[i]))),
            "partner": (_original(source, data, int(batch.partner[i])), _name(data, int(batch.partner[i]))),
            "anchor view": (of_anchor[i], f"view of {_name(data, int(batch.anchor[i]))}"),
            "partner view": (of_partner[i], f"view of {_name(data, int(batch.partner[i]))}"),
        }
        row = {}
        for role, (picture, text) in pictures.items():
            file = f"{arm}-{i}-{role.replace(' ', '-')}.png"
            with atomic_write(folder / file) as temporary:
                picture.save(temporary, format="PNG", optimize=True)
            row[role] = {"file": file, "text": text}
        rows.append(row)
    return rows


def _pictures(pixels: Tensor, views: Any) -> list[Image]:
    """Normalised views (B, 3, S, S) as pictures."""
    import torch
    from PIL import Image

    mean, std = (torch.tensor(values)[:, None, None] for values in (views.mean, views.std))
    shown = (pixels * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(view.numpy()) for view in shown]


def _original(source: Any, data: TrainingData, row: int) -> Image:
    """The image itself on white, at most SIDE pixels a side."""
    from PIL import Image

    image = source.open_image(str(data.catalog.column("uri")[row])).convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _name(data: TrainingData, row: int) -> str:
    """What a picture shows, as far as the catalogue says, and whose it is."""
    columns = set(data.catalog.table.column_names)

    def first(*names: str) -> str:
        values = (data.catalog.column(name)[row] for name in names if name in columns)
        return next((str(value) for value in values if value), "")

    what, whose = first("name", "concept", "category", "image_id"), first("domain")
    return f"{what} ({whose})" if whose else what
