"""Patches cut from a texture, textures that must share a split, and the splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sempairs import keyed
from sempairs.catalog.copies import components
from texture_pairs.games import Texture

SIZE = 64
# A texture of at least so many pixels a side gives so many patches a side, none of which overlap.
CELLS = ((192, 3), (128, 2))
LEAST = CELLS[-1][0]
# A patch's side as a share of its cell, drawn by key.
SHARE = (0.6, 1.0)
# Textures whose grey pictures correlate by more share a split: one recoloured, wetted, or in both games.
ALIKE = 0.8
_LOOK = 48
_TENTHS = {"train": 7, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Patch:
    """name: the cell, row and column. box: left, top, right, bottom. pixels: (SIZE, SIZE, 3) uint8."""

    name: str
    box: tuple[int, int, int, int]
    pixels: np.ndarray


def cut(texture: Texture) -> list[Patch]:
    """The patches of a texture: one keyed square in each cell of a grid, resized."""
    height, width = texture.pixels.shape[:2]
    side = min(height, width)
    cells = next(n for least, n in CELLS if side >= least)
    cell = side // cells
    picture = Image.fromarray(texture.pixels)
    draws = keyed.uniform(0, "texture-patches", occurrence=_key_of(texture.key, cells * cells), n=3)
    found = []
    for number, (share, right, down) in enumerate(draws):
        row, column = divmod(number, cells)
        length = max(SIZE, round(cell * (SHARE[0] + (SHARE[1] - SHARE[0]) * share)))
        left = column * cell + int(right * (cell - length + 1))
        top = row * cell + int(down * (cell - length + 1))
        box = (left, top, left + length, top + length)
        small = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)
        found.append(Patch(f"{row}-{column}", box, np.asarray(small)))
    return found


def split_groups(textures: Sequence[Texture]) -> tuple[dict[str, str], list[tuple[str, str, float]]]:
    """The group of each texture, called after its first one by key, and the pairs that look alike."""
    looks = np.stack([_look(texture) for texture in textures])
    alike = looks @ looks.T
    first, second = np.nonzero(np.triu(alike > ALIKE, k=1))
    root = components(len(textures), edges=[(first, second)])
    group = {texture.key: textures[place].key for texture, place in zip(textures, root.tolist(), strict=True)}
    pairs = [
        (textures[a].key, textures[b].key, round(float(alike[a, b]), 3))
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return group, pairs


def assign(textures: Sequence[Texture], group: Mapping[str, str]) -> dict[str, str]:
    """Split of each group: 70 / 10 / 20 percent of the textures of each material of each game for train,
    validation and test. The groups of a material come in keyed order, and each goes to the split that is
    furthest behind; the first is for training and the second for testing.
    """
    members: dict[str, list[Texture]] = defaultdict(list)
    for texture in textures:
        members[group[texture.key]].append(texture)
    kinds: dict[str, tuple[str, str]] = {}
    for name, own in members.items():
        tally = Counter((texture.material, texture.game) for texture in own)
        kinds[name] = min(tally, key=lambda kind: (-tally[kind], kind))
    order = sorted(members)
    hashed = dict(zip(order, keyed.text_key(0, "texture-splits", order).tolist(), strict=True))
    split: dict[str, str] = {}
    behind: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_TENTHS, 0))
    met: Counter[tuple[str, str]] = Counter()
    for name in sorted(members, key=lambda name: (kinds[name], hashed[name])):
        owed = behind[kinds[name]]
        for part, tenths in _TENTHS.items():
            owed[part] += tenths * len(members[name])
        first = {0: "train", 1: "test"}
        split[name] = first.get(met[kinds[name]]) or max(owed, key=owed.__getitem__)
        met[kinds[name]] += 1
        owed[split[name]] -= 10 * len(members[name])
    return split


def _key_of(key: str, n: int) -> np.ndarray:
    """n occurrences of a texture's own."""
    start = int(keyed.text_key(0, "texture-patches", [key])[0] % np.uint64(2**40))
    return np.arange(start, start + n)


def _look(texture: Texture) -> np.ndarray:
    """(_LOOK²,) grey, of mean 0 and length 1."""
    small = Image.fromarray(texture.pixels).convert("L").resize((_LOOK, _LOOK), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64).ravel()
    grey = grey - grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-9)
