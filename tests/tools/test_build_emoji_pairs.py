"""The builder from packages to release, on stand-ins for the packages."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import build_emoji_pairs
from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.release import verify_release

Pack = Callable[..., Path]
PERMISSIVE = {"Apache-2.0", "CC-BY-4.0", "MIT"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, pack: Pack) -> Path:
    """The main release and, beside it, the add-on."""
    folder = tmp_path_factory.mktemp("built")
    packages = pack(folder / "packages")
    common = ["--packages", str(packages), "--out"]
    assert build_emoji_pairs.main([*common, str(folder / "main")]) == 0
    assert build_emoji_pairs.main([*common, str(folder / "by-sa"), "--by-sa"]) == 0
    return folder


def _catalogue(release: Path) -> Catalog:
    return ReleaseSource(str(release)).scan(decode=True).catalog


def _rows(release: Path, **wanted: object) -> list[dict[str, Any]]:
    rows = _catalogue(release).table.to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_result_is_sound(built: Path) -> None:
    for name in ("main", "by-sa"):
        assert verify_release(built / name, pixels=True) == ()


def test_same_packages_same_bytes(built: Path, pack: Pack, tmp_path: Path) -> None:
    packages = pack(tmp_path / "packages", unpacked=True)
    assert build_emoji_pairs.main(["--packages", str(packages), "--out", str(tmp_path / "again")]) == 0
    first = {
        p.relative_to(built / "main"): p.read_bytes() for p in (built / "main").rglob("*") if p.is_file()
    }
    again = {
        p.relative_to(tmp_path / "again"): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert first == again


def test_scope(built: Path) -> None:
    names = set(_catalogue(built / "main").column("name"))
    assert names == {
        "chestnut", "tomato", "fire", "fire engine", "turkey", "backhand index pointing left",
        "backhand index pointing right", "man firefighter", "woman firefighter", "red heart",
        "large orange diamond", "large blue diamond",
    }  # fmt: skip
    assert {row["flags"] for row in _rows(built / "main", subgroup="geometric")} == {"geometric"}
    assert {row["flags"] for row in _rows(built / "main", group="food-drink")} == {None}


def test_licences(built: Path) -> None:
    for name, allowed in (("main", PERMISSIVE), ("by-sa", {"CC-BY-SA-4.0"})):
        catalog = _catalogue(built / name)
        found = set(catalog.column("licence"))
        assert found == allowed
        assert all(catalog.column("attribution"))
        texts = {path.stem for path in (built / name / "LICENSES").iterdir()}
        assert texts == found | {"MIT-emojibase-data"}
    assert {row["licence"] for row in _rows(built / "main", set="fxemoji")} == {"CC-BY-4.0"}
    assert {row["set"] for row in _rows(built / "by-sa")} == {"openmoji", "emojione-v1"}


def test_joins(built: Path) -> None:
    def how(concept: str) -> dict[str, tuple[str, str]]:
        return {row["set"]: (row["icon"], row["join"]) for row in _rows(built / "main", concept=concept)}

    assert how("1f330")["noto"] == ("chestnut", "codepoint")
    assert how("1f330")["fluent-emoji"] == ("chestnut", "codepoint")
    assert how("1f330")["emojione"] == ("chestnut", "name")
    assert how("1f330")["fxemoji"] == ("acorn", "file")
    assert how("2764")["twemoji"] == ("red-heart", "codepoint")  # FE0F is no part of a concept
    assert how("1f345")["streamline-emojis"] == ("tomato-1", "name")
    assert "noto-v1" not in how("1f345")  # hidden
    assert "streamline-emojis" not in how("1f983")  # the flag of Turkey
    assert set(how("1f449")) == {"fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast"}


def test_mirrored_alias_is_mirrored(built: Path) -> None:
    source = ReleaseSource(str(built / "main"))
    left, right = (np.asarray(source.open_image(f"fluent-emoji/{code}.webp")) for code in ("1f448", "1f449"))
    assert not np.array_equal(left, right)
    np.testing.assert_array_equal(left[:, ::-1], right)


def test_groups_hold_together(built: Path) -> None:
    catalog = _catalogue(built / "main")
    group = dict(zip(catalog.column("concept"), catalog.column("split_group"), strict=True))
    assert group["1f468-200d-1f692"] == group["1f469-200d-1f692"]
    assert group["1f536"] == group["1f537"]  # one picture in the one-colour set
    assert len(set(group.values())) == len(group) - 2
    splits = defaultdict(set)
    pictures = defaultdict(set)
    for release in ("main", "by-sa"):  # the two agree
        for row in _rows(built / release):
            splits[row["split_group"]].add(row["split"])
            pictures[row["pixel_hash"]].add(row["split_group"])
    assert all(len(found - {None}) == 1 for found in splits.values())
    assert all(len(found) == 1 for found in pictures.values())


def test_held_out_designers(built: Path) -> None:
    rows = _rows(built / "main")
    assert {row["domain"] for row in rows if row["held_out"]} == {"Mozilla", "Streamline"}
    test_concepts = {row["concept"] for row in rows if row["split"] == "test" and not row["held_out"]}
    assert test_concepts
    for row in rows:
        if row["held_out"]:
            assert row["split"] == ("test" if row["concept"] in test_concepts else None)
        else:
            assert row["split"] in ("train", "validation", "test")


def test_release_says_how_it_was_built(built: Path) -> None:
    about = json.loads((built / "main" / "release.json").read_text())
    record = about["facts"]["record"]
    assert record["held_out_domains"] == ["Mozilla", "Streamline"]
    assert record["inputs"]["@iconify-json/noto"]["version"] == "1.2.9"
    assert len(record["inputs"]["@iconify-json/noto"]["files"]["icons.json"]) == 64
    assert sum(record["images_by_set"].values()) == about["counts"]["images"]
    assert set(about["pairs"]["sets"]) == {"semantic", "augmented", "image_matched"}
    assert "machine-screened" in (built / "main" / "README.md").read_text().lower()
    card = (built / "main" / "README.md").read_text()
    assert "not photographed" in card
    assert f"{about['counts']['images']:,} drawings of 12 concepts by 6 designers" in card


@pytest.mark.parametrize(
    "spoil", ["absent", "version", "truncated", "no json", "svg", "empty", "out", "folder"]
)
def test_mistakes_are_one_line(
    spoil: str, pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages, out = pack(tmp_path / "p", unpacked=spoil != "truncated"), tmp_path / "out"
    noto = packages / "iconify-json-noto-1.2.9" / "package"
    if spoil == "absent":
        (noto / "package.json").unlink()
        expected = "lacks @iconify-json/noto@1.2.9"
    elif spoil == "version":
        (noto / "package.json").write_text('{"name": "@iconify-json/noto", "version": "1.0.0"}')
        expected = "must hold @iconify-json/noto@1.2.9, got '@iconify-json/noto@1.0.0'"
    elif spoil == "truncated":
        tarball = packages / "iconify-json-noto-1.2.9.tgz"
        tarball.write_bytes(tarball.read_bytes()[:100])
        expected = "holds an unreadable tarball"
    elif spoil == "no json":
        (noto / "icons.json").write_text("{")
        expected = "icons.json is not JSON"
    elif spoil in ("svg", "empty"):
        icons = json.loads((noto / "icons.json").read_text())
        icons["icons"]["fire"]["body"] = "<rect" if spoil == "svg" else "<g/>"
        (noto / "icons.json").write_text(json.dumps(icons))
        expected = "icon fire cannot be drawn" if spoil == "svg" else "icon fire is an empty picture"
    elif spoil == "out":
        out.mkdir()
        (out / "mine").write_text("")
        expected = "--out must be a new or empty folder"
    else:
        packages = tmp_path / "nowhere"
        expected = "--packages must be an existing folder"
    assert build_emoji_pairs.main(["--packages", str(packages), "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert expected in line
    assert spoil == "out" or not out.exists()
