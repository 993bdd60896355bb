"""Which pairs come next: the queues of the page, each an array of pair numbers in an order that stays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sempairs.curation.ledger import Ledger
from sempairs.curation.store import ADJUDICATIONS
from sempairs.curation.subject import Doubts, Subject
from sempairs.errors import UserError, unknown
from sempairs.pairs.index import Int, Mask
from sempairs.pairs.sample import SAMPLE

TITLES = {
    "sample": "Random sample",
    "doubtful": "Most doubtful first",
    "all": "All pairs",
    ADJUDICATIONS: "Conflicts",
    "mine": "My verdicts",
}


@dataclass(frozen=True, eq=False)
class Page:
    """A stretch of a queue: pairs and their places (from 1), where to go on (None at the end), and counts."""

    pairs: list[int]
    places: list[int]
    next: str | None
    done: int
    size: int


class Queues:
    """The queues over one set of pairs. Raises: UserError as `Doubts`."""

    def __init__(self, subject: Subject, ledger: Ledger, *, sample: int = SAMPLE) -> None:
        self.subject, self.ledger, self.size = subject, ledger, sample
        self.doubts = Doubts(subject)

    @cached_property
    def sample(self) -> Int:
        return self.subject.sample(self.size)

    def names(self) -> list[str]:
        """The queues there are beside those by class and by reviewer."""
        return [name for name in TITLES if name != "doubtful" or len(self.doubts.order)]

    def check(self, queue: str) -> None:
        """Raises: UserError for a queue there is not."""
        kind, _, name = queue.partition(":")
        if kind == "class" and name:
            if name not in self.subject.class_codes:
                raise unknown("class", name, self.subject.class_codes)
        elif queue not in TITLES and not (kind == "by" and name):
            raise unknown("queue", queue, [*self.names(), "class:NAME", "by:REVIEWER"])

    def order(self, queue: str, reviewer: str) -> tuple[Int, Int]:
        """The pairs of a queue and a rising number for each, (n,) both, that serves as cursor: it keeps its
        meaning while pairs come and go. Raises: UserError for a queue there is not."""
        self.check(queue)
        kind, _, name = queue.partition(":")
        if queue == "sample":
            return self.sample, np.arange(len(self.sample))
        if queue == "doubtful":
            return self.doubts.order, np.arange(len(self.doubts.order))
        if queue == "mine":
            mine = np.flatnonzero(self.ledger.verdicts(reviewer))
            seat = self.ledger.seats.get(reviewer)
            newest = -seat.event[mine] if seat else mine
            by_age = np.argsort(newest)
            return mine[by_age], newest[by_age]
        if queue == "all":
            chosen = np.ones(len(self.subject), dtype=bool)
        elif queue == ADJUDICATIONS:
            chosen = self.ledger.disputed
        elif kind == "by":
            chosen = self.ledger.verdicts(name) > 0
        else:
            chosen = self.subject.classes.codes == self.subject.class_codes[name]
        ordered = self.subject.order[chosen[self.subject.order]]
        return ordered, self.subject.place[ordered]

    def page(self, queue: str, reviewer: str, *, after: str | None, limit: int) -> Page:
        """The next pairs that `reviewer` has not judged, after a cursor an earlier page gave.

        In the queue of conflicts those that nobody has adjudicated; in `mine` all, newest first.
        Raises: UserError for an unknown queue or a cursor that is none.
        """
        try:
            bound = None if after is None else int(after)
        except ValueError:
            raise UserError("after", "must be the cursor of an earlier answer", after) from None
        pairs, keys = self.order(queue, reviewer)
        open_ = self._open(queue, reviewer, pairs)
        wanted = open_ if bound is None else open_ & (keys > bound)
        found = np.flatnonzero(wanted)[: limit + 1]
        shown = found[:limit]
        cursor = str(int(keys[shown[-1]])) if 0 < limit < len(found) else None
        done = len(pairs) if queue == "mine" else len(pairs) - int(np.count_nonzero(open_))
        return Page(pairs[shown].tolist(), (shown + 1).tolist(), cursor, done, len(pairs))

    def counts(self, queue: str, reviewer: str) -> tuple[int, int]:
        """How many pairs of a queue are done, and how many it has."""
        page = self.page(queue, reviewer, after=None, limit=0)
        return page.done, page.size

    def place(self, queue: str, reviewer: str, number: int) -> int:
        """Where a pair lies in a queue, from 1; 0 where it does not."""
        found = np.flatnonzero(self.order(queue, reviewer)[0] == number)
        return int(found[0]) + 1 if len(found) else 0

    def _open(self, queue: str, reviewer: str, pairs: Int) -> Mask:
        if queue == "mine":
            return np.ones(len(pairs), dtype=bool)
        if queue == ADJUDICATIONS:
            return np.asarray(self.ledger.ruling[pairs] == 0)
        return np.asarray(self.ledger.verdicts(reviewer)[pairs] == 0)
