"""The release in the repository is what it says it is."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.released import open_released
from sempairs.pairs.table import PairSet
from sempairs.release import build_release, verify_release
from sempairs.release.facts import ReleaseFacts

ROOT = Path(__file__).parents[2] / "data" / "emoji-pairs"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return ReleaseSource(str(ROOT)).scan().catalog


def test_sound_and_small() -> None:
    assert verify_release(ROOT) == ()
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) <= 20_000_000


def test_size(catalog: Catalog) -> None:
    assert len(catalog) > 12_000
    assert len(set(catalog.column("concept"))) == 1632
    assert set(catalog.column("domain")) == {
        "Google", "Microsoft", "Twitter", "EmojiOne", "Mozilla", "Streamline",
    }  # fmt: skip
    assert set(catalog.column("width")) == set(catalog.column("height")) == {64}
    assert set(catalog.column("licence")) == {"Apache-2.0", "CC-BY-4.0", "MIT"}
    assert all(catalog.column("attribution"))
    assert all(catalog.column("pixel_hash"))


def test_every_licence_has_its_text(catalog: Catalog) -> None:
    for licence in set(catalog.column("licence")):
        assert len((ROOT / "LICENSES" / f"{licence}.txt").read_text("utf-8")) > 1000


def test_nothing_leaks_between_splits(catalog: Catalog) -> None:
    split, held_out = catalog.column("split"), catalog.column("held_out")
    for column in ("split_group", "concept", "pixel_hash", "file_hash"):
        seen = defaultdict(set)
        for value, name in zip(catalog.column(column), split, strict=True):
            if name is not None:
                seen[value].add(name)
        assert all(len(names) == 1 for names in seen.values()), column
    assert all(held_out[split == None])  # noqa: E711 (elementwise)


def test_shares(catalog: Catalog) -> None:
    seen = ~catalog.column("held_out")
    concept, split = catalog.column("concept")[seen], catalog.column("split")[seen]
    first = np.unique(concept.astype(str), return_index=True)[1]
    shares = {name: float(np.mean(split[first] == name)) for name in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.005)


def test_pictures_open() -> None:
    source = ReleaseSource(str(ROOT))
    picture = np.asarray(source.open_image("noto/1f600.webp"))
    assert picture.shape == (64, 64, 4)
    assert 0.3 < (picture[..., 3] > 127).mean() < 0.95
    assert picture[32, 10, 0] > 200  # a yellow face
    assert picture[32, 10, 2] < 150


def test_written_again_from_itself(tmp_path: Path, catalog: Catalog) -> None:
    """The writer still gives what was released: the same rows and, with the same pyarrow, the same bytes."""
    about = ReleaseSource(str(ROOT)).about
    facts = ReleaseFacts(**about["facts"])
    again = tmp_path / "again"
    build_release(ROOT, again, name=about["name"], version=about["version"], facts=facts, images=catalog)
    tables = sorted(file.relative_to(ROOT) for file in ROOT.rglob("*.parquet"))
    assert [str(file) for file in tables if file.parts[0] == "pairs"] == [
        f"pairs/{arm}.parquet" for arm in ("augmented", "image_matched", "semantic")
    ]
    for file in tables:
        one, two = (pq.read_table(root / file, partitioning=None) for root in (again, ROOT))
        assert one.equals(two)
        if about["builder"]["pyarrow"] == pa.__version__:
            assert (again / file).read_bytes() == (ROOT / file).read_bytes()


def test_pairs_open_and_match(catalog: Catalog) -> None:
    pairs, baseline = PairSet.open(ROOT), open_released(ROOT, "augmented")
    assert len(pairs) == len(baseline) > 3500
    concept, domain = pairs.catalog.column("concept"), pairs.catalog.column("domain")
    rows = pairs.catalog.rows_of(pairs.table.column("anchor").to_pylist())
    partners = pairs.catalog.rows_of(pairs.table.column("partner").to_pylist())
    assert (concept[rows] == concept[partners]).all()
    assert (domain[rows] != domain[partners]).all()
    assert set(pairs.catalog.column("split")) == {"train"}
    assert sorted(baseline.table.column("anchor").to_pylist()) == sorted(
        pairs.table.column("anchor").to_pylist()
    )
    # A revolver is no water pistol.
    guns = {c for c in catalog.column("concept") if c.startswith("1f52b")}
    assert guns == {"1f52b", "1f52b~revolver"}


def test_the_card_calls_no_machine_a_curator() -> None:
    card = (ROOT / "README.md").read_text("utf-8")
    assert "Machine-screened, not curated" in card
    assert "no person has judged" in card


# object-pairs ------------------------------------------------------------------------------------------

OBJECTS = ROOT.parent / "object-pairs"
SIDES = {"front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"}


@pytest.fixture(scope="module")
def objects() -> Catalog:
    return ReleaseSource(str(OBJECTS)).scan().catalog


def test_objects_are_sound_and_small() -> None:
    assert verify_release(OBJECTS, pixels=True) == ()
    assert sum(path.stat().st_size for path in OBJECTS.rglob("*") if path.is_file()) <= 12_000_000


def test_size_of_objects(objects: Catalog) -> None:
    assert len(objects) > 6_000
    assert len(set(objects.column("concept"))) > 780
    assert len(set(objects.column("maker"))) > 180
    assert set(objects.column("domain")) == SIDES
    assert set(objects.column("width")) == set(objects.column("height")) == {64}
    kinds = {path.split("/")[0] for path in objects.column("category")}
    assert len(kinds) == 12
    assert {path.count("/") for path in objects.column("category")} == {1}


def test_licences_of_objects(objects: Catalog) -> None:
    """None but CC-BY and CC0, with a text each and somebody to name, and the card names all of them."""
    assert set(objects.column("licence")) == {"CC-BY-3.0", "CC-BY-3.0-US", "CC0-1.0"}
    card = (OBJECTS / "README.md").read_text("utf-8")
    for licence in set(objects.column("licence")):
        assert len((OBJECTS / "LICENSES" / f"{licence}.txt").read_text("utf-8")) > 5000
    for attribution in set(objects.column("attribution")):
        assert attribution in card
    own = objects.column("library") == "KatorLegaz"
    assert set(objects.column("licence")[own]) == {"CC-BY-3.0-US"}
    assert all("Andrew Kator & Jennifer Legaz" in text for text in objects.column("attribution")[own])


def test_no_object_and_no_like_of_it_lies_in_two_splits(objects: Catalog) -> None:
    split, held_out = objects.column("split"), objects.column("held_out")
    for column in ("split_group", "concept", "category", "pixel_hash", "file_hash"):
        seen = defaultdict(set)
        for value, name in zip(objects.column(column), split, strict=True):
            if name is not None:
                seen[value].add(name)
        assert all(len(names) == 1 for names in seen.values()), column
    assert all(held_out[split == None])  # noqa: E711 (elementwise)
    assert set(objects.column("maker")[held_out]) == {"Jay-Artist", "Kator Legaz"}
    assert set(split[held_out]) == {"test", None}


def test_pairs_of_objects(objects: Catalog) -> None:
    """Those that come along are two sides of one object; the other relations follow from the columns."""
    pairs = PairSet.open(OBJECTS)
    assert len(pairs) > 1_500
    concept, side = pairs.catalog.column("concept"), pairs.catalog.column("domain")
    rows = pairs.catalog.rows_of(pairs.table.column("anchor").to_pylist())
    partners = pairs.catalog.rows_of(pairs.table.column("partner").to_pylist())
    assert (concept[rows] == concept[partners]).all()
    assert (side[rows] != side[partners]).all()
    train = objects.select(objects.column("split") == "train")
    names = PairsConfig(relation="cross_domain", mode="redrawn", meaning="category", domain_column="maker")
    epoch = plan_pairs(train, names).epoch(0)
    category, maker = train.column("category"), train.column("maker")
    assert len(epoch.anchor) > 500
    assert (category[epoch.anchor] == category[epoch.partner]).all()
    assert (maker[epoch.anchor] != maker[epoch.partner]).all()


def test_pictures_of_objects(objects: Catalog) -> None:
    """Every picture shows something, and fills its square as far as the object goes."""
    source = ReleaseSource(str(OBJECTS))
    rng = np.random.default_rng(0)
    for row in rng.choice(len(objects), 300, replace=False):
        alpha = np.asarray(source.open_image(objects.column("uri")[row]))[..., 3]
        rows, columns = (np.flatnonzero((alpha > 20).any(axis)) for axis in (1, 0))
        assert 54 <= max(len(rows), len(columns)) <= 62, objects.column("uri")[row]
        assert (alpha >= 128).mean() >= 0.015 or (alpha > 0).mean() >= 0.015
    # A truck of a red cab: its file says full white as ambient colour, and once it came out white.
    truck = np.asarray(source.open_image("scopia/truck/front-right.webp")).astype(int)
    red = (truck[..., 0] > 60) & (truck[..., 0] > 2.5 * truck[..., 1]) & (truck[..., 3] == 255)
    assert red.mean() > 0.03
