"""Sheets to look at: each model's pictures beside the icon of its source, which shows what should be seen."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from object_pairs.furniture import Model
from object_pairs.render import SIZE

GROUND = (250, 205, 250)
_COLUMNS, _ROWS = 3, 22
_TEXT = 11
_SIDES = (0, 1, 2, 4, 7)


def write_sheets(folder: Path, models: Sequence[Model], pictures: Mapping[str, np.ndarray]) -> None:
    """Writes `folder`/000.png and so on, a few dozen models each in the given order.

    pictures: by key, (V, SIZE, SIZE, 4); some of them are shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    each, high = _COLUMNS * _ROWS, SIZE + _TEXT
    wide = SIZE * (1 + len(_SIDES)) + 6
    for number, start in enumerate(range(0, len(models), each)):
        sheet = Image.new("RGB", (wide * _COLUMNS, high * _ROWS), GROUND)
        pen = ImageDraw.Draw(sheet)
        for place, model in enumerate(models[start : start + each]):
            left, up = wide * (place % _COLUMNS), high * (place // _COLUMNS)
            pen.text((left + 1, up), f"{model.name} | {model.key.split('/')[-1]} {model.maker}"[:52], "black")
            shown = [_icon(model), *(Image.fromarray(pictures[model.key][side]) for side in _SIDES)]
            for k, image in enumerate(shown):
                sheet.paste(image, (left + k * SIZE, up + _TEXT), image)
        sheet.save(folder / f"{number:03d}.png")


def _icon(model: Model) -> Image.Image:
    try:
        with Image.open(io.BytesIO(model.icon)) as opened:
            return opened.convert("RGBA").resize((SIZE, SIZE))
    except OSError:
        return Image.new("RGBA", (SIZE, SIZE))
