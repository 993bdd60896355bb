"""Licences of the images, and what they mean for a pair: the stricter of its two binds the pair."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from sempairs.pairs.audit.subject import Subject

NONE = "none stated"
# From the freest to the strictest; a licence that is not known here counts as stricter than all that are.
_STRICTNESS = (
    r"CC0|PDDL|Unlicense|Public[- ]?Domain|0BSD|WTFPL",
    r"MIT|ISC|BSD|Apache|Zlib|PSF",
    r"CC-BY-\d|CC-BY$|ODC-By|OFL",
    r"CC-BY-SA|ODbL|GPL|LGPL|AGPL|MPL|GFDL",
    r"CC-BY-NC|CC-BY-ND",
)


@dataclass(frozen=True)
class Licences:
    """images: by licence. missing: images without one. pairs: by the stricter licence of their two images.
    mixed: pairs of two different licences. attributions: images by the credit line they ask for.
    unattributed: images with no credit line."""

    images: dict[str, int]
    missing: int
    pairs: dict[str, int]
    mixed: int
    attributions: dict[str, int]
    unattributed: int


def licences(subject: Subject) -> Licences:
    images = [str(value) if value else NONE for value in subject.images.column("licence")]
    credits = [str(value) for value in subject.images.column("attribution") if value]
    rows = subject.distinct
    both = [(images[a], images[b]) for a, b in zip(subject.anchor[rows], subject.partner[rows], strict=True)]
    return Licences(
        images=_counted(images), missing=images.count(NONE),
        pairs=_counted([max(pair, key=strictness) for pair in both]),
        mixed=sum(a != b for a, b in both),
        attributions=_counted(credits), unattributed=len(images) - len(credits),
    )  # fmt: skip


def strictness(licence: str) -> tuple[int, str]:
    """A key to compare licences by; the name tells equal grades apart, so that order does not matter."""
    if licence == NONE:
        return len(_STRICTNESS) + 1, licence
    for grade, pattern in reversed([*enumerate(_STRICTNESS)]):
        if re.match(pattern, licence, re.IGNORECASE):
            return grade, licence
    return len(_STRICTNESS), licence


def _counted(values: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
