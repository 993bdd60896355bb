"""`sempairs pairs audit`, as it is called: files, exit status, the gate, mistakes in one line."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.cli.audit import audit as audit_verb
from sempairs.cli.main import run
from sempairs.curation.store import Event, EventLog
from sempairs.embeddings import Embeddings
from sempairs.pairs.audit import MEASURES, audit, broken_rules, parse_rule
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.sample import audit_sample, pair_key
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.pairs.verdicts import VERDICT_SCHEMA, write_verdicts


@pytest.fixture
def folder(drawings: Catalog, tmp_path: Path) -> Path:
    save_with_baselines(tmp_path / "pairs", drawings, PairsConfig(relation="cross_domain"))
    return tmp_path / "pairs"


def _call(folder: Path, *arguments: Any) -> int:
    return run(["pairs", "audit", str(folder), "--no-pixels", *map(str, arguments)])


def _verdicts(pairs: PairSet, *answers: str) -> pa.Table:
    keys = pair_key(pairs)
    rows = [
        {
            "anchor": keys[row][0], "partner": keys[row][1], "verdict": answer, "reviewer": "ann",
            "reviewer_kind": "person", "reasons": [], "note": "", "queue": "sample", "at": "",
        }
        for row, answer in zip(audit_sample(pairs, len(answers)), answers, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, VERDICT_SCHEMA)


def _report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return found


def test_the_report_lies_beside_the_pairs_and_is_renewed(folder: Path, capsys: Any) -> None:
    for _ in range(2):
        assert _call(folder) == 0
    assert sorted(p.name for p in (folder / "audit").iterdir()) == [
        "audit.json",
        "doubt.parquet",
        "index.html",
    ]
    assert "no person has reviewed" in capsys.readouterr().out
    PairSet.open(folder)  # is still a sound folder of pairs


def test_embeddings_sample_size_and_place_of_the_report(
    folder: Path, drawings: Catalog, tmp_path: Path
) -> None:
    ids = tuple(drawings.column("image_id"))
    vectors = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)
    Embeddings(ids, tuple(drawings.column("file_hash")), vectors, {}).save(tmp_path / "e.parquet")
    drawings.save(tmp_path / "eval.arrow")
    out = tmp_path / "report"
    options = ("--embeddings", tmp_path / "e.parquet", "--sample", 3, "--out", out)
    assert _call(folder, *options, "--against", tmp_path / "eval.arrow") == 0
    found = _report(out)
    assert found["measured_by"] == "embeddings" and found["false_pairs"]["sample_size"] == 3
    assert found["shared"]["against"][0]["files"] == 24 and not (folder / "audit").exists()
    assert pq.read_table(out / "doubt.parquet").num_rows == found["pairs"] == 12


def test_verdicts_of_a_file_or_of_the_event_log(folder: Path, tmp_path: Path) -> None:
    pairs = PairSet.open(folder)
    said = _verdicts(pairs, "no", "yes", "yes")
    events = [
        Event(f"u{i}", "bob", "person", "verdict", row["anchor"], row["partner"], "no", queue="sample")
        for i, row in enumerate(said.to_pylist())
    ]
    log = EventLog(folder / "curation.sqlite", [pairs.manifest_hash])
    log.append(events)
    log.close()
    assert _call(folder) == 0
    assert _report(folder / "audit")["false_pairs"]["by"]["person"]["false"] == 3
    write_verdicts(tmp_path / "v.parquet", said)
    assert _call(folder, "--verdicts", tmp_path / "v.parquet") == 0
    assert _report(folder / "audit")["false_pairs"]["by"]["person"]["false"] == 1


def test_the_gate_fails_after_the_report_is_written(folder: Path, capsys: Any) -> None:
    rules = ("--fail-on", "classes<10", "--fail-on", "shared>0", "--fail-on", "licence-missing > 0")
    assert _call(folder, *rules) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert said == [
        "failed: classes<10: classes is 6",
        "failed: licence-missing>0: licence-missing is 24",
    ]
    assert (folder / "audit" / "audit.json").is_file()
    assert _call(folder, "--fail-on", "classes<6", "--fail-on", "shared>0") == 0


def test_what_was_not_measured_does_not_pass(folder: Path, capsys: Any) -> None:
    assert _call(folder, "--fail-on", "false-pair-high>0.5", "--fail-on", "near-duplicates>0.5") == 1
    said = capsys.readouterr().err
    assert "false-pair-high was not measured" in said and "near-duplicates was not measured" in said


def test_the_upper_end_of_the_interval_can_be_the_rule(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain"))
    found = audit(pairs, verdicts=_verdicts(pairs, *["yes"] * 10), pixels=False)
    high = 1 - 0.025 ** (1 / 10)
    broken = broken_rules(
        found, [parse_rule(f"false-pair-{what}>0.1") for what in ("rate", "high", "strict")]
    )
    assert broken == [f"failed: false-pair-high>0.1: false-pair-high is {high:.6g}"]


def test_every_measure_is_in_the_help_and_can_be_asked_for(drawings: Catalog, capsys: Any) -> None:
    assert run(["pairs", "audit", "--help"]) == 0
    said = "".join(capsys.readouterr().out.split())
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain"))
    found = audit(pairs, pixels=False)
    for name in MEASURES:
        assert name in said
        parse_rule(f"{name}>=0").broken(found)


MISTAKES = {
    "rule": (
        ["--fail-on", "near-duplicate>0"],
        "did you mean 'near-duplicates'? choose from: pairs, classes",
    ),
    "no rule": (["--fail-on", "shared"], "--fail-on must be NAME>NUMBER"),
    "no number": (["--fail-on", "shared>e"], "--fail-on must be NAME>NUMBER"),
    "no embeddings": (["--embeddings", "none.parquet"], "none.parquet does not exist"),
    "no verdicts": (["--verdicts", "none.parquet"], "none.parquet does not exist"),
    "no source": (["--against", "nothing:at-all"], "source is unknown, got 'nothing'"),
    "no sample": (["--sample", "0"], "must be at least 1, got 0"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(folder: Path, arguments: list[str], said: str, capsys: Any) -> None:
    assert _call(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not (folder / "audit").exists()


def test_other_folders_are_refused_in_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert _call(tmp_path) == 2
    assert _call(folder / "augmented") == 2
    assert run(["pairs", "audit", str(folder)]) == 2  # its images are nowhere
    lines = capsys.readouterr().err.splitlines()
    assert "is no folder of pairs" in lines[0] and "must hold a pair of two images" in lines[1]
    assert "audit with --no-pixels" in lines[2] and len(lines) == 3


def test_what_curation_offers_for_review_is_what_an_audit_counts() -> None:
    from sempairs.cli.curate import curate
    from sempairs.pairs.sample import SAMPLE

    for verb in (audit_verb, curate, audit):
        assert inspect.signature(verb).parameters["sample"].default == SAMPLE


def test_images_that_cannot_be_read_are_said_at_once(tmp_path: Path, capsys: Any) -> None:
    random = np.random.default_rng(0)
    for name in ("a/0", "a/1", "b/2", "b/3"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    source = f"folder:{tmp_path / 'photos'}"
    build = ["pairs", "build", source, "--split", "all", "--split-seed", "1", "--relation", "same_category"]
    assert run([*build, "--out", str(tmp_path / "pairs")]) == 0
    used = PairSet.open(tmp_path / "pairs").catalog.column("uri")[0]
    (tmp_path / "photos" / used).unlink()
    capsys.readouterr()
    assert run(["pairs", "audit", str(tmp_path / "pairs")]) == 0
    said = capsys.readouterr().err
    assert "warning: unreadable images: 1, the first: " in said and used in said
