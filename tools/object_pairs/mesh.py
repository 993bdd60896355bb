"""Reads OBJ models and their materials as Sweet Home 3D does: leniently.

VTK's own importer leaves out textures of some of these files, and transparency that an image holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

# Glass of a lower opacity would leave nothing to see.
_FAINT = 0.25
_TEXTURE_SIDE = 256


@dataclass(frozen=True)
class Material:
    """colour: (r, g, b) on [0, 1]. shine: of the highlight, 0 to 1. image, mask: names of files beside it, of
    its colours and of its opacity."""

    colour: tuple[float, float, float] = (0.64, 0.64, 0.64)
    shine: float = 0.0
    hardness: float = 10.0
    opacity: float = 1.0
    image: str | None = None
    mask: str | None = None

    def texture(self, folder: Path) -> np.ndarray | None:
        """Its image, (H, W, 4 uint8 RGBA), the first row on top, at most 256 pixels a side; None without one,
        or where the file is not there. An opacity that the image holds counts, asked for or not."""
        if self.image is None or (file := beside(folder, self.image)) is None:
            return None
        with Image.open(file) as opened:
            image = opened.convert("RGBA")
        if self.mask and self.mask != self.image and (file := beside(folder, self.mask)):
            with Image.open(file) as opened:
                image.putalpha(opened.convert("L").resize(image.size))
        image.thumbnail((_TEXTURE_SIDE, _TEXTURE_SIDE), Image.Resampling.BOX)
        return np.asarray(image)


@dataclass(frozen=True)
class Part:
    """The faces of one material. points: (P, 3). uv: (P, 2), 0 where a corner has none, or None. normals:
    (P, 3), or None where a corner has none. faces: the places of each face's corners, one after another;
    sizes: how many corners each has."""

    material: Material
    points: np.ndarray
    uv: np.ndarray | None
    normals: np.ndarray | None
    faces: np.ndarray
    sizes: np.ndarray


def beside(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder, in any case of letters; None if there is none."""
    wanted = Path(name.replace("\\", "/")).name.lower()
    return next((file for file in sorted(folder.iterdir()) if file.name.lower() == wanted), None)


def read_materials(file: Path) -> dict[str, Material]:
    """Materials by name."""
    found: dict[str, Material] = {}
    name = ""
    for key, rest in _lines(file):
        if key == "newmtl":
            name = rest
            found[name] = Material()
        elif name in found:
            found[name] = replace(found[name], **_field(key, rest))
    return found


def read_parts(file: Path) -> list[Part]:
    """The model's parts, one a material. Faces of a material that no file describes are grey, or clear if it
    is called glass. Raises: ValueError if a line cannot be read or a face has a corner that is not there."""
    materials: dict[str, Material] = {}
    rows: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: dict[str, dict[tuple[int, int, int], int]] = {}
    faces: dict[str, list[int]] = {}
    sizes: dict[str, list[int]] = {}
    name = ""
    for key, rest in _lines(file):
        if key in rows:
            wanted = 2 if key == "vt" else 3
            rows[key].append([float(x) for x in rest.split()[:wanted]])
        elif key == "mtllib":
            library = beside(file.parent, rest)
            materials |= read_materials(library) if library else {}
        elif key == "usemtl":
            name = rest
        elif key == "f":
            known = corners.setdefault(name, {})
            places = [known.setdefault(_corner(text, rows), len(known)) for text in rest.split()]
            if len(places) >= 3:
                faces.setdefault(name, []).extend(places)
                sizes.setdefault(name, []).append(len(places))
    array = {key: np.array(value, np.float64) for key, value in rows.items()}
    parts = []
    for name, flat in faces.items():
        at = np.array(list(corners[name]), np.int64)
        if at[:, 0].min() < 0 or (at.max(0) >= [max(len(array[key]), 1) for key in rows]).any():
            raise ValueError("a face has a corner that is not there")
        textured = at[:, 1] >= 0
        uv = np.where(textured[:, None], array["vt"][at[:, 1]], 0.0) if textured.any() else None
        normals = array["vn"][at[:, 2]] if (at[:, 2] >= 0).all() else None
        material = materials.get(name, Material(opacity=0.4 if "glass" in name.lower() else 1.0))
        points = array["v"][at[:, 0]]
        parts.append(Part(material, points, uv, normals, np.array(flat), np.array(sizes[name])))
    return parts


def _corner(text: str, rows: dict[str, list[list[float]]]) -> tuple[int, int, int]:
    """Places of a corner's point, texture point and normal, -1 where it has none; `-1/…` counts from the
    end."""
    numbers = [int(x) if x else 0 for x in text.split("/")] + [0, 0]
    v, vt, vn = (
        n - 1 if n >= 0 else len(rows[key]) + n for n, key in zip(numbers, ("v", "vt", "vn"), strict=False)
    )
    return v, vt, vn


def _field(key: str, rest: str) -> dict[str, object]:
    if key == "Kd":
        return {"colour": tuple(float(x) for x in rest.split()[:3])}
    if key == "Ks":
        return {"shine": float(np.mean([float(x) for x in rest.split()[:3]]).clip(0, 1))}
    if key == "Ns":
        return {"hardness": float(np.clip(float(rest.split()[0]), 5, 100))}
    if key == "d":
        return {"opacity": max(float(rest.split()[-1]), _FAINT)}
    if key in ("map_Kd", "map_d"):
        # Options such as `-s 1 1 1` stand before the name, which may have blanks in it.
        words = rest.split()
        return {"image" if key == "map_Kd" else "mask": words[-1] if rest.startswith("-") else rest}
    return {}


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """First word of each line, and what follows."""
    for line in file.read_text("utf-8", errors="replace").splitlines():
        words = line.strip().split(None, 1)
        if len(words) == 2 and not words[0].startswith("#"):
            yield words[0], words[1].strip()
