"""Reads the textures of two games as Debian packages them: what each shows, and under which licence."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from debian import stanzas, unpacked
from sempairs.errors import UserError
from sempairs.files import sha256_bytes, stable_hash
from sempairs.progress import track

TOOLS = Path(__file__).resolve().parents[1]
WORDS = TOOLS / "texture_pairs_words.csv"
# What looking at the pictures left out.
LEFT_OUT = TOOLS / "texture_pairs_left_out.csv"
# Package, version, the game's name here.
ZEROAD = ("0ad-data", "0.0.26-1", "0 A.D.")
UFOAI = ("ufoai-textures", "2.5-2", "UFO: Alien Invasion")
_ZIP = "usr/share/games/0ad/mods/public/public.zip"
_PK3 = "usr/share/games/ufoai/base/0textures.pk3"

# Debian's names of licences, as SPDX has them.
SPDX = {
    "CC-BY-3.0": "CC-BY-3.0",
    "CC-BY-SA-3.0": "CC-BY-SA-3.0",
    "Expat": "MIT",
    "GPL-2": "GPL-2.0-only",
    "GPL-2+": "GPL-2.0-or-later",
    "GPL-3+": "GPL-3.0-or-later",
    "public-domain": "LicenseRef-public-domain",
}
# A list of more authors than this belongs to so many files that it says nothing about one of them.
_MOST_AUTHORS = 12

_TYPES = "art/textures/terrain/"
_CACHED = ".cached.dds"
# Maps that belong to a texture and are none: normals, gloss and so on.
_MAPS = re.compile(r"_(nm|sm|gm|norm|spec|rm|dm|norm_no_parallax)$")
# In the names of 0 A.D.'s oldest textures, the biome that later ones have as a folder.
_BIOMES = {
    "aegean": "mediterranean", "alpine": "alpine", "desert": "desert", "medit": "mediterranean",
    "polar": "polar", "savanna": "savanna", "steppe": "steppe", "temp": "temperate", "tropic": "tropic",
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """material: by word of a file's name. avoid: words that say a picture shows something else."""

    material: Mapping[str, str]
    avoid: frozenset[str]

    def of(self, stem: str) -> tuple[str | None, str]:
        """The one material that a name's words speak of, and why there is none."""
        words = re.findall(r"[a-z]+", stem.lower())
        for word in words:
            if word in self.avoid:
                return None, "its name says that it shows something else"
        found = {self.material[word] for word in words if word in self.material}
        if len(found) == 1:
            return found.pop(), ""
        return None, "its name speaks of several materials" if found else "its name speaks of no material"


@dataclass(frozen=True)
class Texture:
    """key: game and path, unique. biome: where 0 A.D.'s terrain lies, else None. pixels: (H, W, 3) uint8."""

    key: str
    game: str
    material: str
    biome: str | None
    licence: str
    attribution: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Games:
    """textures: by key, in their order. left_out: reasons by key. licences: texts by file name. hashes: of
    what was read, by package."""

    textures: tuple[Texture, ...]
    left_out: Mapping[str, str]
    licences: Mapping[str, str]
    hashes: Mapping[str, str]


def read_words(game: str, path: Path = WORDS) -> Words:
    """Columns: word, material, game. A word without a material is avoided, one without a game is of both.

    game: 0ad or ufoai.
    """
    with path.open(encoding="utf-8", newline="") as handle:
        rows = {r["word"]: r["material"] for r in csv.DictReader(handle) if r["game"] in ("", game)}
    return Words({w: m for w, m in rows.items() if m}, frozenset(w for w, m in rows.items() if not m))


def read_left_out(path: Path = LEFT_OUT) -> dict[str, str]:
    """Reasons by key, as found by looking at the pictures."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["texture"]: row["reason"] for row in csv.DictReader(handle)}


def read_games(zeroad: Path, ufoai: Path, least: int) -> Games:
    """Textures of both games that show one material, of at least `least` pixels a side.

    zeroad, ufoai: the .deb files, or folders where they lie unpacked. Raises: UserError if one is absent,
    another one or damaged.
    """
    textures: list[Texture] = []
    left_out: dict[str, str] = {}
    looked_at = read_left_out()
    licences: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for (package, version, game), place, file in ((ZEROAD, zeroad, _ZIP), (UFOAI, ufoai, _PK3)):
        copyright_file = f"usr/share/doc/{package}/copyright"
        with unpacked(place, package, version, {file, copyright_file}.__contains__) as root:
            read: dict[str, str] = {}
            try:
                text = (root / copyright_file).read_text("utf-8")
                licence_of = Licences(text, game)
                with zipfile.ZipFile(root / file) as archive:
                    if package == ZEROAD[0]:
                        candidates = list(_zeroad(archive, read_words("0ad"), left_out))
                    else:
                        candidates = list(_ufoai(archive, read_words("ufoai"), left_out))
                    for key, name, material, biome in track(candidates, what=game, unit="texture"):
                        if key in looked_at:
                            left_out[key] = looked_at[key]
                            continue
                        data = archive.read(name)
                        read[key] = sha256_bytes(data)
                        pixels = _pixels(data, alpha_counts=package == UFOAI[0])
                        licence, attribution = licence_of.of(name)
                        reason = _unfit(pixels, licence, least)
                        if reason:
                            left_out[key] = reason
                            continue
                        assert pixels is not None and licence is not None
                        textures.append(Texture(key, game, material, biome, licence, attribution, pixels))
            except (OSError, KeyError, UnicodeError, zipfile.BadZipFile, ET.ParseError) as error:
                raise UserError(package, f"holds what cannot be read ({error})", str(place)) from None
            used = {texture.licence for texture in textures if texture.game == game}
            missing = used - licence_of.texts.keys()
            if missing:
                raise UserError(package, "lacks the text of the licence", min(missing))
            licences |= {f"{name}.txt": licence_of.texts[name] for name in sorted(used)}
            licences[f"copyright-{package}.txt"] = text
            hashes[package] = stable_hash(read)
    return Games(tuple(sorted(textures, key=lambda t: t.key)), left_out, licences, hashes)


class Licences:
    """Licence and authors of each file, as a Debian copyright file says. texts: by SPDX id."""

    def __init__(self, text: str, game: str) -> None:
        self._game = game
        self._of: dict[str, tuple[str | None, list[str]]] = {}
        self.texts: dict[str, str] = {}
        for fields in stanzas(text):
            licence = SPDX.get(fields.get("License", [""])[0])
            if "Files" in fields:
                names = [line.strip() for line in fields.get("Copyright", []) if line.strip()]
                for path in (line.strip() for line in fields["Files"]):
                    if path:
                        self._of[path] = licence, names
            elif licence:
                self.texts[licence] = "\n".join(fields["License"][1:]).strip() + "\n"

    def of(self, name: str) -> tuple[str | None, str]:
        """SPDX id and whom to name; None for a licence that is not in `SPDX`."""
        licence, authors = self._of.get(f"base/{name}") or self._of.get("*", (None, []))
        if len(authors) > _MOST_AUTHORS:
            who = "its authors, whom the package's copyright file lists"
        else:
            who = "; ".join(authors)
        return licence, f"{self._game}: {who}; cut into patches"


Candidate = tuple[str, str, str, str | None]


def _zeroad(archive: zipfile.ZipFile, words: Words, left_out: dict[str, str]) -> Iterator[Candidate]:
    """Base textures of terrains, whose own files say in which groups they lie: a biome, or a material."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name in sorted(archive.namelist()):
        if re.fullmatch(r"art/terrains/[^/]+/[^/]+\.xml", name) and not name.endswith("/terrains.xml"):
            for node in ET.fromstring(archive.read(name)).iter("texture"):
                if node.get("name") == "baseTex" and node.get("file"):
                    groups[f"{_TYPES}{node.get('file')}{_CACHED}"][name.split("/")[2]] += 1
    there = set(archive.namelist())
    for name in sorted(groups.keys() & there):
        path = PurePosixPath(name.removesuffix(_CACHED).removeprefix(f"{_TYPES}types/"))
        key = f"0ad/{path.with_suffix('').as_posix()}".replace(" ", "_")
        material, reason = words.of(path.stem)
        # A terrain's group says what it is where its name says nothing.
        said = {words.material[g] for g in groups[name] if g in words.material}
        if material is None and reason.endswith("no material") and len(said) == 1:
            material = said.pop()
        if material is None:
            left_out[key] = reason
            continue
        yield key, name, material, _biome(path, groups[name])


def _biome(path: PurePosixPath, groups: Mapping[str, int]) -> str | None:
    named = sorted(g.removeprefix("biome-") for g in groups if g.startswith("biome-"))
    return named[0] if named else _BIOMES.get(path.stem.split("_")[0])


def _ufoai(archive: zipfile.ZipFile, words: Words, left_out: dict[str, str]) -> Iterator[Candidate]:
    for name in sorted(archive.namelist()):
        path = PurePosixPath(name)
        if path.suffix not in (".png", ".jpg") or _MAPS.search(path.stem):
            continue
        key = "ufoai/" + path.relative_to("textures").with_suffix("").as_posix()
        folder = path.parent.name.removeprefix("tex_")
        material, reason = (
            (None, "its folder holds no materials") if folder in words.avoid else words.of(path.stem)
        )
        if material is None:
            left_out[key] = reason
            continue
        yield key, name, material, None


def _pixels(data: bytes, *, alpha_counts: bool) -> np.ndarray | None:
    """(H, W, 3); None for a picture with holes. The terrains of 0 A.D. have no use for alpha."""
    with Image.open(io.BytesIO(data)) as opened:
        if alpha_counts and "A" in opened.convert("RGBA").getbands():
            alpha = np.asarray(opened.convert("RGBA"))[..., 3]
            if alpha.min() < 250:
                return None
        return np.asarray(opened.convert("RGB"))


def _unfit(pixels: np.ndarray | None, licence: str | None, least: int) -> str:
    """Why a texture cannot be used; "" where it can."""
    if licence is None:
        return "its licence is not clear, or not free"
    if pixels is None:
        return "it has holes"
    if min(pixels.shape[:2]) < least:
        return f"it has under {least} pixels a side"
    if pixels.std(axis=(0, 1)).max() < 2:
        return "it is one colour"
    return ""
