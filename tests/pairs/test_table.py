"""Sets of pairs as tables and folders: hashes, saving, opening, damage."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.files import sha256_file
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.manifest import pair_hash
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.table import PAIR_SCHEMA, PairSet, save_with_baselines


@pytest.fixture
def folder(drawings: Catalog, tmp_path: Path) -> Path:
    save_with_baselines(tmp_path / "pairs", drawings, PairsConfig(relation="cross_domain"))
    return tmp_path / "pairs"


def listed(folder: Path, **config: Any) -> PairsConfig:
    return PairsConfig(relation="listed", file=str(folder), **config)


def test_the_manifest_hash_is_of_unordered_pairs_ids_and_relation() -> None:
    lines = ['{"pairs": 1}', '["a", "b", "r"]', '["c", "d", "s"]']
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert pair_hash(["a", "c"], ["b", "d"], ["r", "s"]) == expected
    assert pair_hash(["d", "b"], ["c", "a"], ["s", "r"]) == expected
    assert pair_hash(["a", "c"], ["b", "d"], ["r", "r"]) != expected
    assert pair_hash(["a", "d"], ["b", "b"], ["r", "s"]) != expected
    # Names that would run together if they were only joined.
    assert pair_hash(['a", "b'], ["c"], ["r"]) != pair_hash(["a"], ['b", "c'], ["r"])


def test_sets_stay_the_same_from_release_to_release(drawings: Catalog) -> None:
    hashes = {
        relation: plan_pairs(drawings, PairsConfig(relation=relation)).manifest_hash[:12]
        for relation in ("same_category", "sibling", "cross_domain", "random_same_category", "augmented")
    }
    pool = plan_pairs(drawings, PairsConfig(relation="cross_domain", mode="redrawn"), draw_seed=1)
    drawn = hashlib.sha256(pool.epoch(2).partner.astype("<i8").tobytes()).hexdigest()[:12]
    assert (hashes, pool.manifest_hash[:12], drawn) == GOLDEN


# Change these only with a line in the changelog: studies made before can no longer be repeated.
GOLDEN: Any = (
    {
        "same_category": "11ca635133e5", "sibling": "9b8ac4970eaf", "cross_domain": "ca07413b7af2",
        "random_same_category": "3dede1a5f04d", "augmented": "3788719bc0ea",
    },
    "adadfa3f01e3",
    "f13dfd9e6217",
)  # fmt: skip


def test_the_table_says_how_each_pair_was_made(drawings: Catalog) -> None:
    config = PairsConfig(relation="sibling", depth=1, corrupted=0.25, seed=4)
    pairs = PairSet.build(drawings, config)
    assert pairs.table.schema == PAIR_SCHEMA
    names = pairs.table.column("relation").to_pylist()
    assert (names.count("corrupted"), names.count("sibling(1)")) == (
        round(0.25 * len(pairs)),
        round(0.75 * len(pairs)),
    )
    assert json.loads(pairs.table.column("params")[0].as_py()) == {"corrupted": 0.25, "seed": 4}
    assert pairs.table.column("builder")[0].as_py().startswith("sempairs ")
    assert len(pairs.catalog) == len(plan_pairs(drawings, config).images)
    pairs.validate()


def test_baselines_lie_beside_the_semantic_set(folder: Path) -> None:
    semantic = PairSet.open(folder)
    augmented, matched = (PairSet.open(folder / arm) for arm in ("augmented", "image_matched"))
    assert len(semantic) == len(augmented) == augmented.pairs_per_epoch == matched.pairs_per_epoch == 12
    assert augmented.table.column("anchor").equals(semantic.table.column("anchor"))
    assert augmented.table.column("partner").equals(semantic.table.column("anchor"))
    assert len(matched) == 24
    assert set(matched.table.column("anchor").to_pylist()) == set(semantic.catalog.column("image_id"))
    about = json.loads((folder / "pairs.json").read_text())
    assert about["counts"] == {
        "rows": 12, "pairs_per_epoch": 12, "images": 24, "meanings": 12, "classes": 6, "catalog_images": 36,
    }  # fmt: skip
    assert sorted(p.name for p in folder.iterdir()) == [
        "augmented", "catalog.arrow", "image_matched", "pairs.arrow", "pairs.json",
    ]  # fmt: skip


def test_pools_and_augmented_sets_have_no_baselines(drawings: Catalog, tmp_path: Path) -> None:
    for name, config in (
        ("pool", PairsConfig(relation="cross_domain", mode="redrawn")),
        ("augmented", PairsConfig(relation="augmented")),
    ):
        pairs = save_with_baselines(tmp_path / name, drawings, config)
        assert not (tmp_path / name / "augmented").exists()
        assert pairs.table.column("partner").null_count == (36 if name == "pool" else 0)


def test_every_arm_of_a_folder_trains_as_its_recipe_did(drawings: Catalog, folder: Path) -> None:
    for arm in ("semantic", "augmented", "image_matched"):
        from_recipe = plan_pairs(drawings, PairsConfig(relation="cross_domain", arm=arm), draw_seed=3)
        from_folder = plan_pairs(drawings, listed(folder, arm=arm), draw_seed=3)
        for e in (0, 1):
            for one, other in zip(from_recipe.epoch(e), from_folder.epoch(e), strict=True):
                np.testing.assert_array_equal(one, other)
        assert (
            from_folder.manifest_hash
            == from_recipe.manifest_hash
            == (PairSet.open(folder if arm == "semantic" else folder / arm).manifest_hash)
        )


def test_a_folder_may_be_limited_modified_and_redrawn(drawings: Catalog, folder: Path) -> None:
    assert plan_pairs(drawings, listed(folder, count=5)).n == 5
    mixed = plan_pairs(drawings, listed(folder, mixed=0.0)).epoch(0)
    assert mixed.anchor.tolist() == mixed.partner.tolist()
    redrawn = plan_pairs(drawings, listed(folder, mode="redrawn"))
    assert redrawn.n == 24
    pair = {frozenset(p) for p in zip(*plan_pairs(drawings, listed(folder)).epoch(0)[:2], strict=True)}
    assert {frozenset(p) for p in zip(*redrawn.epoch(0)[:2], strict=True)} == pair


def test_a_redrawn_list_can_be_saved_and_used(drawings: Catalog, folder: Path, tmp_path: Path) -> None:
    config = listed(folder, mode="redrawn")
    save_with_baselines(tmp_path / "again", drawings, config)
    one, two = plan_pairs(drawings, config), plan_pairs(drawings, listed(tmp_path / "again", mode="redrawn"))
    assert one.manifest_hash == two.manifest_hash
    assert one.epoch(1).partner.tolist() == two.epoch(1).partner.tolist()


@pytest.mark.parametrize(
    ("built", "used", "message"),
    [
        ({"mode": "redrawn"}, {}, r"pairs.mode must be redrawn for the pool in .*, got 'fixed'"),
        (
            {"mode": "redrawn"},
            {"mode": "redrawn", "count": 4},
            r"pairs.count cannot be applied to .* redrawn pool",
        ),
        ({"mixed": 0.5}, {"corrupted": 0.5}, r"pairs.corrupted cannot be applied to .* has modified pairs"),
        ({"mixed": 0.5}, {"mode": "redrawn"}, r"pairs.mode must be fixed for"),
        ({"corrupted": 0.5}, {"arm": "image_matched"}, r"pairs.arm cannot be derived from"),
    ],
)
def test_changes_that_would_mean_two_things_are_refused(
    drawings: Catalog, tmp_path: Path, built: dict[str, Any], used: dict[str, Any], message: str
) -> None:
    save_with_baselines(tmp_path / "pairs", drawings, PairsConfig(relation="cross_domain", **built))
    with pytest.raises(UserError, match=message):
        plan_pairs(drawings, listed(tmp_path / "pairs", **used))


def test_a_baseline_is_not_a_semantic_set(drawings: Catalog, folder: Path) -> None:
    with pytest.raises(UserError, match=r"give the folder it lies in, and pairs.arm=augmented"):
        plan_pairs(drawings, listed(folder / "augmented"))


def test_a_folder_needs_its_images(drawings: Catalog, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row \d+ (anchor|partner) 'c.*' is not among the 10 images given"):
        plan_pairs(drawings.select(np.arange(10)), listed(folder))
    save_with_baselines(tmp_path / "pool", drawings, PairsConfig(relation="cross_domain", mode="redrawn"))
    with pytest.raises(UserError, match="names an image that is not among the 10 given"):
        plan_pairs(drawings.select(np.arange(10)), listed(tmp_path / "pool", mode="redrawn"))
    other = drawings.with_column("concept", ["same"] * 36)
    with pytest.raises(UserError, match="was built when its images had other labels"):
        plan_pairs(other, listed(tmp_path / "pool", mode="redrawn"))


def test_saving_is_whole_or_not_at_all(
    drawings: Catalog, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PairsConfig(relation="cross_domain")
    with pytest.raises(UserError, match="must be a new or empty folder"):
        save_with_baselines(folder, drawings, config)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sempairs.pairs.table.write_json", fail)
    with pytest.raises(OSError, match="No space left"):
        PairSet.build(drawings, config).save(tmp_path / "new")
    assert os.listdir(tmp_path) == ["pairs"]


@pytest.mark.parametrize("name", ["pairs.arrow", "catalog.arrow"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "absent"])
def test_damaged_files_are_named(folder: Path, name: str, damage: str) -> None:
    data = bytearray((folder / name).read_bytes())
    if damage == "absent":
        (folder / name).unlink()
    else:
        data[len(data) // 2] ^= 1
        kept = {"cut": data[: len(data) // 3], "flipped": data, "empty": b""}[damage]
        (folder / name).write_bytes(kept)
    with pytest.raises(UserError, match=rf"{name} (is missing|was changed or cut short)") as caught:
        PairSet.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: "not json", "is not readable JSON"),
        (lambda a: "[]", "is not what `pairs build` writes"),
        (
            lambda a: json.dumps({k: v for k, v in a.items() if k != "counts"}),
            "is not what `pairs build` writes",
        ),
        (lambda a: json.dumps(a | {"format": 2}), "was written by a later version"),
        (lambda a: json.dumps(a | {"manifest_hash": "0" * 64}), "does not hold the pairs its manifest hash"),
        (lambda a: json.dumps(a | {"config": {"relation": "x"}}), "pairs.json: pairs.relation is unknown"),
        (lambda a: json.dumps(a | {"files": None}), "is not what `pairs build` writes"),
    ],
)
def test_an_edited_description_is_refused(folder: Path, change: Any, message: str) -> None:
    about = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(change(about))
    with pytest.raises(UserError, match=message) as caught:
        PairSet.open(folder)
    assert "\n" not in str(caught.value)


def edit(folder: Path, column: str, values: list[Any]) -> None:
    """Changes the table and the file's hash along with it, as a careful editor would."""
    table = pa.ipc.open_file((folder / "pairs.arrow").read_bytes()).read_all()
    place = table.schema.get_field_index(column)
    array = pa.array(values, type=pa.string()).cast(table.schema.field(column).type)
    table = table.set_column(place, table.schema.field(column), array)
    with pa.OSFile(str(folder / "pairs.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    about = json.loads((folder / "pairs.json").read_text())
    about["files"]["pairs.arrow"] = sha256_file(folder / "pairs.arrow")
    (folder / "pairs.json").write_text(json.dumps(about))


def test_edited_pairs_are_found_by_the_manifest_hash(folder: Path) -> None:
    pairs = PairSet.open(folder)
    partner = pairs.table.column("partner").to_pylist()
    edit(folder, "partner", [*partner[1:], partner[0]])
    with pytest.raises(UserError, match="does not hold the pairs its manifest hash was made of"):
        PairSet.open(folder)


def test_edited_pairs_that_break_a_rule_are_named(folder: Path) -> None:
    pairs = PairSet.open(folder)
    anchor = pairs.table.column("anchor").to_pylist()
    edit(folder, "partner", anchor)
    with pytest.raises(
        UserError, match="is not valid: pairs must pair an image with itself in augmented pairs"
    ):
        PairSet.open(folder)
    edit(folder, "partner", ["nowhere"] * 12)
    with pytest.raises(UserError, match="is not valid: image_id must be in the catalogue"):
        PairSet.open(folder)
    edit(folder, "partner", [None] * 12)
    with pytest.raises(UserError, match=r"is not valid: pairs.partner must be given"):
        PairSet.open(folder)


def test_no_folder_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder of pairs"):
        PairSet.open(tmp_path / "absent")
