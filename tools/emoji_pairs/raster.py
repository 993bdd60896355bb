"""SVG icons to pictures of 64 by 64 pixels with alpha, and to lossless WebP."""

from __future__ import annotations

import io
from typing import Any

import resvg_py
from PIL import Image

SIZE = 64
# One-colour sets leave the colour to the page; black is what a browser shows.
INK = "#000000"

# Of Iconify's format, where neither the icon nor its set says otherwise.
_DEFAULTS = {"left": 0, "top": 0, "width": 16, "height": 16}

Icons = dict[str, Any]


def render(icons: Icons, name: str) -> Image.Image:
    """The icon as RGBA of SIZE x SIZE, centred if it is not square, RGB 0 where alpha is 0.

    Raises: ValueError if resvg cannot read the SVG; KeyError if the set lacks the icon.
    """
    entry, flips, quarters = _resolved(icons, name)
    box = {**_DEFAULTS, **icons, **entry}
    left, top, width, height = box["left"], box["top"], box["width"], box["height"]
    body = entry["body"].replace("currentColor", INK)
    scale = SIZE / max(width, height)
    wide, high = width * scale, height * scale
    # The inner svg clips at the icon's own box, which lies in the middle of the square.
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}">'
        f'<svg x="{(SIZE - wide) / 2}" y="{(SIZE - high) / 2}" width="{wide}" height="{high}" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg></svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    for flip in flips:
        image = image.transpose(flip)
    for _ in range(quarters):
        image = image.transpose(Image.Transpose.ROTATE_270)
    return _cleared(image)


def encode(image: Image.Image) -> bytes:
    """Lossless WebP that keeps every RGBA value; the same bytes for the same Pillow and libwebp."""
    out = io.BytesIO()
    # For lossless files `quality` is effort: 100 takes seventeen times as long as 90 and saves 1.5%.
    image.save(out, "WEBP", lossless=True, quality=90, method=6, exact=True)
    return out.getvalue()


def margins(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Pixels with alpha under 8 of 255 at the left, top, right and bottom; None for an empty picture."""
    box = image.getchannel("A").point(lambda a: 255 * (a >= 8)).getbbox()
    return (box[0], box[1], image.width - box[2], image.height - box[3]) if box else None


def _resolved(icons: Icons, name: str) -> tuple[Icons, list[Image.Transpose], int]:
    """The entry with a body behind `name`, its mirrorings, and clockwise quarter turns, aliases followed."""
    flips: list[Image.Transpose] = []
    quarters = 0
    entry = icons["icons"].get(name) or icons["aliases"][name]
    seen = {name}
    while True:
        if entry.get("hFlip"):
            flips.append(Image.Transpose.FLIP_LEFT_RIGHT)
        if entry.get("vFlip"):
            flips.append(Image.Transpose.FLIP_TOP_BOTTOM)
        quarters += entry.get("rotate", 0)
        parent = entry.get("parent")
        if parent is None:
            return entry, flips, quarters % 4
        if parent in seen:
            raise ValueError(f"{name} is an alias of itself")
        seen.add(parent)
        entry = icons["icons"].get(parent) or icons["aliases"][parent]


def _cleared(image: Image.Image) -> Image.Image:
    """RGB 0 under alpha 0, so that equal pictures have equal bytes."""
    clear = image.getchannel("A").point(lambda a: 255 * (a == 0))
    image.paste((0, 0, 0, 0), mask=clear)
    return image
