"""The files of the page themselves: nothing from elsewhere, nothing that turns data into markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sempairs

STATIC = Path(sempairs.__file__).parent / "curation" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))


class Tags(HTMLParser):
    """All tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_never_make_markup_or_code_of_text(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setAttribute\(.style"
    assert re.findall(markup + r"|\beval\(|new Function", text) == []
    assert re.findall(r"https?://|//[a-z]+\.[a-z]", text) == []
    assert all(name.startswith("./") for name in re.findall(r'from "([^"]+)"', text))
    assert len(text.splitlines()) <= 400


def test_the_page_holds_no_inline_script_or_style_and_loads_its_own_files_only() -> None:
    page = Tags((STATIC / "index.html").read_text(encoding="utf-8"))
    assert page.inline == []
    for tag, attributes in page.found:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
    loaded = [at.get("src") or at.get("href") or "" for tag, at in page.found if tag in ("script", "link")]
    assert all(re.fullmatch(r"static/[\w.]+", address) for address in loaded)
    named = {address.removeprefix("static/") for address in loaded}
    assert named == {file.name for file in STATIC.iterdir()} - {"index.html"}  # all asked for at once
    assert not re.search(r"url\(|@import", (STATIC / "style.css").read_text(encoding="utf-8"))


def test_every_element_the_scripts_look_up_is_on_the_page() -> None:
    ids = {
        at["id"] for _, at in Tags((STATIC / "index.html").read_text(encoding="utf-8")).found if "id" in at
    }
    made = {"adjudicate"}
    wanted = {
        name for file in SCRIPTS for name in re.findall(r'(?:\$|\bon)\("([\w-]+)"', file.read_text("utf-8"))
    }
    assert wanted - ids - made == set()
