"""The audit as a whole: pictures, what is shared, counts, files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from sempairs.catalog import Catalog
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources import open_source
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.pairs.audit import Audit, audit, write_audit
from sempairs.pairs.audit.licences import NONE, strictness
from sempairs.pairs.audit.run import DOUBT_SCHEMA
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet, save_with_baselines


def _picture(seed: int, side: int = 40) -> Image.Image:
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def _shape(kind: str) -> Image.Image:
    """A white drawing on nothing."""
    image = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    getattr(ImageDraw.Draw(image), kind)((4, 4, 35, 35), fill=(255, 255, 255, 255), outline=None)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of two pictures: different, the same file, the same picture in another file, nearly the
    same, two white shapes that differ in opacity only, and one that cannot be decoded."""
    root = tmp_path_factory.mktemp("images")
    made = {
        "different": (_picture(1), _picture(2)),
        "file": (_picture(3), _picture(3)),
        "picture": (_picture(4), _picture(4)),
        "near": (_picture(5), Image.eval(_picture(5), lambda v: min(v + 6, 255))),
        "white": (_shape("rectangle"), Image.eval(_shape("rectangle"), lambda v: v).resize((40, 40))),
        "broken": (_picture(7), _picture(8)),
    }
    made["white"][1].paste((255, 255, 255, 0), (0, 0, 40, 24))
    for name, images in made.items():
        (root / name).mkdir()
        for i, image in enumerate(images):
            image.save(root / name / f"{i}.png", compress_level=9 if name == "picture" and i else 1)
    return root


def _catalog(folder: Path) -> Catalog:
    catalog = open_source(f"folder:{folder}").scan().catalog
    return catalog.with_column("split", ["train"] * len(catalog))


@pytest.fixture(scope="module")
def pairs(folder: Path) -> PairSet:
    catalog = _catalog(folder)
    broken = folder / "broken" / "1.png"
    # Pairs of one file are never built; here they are to be found, so they are made of a catalogue that does
    # not know of it.
    hashes = catalog.column("file_hash")
    unknown = catalog.with_column("file_hash", [f"{i}" for i in range(len(catalog))])
    built = PairSet.build(unknown, PairsConfig(relation="same_category"))
    facts = built.config, built.pairs_per_epoch, built.catalog_hash, built.catalog_images
    built = PairSet(built.table, built.catalog.with_column("file_hash", hashes), *facts)
    broken.write_bytes(broken.read_bytes()[:-40])
    return built


@pytest.fixture(scope="module")
def found(pairs: PairSet) -> Audit:
    return audit(pairs)


def test_exact_and_near_duplicates_are_told_apart(found: Audit, pairs: PairSet) -> None:
    assert found.exact.pairs == 2
    assert (found.exact.files, found.exact.pixels) == (2, 4)
    assert found.near is not None
    assert (found.near.measured, found.near.pairs, found.near.alike_on_white) == (5, 3, 4)
    assert found.near.share == 3 / 5
    classes = {str(pairs.category.texts()[row]) for row in found.near_rows}
    assert classes == {"file", "picture", "near"}


def test_near_duplicates_are_those_of_a_loop_over_pictures(found: Audit, pairs: PairSet) -> None:
    near, white = set(), 0
    pictures = Pictures(pairs.catalog)
    for row in range(len(pairs)):
        layers = []
        for item in (pairs.anchor[row], pairs.partner[row]):
            try:
                image = pictures.image(int(pairs.index.rows[item])).convert("RGBA")
            except ValueError:
                break
            x = np.asarray(image.resize((32, 32), Image.Resampling.BOX)).astype(float) / 255
            layers.append((x[..., :3] * x[..., 3:] + 1 - x[..., 3:], x[..., 3]))
        else:
            colour, opacity = (np.sqrt(np.mean((layers[0][k] - layers[1][k]) ** 2)) for k in (0, 1))
            white += colour < 0.1
            if max(colour, opacity) < 0.1:
                near.add(row)
    assert near == set(found.near_rows.tolist())
    assert found.near is not None and white == found.near.alike_on_white


def test_images_that_cannot_be_read_are_named_and_the_audit_goes_on(found: Audit) -> None:
    assert found.near is not None and found.near.unreadable == 1
    assert "broken/1.png" in found.near.unreadable_first[0]


def test_every_image_is_decoded_once(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[int] = Counter()
    real = Pictures.image

    def counted(self: Pictures, row: int) -> Image.Image:
        opened[row] += 1
        return real(self, row)

    monkeypatch.setattr(Pictures, "image", counted)
    audit(pairs)
    assert opened == Counter(range(len(pairs.catalog)))


def test_without_pixels_no_image_is_opened(drawings: Catalog) -> None:
    """The images of `drawings` are nowhere."""
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain"))
    found = audit(pairs, pixels=False)
    assert found.near is None and found.similarity is None and found.measured_by == ""
    with pytest.raises(UserError, match="audit with --no-pixels"):
        audit(pairs)


def test_embeddings_give_the_similarity(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain"))
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(36, 5)).astype(np.float32)
    ids = tuple(drawings.column("image_id"))
    table = Embeddings(ids, tuple(drawings.column("file_hash")), vectors, {"encoder": "made"})
    found = audit(pairs, embeddings=table, pixels=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    at = {name: i for i, name in enumerate(ids)}
    columns = (pairs.table.column(name).to_pylist() for name in ("anchor", "partner"))
    cosines = [float(unit[at[a]] @ unit[at[b]]) for a, b in zip(*columns, strict=True)]
    assert found.similarity is not None
    spread = found.similarity["cross_domain"]
    assert (spread.pairs, spread.mean) == (len(pairs), pytest.approx(np.mean(cosines), abs=1e-5))
    assert list(spread.quantiles.values()) == pytest.approx(
        np.quantile(cosines, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), abs=1e-5
    )
    assert found.alike[0] == np.argmax(cosines) and found.unlike[0] == np.argmin(cosines)
    assert found.embeddings is not None and found.embeddings["hash"] == table.hash
    other = Embeddings(ids, ("changed",) * 36, vectors, {})
    with pytest.raises(UserError, match="was made when an image was another file"):
        audit(pairs, embeddings=other, pixels=False)


def test_images_shared_across_splits_and_with_evaluation_sets(make: Any) -> None:
    catalog = make(
        list("abcdefghij"), category=["x"] * 4 + ["y"] * 4 + ["z"] * 2,
        split=["train"] * 4 + ["test"] * 4 + [None] * 2, pixel_hash=[None] * 10,
        file_hash=["0", "1", "2", "3", "0", "5", "6", "7", "h8", "h9"],
        split_group=["g0", "g1", "g2", "g3", "g4", "g1", "g6", "g7", "g0", "g9"],
    )  # fmt: skip
    pairs = PairSet.build(catalog, PairsConfig(relation="same_category"))
    other = make(
        list("vwxyz"), split=["test", "train", "test", "validation", None],
        file_hash=["1", "2", "9", "10", "11"], split_group=["h", "h", "g2", "h", "g3"],
    )  # fmt: skip
    elsewhere = make(["q"], source=["folder:there"], split_group=["g2"])
    found = audit(pairs, pixels=False, against=[("eval", other), ("else", elsewhere)]).shared
    assert found.across_splits == 4  # a and e by file, b and f by group; i, in no split, has the group of a
    ours = found.against[0]
    # v by file and y by v's group; x by group; w is for training and z in no split.
    assert (ours.scored, ours.files, ours.pixels, ours.groups, ours.images) == (3, 1, 0, 3, 3)
    assert found.against[1].images == 0  # the same name of a group, in another source
    assert found.images == 7 and found.splits == {"none": 2, "test": 4, "train": 4}


def test_pixel_hashes_that_a_catalogue_lacks_are_computed(pairs: PairSet, folder: Path) -> None:
    scan = open_source(f"folder:{folder}").scan(decode=True).catalog
    fresh = scan.with_column("file_hash", [f"{i}" for i in range(len(scan))])
    overlap = audit(pairs, against=[("same pictures", fresh)]).shared.against[0]
    assert (overlap.files, overlap.pixels) == (0, len(scan))


def test_licences_of_pairs_are_the_stricter_ones(make: Any) -> None:
    catalog = make(
        list("abcd"), category=["x", "x", "y", "y"],
        licence=["MIT", "CC-BY-4.0", None, "CC-BY-SA-4.0"], attribution=["one", "two", None, "one"],
    )  # fmt: skip
    found = audit(PairSet.build(catalog, PairsConfig(relation="same_category")), pixels=False).licences
    assert found.pairs == {"CC-BY-4.0": 1, NONE: 1}
    assert (found.missing, found.mixed, found.unattributed) == (1, 2, 1)
    assert found.attributions == {"one": 2, "two": 1}
    order = ["CC0-1.0", "Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "Own terms", NONE]
    mixed = [order[i] for i in (3, 6, 0, 5, 2, 1, 4)]
    assert sorted(mixed, key=strictness) == order


def test_balance_and_partners(make: Any) -> None:
    ids = [f"i{n}" for n in range(8)]
    catalog = make(ids, category=["x"] * 6 + ["y"] * 2)
    found = audit(PairSet.build(catalog, PairsConfig(relation="same_category")), pixels=False)
    assert found.balance.classes == {"x": 3, "y": 1}
    share = np.array([0.75, 0.25])
    assert found.balance.evenness == pytest.approx(-(share * np.log2(share)).sum())
    assert (found.multiplicity.images, found.multiplicity.of) == ({1: 8}, 8)


def test_a_redrawn_pool_is_audited_by_its_first_draw(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain", mode="redrawn"))
    found = audit(pairs, pixels=False)
    assert found.subject.drawn and found.as_json()["partners_drawn_for_audit"]
    keys = {found.subject.key(int(row)) for row in found.doubts.rows}
    assert len(keys) == len(found.doubts.rows)
    assert found.multiplicity.repeated == 36 - len(keys)


def test_a_baseline_has_nothing_to_audit(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain", arm="augmented"))
    with pytest.raises(UserError, match="must hold a pair of two images"):
        audit(pairs, pixels=False)


def test_the_files_are_what_the_others_read_and_the_same_again(drawings: Catalog, tmp_path: Path) -> None:
    pairs = save_with_baselines(tmp_path / "pairs", drawings, PairsConfig(relation="cross_domain"))
    for place in ("one", "two"):
        write_audit(audit(pairs, pixels=False), tmp_path / place)
    about = json.loads((tmp_path / "one" / "audit.json").read_text())
    assert about["format"] == "sempairs.audit/1" and about["manifest_hash"] == pairs.manifest_hash
    expected = {
        "pairs", "embeddings", "near_duplicates", "shared", "balance", "multiplicity", "similarity",
        "doubtful", "false_pairs", "licences",
    }  # fmt: skip
    assert expected <= set(about) and about["doubtful"] == {"count": 0, "threshold": 0.5}
    assert about["false_pairs"] == {"by": {}, "elsewhere": 0, "sample_size": len(pairs), "unknown": 0}
    table = pq.read_table(tmp_path / "one" / "doubt.parquet")
    assert table.schema.equals(DOUBT_SCHEMA)
    rows = table.to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, len(pairs) + 1))
    assert all(row["anchor"] < row["partner"] for row in rows)
    for name in ("audit.json", "doubt.parquet", "index.html"):
        digests = {hashlib.sha256((tmp_path / p / name).read_bytes()).digest() for p in ("one", "two")}
        assert len(digests) == 1, name
