"""What a release says about how good its pairs are: persons' verdicts, machines' verdicts, the audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sempairs.config import validate
from sempairs.curation.apply import apply_verdicts
from sempairs.curation.exchange import import_verdicts
from sempairs.curation.known_pairs import Known
from sempairs.errors import UserError
from sempairs.files import read_json, write_json
from sempairs.pairs.sample import pair_key
from sempairs.pairs.table import PairSet
from sempairs.release import ReleaseFacts, build_release, verify_release

PairsOf = Callable[..., Path]


@pytest.fixture
def pairs(ready: Path, tmp_path: Path, pairs_of: PairsOf) -> Path:
    return pairs_of(ready / "photos", tmp_path / "pairs")


def _judge(folder: Path, reviewer: str, kind: str, verdicts: dict[int, str], queue: str = "all") -> None:
    """Verdicts about rows of a set of pairs."""
    keys = pair_key(PairSet.open(folder))
    file = folder.parent / "verdicts.csv"
    lines = [f"{keys[row][0]},{keys[row][1]},{verdict},{queue}" for row, verdict in verdicts.items()]
    file.write_text("anchor,partner,verdict,queue\n" + "\n".join(lines) + "\n")
    import_verdicts(folder, file, reviewer=reviewer, kind=kind)
    file.unlink()


def _build(folder: Path, **facts: Any) -> tuple[dict[str, Any], str, str]:
    out = folder.parent / "rel"
    about = build_release(
        folder, out, name="tiny", version="1.0.0",
        facts=validate(ReleaseFacts, {"licence": "CC-BY-4.0", **facts}),
    )  # fmt: skip
    assert verify_release(out) == ()
    return about, (out / "README.md").read_text(), (out / "DATASHEET.md").read_text()


def test_nobody_has_judged(pairs: Path) -> None:
    about, card, sheet = _build(pairs)
    assert about["curation"] is None and about["audit"] is None
    for text in (card, sheet):
        assert "**Neither curated nor screened**" in text
        assert "False-pair rate: not known" in text
        assert "Some pairs may be false; how many is not known." in text


def test_persons_verdicts(pairs: Path) -> None:
    _judge(pairs, "ann", "person", {0: "yes", 1: "no", 2: "yes", 3: "unsure", 4: "yes"})
    _judge(pairs, "ben", "person", {0: "yes", 1: "no", 2: "no", 5: "no"})
    _judge(pairs, "net", "model", {0: "no", 6: "no", 7: "yes"})
    _judge(pairs, "cas", "person", {2: "no"}, queue="conflicts")
    about, card, _ = _build(pairs)
    found = about["curation"]
    # 0, 4 accepted; 1, 5 and the adjudicated 2 rejected; 3 open. Of the model only pairs 6 and 7 count.
    assert {k: found[k] for k in ("reviewers", "reviewed", "accepted", "rejected", "open")} == {
        "reviewers": 3, "reviewed": 6, "accepted": 2, "rejected": 3, "open": 1,
    }  # fmt: skip
    assert found["machines"] == {
        "model": {"reviewers": 1, "reviewed": 2, "accepted": 1, "rejected": 1, "open": 0}
    }
    # ann and ben share pairs 0, 1, 2: yes yes, no no, yes no.
    assert found["agreement"]["pairs"] == 3
    assert found["agreement"]["percent"] == pytest.approx(2 / 3)
    assert found["agreement"]["cohen"] == [
        {"pairs": 3, "percent": pytest.approx(2 / 3), "kappa": pytest.approx(0.4)}
    ]
    assert "**Curated by 3 persons**: 6 pairs reviewed, 2 accepted, 3 rejected, 1 open" in card
    assert "66.7% of verdicts agree, Cohen's kappa 0.40" in card
    assert "Pairs that no person judged, judged by a model: 2 pairs reviewed" in card
    assert "**not applied**" in card
    assert "ann" not in str(found) and "net" not in str(found)


def test_machines_alone_are_screening(pairs: Path) -> None:
    _judge(pairs, "net", "model", {row: "no" if row < 2 else "yes" for row in range(8)})
    about, card, _ = _build(pairs)
    assert about["curation"]["reviewed"] == 0
    assert "**Machine-screened, not curated**: no person has judged these pairs." in card
    assert "Pairs, judged by a model: 8 pairs reviewed, 6 accepted, 2 rejected" in card
    assert "was not measured" in card
    assert "Curated by" not in card and "False-pair rate: not known" in card


def test_screening_facts(pairs: Path) -> None:
    screening = {
        "by": "EfficientNet-Lite0 similarity below 0.4", "kind": "model", "judged": 12, "rejected": 1,
        "known": [
            {"what": "pairs planted at random", "false_pairs": 50, "false_found": 45, "true_pairs": 200,
             "true_kept": 190}
        ],
    }  # fmt: skip
    _, card, sheet = _build(pairs, screening=screening)
    from scipy.stats import binomtest

    interval = binomtest(45, 50).proportion_ci(0.95, "exact")
    for text in (card, sheet):
        assert "**Machine-screened, not curated**" in text
        assert (
            "Screened by EfficientNet-Lite0 similarity below 0.4 (a model): 12 pairs judged, 1 rejected"
            in text
        )
        share = f"90.0% (95% interval {interval.low:.1%} to {interval.high:.1%})"
        assert f"pairs planted at random: 45 of 50 false pairs found, {share}; 190 of 200 true" in text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"false_found": 51}, "must not have more pairs found or kept than there are"),
        ({"true_pairs": -1}, "screening.known.0.true_pairs"),
        ({"hits": 1}, "screening.known.0.hits is not a known key"),
    ],
)
def test_screening_facts_are_checked(change: dict[str, int], line: str) -> None:
    known = {"what": "x", "false_pairs": 50, "false_found": 45, "true_pairs": 200, "true_kept": 190} | change
    screening = {"by": "x", "kind": "model", "judged": 1, "rejected": 0, "known": [known]}
    with pytest.raises(UserError, match=line):
        validate(ReleaseFacts, {"screening": screening})


def test_applied_verdicts(pairs: Path) -> None:
    _judge(pairs, "ann", "person", {0: "yes", 1: "no", 2: "no"})
    _judge(pairs, "net", "model", {3: "no"})
    new = pairs.parent / "new"
    apply_verdicts(pairs, new)
    before = len(PairSet.open(pairs))
    _judge(new, "ben", "person", {0: "yes", 2: "yes"})
    about, card, _ = _build(new)
    found = about["curation"]
    assert found["applied"] == {"before": before, "kept": before - 3, "rejected": 3, "dropped_open": 0}
    assert (found["reviewers"], found["reviewed"], found["accepted"], found["rejected"]) == (2, 4, 2, 2)
    assert found["machines"]["model"]["rejected"] == 1
    assert f"Of {before} pairs {before - 3} were kept: 3 rejected" in card
    assert "**not applied**" not in card
    record = read_json(new / "curation.json")
    write_json(new / "curation.json", record | {"manifest_hash": "0"})
    with pytest.raises(UserError, match="is about other pairs than those beside it"):
        build_release(
            new, pairs.parent / "again", name="x", version="1.0.0", facts=ReleaseFacts(licence="CC-BY-4.0")
        )
    write_json(new / "curation.json", {"format": "x"})
    with pytest.raises(UserError, match="is not what `sempairs verdicts apply` writes"):
        build_release(
            new, pairs.parent / "again", name="x", version="1.0.0", facts=ReleaseFacts(licence="CC-BY-4.0")
        )


def _audit(pairs: Path, **changes: Any) -> None:
    rate = {"reviewed": 100, "false": 3, "unsure": 4, "rate": 3 / 96, "low": 0.0065, "high": 0.0886}
    model = {"reviewed": 100, "false": 9, "unsure": 0, "rate": 0.09, "low": 0.04, "high": 0.16}
    by = {"person": rate | {"confidence": 0.95}, "model": model | {"confidence": 0.95}}
    (pairs / "audit").mkdir(exist_ok=True)
    audit = {
        "format": "sempairs.audit/1", "manifest_hash": PairSet.open(pairs).manifest_hash,
        "embeddings": {"path": "/home/me/secret"}, "doubtful": {"count": 2, "threshold": 0.5},
        "false_pairs": {"by": by, "sample_size": 100},
    }  # fmt: skip
    write_json(pairs / "audit" / "audit.json", audit | changes)


def test_false_pair_rate(pairs: Path) -> None:
    _audit(pairs)
    about, card, sheet = _build(pairs)
    assert "secret" not in str(about)
    for text in (card, sheet):
        assert "False-pair rate: 3.1% (95% interval 0.7% to 8.9%), from 100 pairs of a random sample" in text
        assert "a model calls 9 of 100 pairs false. That is no false-pair rate" in text
        assert "how many is not known" not in text


def test_machines_have_no_false_pair_rate(pairs: Path) -> None:
    _audit(pairs)
    audit = read_json(pairs / "audit" / "audit.json")
    del audit["false_pairs"]["by"]["person"]
    _audit(pairs, false_pairs=audit["false_pairs"])
    _, card, _ = _build(pairs)
    assert "False-pair rate: not known" in card


def test_an_audit_of_other_pairs(pairs: Path) -> None:
    _audit(pairs, manifest_hash="0" * 64)
    with pytest.raises(UserError, match="is the audit of other pairs"):
        _build(pairs)
    _audit(pairs, format="other")
    with pytest.raises(UserError, match="is not what `sempairs pairs audit` writes"):
        _build(pairs)
    assert not (pairs.parent / "rel").exists()


def test_machines_on_pairs_of_known_truth(pairs: Path, tmp_path: Path) -> None:
    _judge(pairs, "net", "model", {0: "no", 1: "no", 2: "yes", 3: "yes"})
    keys = pair_key(PairSet.open(pairs))
    known = [
        Known(keys[row], truth, "planted at random", None)
        for row, truth in ((0, False), (2, False), (1, True), (3, True))
    ]
    apply_verdicts(pairs, tmp_path / "screened", known=known)
    about, card, sheet = _build(tmp_path / "screened")
    assert about["curation"]["machines"]["model"]["known"] == [
        {"what": "planted at random", "false_pairs": 2, "false_found": 1, "true_pairs": 2, "true_kept": 1}
    ]
    for text in (card, sheet):
        assert "**Machine-screened, not curated**" in text
        assert "planted at random: 1 of 2 false pairs found, 50.0%" in text
        assert "1 of 2 true pairs kept, 50.0%" in text
        assert "was not measured" not in text


def test_a_record_of_known_truth_that_cannot_be(pairs: Path, tmp_path: Path) -> None:
    _judge(pairs, "net", "model", {0: "no"})
    keys = pair_key(PairSet.open(pairs))
    apply_verdicts(pairs, tmp_path / "screened", known=[Known(keys[0], False, "planted", None)])
    record = read_json(tmp_path / "screened" / "curation.json")
    record["known"]["model"][0]["false_found"] = 2
    write_json(tmp_path / "screened" / "curation.json", record)
    with pytest.raises(UserError, match=r"curation\.json: known"):
        _build(tmp_path / "screened")


def test_a_real_audit(pairs: Path) -> None:
    from sempairs.cli.main import run

    assert run(["pairs", "audit", str(pairs)]) == 0
    about, _, _ = _build(pairs)
    assert about["audit"]["false_pairs"]["by"] == {}


def test_facts_fill_card_and_datasheet(pairs: Path) -> None:
    _, card, sheet = _build(
        pairs, summary="Pairs of photos.", citation="@misc{x}", contact="a@b.org", limits="Three classes.",
        sections=[{"heading": "Thanks", "text": "To all."}], url="https://example.org/tiny",
        datasheet={"motivation": "To compare.", "collection": "In a zoo."}, date="2026-01-31",
    )  # fmt: skip
    assert "Pairs of photos." in card and "## Thanks\n\nTo all." in card and "- Three classes." in card
    assert "@misc{x}" in card
    sections = [line for line in sheet.splitlines() if line.startswith("## ")]
    assert sections == [
        "## Motivation", "## Composition", "## Collection process", "## Preprocessing, cleaning, labelling",
        "## Uses", "## Distribution", "## Maintenance",
    ]  # fmt: skip
    for text in ("To compare.", "In a zoo.", "Contact: a@b.org.", "https://example.org/tiny", "2026-01-31"):
        assert text in sheet


def test_hostile_labels_keep_the_card_whole(ready: Path, tmp_path: Path) -> None:
    from sempairs.catalog.sources import open_source
    from sempairs.pairs.config import PairsConfig
    from sempairs.pairs.table import save_with_baselines

    catalog = open_source(f"folder:{ready / 'photos'}").scan().catalog
    domain = ["a|b\n---\n# x", "<script>"] * 21
    catalog = catalog.with_column("domain", domain).with_column("split", ["train"] * 42)
    save_with_baselines(tmp_path / "pairs", catalog, PairsConfig(relation="same_category"))
    _, card, _ = _build(tmp_path / "pairs")
    assert card.count("\n---\n") == 1
    assert "\n# x" not in card and "<script>" not in card
