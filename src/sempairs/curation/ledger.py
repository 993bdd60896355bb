"""What stands at the moment: the event log as arrays, kept up to date an event at a time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sempairs.curation.store import Step
from sempairs.metrics.agreement import cohen_kappa, fleiss_kappa, pairwise_agreement, percent_agreement
from sempairs.pairs.index import Int
from sempairs.pairs.verdicts import VERDICTS

Code = NDArray[np.int8]
CODE: dict[str | None, int] = {None: 0, **{verdict: code for code, verdict in enumerate(VERDICTS, 1)}}
YES, NO, UNSURE = (CODE[name] for name in ("yes", "no", "unsure"))


@dataclass
class Seat:
    """One reviewer's state. verdict, ruling: a `CODE` by pair, (P,); event, ruled: the events they stand by;
    stack: the reviewer's events that an undo would take back, the last first."""

    kind: str
    verdict: Code
    event: Int
    ruling: Code
    ruled: Int
    stack: array[int] = field(default_factory=lambda: array("q"))

    @property
    def judged(self) -> int:
        return int(np.count_nonzero(self.verdict))


class Ledger:
    """Verdicts and adjudications by reviewer and pair.

    pairs: how many there are. numbers: from ids to pair numbers, as `Subject.numbers`. Events about other
    pairs are not counted; `outside` holds those pairs.
    """

    def __init__(self, pairs: int, numbers: Callable[[list[str], list[str]], Int]) -> None:
        self._numbers = numbers
        self.seats: dict[str, Seat] = {}
        self.last = 0
        self.outside: set[tuple[str, str]] = set()
        self.said = np.zeros((3, pairs), dtype=np.int32)  # persons that say yes, no, unsure, by pair
        self.ruling: Code = np.zeros(pairs, dtype=np.int8)  # the latest adjudication that stands, by pair

    def feed(self, steps: Iterable[Step]) -> None:
        """Takes in further events, in the order of their ids."""
        new = list(steps)
        numbers = self._numbers([step.anchor for step in new], [step.partner for step in new])
        for step, number in zip(new, numbers.tolist(), strict=True):
            self.last = step.id
            if number < 0:
                self.outside.add((step.anchor, step.partner))
                continue
            self._take(step, number)

    def _take(self, step: Step, number: int) -> None:
        seat = self.seats.get(step.reviewer)
        if seat is None:
            seat = self.seats[step.reviewer] = self._seat(step.reviewer_kind)
        code = CODE[step.to_verdict]
        if step.adjudication:
            seat.ruling[number], seat.ruled[number] = code, step.stands
            latest = max(self.seats.values(), key=lambda each: int(each.ruled[number]))
            self.ruling[number] = latest.ruling[number]
        else:
            if seat.kind == "person":
                if before := int(seat.verdict[number]):
                    self.said[before - 1, number] -= 1
                if code:
                    self.said[code - 1, number] += 1
            seat.verdict[number], seat.event[number] = code, step.stands
        if step.kind == "undo":
            if seat.stack and seat.stack[-1] == step.undoes:
                seat.stack.pop()
        elif step.kind == "import":
            # What was taken in from a file is not one's last keystroke; undo does not reach behind it.
            del seat.stack[:]
        else:
            seat.stack.append(step.id)

    def _seat(self, kind: str) -> Seat:
        n = len(self.ruling)
        empty = np.zeros(n, dtype=np.int8), np.zeros(n, dtype=np.int64)
        return Seat(kind, empty[0], empty[1], empty[0].copy(), empty[1].copy())

    def verdicts(self, reviewer: str) -> Code:
        """A reviewer's own verdicts by pair, (P,); zeros for one who has none."""
        seat = self.seats.get(reviewer)
        return seat.verdict if seat else np.zeros(len(self.ruling), dtype=np.int8)

    @property
    def disputed(self) -> NDArray[np.bool_]:
        """Pairs about which persons disagree, one saying yes and another no, (P,); adjudicated ones too."""
        return np.asarray((self.said[0] > 0) & (self.said[1] > 0))

    @property
    def conflicts(self) -> NDArray[np.bool_]:
        """Disputed pairs that nobody has adjudicated, (P,)."""
        return np.asarray(self.disputed & (self.ruling == 0))

    def progress(self) -> dict[str, int]:
        """Pairs, those that persons judged, and how they stand: majority, tie and unsure as unsure."""
        judged = self.said.sum(axis=0) > 0
        yes, no = self.said[0] > self.said[1], self.said[1] > self.said[0]
        ruled = self.ruling > 0
        yes, no = np.where(ruled, self.ruling == YES, yes), np.where(ruled, self.ruling == NO, no)
        counts = {"yes": int(np.count_nonzero(yes)), "no": int(np.count_nonzero(no))}
        total = int(np.count_nonzero(judged | ruled))
        return {"pairs": len(judged), "judged": total, **counts, "unsure": total - sum(counts.values())}

    def agreement(self) -> dict[str, object]:
        """Of persons' own verdicts, see `agreement_of`."""
        return agreement_of({name: s.verdict for name, s in self.seats.items() if s.kind == "person"})


def agreement_of(verdicts: dict[str, Code]) -> dict[str, object]:
    """How far reviewers agree: their codes by pair, (P,) each, 0 where a reviewer judged nothing.

    pairs: judged by two or more. percent: of all couples of verdicts about one pair, the share of equal ones.
    cohen: of every two reviewers that share a pair. fleiss: of the pairs judged by exactly `raters` of them,
    the number that most pairs have (the larger one in a tie), as it asks for equal numbers. A kappa is None
    where it is undefined: all verdicts are of one category.
    """
    names = sorted(name for name in verdicts if verdicts[name].any())
    if not names:
        return {"pairs": 0, "percent": None, "cohen": [], "fleiss": None}
    codes = np.stack([verdicts[name] for name in names])
    counts = np.stack([(codes == code).sum(axis=0) for code in (YES, NO, UNSURE)], axis=1)
    raters = counts.sum(axis=1)
    shared = counts[raters >= 2]
    cohen = []
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            both = (codes[i] > 0) & (codes[j] > 0)
            if both.any():
                x, y = codes[i][both], codes[j][both]
                cohen.append(
                    {
                        "a": a, "b": names[j], "pairs": int(both.sum()),
                        "percent": percent_agreement(x, y), "kappa": cohen_kappa(x, y),
                    }
                )  # fmt: skip
    fleiss = None
    if len(shared):
        sizes = np.bincount(raters[raters >= 2])
        most = int(np.flatnonzero(sizes == sizes.max())[-1])
        chosen = counts[raters == most]
        fleiss = {"pairs": len(chosen), "raters": most, "kappa": fleiss_kappa(chosen)}
    percent = pairwise_agreement(shared) if len(shared) else None
    return {"pairs": len(shared), "percent": percent, "cohen": cohen, "fleiss": fleiss}
