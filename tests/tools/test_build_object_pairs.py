"""The builder of object-pairs on a small package: the release is sound, and says what it is and is not."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import build_object_pairs
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.catalog.taxonomy import top
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.release import verify_release

pytest.importorskip("vtkmodules")


@pytest.fixture(scope="module")
def built(furniture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("objects")
    given = ["--package", str(furniture), "--out", str(place / "out"), "--cache", str(place / "cache")]
    lists = place / "left_out.csv"
    lists.write_text("model,reason\nscopia/car,it shows a banknote\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_object_pairs.build, "LEFT_OUT", lists)
        assert build_object_pairs.main([*given, "--sheets", str(place / "sheets")]) == 0
    return place / "out"


def rows(release: Path) -> list[dict[str, Any]]:
    return [
        row
        for file in sorted((release / "data").glob("*.parquet"))
        for row in pq.read_table(file).drop(["image"]).to_pylist()
    ]


def test_sound(built: Path) -> None:
    assert verify_release(built, pixels=True) == ()


def test_what_is_in_it(built: Path) -> None:
    found = rows(built)
    by_object = defaultdict(list)
    for row in found:
        by_object[row["concept"]].append(row)
    assert set(by_object) == {
        "scopia/chair1", "scopia/chair2", "scopia/panel", "katorlegaz/seat", "katorlegaz/post",
        "blendswap-cc-0/vase",
    }  # fmt: skip
    assert {row["domain"] for row in by_object["scopia/chair1"]} == {
        "front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left",
    }  # fmt: skip
    assert {row["category"] for row in by_object["katorlegaz/seat"]} == {"living room/chair"}
    assert {row["filed_under"] for row in by_object["katorlegaz/seat"]} == {"Office"}
    assert all(row["attribution"] and row["licence"] for row in found)
    for licence in {row["licence"] for row in found}:
        assert (built / "LICENSES" / f"{licence}.txt").is_file()
    # Looked at from beside, a panel is a line.
    assert len(by_object["scopia/panel"]) < 8
    assert {"right", "left"} - {row["domain"] for row in by_object["scopia/panel"]}


def test_nothing_of_a_group_lies_in_two_splits(built: Path) -> None:
    splits = defaultdict(set)
    for row in rows(built):
        assert row["split"] in (("test", None) if row["held_out"] else ("train", "validation", "test"))
        for column in ("split_group", "concept", "pixel_hash"):
            splits[column, row[column]].add(row["split"])
    assert all(len(found - {None}) <= 1 for found in splits.values())
    group = {row["concept"]: row["split_group"] for row in rows(built)}
    assert group["scopia/chair1"] == group["scopia/chair2"] == group["katorlegaz/seat"] == "chair"


def test_the_release_says_what_is_not_in_it(built: Path) -> None:
    about = json.loads((built / "release.json").read_text())
    record = about["facts"]["record"]
    assert record["left_out"] == {
        "blendswap-cc-0/nc": "its licence is not clear, or not free",
        "copyleft/gnu": "its licence is not clear, or not free",
        "scopia/car": "it shows a banknote",
        "unclear/thing": "its licence is not clear, or not free",
    }
    assert record["models"]["released"] == 6
    assert record["models"]["left_out"] == {
        "its licence is not clear, or not free": 3,
        "it shows a banknote": 1,
    }
    card = (built / "README.md").read_text()
    for said in (
        "not photographed",
        "Neither curated nor screened",
        "http://www.blendswap.com/blends/view/7",
    ):
        assert said in card


def test_the_three_relations(built: Path) -> None:
    catalog = ReleaseSource(str(built)).scan().catalog
    concept, maker, category = (catalog.column(name) for name in ("concept", "maker", "category"))

    def pairs(**given: Any) -> list[tuple[int, int]]:
        one = catalog.with_column("split", ["train"] * len(catalog))
        epoch = plan_pairs(one, PairsConfig(mode="redrawn", **given)).epoch(0)
        return list(zip(epoch.anchor.tolist(), epoch.partner.tolist(), strict=True))

    views = pairs(relation="cross_domain")
    assert len(views) == len(catalog)
    assert all(concept[a] == concept[b] and a != b for a, b in views)
    names = pairs(relation="cross_domain", meaning="category", domain_column="maker")
    assert {concept[a] for a, _ in names} == {"scopia/chair1", "katorlegaz/seat"}
    assert all(category[a] == category[b] and maker[a] != maker[b] for a, b in names)
    kinds = pairs(relation="sibling")
    assert {top(category[a]) for a, _ in kinds} == {"living room"}
    assert all(category[a] != category[b] and top(category[a]) == top(category[b]) for a, b in kinds)


def test_built_again_from_what_is_kept(
    built: Path, furniture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second build goes on from the pictures that are kept, and gives the same images and pairs."""
    cache, out = built.parent / "cache", tmp_path / "out"
    assert len(list(cache.iterdir())) == 6
    monkeypatch.setattr(build_object_pairs.build, "LEFT_OUT", built.parent / "left_out.csv")
    monkeypatch.setattr("object_pairs.render.render_apart", None)
    given = ["--package", str(furniture), "--out", str(out), "--cache", str(cache)]
    assert build_object_pairs.main(given) == 0
    for file in sorted(built.rglob("*.parquet")):
        assert (out / file.relative_to(built)).read_bytes() == file.read_bytes()
    assert list((built.parent / "sheets").glob("*.png"))


@pytest.mark.parametrize("spoil", ["absent", "taken", "package"])
def test_mistakes_are_one_line(
    spoil: str, furniture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, out = furniture, tmp_path / "out"
    if spoil == "absent":
        package, expected = tmp_path / "no.deb", "--package must be an existing file"
    elif spoil == "taken":
        out.mkdir()
        (out / "mine").write_text("")
        expected = "--out must be a new or empty folder"
    else:
        package = tmp_path / "x.deb"
        package.write_bytes(b"!<arch>\n")
        expected = "must be a Debian package that can be read"
    assert build_object_pairs.main(["--package", str(package), "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert expected in line
