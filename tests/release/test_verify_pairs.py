"""`release verify` on releases of pairs, whole and of references."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.errors import UserError
from sempairs.files import read_json, write_json
from sempairs.pairs.table import PairSet
from sempairs.release import verify_release
from sempairs.release.diff import diff_releases
from sempairs.release.join import read_dataset

Copied = Callable[[str], Path]


def _checksums_again(root: Path) -> None:
    sums = root / "checksums.sha256"
    names = [line.split("  ", 1)[1] for line in sums.read_text().splitlines()]
    sums.write_text("".join(f"{hashlib.sha256((root / n).read_bytes()).hexdigest()}  {n}\n" for n in names))


def _lines(root: Path) -> list[str]:
    return [f"{p.where} {p.reason}" for p in verify_release(root)]


@pytest.mark.parametrize("kind", ["full", "references"])
def test_a_flipped_byte_in_every_file(copied: Copied, kind: str) -> None:
    root = copied(kind)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".gitattributes")
    assert {path.suffix for path in files} == {".parquet", ".json", ".md", ".txt", ".sha256"}
    for file in files:
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            broken = bytearray(whole)
            broken[place] ^= 4
            file.write_bytes(bytes(broken))
            assert verify_release(root), (file, place)
        file.write_bytes(whole)
    assert verify_release(root) == ()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit(copied: Copied, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "references"
    if not root.exists():
        copied("references")
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".gitattributes")
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[place // 8] ^= 1 << place % 8
    file.write_bytes(bytes(broken))
    try:
        assert verify_release(root)
    finally:
        file.write_bytes(whole)


def test_missing_and_extra_files(copied: Copied) -> None:
    root = copied("full")
    (root / "pairs" / "augmented.parquet").unlink()
    (root / "croissant.json").unlink()
    (root / "pairs" / "more.parquet").write_bytes(b"PAR1")
    (root / "data" / "empty").mkdir()
    assert _lines(root) == [
        "data/empty is an empty folder",
        "croissant.json is missing",
        "pairs/augmented.parquet is missing",
        "pairs/more.parquet is not listed in checksums.sha256",
    ]


@pytest.mark.parametrize("kind", ["full", "references"])
def test_card_datasheet_and_croissant_are_those_of_the_data(copied: Copied, kind: str) -> None:
    root = copied(kind)
    for name, old, new, said in (
        ("README.md", "semantic pairs over", "curated pairs over", "README.md is not what the data"),
        ("DATASHEET.md", "## Motivation", "## Motives", "DATASHEET.md is not what the data"),
        ("croissant.json", '"version": "1.0.0"', '"version": "2.0.0"', "croissant.json version is not"),
        ("croissant.json", "CC-BY-4.0", "CC0-1.0", "croissant.json license is not what"),
        ("croissant.json", "2026-01-31", "2020-01-31", "croissant.json datePublished is not"),
        ("croissant.json", '"citeAs": "Ann', '"citeAs": "Eve', "croissant.json citeAs is not"),
    ):
        before = (root / name).read_text()
        assert old in before, (name, old)
        (root / name).write_text(before.replace(old, new))
        _checksums_again(root)
        (line,) = _lines(root)
        assert line.startswith(said)
        (root / name).write_text(before)
    (root / "croissant.json").write_text("[]")
    _checksums_again(root)
    assert any(line.startswith("croissant.json @context") for line in _lines(root))


def test_words_of_another_version_are_no_fault_but_its_files_are(copied: Copied) -> None:
    root = copied("full")
    about = read_json(root / "release.json")
    about["builder"]["sempairs"] = "0.0.9"
    write_json(root / "release.json", about)
    card = root / "README.md"
    card.write_text(card.read_text() + "\nMore.\n")
    described = read_json(root / "croissant.json")
    described["keywords"] = ["other"]
    write_json(root / "croissant.json", described)
    _checksums_again(root)
    assert _lines(root) == []
    described["distribution"][0]["sha256"] = "0" * 64
    write_json(root / "croissant.json", described)
    _checksums_again(root)
    (line,) = _lines(root)
    assert line.startswith("croissant.json distribution is not what the data")


def test_a_file_left_out_of_the_checksums(copied: Copied) -> None:
    root = copied("full")
    sums = root / "checksums.sha256"
    kept = [line for line in sums.read_text().splitlines(True) if "DATASHEET" not in line]
    sums.write_text("".join(kept))
    (root / "DATASHEET.md").unlink()
    assert _lines(root) == ["checksums.sha256 does not list DATASHEET.md"]


def test_changed_pairs_under_new_checksums(copied: Copied) -> None:
    root = copied("full")
    file = root / "pairs" / "semantic.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, len(table) - 1), file)
    _checksums_again(root)
    assert any("was changed or cut short since it was released" in line for line in _lines(root))
    about = read_json(root / "release.json")
    about["pairs"]["sets"]["semantic"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(root / "release.json", about)
    _checksums_again(root)
    assert any("does not hold the pairs that were released" in line for line in _lines(root))


def test_pairs_of_an_image_that_is_not_there(copied: Copied) -> None:
    root = copied("full")
    file = root / "pairs" / "semantic.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("partner")
    pq.write_table(table.set_column(place, "partner", [["nobody"] * len(table)]), file)
    about = read_json(root / "release.json")
    about["pairs"]["sets"]["semantic"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(root / "release.json", about)
    _checksums_again(root)
    assert any("image_id must be in the catalogue" in line for line in _lines(root))


def test_a_hidden_arm_and_an_unnamed_file(copied: Copied) -> None:
    root = copied("full")
    about = read_json(root / "release.json")
    del about["pairs"]["sets"]["augmented"]
    write_json(root / "release.json", about)
    _checksums_again(root)
    assert _lines(root) == ["pairs/augmented is not named in release.json"]


def test_wrong_counts_of_pairs(copied: Copied) -> None:
    root = copied("references")
    about = read_json(root / "release.json")
    about["pairs"]["sets"]["image_matched"]["rows"] += 1
    write_json(root / "release.json", about)
    _checksums_again(root)
    assert _lines(root) == [
        "release.json rows or images of the image_matched pairs are not those of the data"
    ]


def test_images_in_a_release_of_references(copied: Copied) -> None:
    root = copied("full")
    about = read_json(root / "release.json")
    about["images"] = "references"
    write_json(root / "release.json", about)
    _checksums_again(root)
    assert all("holds images, in a release of references" in line for line in _lines(root))
    assert _lines(root)


def test_no_images_in_a_release_of_files(copied: Copied) -> None:
    root = copied("references")
    about = read_json(root / "release.json")
    about["images"] = "files"
    write_json(root / "release.json", about)
    _checksums_again(root)
    (line,) = _lines(root)
    assert "lacks the column image" in line


def _places(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _places(inner, (*path, key))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=st.sampled_from([None, [], {}, "x", 0, -1, 1.5, True, [1], {"a": 1}]))
def test_a_nonsensical_release_json_is_a_problem_or_an_error(
    copied: Copied, tmp_path: Path, data: st.DataObject, value: object
) -> None:
    root = tmp_path / "full"
    if not root.exists():
        copied("full")
    about = read_json(root / "release.json")
    before = (root / "release.json").read_bytes()
    *parents, last = data.draw(st.sampled_from(list(_places(about))))
    place = about
    for name in parents:
        place = place[name]
    place[last] = value
    write_json(root / "release.json", about)
    try:
        _checksums_again(root)
        assert all("\n" not in line for line in _lines(root))
        for use in (PairSet.open, read_dataset, lambda path: diff_releases(path, path)):
            with contextlib.suppress(UserError):
                use(root)
    finally:
        (root / "release.json").write_bytes(before)


def test_truncated_release(copied: Copied) -> None:
    root = copied("full")
    (root / "release.json").write_text('{"format": ')
    assert _lines(root) == ["release.json does not have the listed checksum"]
    _checksums_again(root)
    (line,) = _lines(root)
    assert "is not readable JSON" in line
    (root / "release.json").unlink()
    (root / "checksums.sha256").unlink()
    with pytest.raises(UserError, match="is no release"):
        verify_release(root)
