"""A page of test pictures with what is there and what the detector says: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from sempairs import keyed
from sempairs.detection.data import open_picture
from sempairs.detection.records import DetectionSet
from sempairs.detection.scoring import Scores
from sempairs.files import atomic_write
from sempairs.metrics import Detections

SHOWN_SCORE = 0.5
_LONG_SIDE = 480

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ heading }}</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6474; --page: #fbfbfd; --card: #fff;
    --line: #dfe3ea; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #a0a9b8; --page: #14171c;
    --card: #1c2128; --line: #323944; } }
  body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem; background: var(--page); color: var(--ink);
    font: 15px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.5rem; margin: 0; }
  p { color: var(--soft); margin: .3rem 0 1.2rem; max-width: 60rem; }
  .wide { overflow-x: auto; }
  details { margin-bottom: 1.5rem; } summary { cursor: pointer; }
  table { border-collapse: collapse; margin-bottom: .8rem; font-variant-numeric: tabular-nums; }
  th, td { padding: .3rem 1.2rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; }
  .grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
  figure { margin: 0; padding: .6rem; background: var(--card); border: 1px solid var(--line);
    border-radius: 8px; }
  figure svg { display: block; width: 100%; height: auto; }
  figcaption { margin-top: .4rem; color: var(--soft); font-size: .82rem; overflow-wrap: anywhere; }
  .true { fill: none; stroke: #17a05d; stroke-width: 3; }
  .said { fill: none; stroke: #ff7a1a; stroke-width: 3; stroke-dasharray: 9 5; }
  .under { fill: none; stroke: #fff; stroke-width: 5; opacity: .75; }
  text { font: 600 15px system-ui, sans-serif; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
  .t { fill: #0d6b3d; } .s { fill: #b84a00; }
  .key { display: inline-block; width: 1.6rem; border-top: 3px solid #17a05d; vertical-align: middle; }
  .key.d { border-top: 3px dashed #ff7a1a; }
</style>
</head>
<body>
<h1>{{ heading }}</h1>
<p>{{ run }}. {{ n }} pictures scored, {{ shown|length }} drawn by key. <span class="key"></span> true
<span class="key d"></span> found (score {{ least }} and above)</p>
<div class="wide"><table>
<tr>{% for name, value in metrics %}<th>{{ name }}</th>{% endfor %}</tr>
<tr>{% for name, value in metrics %}<td>{{ value }}</td>{% endfor %}</tr>
</table></div>
<p>Points of a hundred. AP, AP50, AP75: COCO's average precision over overlaps .5 to .95, at .5 and at .75.
voc07-mAP, voc07-AP, voc07-AP75: VOC 2007's 11-point mean at .5, over .5 to .95 and at .75, which papers
report for VOC07.</p>
<details><summary>By class: VOC 2007's average precision at overlap .5</summary>
<table>
<tr><th>class</th><th>AP</th></tr>
{% for name, value in classes %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
</details>
<div class="grid">
{% for p in shown %}<figure>
<svg viewBox="0 0 {{ p.width }} {{ p.height }}" role="img" aria-label="{{ p.id }}">
<image href="data:image/jpeg;base64,{{ p.jpeg }}" width="{{ p.width }}" height="{{ p.height }}"/>
{% for b in p.boxes %}<rect class="under" x="{{ b.x }}" y="{{ b.y }}" width="{{ b.w }}" height="{{ b.h }}"/>
<rect class="{{ b.kind }}" x="{{ b.x }}" y="{{ b.y }}" width="{{ b.w }}" height="{{ b.h }}"/>
{% endfor %}{% for b in p.boxes -%}
<text class="{{ b.kind[0] }}" x="{{ b.tx }}" y="{{ b.ty }}" text-anchor="{{ b.anchor }}">{{ b.text }}</text>
{% endfor %}</svg>
<figcaption>{{ p.id }}</figcaption>
</figure>
{% endfor %}</div>
</body>
</html>
"""


def write_page(
    path: Path,
    one: DetectionSet,
    found: Detections,
    classes: Sequence[str],
    scores: Scores,
    *,
    heading: str,
    run: str,
    count: int,
    seed: int,
) -> None:
    """Draws `count` pictures of a set, chosen by key, with true boxes and those of score .5 and above."""
    order = np.argsort(keyed.text_key(seed, "detection pictures", [p.id for p in one.pictures]))
    shown = [_drawn(one, int(row), found, classes) for row in order[:count]]
    metrics = [(name, f"{100 * value:.1f}") for name, value in scores.metrics.items()]
    by_class = [
        (name, "no object" if value is None else f"{100 * value:.1f}")
        for name, value in scores.per_class.items()
    ]
    template = Environment(autoescape=True).from_string(_TEMPLATE)
    text = template.render(
        heading=heading, run=run, n=len(one.pictures), shown=shown, metrics=metrics, least=SHOWN_SCORE,
        classes=by_class,
    )  # fmt: skip
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _drawn(one: DetectionSet, row: int, found: Detections, classes: Sequence[str]) -> dict[str, Any]:
    picture = one.pictures[row]
    scale = _LONG_SIDE / max(picture.width, picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = open_picture(picture).resize(size, Image.Resampling.BICUBIC)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    boxes = [
        _box(thing.box, scale, size, "true", thing.name + (" (difficult)" if thing.difficult else ""))
        for thing in picture.objects
    ]
    rows = np.flatnonzero((found.image == row) & (found.score >= SHOWN_SCORE))
    boxes += [
        _box(tuple(found.box[i]), scale, size, "said", f"{classes[found.label[i]]} {found.score[i]:.2f}")
        for i in rows
    ]
    jpeg = base64.b64encode(data.getvalue()).decode()
    return {"id": picture.id, "width": size[0], "height": size[1], "jpeg": jpeg, "boxes": boxes}


def _box(box: tuple[float, ...], scale: float, size: tuple[int, int], kind: str, text: str) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(side * scale, 1) for side in box)
    # The true name stands above its box, the detector's below: neither hides the other.
    at = y0 - 5 if kind == "true" else y1 + 15
    at = min(max(at, 16), size[1] - 6)
    # In the right half of the picture a name ends where its box does, so that it is not cut off.
    right = x0 + x1 > size[0]
    place = {"x": x0, "y": y0, "w": round(x1 - x0, 1), "h": round(y1 - y0, 1)}
    return {
        **place, "kind": kind, "text": text, "tx": min(x1, size[0]) - 2 if right else max(x0, 0) + 2,
        "ty": round(at, 1), "anchor": "end" if right else "start",
    }  # fmt: skip
