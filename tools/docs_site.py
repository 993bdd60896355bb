"""What the site of the documentation gets from the code while mkdocs builds it (`make docs`).

As a hook of mkdocs it adds a page for each method and each relation, the reference of the public names, and
the pages that lie outside docs/ (README, CONTRIBUTING and others). It turns links between files of the
repository into links between pages. As an extension of griffe, which reads the code for mkdocstrings,
`Comments` takes the comments that stand at settings and constants as their descriptions.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import griffe
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
#: Files of the repository outside docs/ that are pages.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
#: The stages whose public names are a page of the reference each; other modules share the page `leaves`.
STAGES = (
    "catalog", "pairs", "curation", "release", "views", "methods", "encoders", "runs", "training",
    "evaluation", "detection", "study", "metrics", "testing",
)  # fmt: skip

_REMARK = re.compile(r"^\s*#:?\s?(.*)$")
_BESIDE = re.compile(r"\s{2}#:?\s(?!type:|noqa|fmt:)(.+)$")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


class Comments(griffe.Extension):
    """Takes the comment above an attribute, or beside it, as its docstring, where it has none."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **rest: Any) -> None:
        if attr.docstring is not None or attr.lineno is None or attr.endlineno is None:
            return
        if not isinstance(attr.filepath, Path):
            return
        name = str(attr.filepath)
        found: list[str] = []
        line = attr.lineno - 1
        while match := _REMARK.match(linecache.getline(name, line)):
            found.insert(0, match[1])
            line -= 1
        if beside := _BESIDE.search(linecache.getline(name, attr.endlineno).rstrip("\n")):
            found.append(beside[1])
        text = " ".join(part.strip() for part in found if not part.startswith(("fmt:", "type:", "noqa")))
        if text:
            attr.docstring = griffe.Docstring(text[0].upper() + text[1:], parent=attr)


@cache
def package() -> griffe.Module:
    """The code as griffe reads it, with comments."""
    extensions = griffe.load_extensions(Comments)
    loaded = griffe.load("sempairs", search_paths=[ROOT / "src"], extensions=extensions)
    assert isinstance(loaded, griffe.Module)
    return loaded


def public_names() -> dict[str, str]:
    """Every public name, `sempairs.Catalog` for instance, and the path of what it stands for.

    Those of `sempairs.__all__`, and of the `__all__` of every module.
    """
    import sempairs

    names = {f"sempairs.{name}": f"{home}.{name}" for name, home in sempairs._HOME.items()}
    for module in _modules(package()):
        if module.exports is not None and module is not package():
            names |= {f"{module.path}.{name}": f"{module.path}.{name}" for name in map(str, module.exports)}
    return {name: described(path).path for name, path in names.items()}


def described(path: str) -> griffe.Object:
    """The object that a dotted path within the package leads to, whatever imports lie between."""
    found = package()[path.removeprefix("sempairs.")]
    target = found.final_target if found.is_alias else found
    assert isinstance(target, griffe.Object)
    return target


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for inner in module.modules.values():
        if isinstance(inner, griffe.Module):
            yield from _modules(inner)


# --- hooks of mkdocs


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages that are made in the navigation, where it says `methods/*`."""
    pages = sorted(generated_pages())

    def expanded(entry: Any) -> list[Any]:
        if isinstance(entry, Mapping):
            return [{title: _flat(map(expanded, value)) if isinstance(value, list) else value}
                    for title, value in entry.items()]  # fmt: skip
        if isinstance(entry, str) and entry.endswith("/*"):
            return [page for page in pages if page.startswith(entry[:-1])]
        return [entry]

    config.nav = _flat(map(expanded, config.nav or []))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and those that lie outside docs/."""
    for source, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    for uri, text in generated_pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **rest: Any) -> str:
    """Makes links between files of the repository links between pages.

    A link to a file that is no page becomes its text alone. One to nothing is left, for mkdocs to refuse.
    """
    uri = page.file.src_uri
    source = next((name for name, to in OUTSIDE.items() if to == uri), f"docs/{uri}")
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda match: _relinked(match, source, uri), part) for part in parts[::2]]
    return "".join(parts)


def _relinked(match: re.Match[str], source: str, uri: str) -> str:
    image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
    if not target or re.match(r"\w+:", target):
        return match[0]
    path = os.path.normpath(os.path.join(os.path.dirname(source), target))
    room = path.removeprefix("src/sempairs/").partition("/")[0]
    if path in OUTSIDE:
        to = OUTSIDE[path]
    elif path.startswith("docs/"):
        to = path.removeprefix("docs/")
    elif path.startswith("src/sempairs/") and f"reference/{room}.md" in generated_pages():
        to = f"reference/{room}.md"
    elif (ROOT / path).exists() and not image:
        return text
    else:
        return match[0]
    return f"{image}[{text}]({os.path.relpath(to, os.path.dirname(uri) or '.')}{anchor})"


def _flat(lists: Any) -> list[Any]:
    return [entry for entries in lists for entry in entries]


# --- pages that are made


@cache
def generated_pages() -> Mapping[str, str]:
    """All pages that are made from the code: uri to Markdown."""
    from sempairs.methods import METHODS
    from sempairs.pairs.config import RELATIONS

    pages = {f"methods/{name}.md": method_page(name) for name in METHODS.names()}
    pages |= {f"relations/{name}.md": relation_page(name) for name in RELATIONS.names()}
    return pages | {"relations.md": relations_overview()} | reference_pages()


def method_page(name: str) -> str:
    """The page of one method: its module's docstring, an example, its settings, presets and functions."""
    from sempairs.methods import METHODS, PairMethod

    method = METHODS.get(name)
    module = described(method.__module__)
    title, text = _titled(_doc(module))
    pairwise = issubclass(method, PairMethod)
    crops = ", ".join(f"{slot.kind} of {slot.member}" for slot in method.slots)
    facts = {
        "Name in recipes": f"`{name}`",
        "Crops of each pair": crops
        + (", and local ones where the recipe has them" if method.takes_local else ""),
        "Objectives": "`pair`, `joint`, `several`" if pairwise else "`pair`",
        "Batch statistics": "over both views together"
        if method.joint_forward
        else "over each view by itself",
        "Labels": "used" if method.takes_meanings or name == "supcon" else "none, unless an option uses them",
        "File": f"`src/sempairs/methods/{name}.py`",
    }
    about = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""# {title}

{text}

## At a glance

| | |
|---|---|
{about}

## Example

Two steps on noise, with the settings of a laboratory bench:

```python
{method_example(name)}```

Two epochs on a corner of emoji-pairs, of which `pretrain-debug` is the recipe:

```bash
sempairs pretrain pretrain-debug --out runs/{name} --set "method={{name: {name}}}"
```

In a recipe of your own:

```yaml
{yaml.safe_dump(recipe_section(name), sort_keys=False, allow_unicode=True)}```

## Settings

{_settings(method.Config)}

## Presets

`METHODS.get("{name}").presets` holds these; what a preset leaves out is as above.

{_presets(method)}

## Code

{_code(module, config=method.Config)}
"""


def method_example(name: str) -> str:
    """The example of a method's page, Python that runs as it stands."""
    labels = ", meanings=MEANINGS" if name == "supervised" else ""
    more = "MEANINGS, " if labels else ""
    return f"""import torch

import sempairs as sp
from sempairs.testing.methods import {more}WIDTH, small_encoder, views_for

config = sp.METHODS.get("{name}").presets["tiny"].config
method = sp.build_method(config, small_encoder(), WIDTH, seed=0{labels})
optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
for step in range(2):
    progress = step / 2
    method.before_step(progress)
    out = method(views_for(method, seed=step))
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    method.after_step(progress)
    print(f"step {{step}}: loss {{out.loss.item():.3f}}")
"""


def _code(module: griffe.Module, *, config: type) -> str:
    """The own functions and classes of a module, for mkdocstrings to show; settings have their own table."""
    shown = [
        found for name, found in module.members.items()
        if not name.startswith("_") and not found.is_alias and (found.is_class or found.is_function)
        and name != config.__name__ and found.has_docstring
    ]  # fmt: skip
    return "\n\n".join(f"::: {found.path}\n    options: {{heading_level: 3}}" for found in shown)


def recipe_section(name: str) -> dict[str, Any]:
    """The section of a recipe with the method's settings of a laboratory bench."""
    from sempairs.methods import METHODS

    return {"method": METHODS.get(name).presets["tiny"].config.model_dump(mode="json")}


def relation_page(name: str) -> str:
    """The page of one relation: what it is, an example, its settings."""
    from sempairs.pairs.config import RELATIONS, PairsConfig

    relation = RELATIONS.get(name)
    module = described(relation.__module__)
    doc = _doc(module).partition("\n\n")
    own = [field for field in relation.model_fields if field not in PairsConfig.model_fields]
    facts = {
        "Two images of a pair are": relation.description,
        "Found by": "columns of the catalogue"
        if relation.by_columns
        else "a list or a search, not by columns",
        "Fixed pairs": "of one image each"
        if relation.one_image
        else "share no image"
        if relation.disjoint
        else "may share images",
        "File": f"`src/sempairs/pairs/relations/{Path(str(module.filepath)).name}`",
    }
    about = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    settings = _settings(relation, own) if own else "It has none of its own."
    needed = "".join(f" --{field} FILE" for field in own if relation.model_fields[field].is_required())
    return f"""# `{name}`

{doc[0]}

{_formatted(doc[2])}

{_formatted(_doc(described(f"{relation.__module__}.{relation.__name__}")))}

## At a glance

| | |
|---|---|
{about}

## Example

On a made-up catalogue of 96 images:

```python
{relation_example(name)}```

On your own images, as fixed pairs with their matched baselines:

```bash
sempairs pairs build folder:photos --relation {name}{needed} --out pairs
```

## Settings

{settings}

Beside them it has those of [every relation](../relations.md#settings-of-every-relation).
"""


#: What has to be there before the example of a relation: its lines, and the settings that name it.
BEFORE = {
    "listed": (
        "from pathlib import Path\n",
        'ids = catalog.column("image_id")\n'
        'Path("pairs.csv").write_text(f"anchor,partner\\n{ids[0]},{ids[12]}\\n{ids[1]},{ids[13]}\\n")\n',
        ', file="pairs.csv"',
    ),
    "neighbour": (
        "import numpy as np\n",
        'ids, files = catalog.column("image_id"), catalog.column("file_hash")\n'
        'vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype("float32")\n'
        'Embeddings(tuple(ids), tuple(files), vectors, about={}).save("features.parquet")\n',
        ', embeddings="features.parquet"',
    ),
}


def relation_example(name: str) -> str:
    """The example of a relation's page, Python that runs as it stands."""
    imports, lines, settings = BEFORE.get(name, ("", "", ""))
    first = f"{imports}\n" if imports else ""
    embeddings = "from sempairs.embeddings import Embeddings\n" if name == "neighbour" else ""
    return f"""{first}import sempairs as sp
{embeddings}from sempairs.testing import made_up_catalog

catalog = made_up_catalog()
{lines}config = sp.PairsConfig(relation="{name}"{settings})
plan = sp.plan_pairs(catalog, config)
print(f"{{plan.n}} pairs")
pairs = plan.epoch(0)  # anchors and partners, as rows of the catalogue
names = catalog.column("image_id")
print([(names[anchor], names[partner]) for anchor, partner in zip(pairs.anchor, pairs.partner)][:3])
"""


def relations_overview() -> str:
    """The table of all relations, and the settings that they share."""
    from sempairs.pairs.config import RELATIONS, PairsConfig

    rows = "\n".join(
        f"| [`{name}`](relations/{name}.md) | {RELATIONS.get(name).description} |"
        for name in RELATIONS.names()
    )
    shared = [field for field in PairsConfig.model_fields if field != "relation"]
    return f"""# Relations

A relation says which two images form a pair. A recipe names it in `pairs.relation`, the command line in
`sempairs pairs build --relation`. [Add your own](add-your-own.md#a-relation) shows how to write another.

| relation | the two images of a pair are |
|---|---|
{rows}

## Settings of every relation

{_settings(PairsConfig, shared)}
"""


def reference_pages() -> dict[str, str]:
    """A page for each stage with all its public names, and the table of the names of `sempairs` itself."""
    stages: dict[str, set[str]] = {}
    for path in public_names().values():
        stage = path.split(".")[1]
        stages.setdefault(stage if stage in STAGES else "leaves", set()).add(path)
    pages = {}
    for stage, paths in stages.items():
        intro = "Modules that every stage uses." if stage == "leaves" else _doc(package()[stage])
        blocks = "\n\n".join(_block(path) for path in sorted(paths, key=_place))
        pages[f"reference/{stage}.md"] = f"# {stage}\n\n{_formatted(intro)}\n\n{blocks}\n"
    rows = "\n".join(
        f"| [`{name.removeprefix('sempairs.')}`][{path}] | {_first_line(path)} |"
        for name, path in sorted(public_names().items())
        if name.count(".") == 1
    )
    listed = ", ".join(f"[{stage}](reference/{stage}.md)" for stage in sorted(stages))
    pages["reference.md"] = f"""# Public names

`import sempairs as sp` gives the names of the table. Further public names are imported from their modules:
{listed}.

| name | |
|---|---|
{rows}
"""
    return pages


def _block(path: str) -> str:
    """What mkdocstrings shows of one name; the fields of a config are a table instead."""
    found = described(path)
    if not found.is_class or not any(str(base).endswith("Config") for base in found.bases):
        return f"::: {path}"
    config = getattr(import_module(found.module.path), found.name)
    hidden = "|".join(config.model_fields)
    options = f'{{filters: ["!^_", "!^({hidden})$"]}}' if hidden else "{}"
    return f"::: {path}\n    options: {options}\n\n{_settings(config)}"


def _place(path: str) -> tuple[bool, str]:
    return described(path).is_attribute, path.rpartition(".")[2].lower()


def _first_line(path: str) -> str:
    return _cell(_doc(described(path)).partition("\n\n")[0].partition(". ")[0])


def _doc(found: griffe.Object) -> str:
    return found.docstring.value if found.docstring is not None else ""


def _titled(doc: str) -> tuple[str, str]:
    """The title of a method's page, and its docstring as Markdown."""
    first, _, rest = doc.partition("\n\n")
    title = re.split(r"[.,:] ", first, maxsplit=1)[0]
    return title, f"{_formatted(first)}\n\n{_formatted(rest)}"


def _formatted(doc: str) -> str:
    """A docstring as Markdown: what is indented is a formula; `Departures:`, `Option …` begin a paragraph."""
    lines: list[str] = []
    formula = False
    for line in doc.splitlines():
        indented = line.startswith("    ")
        if indented != formula and line.strip():
            lines += ["```text"] if indented else ["```", ""]
            if indented:
                lines.insert(-1, "")
            formula = indented
        if line.startswith(("Departures", "Option `", "Published:", "Chosen here", "Raises:")):
            lines.append("")
        lines.append(line[4:] if formula else line)
    if formula:
        lines.append("```")
    text = "\n".join(lines)
    parts = _FENCE.split(text)
    parts[::2] = [_prose(part) for part in parts[::2]]
    return "".join(parts)


def _prose(text: str) -> str:
    text = re.sub(
        r"^(Departures[^:]*|Published|Chosen here[^:]*|Raises):", r"**\1:**", text, flags=re.MULTILINE
    )
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _settings(config: Any, fields: list[str] | None = None) -> str:
    """A table of a config's fields: name, type, default, limits, what its comment says."""
    rows = ["| setting | default | type | |", "|---|---|---|---|"]
    for name, field in config.model_fields.items():
        if fields is not None and name not in fields:
            continue
        default = "needed" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        attribute = _attribute(config, name)
        kind = ", ".join([f"`{_annotation(attribute)}`", *_limits(field)])
        rows.append(f"| `{name}` | {default} | {kind} | {_cell(_doc(attribute))} |")
    return "\n".join(rows)


def _attribute(config: Any, name: str) -> griffe.Object:
    owner = next(cls for cls in config.__mro__ if name in vars(cls).get("__annotations__", {}))
    return described(f"{owner.__module__}.{owner.__qualname__}.{name}")


def _annotation(attribute: griffe.Object) -> str:
    text = str(getattr(attribute, "annotation", ""))
    return re.sub(r"Annotated\[(.+?), Field\(.*?\)\]", r"\1", text)


def _limits(field: Any) -> Iterator[str]:
    """`≥ 1`, for instance, of the field itself or of one part of a union such as `int | None`."""
    parts = [field, *(part for part in get_args(field.annotation) if hasattr(part, "__metadata__"))]
    for part in parts:
        for given in getattr(part, "metadata", None) or getattr(part, "__metadata__", ()):
            for limit in getattr(given, "metadata", [given]):
                for key, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
                    if (value := getattr(limit, key, None)) is not None:
                        yield f"{sign} {value:,}"


def _presets(method: Any) -> str:
    rows = ["| preset | settings | trained with | source |", "|---|---|---|---|"]
    for name, preset in method.presets.items():
        given = preset.config.model_dump(exclude_defaults=True, exclude={"name"})
        settings = ", ".join(f"`{key}` {_plain(value)}" for key, value in given.items()) or "the defaults"
        rows.append(f"| `{name}` | {settings} | {_cell(preset.training)} | {_cell(_prose(preset.source))} |")
    return "\n".join(rows)


def _plain(value: object) -> str:
    """A value of a setting as recipes write it."""
    if isinstance(value, BaseModel):
        return "its own defaults"
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
