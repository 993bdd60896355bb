"""The page: whole, self-contained, escaped, accessible, and true to the findings."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

from sempairs.study.figures import Curve, GainRow, Heading, curves, gains
from sempairs.study.report import write_report
from sempairs.study.statistics import compare
from sempairs.study.summary import plan_lines, status_lines, summary

from .conftest import study_recipe, synthetic_plan

VOID = {"meta", "br", "img", "hr", "link", "input", "path", "use", "line"}


class Page(HTMLParser):
    """Collects what a page is made of, and checks that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.ids, self.headings, self.images, self.requests = [], [], [], [], []
        self.text, self.svgs = "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        if tag == "svg":
            self.svgs.append(values)
        self.requests += [v for k, v in values.items() if k in ("src", "href", "xlink:href") and v]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def gain(method, arm, seed, task):
    return 0.0 if arm == "augmented" else 2.0 + 0.3 * seed


@pytest.fixture
def page(make_study):
    out, _ = make_study(gain, broken={"simclr_semantic_seed1": "loss must be finite, got <nan> at step 7"})
    gathered = write_report(out)
    return out, gathered, (out / "report.html").read_text(encoding="utf-8")


def test_the_page_asks_for_nothing(page):
    _, _, text = page
    assert "http" not in text
    assert "<script" not in text
    assert "@import" not in text
    assert all(url.startswith(("data:image/png;base64,", "#")) for url in Page(text).requests)


def test_the_page_is_well_formed_and_accessible(page):
    parsed = Page(page[2])
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.headings[0] == 1
    assert parsed.headings.count(1) == 1
    assert all(
        after - before <= 1 for before, after in zip(parsed.headings, parsed.headings[1:], strict=False)
    )
    assert len(parsed.images) == 2 * 6 * 4
    assert all(image["alt"] for image in parsed.images)
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in parsed.svgs)


def test_the_answer_comes_first_and_every_part_is_there(page):
    _, gathered, text = page
    said = " ".join(Page(text).text.split())
    verdict = gathered.findings.primary.verdict
    places = [
        said.index(part)
        for part in (
            verdict.headline,
            "Gains, task by task",
            "What each arm is shown",
            "Learning curves",
            "Certificate: what was matched",
            "Cells, and what was left out",
            "Protocol",
            "Reproduce",
        )
    ]
    assert places == sorted(places)
    for part in (
        "0123456789abcdef",
        "1,797",
        "2 seeds are too few",
        "simclr_semantic_seed1",
        "seed 1: no number",
    ):
        assert part in said
    assert "got <nan> at step 7" in said  # as text
    assert "<nan>" not in text


def test_all_text_is_escaped(make_study):
    hostile = "<img src=x onerror=alert(1)> & \"both\" 'quotes'"
    out, _ = make_study(gain, question=hostile)
    write_report(out)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert hostile in Page(text).text


def test_what_is_written_beside_the_page(page):
    out, *_ = page
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["holds"] is True
    assert {check["seed"] for check in certificate["checks"]} == {0, 2}
    assert "pairs.anchor_hash" in certificate["checks"][0]["matched"]
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert len(table) == 8 * 4 * 2  # finished cells, tasks, protocols
    row = next(r for r in table if r["cell"] == "simclr_augmented_seed0" and r["primary"])
    assert (row["arm"], row["seed"], row["n"]) == ("augmented", 0, 1797)


def test_a_withheld_result_shows_no_gain(make_study):
    out, _ = make_study(gain, tamper=lambda cell, r: r | {"threads": 2} if cell.arm == "semantic" else r)
    gathered = write_report(out)
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "Not matched." in text
    assert "threads (2 against 1)" in text
    assert "Gains, task by task" not in text
    assert json.loads((out / "certificate.json").read_text())["holds"] is False
    assert "withheld" in summary(gathered.findings)


def test_a_page_of_an_unfinished_study(make_study):
    cells = synthetic_plan(study_recipe()).cells
    out, _ = make_study(gain, waiting=[cell.id for cell in cells[1:]])
    assert write_report(out).holds
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "1 of 9 cells finished" in text


def test_secondary_contrasts_and_several_methods(make_study):
    out, _ = make_study(
        gain,
        methods={"simclr": {}, "byol": {}},
        arms={"augmented": {}, "semantic": {}, "random": {}},
        contrasts=[
            {"treatment": "random", "control": "augmented", "may_differ": ["pairs.arm"]},
            {"treatment": "semantic", "control": "augmented", "may_differ": ["pairs.arm"], "primary": True},
        ],
    )
    gathered = write_report(out)
    parsed = Page((out / "report.html").read_text(encoding="utf-8"))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.text.index("Gains, task by task") < parsed.text.index("Secondary: random − augmented")
    assert "Adjusted p" in parsed.text
    assert "byol digits" in summary(gathered.findings)


def test_the_same_numbers_give_the_same_figures():
    rows = [
        Heading("method"),
        GainRow("a <b>", compare([1.0, 2.0, 4.0])),
        GainRow("mean", compare([1.0]), kind="overall"),
    ]
    for narrow in (False, True):
        made = [
            gains(rows, equivalence=0.5, name="g", title="t", x_label="x", narrow=narrow) for _ in range(2)
        ]
        assert made[0] == made[1]
        assert "var(--arm-0)" in made[0]
        assert "#00000" not in made[0]
        root = ET.fromstring(made[0].replace("xlink:href", "href"))
        assert {"method", "a <b>", "+2.3", "+1.0"} <= {"".join(t.itertext()) for t in root.iter("text")}


def test_curves_of_runs_with_one_point():
    svg = curves([Curve(0, [0.0], [1.0]), Curve(1, [0, 1], [2.0, 1.0])], name="c", title="t", x_label="epoch")
    ET.fromstring(svg.replace("xlink:href", "href"))


def test_lines_for_a_terminal(page, make_study):
    out, gathered, _ = page
    lines = summary(gathered.findings).splitlines()
    assert lines[0].split()[:2] == ["task", "random"]
    assert any(line.startswith("digits") and line.endswith("+2.0 +2.6") for line in lines)
    assert max(len(line) for line in lines) <= 120
    where = status_lines(out)
    assert any(line.startswith("simclr_semantic_seed1") and "broken" in line for line in where)
    assert where[-1].startswith("8 of 9 cells finished")
    assert any("too few to claim" in line for line in plan_lines(gathered.plan))


def test_levels_are_dotted_lines_with_their_names_where_they_are_near():
    lines = [Curve(0, [0, 1, 2], [5.5, 5.2, 5.0])]

    def drawn(**levels):
        svg = curves(lines, name="c", title="t", x_label="epoch", levels=levels)
        return " ".join(text.strip() for text in ET.fromstring(svg).itertext() if text.strip())

    assert "chance, collapse" in drawn(chance=5.54, collapse=5.54)
    both = drawn(chance=5.54, collapse=4.9)
    assert "chance" in both and "collapse" in both and "chance, collapse" not in both
    far = drawn(chance=5.54, collapse=0.0)  # or the curve would be flat
    assert "chance" in far and "collapse" not in far
    assert drawn() == drawn(collapse=-100.0)
