"""Verdicts out and in: whole, or not at all."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from sempairs.curation.api import CurationApi
from sempairs.curation.store import LOG, standing_verdicts
from sempairs.pairs.sample import pair_key
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import read_verdicts


@pytest.fixture
def keys(folder):
    return pair_key(PairSet.open(folder))


@pytest.fixture
def judged(api, folder, tmp_path):
    """A folder with verdicts of two persons and an adjudication; and a fresh copy without."""
    fresh = shutil.copytree(folder, tmp_path / "fresh", ignore=shutil.ignore_patterns(f"{LOG}*"))
    pairs = api.pairs("Ann")
    api.say("Ann", pairs[0]["id"], "yes", note='a "note";\nof, two lines', reasons=["unclear", "offensive"])
    api.say("Bob", pairs[0]["id"], "no")
    api.say("Ann", pairs[0]["id"], "no", "conflicts")
    api.say("Ann", pairs[1]["id"], "unsure")
    api.direct.close()
    return folder, fresh


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_what_goes_out_comes_in_again(judged, sempairs, tmp_path, form):
    folder, fresh = judged
    file = tmp_path / f"verdicts.{form}"
    status, out, _ = sempairs("verdicts", "export", folder, "--out", file)
    assert status == 0 and "4 verdicts" in out
    assert sempairs("verdicts", "import", fresh, file)[:2] == (
        0, f"{fresh}: 4 verdicts imported, 0 of 4 stood there already\n",
    )  # fmt: skip
    assert standing_verdicts(fresh).equals(standing_verdicts(folder).replace_schema_metadata())
    assert "0 verdicts imported, 4 of 4" in sempairs("verdicts", "import", fresh, file)[1]
    if form == "parquet":
        assert read_verdicts(file).equals(standing_verdicts(folder))
    direct = CurationApi(fresh)
    assert direct.ledger.progress() == {"pairs": 12, "judged": 2, "yes": 0, "no": 1, "unsure": 1}
    assert direct.state("Ann")["undo"] == 0  # what came from a file is not the last keystroke
    direct.close()


def test_a_models_verdicts_stay_a_models(folder, keys, sempairs, tmp_path):
    file = tmp_path / "model.csv"
    rows = "".join(f"{b},{a},{'yes' if i else 'no'}\n" for i, (a, b) in enumerate(keys))
    file.write_text("anchor,partner,verdict\n" + rows)
    status, _, errors = sempairs("verdicts", "import", folder, file, "--reviewer", "clip")
    assert status == 2 and "row 1" in errors[0] and "--reviewer-kind" in errors[0]
    assert (
        sempairs("verdicts", "import", folder, file, "--reviewer", "clip", "--reviewer-kind", "model")[0] == 0
    )
    found = standing_verdicts(folder).to_pylist()
    assert {(row["anchor"], row["partner"]): row["verdict"] for row in found} == {
        key: "yes" if i else "no" for i, key in enumerate(keys)
    }
    assert {row["reviewer_kind"] for row in found} == {"model"}
    assert "no pair was judged by two persons" in sempairs("verdicts", "agreement", folder)[1]
    status, _, errors = sempairs(
        "verdicts", "import", folder, file, "--reviewer", "clip", "--reviewer-kind", "person"
    )
    assert status == 2 and "is model already" in errors[0]


def row(key, **more):
    return {"anchor": key[0], "partner": key[1], "verdict": "yes", **more}


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"anchor": "gone.png"}, "not in the set"),
        ({"verdict": "maybe"}, "verdict must be one of"),
        ({"verdict": None}, "verdict must be one of"),
        ({"reviewer": " "}, "reviewer"),
        ({"reviewer": "x" * 99}, "reviewer"),
        ({"reviewer_kind": "robot"}, "reviewer_kind"),
        ({"reviewer_kind": "rule"}, "reviewer_kind must be person"),
        ({"reasons": ["because"]}, "reasons"),
        ({"reasons": 3}, "reasons"),
        ({"note": "x" * 3000}, "note"),
        ({"at": "yesterday"}, "at must be"),
        ({"at": "2026-01-01T00:00:00"}, "time zone"),
        ({"anchor": 3}, "two image ids"),
        ({"partner": None}, "two image ids"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_imported(folder, keys, sempairs, tmp_path, wrong, rule):
    file = tmp_path / "rows.jsonl"
    rows = [row(keys[0]), {**row(keys[1]), **wrong}, row(keys[2])]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    status, _, errors = sempairs(
        "verdicts", "import", folder, file, "--reviewer", "Ann", "--reviewer-kind", "person"
    )
    assert status == 2 and len(errors) == 1 and "row 2" in errors[0] and rule in errors[0], errors
    assert standing_verdicts(folder).num_rows == 0


def test_files_that_are_none_are_one_line(folder, keys, sempairs, tmp_path):
    cases = {
        "absent.csv": None,
        "notes.txt": b"x",
        "bad.parquet": b"x",
        "bad.jsonl": b"{",
        "list.jsonl": b"[1]\n",
        "bad.csv": b'anchor,partner,verdict\n"a',
        "short.csv": b"anchor,partner\na,b\n",
        "binary.csv": b"\xff\xfe",
        "long.csv": b"anchor,partner,verdict\na,b,yes,no,no\n",
    }
    for name, content in cases.items():
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        status, _, errors = sempairs(
            "verdicts", "import", folder, file, "--reviewer", "A", "--reviewer-kind", "person"
        )
        assert status == 2 and len(errors) == 1 and name in errors[0], (name, errors)
    twice = tmp_path / "twice.jsonl"
    twice.write_text(json.dumps(row(keys[0])) + "\n" + json.dumps(row(keys[0][::-1])) + "\n")
    status, _, errors = sempairs(
        "verdicts", "import", folder, twice, "--reviewer", "A", "--reviewer-kind", "rule"
    )
    assert status == 2 and "row 2" in errors[0] and "second verdict" in errors[0]
    assert standing_verdicts(folder).num_rows == 0


def _lines(rows: list[dict[str, str]], delimiter: str, ends: str = "\n") -> str:
    return "".join(delimiter.join(line) + ends for line in [list(rows[0]), *(list(r.values()) for r in rows)])


FORMS = [
    ("v.csv", "utf-8", lambda rows: _lines(rows, ",")),
    ("v.csv", "utf-8-sig", lambda rows: _lines(rows, ",", "\r\n")),
    ("v.CSV", "utf-8-sig", lambda rows: _lines(rows, ";", "\r\n\r\n")),
    ("v.csv", "utf-16", lambda rows: _lines(rows, "\t", "\r\n")),
    ("v.tsv", "utf-8", lambda rows: _lines(rows, "\t")),
    ("v.csv", "utf-8", lambda rows: _lines(rows, ";", "\r")),
    ("v.csv", "utf-8", lambda rows: "sep=;\r\n" + _lines(rows, ";", "\r\n")),
    ("v.csv", "utf-8", lambda rows: '"sep=|"\n' + _lines(rows, "|")),
    ("v.csv", "utf-8", lambda rows: "\n" + _lines(rows, ", ").replace(", ", ",") + ",,,\n"),
    ("v.jsonl", "utf-8-sig", lambda rows: "".join(json.dumps(r) + "\n" for r in rows)),
    ("v.jsonl", "utf-16", lambda rows: "".join(json.dumps(r) + "\r\n" for r in rows)),
    ("v.ndjson", "utf-8", lambda rows: "\n\n".join(json.dumps(r) for r in rows)),
    ("v.json", "utf-8-sig", lambda rows: json.dumps(rows, indent=2)),
    ("v.json", "utf-8", lambda rows: "".join(json.dumps(r) + "\n" for r in rows)),
    ("v.jsonl", "utf-8", lambda rows: json.dumps(rows)),
]


@pytest.mark.parametrize(("name", "encoding", "write"), FORMS)
@pytest.mark.parametrize(
    "columns", [("anchor", "partner", "verdict", "reasons"), ("Anchor", " PARTNER ", "Verdict", "Reasons")]
)
def test_verdicts_as_spreadsheets_and_programs_write_them(
    folder, keys, sempairs, tmp_path, name, encoding, write, columns
):
    said = [(*keys[0], "yes", "unclear"), (*keys[1], "No", ""), (*keys[2], " UNSURE", "unclear")]
    file = tmp_path / name
    file.write_bytes(write([dict(zip(columns, row, strict=True)) for row in said]).encode(encoding))
    status, _, errors = sempairs(
        "verdicts", "import", folder, file, "--reviewer", "A", "--reviewer-kind", "person"
    )
    assert (status, errors) == (0, [])
    found = {
        (r["anchor"], r["partner"]): (r["verdict"], r["reasons"])
        for r in standing_verdicts(folder).to_pylist()
    }
    assert found == {keys[0]: ("yes", ["unclear"]), keys[1]: ("no", []), keys[2]: ("unsure", ["unclear"])}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin.csv", "anchor,partner,verdict,note\na,b,yes,größer\n".encode("latin-1")),
        ("half.jsonl", b'{"anchor": "a"'),
        ("deep.json", b"[" * 100_000),
        ("both.csv", b"anchor,partner,verdict,Verdict\na,b,yes,no\n"),
        ("names.csv", b"left,right,verdict\na,b,yes\n"),
        ("empty.csv", b""),
        ("other.json", b'{"verdicts": 3}'),
    ],
)
def test_what_cannot_be_told_is_one_line(folder, sempairs, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    status, _, errors = sempairs(
        "verdicts", "import", folder, tmp_path / name, "--reviewer", "A", "--reviewer-kind", "person"
    )
    assert status == 2 and len(errors) == 1 and name in errors[0], errors
    assert standing_verdicts(folder).num_rows == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_files_with_a_byte_order_mark(folder, keys, sempairs, tmp_path, encoding, form):
    file = tmp_path / f"v.{form}"
    lines = {
        "csv": ["anchor;partner;verdict;note", *(f"{a};{b};yes;é" for a, b in keys)],
        "jsonl": [json.dumps(row(key, note="\u2028 é"), ensure_ascii=False) for key in keys],
    }[form]
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    given = ("--reviewer", "A", "--reviewer-kind", "person")
    status, _, errors = sempairs("verdicts", "import", folder, file, *given)
    assert (status, errors) == (0, [])
    assert standing_verdicts(folder).num_rows == len(keys)


def test_a_program_cannot_adjudicate(folder, keys, sempairs, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row(keys[0], reviewer="clip", reviewer_kind="model", queue="conflicts")))
    status, _, errors = sempairs("verdicts", "import", folder, file)
    assert status == 2 and "only persons adjudicate" in errors[0]


def test_export_and_agreement_without_verdicts(folder, sempairs, tmp_path):
    for arguments in (("export", folder, "--out", tmp_path / "x.csv"), ("agreement", folder)):
        status, _, errors = sempairs("verdicts", *arguments)
        assert status == 2 and "has no verdicts" in errors[0]


def test_agreement_is_printed(judged, sempairs, tmp_path):
    folder, _ = judged
    out = sempairs("verdicts", "agreement", folder)[1]
    assert "1 pairs judged by two or more persons, 0.0% agreement" in out and "Ann and Bob" in out
    assert json.loads(sempairs("verdicts", "agreement", folder, "--json")[1])["fleiss"]["pairs"] == 1
    status, _, errors = sempairs("verdicts", "export", folder, "--out", tmp_path / "x.xlsx")
    assert status == 2 and ".jsonl" in errors[0]


def test_hostile_ids_survive_csv(judged, sempairs, tmp_path):
    folder, _ = judged
    file = tmp_path / "v.parquet"
    sempairs("verdicts", "export", folder, "--out", file)
    first = file.read_bytes()
    sempairs("verdicts", "export", folder, "--out", file)
    assert file.read_bytes() == first and pq.read_table(file).num_rows == 4
