"""Near-copies in audits, and doubt in spaces learned from other meanings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.pairs.audit import audit, broken_rules, parse_rule
from sempairs.pairs.audit.spaces import spaces
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet


def pictures(folder: Path, seed: int, count: int) -> list[Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    made = []
    for number in range(count):
        blocks = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        made.append(folder / f"{number}.png")
        blocks.resize((48, 48), Image.Resampling.BICUBIC).save(made[-1])
    return made


def same_category(folder: Path) -> PairSet:
    catalog = open_source(f"folder:{folder}").scan().catalog
    return PairSet.build(catalog, PairsConfig(relation="same_category"))


def test_copies_in_an_evaluation_set_and_in_another_split_are_shared(tmp_path: Path) -> None:
    train = pictures(tmp_path / "set" / "train" / "a", 0, 12)
    test = pictures(tmp_path / "set" / "test" / "a", 1, 4)
    ImageOps.mirror(Image.open(train[0])).save(test[0])
    other = tmp_path / "other" / "a"
    other.mkdir(parents=True)
    for number, file in enumerate(train[:6]):
        Image.open(file).save(other / f"{number}.jpg", quality=60)
    found = audit(same_category(tmp_path / "set"), against=[f"folder:{tmp_path / 'other'}"])
    assert found.copies is not None
    assert (found.copies.pairs, found.copies.images, found.copies.across_splits) == (1, 2, 2)
    assert found.copies.first[0]["how"] == "mirrored" and found.copies.first[0]["across_splits"]
    (against,) = found.shared.against
    assert (against.near, against.images, against.files, against.pixels) == (6, 6, 0, 0)
    assert found.shared.images == 2 + 6
    assert broken_rules(found, [parse_rule("near-copies>0")]) == ["failed: near-copies>0: near-copies is 2"]
    without = audit(same_category(tmp_path / "set"), against=[f"folder:{tmp_path / 'other'}"], pixels=False)
    assert without.copies is None and without.shared.images == 0


@pytest.mark.parametrize("change", ["mirrored", "cropped", "turned"])
def test_a_pair_of_a_picture_and_its_changed_copy_is_a_near_duplicate(change: str, tmp_path: Path) -> None:
    for number, file in enumerate(pictures(tmp_path / "set" / "tmp", 0, 6)):
        image = Image.open(file)
        copy = {
            "mirrored": ImageOps.mirror(image),
            "cropped": image.crop((4, 0, 48, 44)),
            "turned": image.transpose(Image.Transpose.ROTATE_90),
        }[change]
        place = tmp_path / "set" / f"c{number}"
        place.mkdir()
        image.save(place / "one.png")
        copy.save(place / "two.png")
        file.unlink()
    (tmp_path / "set" / "tmp").rmdir()
    near = audit(same_category(tmp_path / "set")).near
    assert near is not None and (near.pairs, near.copies, near.measured) == (6, 6, 6)


def labelled(meanings: int, each: int, width: int, seed: int) -> tuple[Subject, np.ndarray, np.ndarray]:
    """A set whose images differ by meaning in few directions and within meanings, much more, in others; every
    tenth image is labelled as another meaning. Third: which pairs are false."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(meanings), each)
    given = true.copy()
    wrong = rng.permutation(len(true))[: len(true) // 10]
    given[wrong] = (given[wrong] + rng.integers(1, meanings, len(wrong))) % meanings
    half = width // 2
    vectors = np.concatenate(
        [rng.normal(size=(meanings, half))[true] + 0.5 * rng.normal(size=(len(true), half)),
         3 * rng.normal(size=(len(true), width - half))], axis=1,
    ).astype(np.float32)  # fmt: skip
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"i{number:05d}" for number in range(len(true))]
    catalog = Catalog.from_columns(
        {
            "image_id": ids, "uri": ids, "file_hash": ids, "source": ["none"] * len(ids),
            "width": [1] * len(ids), "height": [1] * len(ids), "category": [f"m{code:03d}" for code in given],
        }
    )  # fmt: skip
    subject = Subject.of(PairSet.build(catalog, PairsConfig(relation="same_category")))
    rows = subject.distinct
    items = np.searchsorted(ids, subject.ids)  # some images are in no pair
    vectors, of = vectors[items], true[items]
    return subject, vectors, of[subject.anchor[rows]] != of[subject.partner[rows]]


def test_every_pair_is_judged_once_and_by_no_image_of_its_meaning() -> None:
    subject, vectors, _ = labelled(60, 8, 20, 0)
    parts = list(spaces(subject, vectors))
    assert len(parts) == 5
    assert np.array_equal(np.sort(np.concatenate([p for p, _ in parts])), np.arange(len(subject.distinct)))
    place, judged = parts[0]
    claimed = np.unique(subject.meaning_of.codes[subject.anchor[subject.distinct[place]]])
    inside = np.isin(subject.meaning_of.codes, claimed)
    # Other vectors of the fold's own meanings leave the space as it is.
    moved = vectors.copy()
    moved[inside] = moved[inside][::-1]
    again = next(iter(spaces(subject, moved)))[1]
    assert np.allclose(again[~inside], judged[~inside], atol=1e-5)


def test_false_pairs_with_agreeing_labels_are_found_better_than_by_the_vectors_alone() -> None:
    from sklearn.metrics import roc_auc_score

    from sempairs.pairs.audit.doubt import doubts

    subject, vectors, false = labelled(60, 8, 20, 1)
    found = doubts(subject, vectors)
    place = {int(row): i for i, row in enumerate(subject.distinct)}
    order = np.array([place[int(row)] for row in found.rows])
    pairs = vectors[subject.anchor[subject.distinct]] * vectors[subject.partner[subject.distinct]]
    plain = roc_auc_score(false, -pairs.sum(axis=1))
    assert roc_auc_score(false[order], found.doubt) > max(0.85, plain + 0.1)
    first = false[order][: int(false.sum())].mean()
    assert first > 0.5


def test_few_images_are_judged_as_they_are() -> None:
    subject, vectors, _ = labelled(6, 4, 20, 0)
    ((pairs, judged),) = spaces(subject, vectors)
    assert judged is vectors and len(pairs) == len(subject.distinct)
