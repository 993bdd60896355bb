"""What changed between two releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.errors import UserError
from sempairs.pairs.table import PairSet
from sempairs.release import ReleaseFacts, build_release, diff_releases, write_release

Make = Callable[..., tuple[Catalog, dict[str, bytes]]]


def _plain(out: Path, catalog: Catalog, data: dict[str, bytes], **given: Any) -> Path:
    about = {"name": "x", "version": "1", "card": "", "licences": {}, "facts": {}, **given}
    write_release(out, catalog=catalog, read=data.__getitem__, **about)
    return out


def test_two_equal_ones_say_so(ready: Path, copied: Callable[[str], Path]) -> None:
    found = diff_releases(ready / "full", copied("full"))
    assert found.same
    assert list(found.lines()) == [
        "tiny 1.0.0 -> tiny 1.0.0",
        "no difference: the same images, labels, pairs and licences",
    ]
    assert json.loads(json.dumps(found.to_json()))["same"] is True


def test_references_differ_in_their_column_alone(ready: Path) -> None:
    found = diff_releases(ready / "full", ready / "references")
    assert found.columns_added == ["file_size"]
    assert not found.added and not found.removed and not found.changed
    assert not any(each.added or each.removed for each in found.pairs.values())
    assert set(found.labels) == {"licence"}  # images that are not passed on keep none
    assert found.after.endswith("references only")


def test_fewer_pairs(ready: Path, tmp_path: Path, pairs_of: Callable[..., Path]) -> None:
    pairs = pairs_of(ready / "photos", tmp_path / "pairs", count=6)
    facts = ReleaseFacts(licence="CC-BY-4.0")
    images = ReleaseSource(str(ready / "full")).scan().catalog
    build_release(pairs, tmp_path / "rel", name="tiny", version="2.0.0", facts=facts, images=images)
    found = diff_releases(ready / "full", tmp_path / "rel")
    before, after = PairSet.open(ready / "pairs"), PairSet.open(pairs)

    def pair_set(pairs: PairSet) -> set[tuple[str, ...]]:
        ids = (pairs.table.column(name).to_pylist() for name in ("anchor", "partner"))
        return {tuple(sorted(pair)) for pair in zip(*ids, strict=True)}

    change = found.pairs["semantic"]
    assert {pair[:2] for pair in change.removed} == pair_set(before) - pair_set(after)
    assert {pair[:2] for pair in change.added} == pair_set(after) - pair_set(before)
    assert change.kept == len(pair_set(after) & pair_set(before))
    assert set(found.pairs) == {"semantic", "augmented", "image_matched"}
    text = "\n".join(found.lines())
    assert f"semantic pairs removed: {len(change.removed)}" in text
    assert found.added == found.removed == found.changed == []
    assert not found.same


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    left=st.sets(st.integers(0, 8), min_size=1), right=st.sets(st.integers(0, 8), min_size=1),
    relabelled=st.sets(st.integers(0, 8)), swapped=st.sets(st.integers(0, 8)),
)  # fmt: skip
def test_images_and_labels(
    make: Make, tmp_path_factory: pytest.TempPathFactory, left: set[int], right: set[int],
    relabelled: set[int], swapped: set[int],
) -> None:  # fmt: skip
    catalog, data = make()
    folder = tmp_path_factory.mktemp("diff")
    ids = catalog.column("image_id")
    concept = catalog.column("concept")
    other, pixels = make(9, "PNG")[0].column("file_hash"), catalog.column("pixel_hash")
    files, more = catalog.column("file_hash").copy(), dict(data)
    uris = catalog.column("uri")
    png = make(9, "PNG")[1]
    for row in swapped:  # the same pixels in another file
        files[row], more[uris[row]] = other[row], png[uris[row]]
    new = [f"{c}x" if row in relabelled else c for row, c in enumerate(concept)]
    changed = catalog.with_column("concept", new).with_column("file_hash", files)
    a = _plain(folder / "a", catalog.select(sorted(left)), data)
    b = _plain(folder / "b", changed.select(sorted(right)), more, version="2")
    found = diff_releases(a, b)
    assert found.added == sorted(ids[list(right - left)])
    assert found.removed == sorted(ids[list(left - right)])
    assert [c.image_id for c in found.labels.get("concept", [])] == sorted(
        ids[list(left & right & relabelled)]
    )
    assert found.repacked == sorted(ids[list(left & right & swapped)])
    assert found.changed == []
    assert (left == right and not left & (relabelled | swapped)) == found.same
    assert len(pixels) == 9
    if len(left) != len(right):
        assert found.counts["images"] == (len(left), len(right))


def test_other_pixels_licences_and_columns(make: Make, tmp_path: Path) -> None:
    catalog, data = make()
    hashes = catalog.column("pixel_hash")
    files = catalog.column("file_hash")
    turned = catalog.with_column("pixel_hash", np.roll(hashes, 1)).with_column("file_hash", np.roll(files, 1))
    moved = dict(zip(catalog.column("uri"), [*list(data.values())[-1:], *data.values()], strict=False))
    turned = turned.with_column("licence", ["MIT"] * 8 + [None]).with_column("extra", [1] * 9)
    a = _plain(tmp_path / "a", catalog, data, licences={"MIT.txt": "one"})
    b = _plain(tmp_path / "b", turned, moved, licences={"MIT.txt": "two"})
    found = diff_releases(a, b)
    assert found.changed == sorted(catalog.column("image_id"))
    assert found.columns_added == ["extra"]
    assert found.licences == {"MIT": (9, 8), "none stated": (0, 1)}
    assert found.texts == ["MIT.txt"]
    text = "\n".join(found.lines())
    assert "licence MIT: 9 -> 8" in text
    assert "licence texts that differ: 1" in text
    assert diff_releases(b, a).columns_removed == ["extra"]


def test_no_release(ready: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no release"):
        diff_releases(ready / "full", tmp_path)


def test_a_damaged_release(ready: Path, copied: Callable[[str], Path]) -> None:
    root = copied("full")
    file = root / "pairs" / "semantic.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="was changed or cut short since it was released"):
        diff_releases(ready / "full", root)
