"""The builder of texture-pairs on small packages in the true formats: the release is sound."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import build_texture_pairs
from sempairs.catalog.sources import open_source
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.release import verify_release
from sempairs.testing.tasks import check_task
from texture_pairs import games, patches

from .conftest import deb

_COPYRIGHT = """Format: x

Files: *
Copyright: 2010 A Team
License: {default}

Files:
 base/textures/tex_nature/sand1.png
Copyright:
 One Author
 Another
License: CC-BY-SA-3.0

Files: base/textures/tex_nature/sand2.png
Copyright: Somebody
License: Unfree

License: CC-BY-SA-3.0
 Text of it.
 .
 The end.

License: GPL-2+
 See the text of the licence.
"""


def picture(seed: int, side: int = 192, kind: str = "PNG", alpha: int = 255) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((side, side)).convert("RGBA")
    image.putalpha(alpha)
    out = io.BytesIO()
    (image.convert("RGB") if kind == "JPEG" else image).save(out, kind)
    return out.getvalue()


def terrain(file: str) -> bytes:
    return f'<terrain><textures><texture name="baseTex" file="types/{file}"/></textures></terrain>'.encode()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as handle:
        for name, data in files.items():
            handle.writestr(name, data)
    return out.getvalue()


def package(name: str, version: str, path: str, files: dict[str, bytes], default: str) -> bytes:
    doc = f"usr/share/doc/{name}"
    content = {
        f"{doc}/copyright": _COPYRIGHT.format(default=default).encode(),
        f"{doc}/changelog.Debian.gz": gzip.compress(f"source ({version}) unstable\n".encode()),
        path: archive(files),
    }
    return deb(f"Package: {name}\nVersion: {version}\n", content)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both .deb files. Grass and sand are in both games, dirt in one, snow by its terrain's group alone."""
    place = tmp_path_factory.mktemp("games")
    first: dict[str, bytes] = {}
    names = {
        "grass": "biome-desert", "sand": "sand", "dirt": "dirt", "white": "snow", "sand_grass": "sand",
        "lava": "dirt",
    }  # fmt: skip
    for number, (stem, group) in enumerate(names.items()):
        for k in range(4):
            first[f"art/terrains/{group}/{stem}_{k}.xml"] = terrain(f"{stem}_{k}.png")
            data = picture(10 * number + k, 192, "DDS")
            first[f"art/textures/terrain/types/{stem}_{k}.png.cached.dds"] = data
    first["art/textures/terrain/types/grass_0_norm.png.cached.dds"] = picture(99, 192, "DDS")
    first["art/terrains/sand/terrains.xml"] = b"<Terrains/>"
    other: dict[str, bytes] = {}
    for k in range(4):
        other[f"textures/tex_nature/grass{k}.jpg"] = picture(200 + k, 128, "JPEG")
        other[f"textures/tex_nature/sand{k}.png"] = picture(300 + k)
    other["textures/tex_nature/desert9.png"] = picture(300)  # sand0 again
    other["textures/tex_nature/grass0_nm.png"] = picture(1)
    other["textures/tex_nature/dirt_holes.png"] = picture(2, alpha=0)
    other["textures/tex_nature/dirt_small.png"] = picture(3, 64)
    other["textures/tex_pics/grass_art.png"] = picture(4)
    other["textures/tex_nature/wood_sign.png"] = picture(5)
    (place / "0.deb").write_bytes(package(*games.ZEROAD[:2], games._ZIP, first, "CC-BY-SA-3.0"))
    (place / "u.deb").write_bytes(package(*games.UFOAI[:2], games._PK3, other, "GPL-2+"))
    return place / "0.deb", place / "u.deb"


@pytest.fixture(scope="module")
def built(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("textures")
    given = ["--zeroad", str(packages[0]), "--ufoai", str(packages[1]), "--out", str(place / "out")]
    assert build_texture_pairs.main([*given, "--sheets", str(place / "sheets")]) == 0
    return place / "out"


def rows(release: Path) -> list[dict[str, Any]]:
    return [
        row
        for file in sorted((release / "data").glob("*.parquet"))
        for row in pq.read_table(file).drop(["image"]).to_pylist()
    ]


def test_sound(built: Path) -> None:
    assert verify_release(built, pixels=True) == ()
    assert {p.name for p in (built.parent / "sheets").iterdir()} == {"0ad.png", "ufoai.png"}


def test_what_is_in_it(built: Path) -> None:
    found = defaultdict(list)
    for row in rows(built):
        found[row["texture"]].append(row)
    assert {row["concept"] for own in found.values() for row in own} == {"grass", "sand", "dirt", "snow"}
    assert {row["concept"] for row in found["0ad/white_0"]} == {"snow"}
    assert {row["biome"] for row in found["0ad/grass_1"]} == {"desert"}
    assert len(found["0ad/sand_0"]) == 9
    assert len(found["ufoai/tex_nature/grass0"]) == 4
    assert {(r["licence"], r["attribution"]) for r in found["ufoai/tex_nature/sand1"]} == {
        ("CC-BY-SA-3.0", "UFO: Alien Invasion: One Author; Another; cut into patches")
    }
    assert {r["licence"] for r in found["ufoai/tex_nature/grass1"]} == {"GPL-2.0-or-later"}
    assert {p.name for p in (built / "LICENSES").iterdir()} == {
        "CC-BY-SA-3.0.txt", "GPL-2.0-or-later.txt", "copyright-0ad-data.txt", "copyright-ufoai-textures.txt",
    }  # fmt: skip
    # One picture under two names is there once, and both names share a group.
    assert ("ufoai/tex_nature/desert9" in found) != ("ufoai/tex_nature/sand0" in found)


def test_what_is_left_out_and_why(built: Path) -> None:
    left_out = json.loads((built / "release.json").read_text())["facts"]["record"]["left_out"]
    wanted = {
        "0ad/lava_0": "something else",
        "0ad/sand_grass_0": "several materials",
        "ufoai/tex_nature/dirt_holes": "holes",
        "ufoai/tex_nature/dirt_small": "under 128 pixels",
        "ufoai/tex_nature/sand2": "licence is not clear",
        "ufoai/tex_nature/wood_sign": "something else",
        "ufoai/tex_pics/grass_art": "folder holds no materials",
    }
    for key, reason in wanted.items():
        assert reason in left_out[key]
    assert "ufoai/tex_nature/grass0_nm" not in left_out
    assert "0ad/grass_0_norm" not in left_out


def test_no_texture_lies_in_two_splits(built: Path) -> None:
    splits = defaultdict(set)
    for row in rows(built):
        assert row["split"] in ("train", "validation", "test")
        for column in ("split_group", "texture", "pixel_hash"):
            splits[column, row[column]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    shown = {(row["concept"], row["domain"], row["split"]) for row in rows(built)}
    for game in (games.ZEROAD[2], games.UFOAI[2]):
        for material in ("grass", "sand"):
            assert {(material, game, "train"), (material, game, "test")} <= shown


def test_relations_through_columns(built: Path) -> None:
    catalog = open_source(f"release:{built}").scan().catalog
    train = catalog.select(catalog.column("split") == "train")
    texture, game, material = (train.column(name) for name in ("texture", "domain", "concept"))
    patch = train.column("patch")

    def ends(**settings: Any) -> tuple[np.ndarray, np.ndarray]:
        pairs = plan_pairs(train, PairsConfig(mode="redrawn", **settings), draw_seed=1).epoch(0)
        return pairs.anchor, pairs.partner

    a, b = ends(relation="cross_domain")
    assert len(a)
    assert (material[a] == material[b]).all()
    assert (game[a] != game[b]).all()
    a, b = ends(relation="cross_domain", meaning="category", domain_column="patch")
    assert len(a)
    assert (texture[a] == texture[b]).all()
    assert (patch[a] != patch[b]).all()
    a, b = ends(relation="sibling")
    assert len(a)
    assert (material[a] == material[b]).all()
    assert (texture[a] != texture[b]).all()


def test_a_material_across_games(built: Path) -> None:
    check_task(f"texture-pairs:{built}")


def test_unpacked_gives_the_same(
    built: Path, packages: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from debian import members

    places = []
    for number, file in enumerate(packages):
        root = tmp_path / str(number)
        for name, handle in members(file, "data", lambda name: True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(handle.read())
        places.append(root)
    given = ["--zeroad", str(places[0]), "--ufoai", str(places[1]), "--out", str(tmp_path / "out")]
    assert build_texture_pairs.main(given) == 0
    manifests = [
        json.loads((r / "release.json").read_text())["manifest_hash"] for r in (built, tmp_path / "out")
    ]
    assert manifests[0] == manifests[1]
    changelog = next(places[0].rglob("changelog.Debian.gz"))
    changelog.write_bytes(gzip.compress(b"0ad-data (9) unstable\n"))
    assert build_texture_pairs.main([*given[:-1], str(tmp_path / "again")]) == 2
    assert "must be 0ad-data 0.0.26-1" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["absent", "taken", "damaged", "swapped"])
def test_mistakes_are_one_line(
    spoil: str, packages: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, second), out = packages, tmp_path / "out"
    if spoil == "absent":
        first, expected = tmp_path / "no.deb", "--zeroad must be an existing file or folder"
    elif spoil == "taken":
        out.mkdir()
        (out / "mine").write_text("")
        expected = "--out must be a new or empty folder"
    elif spoil == "damaged":
        first = tmp_path / "x.deb"
        first.write_bytes(b"!<arch>\n")
        expected = "must be a Debian package that can be read"
    else:
        first, second = second, first
        expected = "must be 0ad-data 0.0.26-1"
    given = ["--zeroad", str(first), "--ufoai", str(second), "--out", str(out)]
    assert build_texture_pairs.main(given) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert expected in line


@pytest.mark.parametrize("shape", [(128, 128), (128, 500), (192, 192), (1000, 700)])
def test_patches_of_a_texture_do_not_overlap(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    texture = games.Texture("a", "g", "grass", None, "x", "y", pixels)
    found = patches.cut(texture)
    assert len(found) == (9 if min(shape) >= 192 else 4)
    covered = np.zeros(shape, dtype=int)
    for patch in found:
        left, top, right, bottom = patch.box
        assert right - left == bottom - top >= 64
        assert 0 <= left < right <= shape[1]
        assert 0 <= top < bottom <= shape[0]
        covered[top:bottom, left:right] += 1
        assert patch.pixels.shape == (64, 64, 3)
    assert covered.max() == 1
    assert [patch.box for patch in patches.cut(texture)] == [patch.box for patch in found]


def test_recoloured_textures_share_a_group() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (64, 64, 3), dtype=np.uint8)
    other = np.random.default_rng(1).integers(0, 200, (64, 64, 3), dtype=np.uint8)
    made = [
        games.Texture(key, "g", "grass", None, "x", "y", p)
        for key, p in (("a", pixels), ("b", (pixels * [0.5, 0.9, 1.2]).astype(np.uint8)), ("c", other))
    ]
    group, alike = patches.split_groups(made)
    assert group == {"a": "a", "b": "a", "c": "c"}
    assert [pair[:2] for pair in alike] == [("a", "b")]
