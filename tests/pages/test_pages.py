"""The renderer and the stylesheet that all pages share."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

import sempairs
from sempairs import pages

TEMPLATES = sorted(Path(sempairs.__file__).parent.rglob("templates/*.html"))
STYLE = (Path(pages.__file__).parent / "templates" / "style.css").read_text()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a template of its own that extends the shared one."""
    folder = tmp_path / "shown" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "one.html").write_text(
        '{% extends "base.html" %}{% from "parts.html" import key %}'
        "{% block title %}{{ name }}{% endblock %}"
        "{% block main %}{{ name|loud }} {{ key(1, name) }}{% endblock %}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "shown"


def test_a_page_is_one_escaped_file_with_the_shared_style(package: str) -> None:
    page = pages.render(package, "one.html", {"name": "<b>"}, filters={"loud": str.upper}, written="today")
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<b>" not in page and "&lt;B&gt;" in page and "<title>&lt;b&gt;</title>" in page
    assert STYLE.strip() in page and f"sempairs {sempairs.__version__} on today." in page
    undated = pages.render(package, "one.html", {"name": "<b>"}, filters={"loud": str.upper})
    assert f"sempairs {sempairs.__version__}." in undated  # the same content gives the same bytes


def test_a_name_that_is_not_there_is_an_error(package: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match="name"):
        pages.render(package, "one.html", {}, filters={"loud": str})


def test_pictures_come_with_the_page() -> None:
    small = pages.picture_uri(Image.fromarray(np.zeros((4, 4, 3), np.uint8)))
    assert re.fullmatch(r"data:image/webp;base64,[A-Za-z0-9+/=]+", small)
    assert pages.data_uri(b"abc", "png") == "data:image/png;base64,YWJj"


def test_every_page_has_the_shared_style_alone() -> None:
    """No template brings a style of its own; each class it uses stands in the one stylesheet."""
    assert len(TEMPLATES) >= 6
    for template in TEMPLATES:
        text = template.read_text()
        if template.parent.parent.name != "pages":
            assert text.startswith('{% extends "base.html" %}'), template
            assert "<style" not in text, template
        plain = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", text)
        for words in re.findall(r'class="([^"]*)"', plain):
            for word in words.split():
                assert word.endswith("-") or f".{word}" in STYLE, f"{template}: {word}"


def test_light_dark_narrow_and_paper_are_provided_for() -> None:
    for part in ("prefers-color-scheme: dark", "max-width: 640px", "@media print"):
        assert part in STYLE
    light, dark = (set(re.findall(r"--[a-z0-9-]+(?=:)", part)) for part in STYLE.split("@media", 2)[:2])
    assert light == dark and len(light) > 10  # every colour has its dark one
    assert "url(" not in STYLE and "@import" not in STYLE
