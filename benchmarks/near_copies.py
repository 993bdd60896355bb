"""Near-copies: how many are found, by kind of change, and how many are found wrongly.

    python benchmarks/near_copies.py [--queries 200] [--photos FOLDER] [--stamps FOLDER] [--throughput N]

Each set is searched for changed copies of a keyed sample of its own images:

emoji-pairs  drawings of 64 px, many of them flat and alike
photographs  pieces of 128 px, cut side by side, of scikit-learn's and matplotlib's photographs and of those
             in FOLDER (any; neighbouring pieces of one sky or meadow are alike)
stamps       Tux Paint's, cut-out photographs and drawings, where FOLDER has them (Debian's
             tuxpaint-stamps-default)

found: share of the changed copies that are found as copies of their originals. wrong: share of queries for
which another image is called a near-copy, pairs that are near-copies in the set itself left out (the number
of those is given: mirror images such as arrows and clocks in emoji-pairs). Crops keep 80 to 95% of each side
at a random place; "rim" takes 5, 10 or 20% off all four sides, "side" 20% off one. Pictures without features
are left out of the shares. Writes benchmarks/results/near_copies.json. --throughput N instead: searches N
synthetic sketches and prints how long that took.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from PIL import Image

from sempairs import keyed
from sempairs.catalog.near_copies import SIDE, SKETCH_BYTES, has_features, near_copies, sketch
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.reading import in_threads
from sempairs.files import write_json

RESULTS = Path(__file__).parent / "results" / "near_copies.json"
PIECE = 128
Picture = Image.Image
Change = Callable[[Picture, np.ndarray], Picture]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--throughput", type=int)
    options = parser.parse_args()
    if options.throughput:
        throughput(options.throughput)
        return
    sets = {"emoji-pairs": source_pictures("emoji-pairs"), "photographs": pieces(options.photos)}
    if options.stamps:
        sets["stamps"] = source_pictures(f"stamps:{options.stamps}")
    found = {name: measured(pictures, options.queries) for name, pictures in sets.items()}
    write_json(RESULTS, found)
    head = " | ".join(f"{name}: found | wrong" for name in found)
    print(f"| change | {head} |\n|---|{'---:|' * 2 * len(found)}")
    for change in CHANGES:
        cells = [
            f"{100 * v['changes'][change][key]:.1f}" for v in found.values() for key in ("found", "wrong")
        ]
        print(f"| {change} | {' | '.join(cells)} |")
    for name, values in found.items():
        print(f"{name}: {values['images']} images, {values['own_pairs']} near-copies among queries and set")


def measured(pictures: list[Picture], queries: int) -> dict[str, Any]:
    """Shares by change."""
    drawn = np.stack(list(in_threads(sketch, pictures, 2)))
    order = np.argsort(keyed.uniform(0, "benchmark", occurrence=np.arange(len(pictures)))[:, 0])
    rows = order[has_features(drawn)[order]][:queries]
    own = near_copies(drawn[rows], drawn)
    known = {(int(a), int(b)) for a, b in zip(own.left, own.right, strict=True)}
    places = keyed.uniform(0, "places", occurrence=rows, n=4)
    copies = []
    for change in CHANGES.values():
        made = [sketch(change(pictures[row], place)) for row, place in zip(rows, places, strict=True)]
        copies.append(np.stack(made))
    found = near_copies(np.concatenate(copies), drawn)
    kind, query = found.left // len(rows), found.left % len(rows)
    shares = {}
    for number, name in enumerate(CHANGES):
        mine = kind == number
        right = set(query[mine & (found.right == rows[query])].tolist())
        pairs = zip(query[mine].tolist(), found.right[mine].tolist(), strict=True)
        wrong = {a for a, b in pairs if b != rows[a] and (a, b) not in known}
        shares[name] = {"found": len(right) / len(rows), "wrong": len(wrong) / len(rows)}
    others = sum(rows[a] != b for a, b in known)
    return {"images": len(pictures), "queries": len(rows), "own_pairs": int(others), "changes": shares}


def on_white(picture: Picture) -> Picture:
    under = Image.new("RGBA", picture.size, "white")
    under.alpha_composite(picture.convert("RGBA"))
    return under.convert("RGB")


def jpeg(quality: int) -> Change:
    def change(picture: Picture, place: np.ndarray) -> Picture:
        data = io.BytesIO()
        on_white(picture).save(data, "JPEG", quality=quality)
        return Image.open(data).convert("RGB")

    return change


def cut(kept: float, *, rim: bool = False, one_side: bool = False) -> Change:
    """Keeps a share of each side (or of the width alone), at a random place or in the middle."""

    def change(picture: Picture, place: np.ndarray) -> Picture:
        picture = on_white(picture)
        width, height = picture.size
        x, y = (0.5, 0.5) if rim else place[:2]
        keep_y = 1.0 if one_side else kept
        left, top = round(x * (1 - kept) * width), round(y * (1 - keep_y) * height)
        return picture.crop((left, top, left + round(kept * width), top + round(keep_y * height)))

    return change


def turned(how: Image.Transpose) -> Change:
    return lambda picture, place: picture.transpose(how)


def sized(factor: float) -> Change:
    def change(picture: Picture, place: np.ndarray) -> Picture:
        size = max(16, round(factor * picture.width)), max(16, round(factor * picture.height))
        return picture.resize(size, Image.Resampling.BICUBIC)

    return change


def grey(picture: Picture, place: np.ndarray) -> Picture:
    return on_white(picture).convert("L").convert("RGB")


def chain(*changes: Change) -> Change:
    def change(picture: Picture, place: np.ndarray) -> Picture:
        for one in changes:
            picture = one(picture, place)
        return picture

    return change


_T = Image.Transpose
CHANGES: dict[str, Change] = {
    "JPEG 95": jpeg(95), "JPEG 60": jpeg(60), "JPEG 30": jpeg(30), "half the size": sized(0.5),
    "3.5 times the size": sized(3.5), "mirrored": turned(_T.FLIP_LEFT_RIGHT),
    "upside down": turned(_T.FLIP_TOP_BOTTOM), "quarter turn": turned(_T.ROTATE_90),
    "half turn": turned(_T.ROTATE_180), "grey": grey, "crop to 95%": cut(0.95), "crop to 90%": cut(0.9),
    "crop to 80%": cut(0.8), "rim of 5%": cut(0.9, rim=True), "rim of 10%": cut(0.8, rim=True),
    "rim of 20%": cut(0.6, rim=True), "side of 20%": cut(0.8, one_side=True),
    "mirrored, 90%, JPEG 60": chain(turned(_T.FLIP_LEFT_RIGHT), cut(0.9), jpeg(60)),
    "quarter turn, 90%, grey": chain(turned(_T.ROTATE_90), cut(0.9), grey),
}  # fmt: skip


def source_pictures(spec: str) -> list[Picture]:
    source = open_source(spec)
    return list(in_threads(source.open_image, list(source.scan().catalog.column("uri")), 2))


def pieces(folder: Path | None) -> list[Picture]:
    import matplotlib as mpl

    places = [str(p) for p in files("sklearn.datasets.images").iterdir() if p.name.endswith(".jpg")]
    places.append(str(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    places += [str(p) for p in sorted(folder.iterdir())] if folder else []
    found = []
    for place in places:
        picture = Image.open(place).convert("RGB")
        for y in range(0, picture.height - PIECE + 1, PIECE):
            across = range(0, picture.width - PIECE + 1, PIECE)
            found += [picture.crop((x, y, x + PIECE, y + PIECE)) for x in across]
    return found


def throughput(count: int) -> None:
    """Sketches of 1/f noise, each twentieth a mirrored copy of another."""
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    distance = np.maximum(np.hypot(rows, columns), 1 / SIDE)
    drawn = np.full((count, SKETCH_BYTES), 128, dtype=np.uint8)
    for start in range(0, count, 4096):
        shape = (min(4096, count - start), SIDE, SIDE // 2 + 1)
        field = np.fft.irfft2((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / distance, (SIDE, SIDE))
        field = 128 + 40 * field / field.std(axis=(1, 2), keepdims=True)
        drawn[start : start + 4096, : SIDE * SIDE] = field.clip(0, 255).reshape(len(field), -1)
    planted = count // 20
    light = drawn[:planted, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
    drawn[-planted:, : SIDE * SIDE] = light[:, :, ::-1].reshape(planted, -1)
    began, busy = perf_counter(), process_time()
    found = near_copies(drawn, shown=True)
    right = int(((found.right - found.left) == count - planted).sum())
    print(
        f"{count:,} sketches: {perf_counter() - began:.0f} s, {process_time() - busy:.0f} s of processors; "
    )
    print(f"{right} of {planted} planted copies found, {len(found) - right} others")


if __name__ == "__main__":
    main()
