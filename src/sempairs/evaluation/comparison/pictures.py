"""What an encoder sees, as pictures: nearest neighbours of keyed images, and a map of where images lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sempairs.catalog.pictures import Pictures
from sempairs.metrics import nearest_neighbours, unit

Int = NDArray[np.int64]
_RIGHT, _WRONG, _PAPER = (29, 107, 60), (206, 202, 194), (255, 255, 255)
_MAP_SEED = 0
_FLAT = 1e-7
"""Spread of unit features below which they are one point; float32 tells no more apart."""


def thumbnail(pictures: Pictures, row: int, side: int) -> Image.Image:
    """The image of a row, on white, centred in (side, side) RGB; small ones grow by whole steps."""
    image = pictures.image(row).convert("RGBA")
    if max(image.size) * 2 <= side:
        factor = side // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (side, side), (*_PAPER, 255))
    canvas.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.convert("RGB")


def neighbour_rows(features: NDArray[np.float32], queries: Int, k: int) -> Int:
    """(Q, k) places of the nearest by cosine, the query itself left out; features: (N, D); queries: (Q,)."""
    places, _ = nearest_neighbours(features, features[queries], k=min(k + 1, len(features)))
    found = [[p for p in row if p != q][:k] for row, q in zip(places.tolist(), queries, strict=True)]
    return np.array(found, dtype=np.int64).reshape(len(queries), -1)


def neighbour_sheet(
    thumbs: Sequence[Image.Image], queries: Int, neighbours: Int, meaning: Int, *, gap: int = 6
) -> Image.Image:
    """A row a query: the image, then its neighbours, framed in green where they share its `meaning`."""
    side = thumbs[0].width
    step = side + 2 * gap
    sheet = Image.new("RGB", (step * (neighbours.shape[1] + 1) + 2 * gap, step * len(queries)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (query, near) in enumerate(zip(queries, neighbours, strict=True)):
        sheet.paste(thumbs[query], (gap, i * step + gap))
        for j, place in enumerate(near, 1):
            x, y = j * step + 3 * gap, i * step + gap
            frame = _RIGHT if meaning[place] == meaning[query] else _WRONG
            pen.rectangle([x - 3, y - 3, x + side + 2, y + side + 2], fill=frame)
            sheet.paste(thumbs[place], (x, y))
    return sheet


def embedding_map(
    features: NDArray[np.float32], thumbs: Sequence[Image.Image], *, side: int = 900
) -> Image.Image:
    """Images where t-SNE puts them: (side, side). Distances between groups mean little; neighbourhoods do.

    van der Maaten and Hinton 2008; scikit-learn's, on unit features, started from their first two principal
    components, so that the same features give the same map. Images that are all the same to an encoder lie on
    one another in the middle, and fewer than four by their principal components alone.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rows = unit(features)
    place = np.zeros((len(rows), 2))
    # scikit-learn divides by the spread that it starts from, and crashes where there is none.
    flat = rows.std(axis=0).max() <= _FLAT
    if not flat:
        reduced = PCA(min(50, *rows.shape), random_state=_MAP_SEED).fit_transform(rows.astype(np.float64))
        place = np.pad(reduced, ((0, 0), (0, 2)))[:, :2]
    if not flat and min(len(rows), 2 * reduced.shape[1]) >= 4:
        perplexity = min(30.0, max(2.0, (len(rows) - 1) / 4))
        # Its many small steps gain nothing from threads, which on a busy machine wait for each other.
        with threadpool_limits(1):
            place = TSNE(perplexity=perplexity, init="pca", random_state=_MAP_SEED).fit_transform(reduced)
    low, high = place.min(axis=0), place.max(axis=0)
    apart = high - low > _FLAT
    spot = np.where(apart, (place - low) / np.where(apart, high - low, 1), 0.5)
    sheet, own = Image.new("RGB", (side, side), _PAPER), thumbs[0].width
    for (x, y), thumb in zip(spot * (side - own), thumbs, strict=True):
        sheet.paste(thumb, (int(x), int(y)), Image.eval(thumb.convert("L"), lambda v: 255 if v < 250 else 0))
    return sheet
