"""Screens the joins of emoji-pairs by name: which drawings may not mean what they are filed under.

    sempairs embed efficientnet-lite0 --data release:DIR --out features.parquet
    python tools/screen_emoji_pairs.py --release DIR --embeddings features.parquet --packages DIR --out DIR

Writes `items.csv`, one drawing a line with the concept it is held against and an empty verdict, contact
sheets of the same in a keyed order, and `stage.json`: how much of what is known the cut lets through. Among
the drawings in doubt lie, unmarked on the sheets, joins that are known to be false (real ones, which a name
join makes of sets that have code points, and planted ones) and joins that are known to be right. A reviewer
fills in yes, no or unsure. `emoji_pairs_screening.csv` beside this file is what came of it for release 1.0.0,
and what the builder reads.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from emoji_pairs import screen
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources import open_source
from sempairs.embeddings import Embeddings
from sempairs.files import atomic_folder, write_json

ACROSS, DOWN, CELL = 3, 16, (430, 92)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="screen_emoji_pairs.py", description=(__doc__ or "").split("\n")[0])
    for name in ("--release", "--embeddings", "--packages", "--out"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    catalog = open_source(f"release:{options.release}").scan().catalog
    found = screen.evidence(catalog, Embeddings.open(options.embeddings))
    items, stage = screen.items(catalog, found, screen.false_name_joins(options.packages, catalog))
    with atomic_folder(options.out) as folder:
        with open(folder / "items.csv", "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(screen.COLUMNS)
            writer.writerows(item.row(catalog, found) for item in items)
        write_json(folder / "stage.json", stage)
        pictures = Pictures(catalog)
        for start in range(0, len(items), ACROSS * DOWN):
            part = items[start : start + ACROSS * DOWN]
            _sheet(catalog, found, pictures, part, start).save(folder / f"sheet-{start:04d}.png")
    print(f"{options.out}: {len(items)} drawings to judge; {stage}")


def _sheet(catalog, found, pictures, items, first):  # type: ignore[no-untyped-def]
    """Each drawing, then what other designers drew for the concept it is held against."""
    designer, sets = catalog.column("domain"), catalog.column("set")
    sheet = Image.new("RGB", (ACROSS * CELL[0], DOWN * CELL[1]), "white")
    pen = ImageDraw.Draw(sheet)
    for place, item in enumerate(items):
        x, y = place // DOWN * CELL[0], place % DOWN * CELL[1]
        others = np.flatnonzero((found.own == item.claimed) & (designer != designer[item.drawing]))
        shown = sorted(others, key=lambda row: (catalog.column("join")[row] == "name", sets[row]))[:5]
        pen.text((x + 2, y), f"{first + place}: {found.names[item.claimed][:50]}", fill="black")
        sheet.paste(_thumb(pictures, item.drawing, 72), (x + 2, y + 16))
        for step, row in enumerate(shown):
            sheet.paste(_thumb(pictures, int(row), 60), (x + 86 + step * 64, y + 22))
        pen.line([x + 79, y + 18, x + 79, y + 86], fill=(200, 0, 0), width=2)
    return sheet


def _thumb(pictures: Pictures, row: int, side: int) -> Image.Image:
    image = pictures.image(row).convert("RGBA")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (side, side), (226, 226, 226, 255))  # white drawings show on grey
    canvas.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.convert("RGB")


if __name__ == "__main__":
    main()
