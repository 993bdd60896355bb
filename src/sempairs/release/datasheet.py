"""The datasheet of a release. Gebru et al. 2021, "Datasheets for datasets", arXiv:1803.09010: its seven
sections, answered from the data and from `facts.datasheet`; what nobody said is called that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sempairs.catalog import Catalog
from sempairs.release.describe import (
    curation_lines,
    false_pair_lines,
    licences_of,
    limit_lines,
    relation_text,
    summary_of,
)
from sempairs.release.writer import by_split, counts

if TYPE_CHECKING:
    from sempairs.release.build import Dataset

_UNSAID = "Not stated by the creators."


def render_datasheet(dataset: Dataset, catalog: Catalog) -> str:
    """The datasheet as Markdown."""
    facts, answers = dataset.facts, dataset.facts.datasheet
    who = f"Created by {', '.join(facts.creator)}." if facts.creator else ""
    sections = [
        ("Motivation", [summary_of(dataset, catalog), who, answers.motivation or _UNSAID]),
        ("Composition", [*_composition(dataset, catalog), answers.composition]),
        ("Collection process", [answers.collection or _UNSAID]),
        ("Preprocessing, cleaning, labelling", [*_preprocessing(dataset), answers.preprocessing]),
        ("Uses", [_uses(dataset), answers.uses]),
        ("Distribution", [*_distribution(dataset, catalog), answers.distribution]),
        ("Maintenance", [*_maintenance(dataset), answers.maintenance]),
    ]
    body = [
        f"## {heading}\n\n" + "\n\n".join(filter(None, map(str.strip, text))) for heading, text in sections
    ]
    release = f"Release `{dataset.name}` {dataset.version}. Questions after Gebru et al. 2021."
    head = f"# Datasheet of {dataset.title}\n\n{release}"
    return "\n\n".join([head, *body]) + "\n"


def _composition(dataset: Dataset, catalog: Catalog) -> list[str]:
    found = counts(catalog)
    semantic = dataset.sets["semantic"]
    splits = ", ".join(f"{split} {len(part):,}" for split, part in by_split(catalog).items())
    held = "References to images (hash, size, name)" if dataset.references_only else "Images"
    limits = "\n".join(f"- {line}" for line in limit_lines(dataset, catalog))
    return [
        f"Instances: {found['images']:,} images of {found['categories']:,} categories, "
        f"{found['concepts']:,} concepts and {found['domains']:,} domains; by split: {splits}. {held}, with "
        "labels where they are known.",
        f"Pairs: {semantic.pairs_per_epoch:,} an epoch over {len(semantic.catalog):,} images; relation "
        f"{relation_text(dataset)}. Matched baselines: {', '.join(list(dataset.sets)[1:]) or 'none'}.",
        "The pairs were built from a catalogue of "
        f"{semantic.catalog_images:,} images; no pair joins images of two splits.",
        f"Errors, noise, redundancies:\n\n{limits}" if limits else "",
    ]


def _preprocessing(dataset: Dataset) -> list[str]:
    semantic = dataset.sets["semantic"]
    builder, params = (semantic.table.column(name)[0].as_py() for name in ("builder", "params"))
    files = (
        "Image files are as they were in their source, byte for byte, unless it held bare pixels (then PNG)."
    )
    judged = curation_lines(dataset.curation, dataset.facts.screening) + false_pair_lines(dataset.audit)
    return [
        "" if dataset.references_only else files,
        f"Pairs were made by {builder} with `{params}`.",
        "\n".join(f"- {line}" for line in judged),
    ]


def _uses(dataset: Dataset) -> str:
    text = "Pretraining image encoders on semantic pairs, and comparing them with augmented pairs of the same"
    return f"{text} images" + (", whose matched baselines come along." if len(dataset.sets) > 1 else ".")


def _distribution(dataset: Dataset, catalog: Catalog) -> list[str]:
    names = ", ".join(licences_of(dataset, catalog)) or "none stated"
    images = ""
    if dataset.references_only or dataset.joined:
        images = "The images themselves may not be passed on; the pair lists and references may."
    where = f"Published at {dataset.facts.url}." if dataset.facts.url else ""
    when = f"Published on {dataset.facts.date}." if dataset.facts.date else ""
    return [f"Licences: {names}.", images, where, when]


def _maintenance(dataset: Dataset) -> list[str]:
    contact = f"Contact: {dataset.facts.contact}." if dataset.facts.contact else "Contact: not stated."
    version = (
        f"This is version {dataset.version}. `sempairs release diff` tells two versions apart, and "
        "`checksums.sha256` says whether a copy is whole."
    )
    return [contact, version]
