"""Sheets to look at: every texture, by game and material, and one of its patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from texture_pairs.games import Texture
from texture_pairs.patches import SIZE, Patch

_COLUMNS, _TEXT = 12, 11


def write_sheets(folder: Path, textures: Sequence[Texture], patches: Mapping[str, Sequence[Patch]]) -> None:
    """Writes `folder`/GAME.png: one row or more a material, each texture beside its first patch."""
    folder.mkdir(parents=True, exist_ok=True)
    for game in sorted({texture.game for texture in textures}):
        own = sorted((t for t in textures if t.game == game), key=lambda t: (t.material, t.key))
        rows: list[list[Texture]] = []
        for texture in own:
            if not rows or len(rows[-1]) == _COLUMNS or rows[-1][0].material != texture.material:
                rows.append([])
            rows[-1].append(texture)
        sheet = Image.new("RGB", (_COLUMNS * (2 * SIZE + 4), len(rows) * (SIZE + _TEXT + 2)), "white")
        pen = ImageDraw.Draw(sheet)
        for down, row in enumerate(rows):
            for right, texture in enumerate(row):
                left, top = right * (2 * SIZE + 4), down * (SIZE + _TEXT + 2)
                name = texture.key.split("/")[-1]
                pen.text((left, top), f"{texture.material}: {name}"[:24], "black")
                whole = Image.fromarray(texture.pixels).resize((SIZE, SIZE))
                sheet.paste(whole, (left, top + _TEXT))
                sheet.paste(Image.fromarray(patches[texture.key][0].pixels), (left + SIZE, top + _TEXT))
        sheet.save(folder / f"{texture.key.split('/')[0]}.png")
