"""The card of a release: a README with Hugging Face's front matter and tables counted from the catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import yaml

from sempairs.catalog import SPLITS, Catalog
from sempairs.catalog.sources.release import DATA
from sempairs.release.writer import LICENCES, UNASSIGNED, by_split

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render_card(
    *,
    name: str,
    version: str,
    title: str,
    summary: str,
    catalog: Catalog,
    sections: Sequence[tuple[str, str]],
    tags: Sequence[str] = (),
) -> str:
    """The card as Markdown: front matter, summary, counts by domain and split, licences, then `sections`
    (heading, text)."""
    parts = [
        f"---\n{_front_matter(title, catalog, tags)}---",
        f"# {title}",
        summary,
        f"Release `{name}` {version}.",
        "## What is in it",
        crossed(catalog, "domain"),
        "## Licences",
        _licences(catalog),
        *(line for heading, text in sections for line in (f"## {heading}", text)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers are right-aligned."""
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    lines = [header, ["---:" if is_number else "---" for is_number in numeric], *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def crossed(catalog: Catalog, column: str) -> str:
    """Images by `column` and split, with totals, as a table; splits without an image are left out."""
    splits = [split for split in (*SPLITS, UNASSIGNED) if split in by_split(catalog)]
    values = [value or "(none)" for value in catalog.column(column)]
    count = Counter(zip(values, [split or UNASSIGNED for split in catalog.column("split")], strict=True))
    total = Counter(values)
    rows: list[list[object]] = [
        [value, *(count[value, split] for split in splits), total[value]] for value in sorted(total)
    ]
    by = Counter({split: len(part) for split, part in by_split(catalog).items()})
    rows.append(["all", *(by[split] for split in splits), len(catalog)])
    return markdown_table([column, *splits, "images"], rows)


def size_category(n: int) -> str:
    """Hugging Face's name for so many rows."""
    return next((label for limit, label in _SIZES if n < limit), "n>1M")


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    # Labels come from the data: one cell stays one cell, and text.
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _licences(catalog: Catalog) -> str:
    pairs = zip(catalog.column("licence"), catalog.column("attribution"), strict=True)
    found = Counter((licence or "none stated", attribution or "") for licence, attribution in pairs)
    rows = [[licence, attribution, count] for (licence, attribution), count in sorted(found.items())]
    text = f"Every row says its image's licence (SPDX) and attribution; the full texts are in `{LICENCES}/`."
    return text + "\n\n" + markdown_table(["licence", "attribution", "images"], rows)


def _front_matter(title: str, catalog: Catalog, tags: Sequence[str]) -> str:
    licences = sorted({licence for licence in catalog.column("licence") if licence is not None})
    files = [{"split": split, "path": f"{DATA}/{split}.parquet"} for split in by_split(catalog)]
    tasks = ["image-feature-extraction", "image-classification"]
    configs = [{"config_name": "default", "data_files": files}]
    return front_matter(title, licences, tasks, len(catalog), tags, configs)


def front_matter(
    title: str,
    licences: Sequence[str],
    tasks: Sequence[str],
    rows: int,
    tags: Sequence[str],
    configs: Sequence[Mapping[str, object]],
) -> str:
    """What Hugging Face reads at the head of a card, as YAML. licences: SPDX ids; configs: files by name."""
    matter: dict[str, object] = {
        "pretty_name": title,
        "license": sorted({name.lower() for name in licences}) or ["other"],
        "task_categories": list(tasks),
        "size_categories": [size_category(rows)],
        "tags": list(tags),
        "configs": [dict(config) for config in configs],
    }
    return str(yaml.safe_dump(matter, sort_keys=False, allow_unicode=True))
