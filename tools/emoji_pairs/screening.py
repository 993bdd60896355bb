"""What the screening of release 1.0.0 found: a table that the builder applies and the card tells of."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[1] / "emoji_pairs_screening.csv"
REVIEWER = "a multimodal language model, shown the drawing beside other designers' drawings of the concept"
# From `stage.json` of tools/screen_emoji_pairs.py: shares of what is known that the cut lets through.
STAGE: Mapping[str, Any] = {
    "cut": 0.2, "joined_by_name": 3941, "looked_at": 427, "planted": (6767, 8853), "real": (6, 10),
    "right": (714, 8859),
}  # fmt: skip


@dataclass(frozen=True)
class Screening:
    """rejected: (set, concept) of drawings that do not mean their concept. other: those that mean something
    else under the same code point, with what. verdicts: how many of each kind got which verdict."""

    rejected: frozenset[tuple[str, str]]
    other: Mapping[tuple[str, str], str]
    verdicts: Mapping[tuple[str, str], int]

    def of(self, what: str, verdict: str) -> int:
        """How many drawings of a kind got a verdict."""
        return self.verdicts.get((what, verdict), 0)


def read() -> Screening:
    """The table as it stands beside the builder."""
    with open(TABLE, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return Screening(
        frozenset(
            (row["set"], row["concept"])
            for row in rows
            if row["what"] == "candidate" and row["verdict"] == "no"
        ),
        {(row["set"], row["concept"]): row["meaning"] for row in rows if row["what"] == "drift"},
        Counter((row["what"], row["verdict"]) for row in rows),
    )


def facts(found: Screening) -> dict[str, Any]:
    """The screening as `release build` has it: by what, and how well on drawings whose truth is known."""
    false = found.of("planted false", "no") + found.of("real false", "no")
    judged = sum(n for (what, _), n in found.verdicts.items() if what == "candidate")
    return {
        "by": f"similarity of EfficientNet-Lite0 features, then {REVIEWER}",
        "kind": "model",
        "judged": judged,
        "rejected": len(found.rejected),
        "unsure": found.of("candidate", "unsure"),
        "note": "What was judged is a drawing joined by name, held against the concept it is filed under.",
        "known": [
            {
                "what": "looking: drawings whose concept is known, real mistakes of a name join among them",
                "false_pairs": sum(n for (what, _), n in found.verdicts.items() if what.endswith("false")),
                "false_found": false,
                "true_pairs": sum(n for (what, _), n in found.verdicts.items() if what == "known right"),
                "true_kept": found.of("known right", "yes"),
            },
            {
                "what": "similarity: drawings with code points, held against their concept or a planted one",
                "false_pairs": STAGE["planted"][1],
                "false_found": STAGE["planted"][0],
                "true_pairs": STAGE["right"][1],
                "true_kept": STAGE["right"][1] - STAGE["right"][0],
            },
        ],
    }


def told(found: Screening) -> str:
    """The card's section on it."""
    judged = sum(n for (what, _), n in found.verdicts.items() if what == "candidate")
    planted, real, right = (STAGE[name] for name in ("planted", "real", "right"))
    false = found.of("planted false", "no") + found.of("real false", "no")
    known = sum(n for (what, _), n in found.verdicts.items() if what.endswith("false"))
    kept = found.of("known right", "yes")
    held = sum(n for (what, _), n in found.verdicts.items() if what == "known right")
    return f"""\
No person has judged these pairs. Release 1.0.0 was *machine-screened* in two steps, each tried on drawings
whose concept is known.

1. **Similarity.** A drawing joined by name was held against other designers' drawings of every concept, by
   features of EfficientNet-Lite0 (trained on ImageNet with labels), each set centred. Of
   {STAGE["joined_by_name"]:,} such drawings {judged} lay nearer to another concept than to their own, by a
   cosine of more than {STAGE["cut"]}. Beyond that cut lie {100 * planted[0] / planted[1]:.0f}% of
   {planted[1]:,} joins planted falsely within a subgroup, {real[0]} of {real[1]} real mistakes of a name join
   whose truth is known, and {100 * right[0] / right[1]:.0f}% of {right[1]:,} right joins.
2. **Looking.** Those {judged} were judged by {REVIEWER},
   blind to the similarities. Among them lay, unmarked, {known} drawings known to be false (planted, and the
   {found.of("real false", "no")} real mistakes) and {held} known to be right: it rejected {false} of the
   {known} and kept {kept} of the {held}.

{len(found.rejected)} drawings were rejected and left out. {found.of("candidate", "unsure")} were unsure and
stay: most are drawn in one colour where the colour is the meaning (a purple heart), or show a face where
others show the animal. As a quarter of the planted ones would not have been looked at, false joins may remain
among the others; few, since few were found. Where others show a water pistol, {len(found.other)} drawings of
1F52B show a revolver: they are a concept of their own now, `1f52b~revolver`, in the same split group. Every
verdict is in `tools/emoji_pairs_screening.csv`."""
