"""The report in a real browser: it shows something, and fits a narrow screen."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from sempairs.study.report import REPORT, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the chromium browser")


def _browse(tmp_path, *arguments):
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture
def report(make_study):
    study, _ = make_study(lambda method, arm, seed, task: 2.0 + seed if arm == "semantic" else 0.0)
    write_report(study)
    return study / REPORT


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_fits_the_window(report, tmp_path, width):
    probe = tmp_path / "probe.html"
    script = "<script>document.title = 'width ' + document.documentElement.scrollWidth</script></body>"
    probe.write_text(report.read_text().replace("</body>", script))
    page = _browse(tmp_path, f"--window-size={width},900", "--dump-dom", probe.as_uri())
    found = re.search(r"<title>width (\d+)</title>", page)
    assert found is not None
    assert int(found[1]) <= max(width, 500)  # some builds open no narrower window


def test_on_paper_no_table_is_cut(make_study, tmp_path):
    """As A4 is printed, 718 px wide: every table and the recipe are shown, whole, also those folded away."""
    arms = ("augmented", "semantic", "image-matched", "corrupted-by-half")
    contrasts = [
        {"treatment": arm, "control": arms[0], "may_differ": ["pairs.arm"], "primary": arm == "semantic"}
        for arm in arms[1:]
    ]
    study, _ = make_study(
        lambda *_: 2.0, seeds=range(12), methods={"simclr": {}, "barlow-twins": {}},
        arms={arm: {} for arm in arms}, contrasts=contrasts,
    )  # fmt: skip
    write_report(study)
    script = """<script>
        const cut = [...document.querySelectorAll("table, pre")].filter(whole => {
          const parts = [whole, ...whole.querySelectorAll("th, td, code")];
          const places = parts.map(part => part.getBoundingClientRect());
          return places.some(place => place.right > innerWidth || place.height < 1);
        });
        document.title = "cut " + cut.length + " of " + document.querySelectorAll("table").length;
      </script></body>"""
    probe, page = tmp_path / "probe.html", (study / REPORT).read_text()
    found = []
    for media in ("print", "all"):
        probe.write_text(page.replace("@media print", f"@media {media}").replace("</body>", script))
        shown = _browse(tmp_path, "--window-size=718,900", "--dump-dom", probe.as_uri())
        found.append(re.search(r"<title>cut (\d+) of (\d+)</title>", shown))
    on_screen, on_paper = found
    assert int(on_screen[1]) > 0  # or this test sees nothing: wide tables scroll, and some are folded away
    assert int(on_paper[1]) == 0
    assert int(on_paper[2]) > 10


def test_the_page_is_drawn(report, tmp_path):
    picture = tmp_path / "page.png"
    _browse(tmp_path, "--window-size=1200,1600", f"--screenshot={picture}", report.as_uri())
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (1600, 1200)
    # Text and figures on a light ground, in every quarter of what is seen first.
    for quarter in np.array_split(pixels, 4):
        assert quarter.min() < 120 < 230 < quarter.max()
