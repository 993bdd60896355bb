"""Makes the tools importable, and tiny stand-ins for the npm packages."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


def box(colour: str, x: int = 4, y: int = 4, side: int = 20) -> dict[str, Any]:
    return {"body": f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{colour}"/>'}


# Code points, name, Unicode group and subgroup (numbers of `_GROUPS`).
_EMOJI = [
    ("1F330", "chestnut", 4, 42),
    ("1F345", "tomato", 4, 43),
    ("1F525", "fire", 5, 59),
    ("1F692", "fire engine", 5, 54),
    ("1F983", "turkey", 3, 35),
    ("1F448", "backhand index pointing left", 1, 18),
    ("1F449", "backhand index pointing right", 1, 18),
    ("1F468-200D-1F692", "man firefighter", 1, 25),
    ("1F469-200D-1F692", "woman firefighter", 1, 25),
    ("2764-FE0F", "red heart", 0, 14),
    ("1F536", "large orange diamond", 8, 96),
    ("1F537", "large blue diamond", 8, 96),
    ("0031-FE0F-20E3", "keycap: 1", 8, 94),
    ("1F1E6-1F1E9", "flag: Andorra", 9, 98),
    ("1F3FB", "light skin tone", 2, 32),
]
_GROUPS = {0: "smileys-emotion", 1: "people-body", 2: "component", 3: "animals-nature", 4: "food-drink",
           5: "travel-places", 8: "symbols", 9: "flags"}  # fmt: skip
_SUBGROUPS = {14: "heart", 18: "hand-single-finger", 25: "person-role", 32: "skin-tone", 35: "animal-bird",
              42: "food-fruit", 43: "food-vegetable", 54: "transport-ground", 59: "sky-weather", 94: "keycap",
              96: "geometric", 98: "country-flag"}  # fmt: skip
_COLOURS = [
    "red",
    "green",
    "blue",
    "teal",
    "navy",
    "olive",
    "purple",
    "gray",
    "lime",
    "maroon",
    "aqua",
    "black",
]
_SLUGS = ["chestnut", "tomato", "fire", "fire-engine", "turkey", "backhand-index-pointing-left",
          "man-firefighter", "woman-firefighter", "red-heart", "large-orange-diamond", "large-blue-diamond",
          "keycap-1", "flag-andorra"]  # fmt: skip
_CODES = ["1f330", "1f345", "1f525", "1f692", "1f983", "1f448", "1f468-200d-1f692", "1f469-200d-1f692",
          "2764", "1f536", "1f537", "31-20e3", "1f1e6-1f1e9"]  # fmt: skip


def _icon_set(place: int, name: str) -> dict[str, Any]:
    """One set's files: every icon a box in the set's colour, at a place of its own."""
    colour = _COLOURS[place]
    slugs = [s for s in _SLUGS if s != "turkey" or name != "streamline-emojis"]
    icons = {slug: box(colour, 2 + 3 * (k % 4), 1 + 3 * (k // 4), 8 + k) for k, slug in enumerate(slugs)}
    aliases: dict[str, Any] = {"left-hand": {"parent": "backhand-index-pointing-left"}}
    chars = dict(zip(_CODES, _SLUGS, strict=True)) if name in _WITH_CHARS else {}
    filed: list[str] = []
    if name == "emojione-monotone":  # one colour: both diamonds are the same picture
        icons["large-blue-diamond"] = icons["large-orange-diamond"] = box("currentColor")
    if name.startswith("fluent"):
        aliases["backhand-index-pointing-right"] = {"parent": "backhand-index-pointing-left", "hFlip": True}
    if name == "streamline-emojis":
        icons |= {"turkey": box(colour), "bird-2": box(colour)}
        icons["tomato-1"] = icons.pop("tomato")
        filed = ["turkey"]
    if name == "fxemoji":
        icons = {
            s: icons[t] for s, t in {"acorn": "chestnut", "fireengine": "fire-engine", "fire": "fire"}.items()
        }
        icons["largeorangediamond"] = {**box(colour), "width": 32, "height": 16}
        aliases = {}
    if name == "noto-v1":
        icons["tomato"]["hidden"] = True
    width = {"width": 32, "height": 32}
    body = {"prefix": name, "icons": icons, "aliases": aliases, **width}
    return {"icons.json": body, "chars.json": chars, "metadata.json": {"categories": {"Flags": filed}}}


_WITH_CHARS = ("noto", "twemoji", "openmoji", "fluent-emoji-flat", "fluent-emoji-high-contrast")


def _emojibase() -> dict[str, Any]:
    data = [{"hexcode": c, "label": n, "group": g, "subgroup": s} for c, n, g, s in _EMOJI]
    data.append({"hexcode": "1F1E6", "label": "regional indicator A"})
    tree = {
        "groups": {str(k): v for k, v in _GROUPS.items()},
        "subgroups": {str(k): v for k, v in _SUBGROUPS.items()},
    }
    return {"en/data.json": data, "meta/groups.json": tree, "LICENSE": "MIT License\n"}


@pytest.fixture(scope="session")
def package_files() -> dict[tuple[str, str], dict[str, bytes]]:
    """Every package's files by (name, version)."""
    from emoji_pairs.sets import EMOJIBASE, SETS

    found = {EMOJIBASE: _emojibase()} | {
        (s.package, s.version): _icon_set(k, s.name) for k, s in enumerate(SETS)
    }
    packed: dict[tuple[str, str], dict[str, bytes]] = {}
    for (name, version), files in found.items():
        values = {"package.json": {"name": name, "version": version}, **files}
        packed[name, version] = {
            path: value.encode() if isinstance(value, str) else json.dumps(value).encode()
            for path, value in values.items()
        }
    return packed


Pack = Callable[..., Path]


@pytest.fixture(scope="session")
def pack(package_files: dict[tuple[str, str], dict[str, bytes]]) -> Pack:
    """Writes the packages to a folder, as `npm pack` leaves them or unpacked."""

    def to(folder: Path, *, unpacked: bool = False) -> Path:
        for (name, version), files in package_files.items():
            stem = f"{name.removeprefix('@').replace('/', '-')}-{version}"
            if unpacked:
                for path, data in files.items():
                    target = folder / stem / "package" / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(folder / f"{stem}.tgz", "w:gz") as archive:
                for path, data in files.items():
                    member = tarfile.TarInfo(f"package/{path}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        return folder

    return to


# A stand-in for Debian's package of furniture ------------------------------------------------------

# Corners of a cube about the origin; its faces, each seen from outside, by the side that shows them.
_CORNERS = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
FACES = {
    "right": (5, 7, 8, 6),
    "left": (1, 2, 4, 3),
    "top": (3, 4, 8, 7),
    "bottom": (1, 5, 6, 2),
    "front": (2, 6, 8, 4),
    "back": (1, 3, 7, 5),
}
COLOURS = {"front": (1, 0, 0), "right": (0, 1, 0), "back": (0, 0, 1), "left": (1, 1, 0)}


def cube(scale: tuple[float, float, float] = (1, 1, 1), extra: str = "") -> dict[str, bytes]:
    """An OBJ model of a block, one material a side: red front, green right, blue back, yellow left."""
    lines = ["mtllib thing.mtl"]
    lines += ["v " + " ".join(str(c * s) for c, s in zip(corner, scale, strict=True)) for corner in _CORNERS]
    lines += ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    materials = []
    for side, face in FACES.items():
        lines += [f"usemtl {side}", "f " + " ".join(f"{v}/{k + 1}" for k, v in enumerate(face))]
        colour = " ".join(str(c) for c in COLOURS.get(side, (0.5, 0.5, 0.5)))
        # Full white as ambient colour, as most of these files have it.
        materials.append(f"newmtl {side}\nKa 1 1 1\nKd {colour}\nKs 0 0 0\nd 1.0\n{extra}")
    return {"thing.obj": "\n".join(lines).encode(), "thing.mtl": "\n".join(materials).encode()}


def deb(control: str, files: dict[str, bytes]) -> bytes:
    """A Debian package of these files."""

    def tar(content: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:xz") as archive:
            for path, data in content.items():
                member = tarfile.TarInfo(f"./{path}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return out.getvalue()

    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar({"control": control.encode()}),
        "data.tar.xz": tar(files),
    }
    out = b"!<arch>\n"
    for name, data in parts.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


# Library: what its catalogue says of its licence, and Debian's name of that.
LIBRARIES = {
    "Scopia": ("Creative Commons Attribution 3.0 Unported license  \xa9 Somebody", "CC-BY-3.0"),
    "KatorLegaz": ("Creative Commons Attribution 3.0 United States license", "CC-BY-3.0-USA"),
    "BlendSwap-CC-0": ("Public domain", "CC0"),
    "Unclear": ("Public domain", "CC-BY-3.0"),
    "Copyleft": ("GNU General Public License", "GPL-2+"),
}
# Library, key, name, kind, maker, shape; and a licence file beside the model.
_BY_NC = b"Released under <a href='https://creativecommons.org/licenses/by-nc/3.0/'>CC-BY-NC</a>"
_ZERO = b"Released under\nCreative Commons Zero (Public Domain)\nhttp://www.blendswap.com/blends/view/7\n"
MODELS: list[tuple[str, str, str, str, str, tuple[float, float, float], bytes | None]] = [
    ("Scopia", "chair1", "Chair", "Living room", "Scopia", (1, 2, 1), None),
    ("Scopia", "chair2", "Oak chair", "Living room", "Scopia & eTeks", (1, 3, 1), None),
    ("Scopia", "car", "Concept Sedan 01", "Vehicles", "Scopia", (1, 1, 3), None),
    ("Scopia", "panel", "Panel", "Living room", "Scopia", (1, 1, 0.005), None),
    ("KatorLegaz", "seat", "chair", "Office", "Kator Legaz", (2, 1, 1), None),
    ("KatorLegaz", "post", "Post", "Exterior", "Kator Legaz", (1, 5, 1), None),
    ("BlendSwap-CC-0", "vase", "Vase", "Living room", "MattMump", (1, 4, 2), _ZERO),
    ("BlendSwap-CC-0", "nc", "Pot", "Living room", "MattMump", (1, 4, 3), _BY_NC),
    ("Unclear", "thing", "Thing", "Office", "Nobody", (1, 1, 1), None),
    ("Copyleft", "gnu", "Gnu", "Office", "Nobody", (1, 1, 1), None),
]  # fmt: skip


def library(name: str) -> bytes:
    """One .sh3f file."""
    out = io.BytesIO()
    lines = [f"license={LIBRARIES[name][0]}"]
    with zipfile.ZipFile(out, "w") as archive:
        own = [model for model in MODELS if model[0] == name]
        for number, (_, key, title, kind, maker, scale, notice) in enumerate(own, start=1):
            folder = f"{name.lower()}/{key}"
            files = cube(scale) | ({"LICENSE.html": notice} if notice else {})
            for file, data in files.items():
                archive.writestr(f"{folder}/{file}", data)
            fields = {
                "name": title, "category": kind, "creator": maker, "icon": f"/{folder}.png",
                "model": f"/{folder}/thing.obj",
            }  # fmt: skip
            lines += [f"{field}#{number}={value}" for field, value in fields.items()]
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines).encode("latin-1"))
    return out.getvalue()


@pytest.fixture(scope="session")
def furniture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweethome3d-furniture."""
    stanzas = ["Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"]
    stanzas += [
        f"Files: {name}/*\nCopyright: x\nLicense: {licence}" for name, (_, licence) in LIBRARIES.items()
    ]
    texts = ("CC0", "CC-BY-3.0", "CC-BY-3.0-USA", "GPL-2+")
    stanzas += [f"License: {licence}\n Text of {licence}.\n .\n The end." for licence in texts]
    files = {f"usr/share/sweethome3d/furniture/{name}.sh3f": library(name) for name in LIBRARIES}
    files["usr/share/doc/sweethome3d-furniture/copyright"] = "\n\n".join(stanzas).encode()
    path = tmp_path_factory.mktemp("deb") / "furniture.deb"
    path.write_bytes(deb("Package: sweethome3d-furniture\nVersion: 1.8-1\n", files))
    return path
