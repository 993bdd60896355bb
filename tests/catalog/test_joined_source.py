"""Sources joined: each part's own relation, and its own share of every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import PairPlan, plan_pairs
from sempairs.training.data import batches, epoch_order, epoch_steps
from sempairs.training.samplers import DistinctMeanings, Shuffled

WritePng = Callable[..., Path]


@pytest.fixture
def parts(tmp_path: Path, write_png: WritePng) -> Callable[[str], str]:
    """Writes the file that joins two folders, of 24 and of 8 images; gives the source."""
    for folder, count in (("drawings", 24), ("objects", 8)):
        for k in range(count):
            write_png(tmp_path / folder / f"{folder} {k % 4}" / f"{k}.png", k + 100 * (folder == "objects"))

    def write(lines: str) -> str:
        lines = lines.replace("ROOT", str(tmp_path))
        (tmp_path / "parts.yaml").write_text(f"parts:\n{lines}\n")
        return f"joined:{tmp_path / 'parts.yaml'}"

    return write


TWO = """\
- {source: 'folder:ROOT/drawings', name: drawings, share: 1, concept: category, domain: image_id}
- {source: 'folder:ROOT/objects', name: objects, share: 1, concept: category, domain: image_id}"""


def planned(catalog: Catalog, arm: str = "semantic") -> PairPlan:
    config = PairsConfig(relation="cross_domain", mode="redrawn", arm=arm)  # type: ignore[arg-type]
    return plan_pairs(catalog, config, draw_seed=3)


def test_rows_say_whose_they_are(parts: Callable[[str], str]) -> None:
    source = open_source(parts(TWO.replace("name: objects, ", "").replace("share: 1", "share: 3", 1)))
    catalog = source.scan().catalog
    label = {name.split("/")[0] for name in catalog.column("image_id")}
    assert "drawings" in label
    other = (label - {"drawings"}).pop()
    assert other.startswith("folder-")  # made from the source
    rows = catalog.column("part") == "drawings"
    assert rows.sum() == 24
    assert set(catalog.column("batch_share")[rows]) == {0.75}
    assert set(catalog.column("batch_share")[~rows]) == {0.25}
    assert set(catalog.column("concept")[rows]) == {f"drawings: drawings {k}" for k in range(4)}
    for row in (0, 31):
        image = source.open_image(catalog.column("uri")[row])
        assert image.size == (catalog.column("width")[row], catalog.column("height")[row])


def test_no_pair_of_two_parts(parts: Callable[[str], str]) -> None:
    same = TWO.replace("/objects", "/drawings")  # even where both hold the same concepts
    catalog = open_source(parts(same)).scan().catalog
    plan = planned(catalog)
    part, concept = catalog.column("part"), catalog.column("concept")
    for epoch in range(3):
        pairs = plan.epoch(epoch)
        assert (part[pairs.anchor] == part[pairs.partner]).all()
        assert (concept[pairs.anchor] == concept[pairs.partner]).all()
    assert len(set(plan.meaning.tolist())) == 8


def ordered(plan: PairPlan, *, seed: int = 1, epoch: int = 0) -> np.ndarray:
    return epoch_order(plan, Shuffled(), 4, seed=seed, epoch=epoch)


@pytest.mark.parametrize(
    ("shares", "quota"), [((1, 1), (8, 8)), ((3, 1), (24, 8)), ((1, 3), (2, 8)), ((9, 1), (24, 2))]
)
def test_every_batch_has_each_parts_share(
    shares: tuple[int, int], quota: tuple[int, int], parts: Callable[[str], str]
) -> None:
    each = zip(TWO.splitlines(), shares, strict=True)
    lines = "\n".join(line.replace("share: 1", f"share: {share}") for line, share in each)
    catalog = open_source(parts(lines)).scan().catalog
    plan, part = planned(catalog), catalog.column("part")
    assert epoch_steps(plan, Shuffled(), 1) == sum(quota)
    shown = Counter(part[plan.epoch(0).anchor[ordered(plan)]])
    assert (shown["drawings"], shown["objects"]) == quota
    size = 4 if sum(quota) >= 12 else 5
    per_epoch = epoch_steps(plan, Shuffled(), size)
    found = list(batches(plan, seed=1, batch_size=size, start=0, stop=2 * per_epoch))
    assert len({batch.epoch for batch in found}) == 2
    for batch in found:
        wanted = size * shares[0] / sum(shares)
        assert abs((part[batch.anchor] == "drawings").sum() - wanted) <= 1
    for epoch in (0, 1):
        taken = np.concatenate([batch.occurrence for batch in found if batch.epoch == epoch])
        assert len(taken) == len(set(taken.tolist()))  # no draw of an epoch is made twice


def test_all_is_shown_in_time_and_the_order_is_keyed(parts: Callable[[str], str]) -> None:
    plan = planned(open_source(parts(TWO)).scan().catalog)
    orders = [ordered(plan, epoch=epoch) for epoch in range(12)]
    assert set(np.concatenate(orders).tolist()) == set(range(plan.n))
    assert (ordered(plan, epoch=4) == orders[4]).all()
    assert (orders[0] != orders[1]).any()
    assert (ordered(plan, seed=2) != orders[0]).any()


def test_both_arms_see_the_same_images(parts: Callable[[str], str]) -> None:
    catalog = open_source(parts(TWO)).scan().catalog
    one, other = planned(catalog), planned(catalog, "augmented")
    assert one.anchor_hash == other.anchor_hash
    for left, right in zip(
        *(batches(plan, seed=1, batch_size=4, start=0, stop=9) for plan in (one, other)), strict=True
    ):
        assert (left.anchor == right.anchor).all()
        assert (left.occurrence == right.occurrence).all()
        assert (left.meaning == right.meaning).all()
        assert (right.anchor == right.partner).all()


def test_another_sampler_knows_no_shares(parts: Callable[[str], str]) -> None:
    plan = planned(open_source(parts(TWO)).scan().catalog)
    with pytest.raises(UserError, match="sampler must be shuffled where the parts"):
        epoch_steps(plan, DistinctMeanings(), 4)
    free = planned(open_source(parts(TWO.replace("share: 1, ", ""))).scan().catalog)
    for batch in batches(free, seed=1, batch_size=4, start=0, stop=3, sampler=DistinctMeanings()):
        assert len(set(batch.meaning.tolist())) == 4


def test_without_shares_an_epoch_is_everything(parts: Callable[[str], str]) -> None:
    catalog = open_source(parts(TWO.replace("share: 1, ", ""))).scan().catalog
    plan = planned(catalog)
    assert epoch_steps(plan, Shuffled(), 1) == plan.n == 32
    assert sorted(ordered(plan).tolist()) == list(range(32))


def test_saved_and_joined_again(parts: Callable[[str], str], tmp_path: Path) -> None:
    catalog = open_source(parts(TWO)).scan().catalog
    catalog.save(tmp_path / "both.arrow")
    lines = TWO.replace("'folder:ROOT/drawings'", "'catalog:ROOT/both.arrow'").replace(
        "category", "concept", 1
    )
    again = open_source(parts(lines)).scan().catalog
    assert Counter(again.column("part")) == {"drawings": 32, "objects": 8}


def test_columns_of_two_types_are_told(parts: Callable[[str], str], tmp_path: Path) -> None:
    catalog = open_source(parts(TWO)).scan().catalog
    for name, values in (("one", range(32)), ("two", [[1]] * 32)):
        catalog.with_column("further", list(values)).save(tmp_path / f"{name}.arrow")
    lines = "\n".join(f"- {{source: 'catalog:ROOT/{name}.arrow', name: {name}}}" for name in ("one", "two"))
    with pytest.raises(UserError, match="columns of one name hold one type"):
        open_source(parts(lines)).scan()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (TWO.splitlines()[0], "parts"),
        (TWO.replace("share: 1, ", "", 1), "must all have a share, or none"),
        (TWO.replace("share: 1", "share: 0", 1), "greater than 0"),
        (TWO.replace("name: objects", "name: drawings"), "names that differ, and two are drawings"),
        (TWO.replace("name: objects", "name: a/b"), "name"),
        (TWO.replace("concept: category", "concept: categry", 1), "did you mean 'category'"),
        (TWO.replace("concept: category", "concept: licence", 1), "must have values in its column licence"),
        (TWO.replace("domain: image_id", "domain: category", 1), "must differ"),
        (TWO.replace("folder:ROOT/objects", "joined:ROOT/parts.yaml"), "must not be joined itself"),
        (TWO.replace("ROOT/objects", "ROOT/absent"), "must be an existing path"),
        (TWO.replace("share", "shere"), "did you mean 'share'"),
    ],
)
def test_mistakes_are_one_line(lines: str, says: str, parts: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match=says) as caught:
        open_source(parts(lines)).scan()
    assert "\n" not in str(caught.value)
