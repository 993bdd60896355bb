"""The site of the documentation: complete, no broken link, readable without a network; its examples run."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocstrings")

from sempairs.config import load_config
from sempairs.methods import METHODS
from sempairs.pairs.config import RELATIONS
from sempairs.registry import Section
from sempairs.training import PretrainRecipe

ROOT = Path(__file__).parents[2]


def _hooks():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs_site = _hooks()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it: a warning is an error there."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return folder


def test_every_public_name_has_a_docstring():
    names = docs_site.public_names()
    assert {"sempairs.Catalog", "sempairs.methods.Method", "sempairs.testing.check_method"} <= set(names)
    assert [name for name, path in names.items() if docs_site.described(path).docstring is None] == []


def test_every_public_name_is_in_the_reference(site):
    pages = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    anchors = set(re.findall(r'id="(sempairs[^"]*)"', pages))
    assert [name for name, path in docs_site.public_names().items() if path not in anchors] == []


def test_pages_load_nothing_from_elsewhere(site):
    loaded = re.compile(
        r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]*)"'
        r'|<link\b[^>]*\brel="(?:stylesheet|preconnect|icon)"[^>]*\bhref="([^"]*)"'
        r'|<link\b[^>]*\bhref="([^"]*)"[^>]*\brel="(?:stylesheet|preconnect|icon)"'
    )
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # which a server alone shows
            continue
        for found in loaded.findall(page.read_text()):
            target = html.unescape("".join(found))
            if not target.startswith("data:"):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
    styles = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?https?:", styles)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_example_of_a_method_runs(name, capsys):
    exec(compile(docs_site.method_example(name), f"{name}.md", "exec"), {})
    assert re.fullmatch(r"step 0: loss -?\d+\.\d{3}\nstep 1: loss -?\d+\.\d{3}\n", capsys.readouterr().out)
    recipe = load_config(PretrainRecipe, "pretrain-debug", [f"method={{name: {name}}}"])
    assert type(recipe.method) is METHODS.get(name).Config
    section = docs_site.recipe_section(name)["method"]
    assert Section(METHODS).read(section) == METHODS.get(name).presets["tiny"].config


@pytest.mark.parametrize("name", RELATIONS.names())
def test_the_example_of_a_relation_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(docs_site.relation_example(name), f"{name}.md", "exec"), {})
    pairs, first = capsys.readouterr().out.splitlines()
    assert int(pairs.removesuffix(" pairs")) >= 2
    assert first.count("image ") >= 4


def test_settings_carry_the_comments_of_the_code():
    page = docs_site.relation_page("sibling")
    assert "| `depth` | `1` | `int`, ≥ 1 | Levels up from the leaf category" in page
    assert "At most so many pairs an epoch." in docs_site.relations_overview()
    assert "| `temperature` | `0.2` | `float`, > 0 |" in docs_site.method_page("simclr")
    assert "| `count` | `null` | `int | None`, ≥ 1 | At most" in docs_site.relations_overview()


@pytest.mark.parametrize(
    ("markdown", "source", "becomes"),
    [
        ("[c](../CONTRIBUTING.md)", "add-your-own.md", "[c](contributing.md)"),
        ("[t](docs/training.md#speed)", "index.md", "[t](training.md#speed)"),
        ("[m](src/sempairs/methods)", "index.md", "[m](reference/methods.md)"),
        ("[p](pyproject.toml)", "contributing.md", "p"),
        ("[gone](docs/gone.md)", "index.md", "[gone](gone.md)"),
        ("[gone](gone.toml)", "contributing.md", "[gone](gone.toml)"),
        ("```\n[c](../CONTRIBUTING.md)\n```", "log.md", "```\n[c](../CONTRIBUTING.md)\n```"),
        ("[web](https://example.org/a)", "log.md", "[web](https://example.org/a)"),
    ],
)
def test_links_between_files_become_links_between_pages(markdown, source, becomes):
    class Page:
        class file:  # noqa: N801
            src_uri = source

    assert docs_site.on_page_markdown(markdown, Page) == becomes
