"""What the card, the datasheet and Croissant say alike, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sempairs.catalog import Catalog
from sempairs.metrics.binomial import clopper_pearson

if TYPE_CHECKING:
    from sempairs.release.build import Dataset
    from sempairs.release.facts import Screening

_ARMS = {
    "semantic": "the semantic pairs",
    "augmented": "matched baseline: their anchors, each with itself",
    "image_matched": "matched baseline: as many anchors, taken from all the images the pairs show",
}


def summary_of(dataset: Dataset, catalog: Catalog) -> str:
    """The summary that was given, else one sentence of counts."""
    if dataset.facts.summary:
        return dataset.facts.summary.strip()
    pairs = dataset.sets["semantic"]
    what = "references to images" if dataset.references_only else "images"
    return f"{pairs.pairs_per_epoch:,} semantic pairs over {len(pairs.catalog):,} of {len(catalog):,} {what}."


def citation_of(dataset: Dataset) -> str:
    """The citation that was given, else one of who, when, what and where, as far as they are known."""
    facts = dataset.facts
    if facts.citation:
        return facts.citation.strip()
    who = " and ".join(facts.creator) or f"The authors of {dataset.title}"
    when = f" ({facts.date[:4]})" if facts.date else ""
    where = f" {facts.url}" if facts.url else ""
    return f"{who}{when}: {dataset.title}, version {dataset.version}.{where}"


def relation_text(dataset: Dataset) -> str:
    """Relation and mode of the semantic pairs, in words."""
    config = dataset.sets["semantic"].config
    mode = "fixed, no image in two pairs" if config.mode == "fixed" else "redrawn: partners anew every epoch"
    if config.mode == "fixed" and not config.disjoint:
        mode = "fixed"
    return f"`{config.label}` ({config.description}), {mode}"


def arm_text(arm: str) -> str:
    return _ARMS[arm]


def licences_of(dataset: Dataset, catalog: Catalog) -> list[str]:
    """SPDX ids of what is in the release: of its images, unless only referred to, and of its pair lists."""
    of_images = set() if dataset.references_only else set(catalog.column("licence"))
    return sorted({name for name in {*of_images, dataset.facts.licence} if name is not None})


def columns_meaning() -> dict[str, str]:
    """What each column of the catalogue holds."""
    return {
        "image_id": "unique key of the image",
        "file_hash": "SHA-256 of the image file",
        "pixel_hash": "SHA-256 of the image's size and decoded RGBA pixels",
        "uri": "name of the image in its source",
        "width": "pixels",
        "height": "pixels",
        "source": "name of the release",
        "licence": "SPDX id of the image's licence",
        "attribution": "whom to name",
        "category": "path in a tree of categories, the leaf is the label",
        "concept": "what is shown, finer than the category",
        "domain": "what varies while the meaning stays",
        "split_group": "images that must share a split",
        "split": "train, validation, test or null",
        "file_size": "bytes of the image file",
    }


def share(hits: int, n: int) -> str:
    """`1.2% (95% interval 0.3% to 4.4%)`, the interval exact (Clopper and Pearson)."""
    found = clopper_pearson(hits, n)
    if found.rate is None or found.low is None or found.high is None:
        return "not known (none judged)"
    return f"{found.rate:.1%} (95% interval {found.low:.1%} to {found.high:.1%})"


def curation_lines(curation: Mapping[str, Any] | None, screening: Screening | None) -> list[str]:
    """How the pairs were judged. Only persons' verdicts count as curation; machines' are screening."""
    curation = curation or {}
    machines = curation.get("machines") or {}
    if curation.get("reviewed"):
        lines = [
            f"**Curated by {_people(curation['reviewers'])}**: {_decided(curation)}.",
            _agreement(curation["agreement"]),
        ]
    elif machines or screening is not None:
        lines = ["**Machine-screened, not curated**: no person has judged these pairs."]
    else:
        return ["**Neither curated nor screened**: nobody has judged these pairs."]
    for kind, counts in sorted(machines.items()):
        which = "Pairs that no person judged" if curation.get("reviewed") else "Pairs"
        lines.append(f"{which}, judged by a {kind}: {_decided(counts)}.")
        lines += [_known(one) for one in counts.get("known", ())]
    if screening is not None:
        lines += _screening(screening)
    elif machines and not any(counts.get("known") for counts in machines.values()):
        lines.append("How well these machines do on pairs whose truth is known was not measured.")
    applied = curation.get("applied")
    if applied is not None:
        lines.append(
            f"Of {applied['before']:,} pairs {applied['kept']:,} were kept: {applied['rejected']:,} rejected "
            f"and {applied['dropped_open']:,} undecided ones have left, and the baselines were rebuilt."
        )
    elif any(counts["rejected"] for counts in (curation, *machines.values()) if counts):
        lines.append("The verdicts were **not applied**: rejected pairs are still among the pairs.")
    return lines


def _decided(counts: Mapping[str, Any]) -> str:
    return (
        f"{counts['reviewed']:,} pairs reviewed, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected, {counts['open']:,} open (a tie, or nobody sure)"
    )


def _screening(screening: Screening) -> list[str]:
    lines = [
        f"Screened by {screening.by} (a {screening.kind}): {screening.judged:,} pairs judged, "
        f"{screening.rejected:,} rejected, {screening.unsure:,} unsure."
    ]
    lines += [_known(known.model_dump()) for known in screening.known]
    if not screening.known:
        lines.append("How well the screening does on pairs whose truth is known was not measured.")
    return [*lines, screening.note.strip()] if screening.note else lines


def _known(one: Mapping[str, Any]) -> str:
    """How a machine did on pairs whose truth is known; one: the values of `facts.KnownTruth`."""
    false, true = (one["false_found"], one["false_pairs"]), (one["true_kept"], one["true_pairs"])
    return (
        f"On pairs whose truth is known, {one['what']}: {false[0]:,} of {false[1]:,} false pairs found, "
        f"{share(*false)}; {true[0]:,} of {true[1]:,} true pairs kept, {share(*true)}."
    )


def false_pair_lines(audit: Mapping[str, Any] | None) -> list[str]:
    """The false-pair rate of the audit's random sample: persons' verdicts, and apart from them machines'."""
    by = ((audit or {}).get("false_pairs") or {}).get("by") or {}
    person = by.get("person") or {}
    if person.get("rate") is None:
        lines = ["False-pair rate: not known; no person has judged a random sample of these pairs."]
    else:
        lines = [
            f"False-pair rate: {person['rate']:.1%} ({person['confidence']:.0%} interval {person['low']:.1%} "
            f"to {person['high']:.1%}), from {person['reviewed']:,} pairs of a random sample that persons "
            f"reviewed: {person['false']:,} false, {person['unsure']:,} unsure and left out."
        ]
    for kind in ("model", "rule"):
        counts = by.get(kind) or {}
        if counts.get("reviewed"):
            lines.append(
                f"In that sample a {kind} calls {counts['false']:,} of {counts['reviewed']:,} pairs false. "
                "That is no false-pair rate: nobody has checked it."
            )
    return lines


def limit_lines(dataset: Dataset, catalog: Catalog) -> list[str]:
    """Known limits: those that follow from the data, then those that were given."""
    lines = []
    if dataset.references_only:
        lines.append("It holds no images: who uses it needs a copy of the source images with equal files.")
    if dataset.joined:
        lines.append("It was joined with a user's own copies of the images, which may not be passed on.")
    corrupted = dataset.sets["semantic"].config.corrupted
    if corrupted is not None:
        lines.append(f"A share of {corrupted:g} of the pairs is false on purpose (relation `corrupted`).")
    person = ((dataset.audit or {}).get("false_pairs") or {}).get("by", {}).get("person") or {}
    if person.get("rate") is None:
        lines.append("Some pairs may be false; how many is not known.")
    if not any(value is not None for value in catalog.column("pixel_hash")):
        lines.append("Copies of one picture in different files were not looked for (no pixel hashes).")
    if all(value is None for value in catalog.column("split_group")):
        lines.append("Near-identical images of different splits were not grouped.")
    return lines + list(dataset.facts.limits)


def _people(n: int) -> str:
    return "one person" if n == 1 else f"{n:,} persons"


def _agreement(found: Mapping[str, Any]) -> str:
    if not found.get("pairs"):
        return "No pair was judged by two persons, so nothing is known about their agreement."
    text = f"{found['pairs']:,} pairs were judged by two or more; {found['percent']:.1%} of verdicts agree"
    kappas = [each["kappa"] for each in found.get("cohen", []) if each["kappa"] is not None]
    if kappas:
        each = ", ".join(f"{kappa:.2f}" for kappa in kappas)
        text += f", Cohen's kappa {each}"
    fleiss = found.get("fleiss") or {}
    if fleiss.get("kappa") is not None and fleiss["raters"] > 2:
        text += (
            f", Fleiss' kappa {fleiss['kappa']:.2f} ({fleiss['pairs']:,} pairs, {fleiss['raters']} raters)"
        )
    return text + "."
