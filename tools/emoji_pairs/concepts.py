"""The concepts: Unicode sequences with a name and a place in Unicode's tree of groups and subgroups."""

from __future__ import annotations

from dataclasses import dataclass

from emoji_pairs.packages import Package

# Component pieces stand for nothing alone; country flags are the same picture in every set.
LEFT_OUT_GROUPS = ("component", "flags")
LEFT_OUT_SUBGROUPS = ("keycap",)
_MAN, _WOMAN, _PERSON = "1f468", "1f469", "1f9d1"
_SIGNS = ("2640", "2642", "27a1")  # female, male, facing right
_JOINER = "200d"
# Subgroups where a drawing is nearly given by the code point, so that designers draw alike.
FLAGGED_SUBGROUPS = ("geometric", "punctuation", "math")


@dataclass(frozen=True)
class Concept:
    """One Unicode sequence; `code` is its code points in lower-case hexadecimal joined by "-", without FE0F.

    `flag` is the subgroup where designers can hardly help drawing alike.
    """

    code: str
    name: str
    group: str
    subgroup: str
    flag: str | None


def normal_code(sequence: str) -> str:
    """Code points in lower case without the variation selector FE0F, which only asks for colour."""
    return "-".join(part for part in sequence.lower().replace(" ", "-").split("-") if part != "fe0f")


def read_concepts(emojibase: Package) -> dict[str, Concept]:
    """The concepts in scope by code, from emojibase-data's English table.

    Its top level has no skin tones (they are `skins` of an entry); entries without a group are regional
    indicator letters.
    """
    tree = emojibase.json("meta/groups.json")
    groups, subgroups = tree["groups"], tree["subgroups"]
    concepts: dict[str, Concept] = {}
    for entry in emojibase.json("en/data.json"):
        if entry.get("group") is None:
            continue
        group, subgroup = groups[str(entry["group"])], subgroups[str(entry["subgroup"])]
        if group in LEFT_OUT_GROUPS or subgroup in LEFT_OUT_SUBGROUPS:
            continue
        code = normal_code(entry["hexcode"])
        flag = subgroup if subgroup in FLAGGED_SUBGROUPS else None
        concepts[code] = Concept(code, entry["label"], group, subgroup, flag)
    return concepts


def plain_form(code: str) -> str:
    """The sequence without gender and direction: "woman running", "man running: facing right" -> "running".

    Designers draw these forms alike but for hair or a mirror, and the gender under one code point changed
    over the years. The result need not be a sequence of its own.
    """
    parts = [_PERSON if part in (_MAN, _WOMAN) else part for part in code.split("-")]
    kept: list[str] = []
    for part in parts:
        if part in _SIGNS and kept and kept[-1] == _JOINER:
            kept.pop()
        else:
            kept.append(part)
    return "-".join(kept)
