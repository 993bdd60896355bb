"""The card of a release of pairs, filled from its data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import DATA
from sempairs.pairs.released import RELEASED
from sempairs.pairs.stats import pair_stats, summary
from sempairs.release.card import crossed, front_matter, markdown_table
from sempairs.release.describe import (
    arm_text,
    citation_of,
    columns_meaning,
    curation_lines,
    false_pair_lines,
    licences_of,
    limit_lines,
    relation_text,
    summary_of,
)
from sempairs.release.writer import LICENCES, by_split

if TYPE_CHECKING:
    from sempairs.release.build import Dataset

_CROSSED = 40  # categories, domains or attributions at most in a table


def render_card(dataset: Dataset, catalog: Catalog) -> str:
    """The card as Markdown with Hugging Face's front matter: one configuration for images, one for pairs."""
    facts = dataset.facts
    sections = [
        ("What is in it", _contents(dataset, catalog)),
        ("Pairs", _pairs(dataset)),
        ("How far the pairs can be trusted", _trust(dataset)),
        ("Licences", _licences(dataset, catalog)),
        ("Columns", _columns(catalog)),
        ("Use", _use(dataset)),
        *((section.heading, section.text) for section in facts.sections),
        ("Known limits", "\n".join(f"- {line}" for line in limit_lines(dataset, catalog)) or "None stated."),
    ]
    sections.append(("Citation", f"```\n{citation_of(dataset)}\n```"))
    by = f" By {', '.join(facts.creator)}." if facts.creator else ""
    parts = [
        f"---\n{_front_matter(dataset, catalog)}---",
        f"# {dataset.title}",
        summary_of(dataset, catalog),
        f"Release `{dataset.name}` {dataset.version}.{by} See `DATASHEET.md`, too.",
        *(line for heading, text in sections for line in (f"## {heading}", text)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _contents(dataset: Dataset, catalog: Catalog) -> str:
    column = next((name for name in ("domain", "category") if _fits(catalog, name)), None)
    table = crossed(catalog, column) if column else markdown_table(["split", "images"], _splits(catalog))
    what = (
        "Rows describe images by hash, size and name; the images are not part of it."
        * dataset.references_only
    )
    return f"{table}\n\n{what}"


def _fits(catalog: Catalog, column: str) -> bool:
    return 0 < len(set(catalog.column(column)) - {None}) <= _CROSSED


def _splits(catalog: Catalog) -> list[list[object]]:
    return [[split, len(part)] for split, part in by_split(catalog).items()]


def _pairs(dataset: Dataset) -> str:
    semantic = dataset.sets["semantic"]
    rows = [
        [f"`{arm}`", arm_text(arm), pairs.pairs_per_epoch, len(pairs.catalog)]
        for arm, pairs in dataset.sets.items()
    ]
    stats = pair_stats(semantic)
    numbers = [
        [name, text] for name, text in summary(stats) if name not in ("manifest hash", "catalogue hash")
    ]
    builder, params = (semantic.table.column(name)[0].as_py() for name in ("builder", "params"))
    return "\n\n".join(
        [
            f"Relation: {relation_text(dataset)}. Made by {builder} with `{params}`.",
            markdown_table(["arm", "what it is", "pairs an epoch", "images"], rows),
            markdown_table(["of the semantic pairs", ""], numbers),
            f"Manifest hash of the semantic pairs: `{semantic.manifest_hash}`",
        ]
    )


def _trust(dataset: Dataset) -> str:
    lines = curation_lines(dataset.curation, dataset.facts.screening) + false_pair_lines(dataset.audit)
    return "\n".join(f"- {line}" for line in lines)


def _licences(dataset: Dataset, catalog: Catalog) -> str:
    pairs = zip(catalog.column("licence"), catalog.column("attribution"), strict=True)
    found = Counter((licence or "none stated", attribution or "") for licence, attribution in pairs)
    if len(found) > _CROSSED:
        found = Counter((licence or "none stated", "see the rows") for licence in catalog.column("licence"))
    rows = [[licence, attribution, count] for (licence, attribution), count in sorted(found.items())]
    own = dataset.facts.licence
    of_pairs = f"The lists of pairs are under {own}. " if own else ""
    if dataset.references_only or dataset.joined:
        of_pairs += "The images are under their owners' terms. "
    texts = "the lists' text is" if dataset.references_only else "texts are"
    text = f"{of_pairs}Every row says its image's licence (SPDX) and attribution; {texts} in `{LICENCES}/`."
    return f"{text}\n\n{markdown_table(['licence', 'attribution', 'images'], rows)}"


def _columns(catalog: Catalog) -> str:
    meaning = columns_meaning()
    names = [
        name for name in catalog.table.column_names if catalog.table.column(name).null_count < len(catalog)
    ]
    return markdown_table(["column", "meaning"], [[name, meaning.get(name, "")] for name in names])


def _use(dataset: Dataset) -> str:
    join = ""
    if dataset.references_only:
        join = f"sempairs release join {dataset.name} --source imagenet:PATH --out joined  # your own copy\n"
    folder = "joined" if dataset.references_only else dataset.name
    train = f"--set data.source=release:{folder} --set pairs.relation=listed --set pairs.file={folder}"
    return f"""\
```
sempairs release verify {dataset.name}
{join}sempairs pretrain RECIPE --out RUN {train}
```

With Hugging Face `datasets`: `load_dataset("{dataset.name}", "images")`, and `"pairs"` likewise; the Parquet
files open in pandas and pyarrow as they are."""


def _front_matter(dataset: Dataset, catalog: Catalog) -> str:
    images = [{"split": split, "path": f"{DATA}/{split}-*.parquet"} for split in by_split(catalog)]
    pairs = [{"split": arm, "path": f"{RELEASED}/{arm}.parquet"} for arm in dataset.sets]
    tags = ["semantic-pairs", "self-supervised-learning", "croissant", *dataset.facts.keywords]
    configs: list[dict[str, object]] = [
        {"config_name": "images", "default": True, "data_files": images},
        {"config_name": "pairs", "data_files": pairs},
    ]
    tasks = ["image-feature-extraction"]
    return front_matter(dataset.title, licences_of(dataset, catalog), tasks, len(catalog), tags, configs)
