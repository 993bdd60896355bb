"""What the page asks for and says, as plain values: the API of the curation server without HTTP."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sempairs.curation.ledger import Ledger
from sempairs.curation.lineage import sets_of
from sempairs.curation.queues import TITLES, Queues
from sempairs.curation.store import ADJUDICATIONS, ADJUDICATOR, LOG, Event, EventLog
from sempairs.curation.subject import Subject
from sempairs.errors import UserError
from sempairs.pairs.sample import SAMPLE
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import REASONS, VERDICTS

PAGE = 100
_NAME, _NOTE = 60, 2000
Json = dict[str, Any]


class Refused(ValueError):  # noqa: N818 (no fault: the page is told why not)
    """A request that cannot be done as things stand, such as an undo where nothing is left."""


class CurationApi:
    """One set of pairs, its log and its queues. Safe to use from several threads.

    sample: how many pairs of the audit's sample to offer. reviewer: the name the page starts with.
    Raises: UserError as `PairSet.open`, `EventLog` and `Doubts`.
    """

    def __init__(self, folder: str | Path, *, sample: int = SAMPLE, reviewer: str = "") -> None:
        self.folder = Path(folder)
        self.reviewer = checked_name(reviewer) if reviewer else ""
        pairs = PairSet.open(folder)
        self.set_hash = pairs.manifest_hash
        self.subject = Subject(pairs, folder)
        self.log = EventLog(self.folder / LOG, sets_of(self.folder, pairs))
        self.ledger = Ledger(len(self.subject), self.subject.numbers)
        self.queues = Queues(self.subject, self.ledger, sample=sample)
        self._lock = threading.RLock()
        self._agreement: tuple[int, Json] = (-1, {})
        with self._current():
            pass

    def close(self) -> None:
        self.log.close()

    def warm(self) -> None:
        """Works out the orders of the queues, which the first page would otherwise wait for."""
        for _ in (self.queues.sample, self.subject.place, self.subject.classes):
            pass

    def state(self, reviewer: str) -> Json:
        """What there is and how far it is judged."""
        with self._current():
            ledger, queues = self.ledger, self.queues
            names = [*queues.names(), *(f"by:{name}" for name in sorted(ledger.seats) if name != reviewer)]
            listed = []
            for name in names:
                done, size = queues.counts(name, reviewer)
                title = TITLES.get(name) or f"What {name[3:]} judged"
                listed.append({"id": name, "title": title, "size": size, "done": done})
            if self._agreement[0] != ledger.last:
                self._agreement = ledger.last, ledger.agreement()
            hints = []
            if "doubtful" not in queues.names():
                hints.append("run `sempairs pairs audit` on the folder to have the most doubtful pairs first")
            if ledger.outside:
                hints.append(
                    f"verdicts about {len(ledger.outside):,} pairs that left the set are not counted"
                )
            return {
                "set": {
                    "name": self.folder.absolute().name, "pairs": len(self.subject),
                    "relation": self.subject.pairs.config.relation, "manifest_hash": self.set_hash,
                },
                "reviewer": self.reviewer,
                "queues": listed,
                "reasons": list(REASONS),
                "classes": [
                    {"name": name, "pairs": n} for name, n in self._classes
                ],
                "reviewers": [
                    {"name": name, "kind": seat.kind, "verdicts": seat.judged}
                    for name, seat in sorted(ledger.seats.items())
                ],
                "progress": ledger.progress(),
                "agreement": self._agreement[1],
                "conflicts": int(np.count_nonzero(ledger.conflicts)),
                "undo": self._undo_depth(reviewer),
                "hints": hints,
            }  # fmt: skip

    def page(self, queue: str, reviewer: str, *, after: str | None, limit: int) -> Json:
        """The next pairs of a queue. Raises: UserError as `Queues.page`, or for a limit outside 1 to 100."""
        if not 1 <= limit <= PAGE:
            raise UserError("limit", f"must be in 1 to {PAGE}", limit)
        with self._current():
            found = self.queues.page(queue, reviewer, after=after, limit=limit)
            shown = zip(found.pairs, found.places, strict=True)
            pairs = [self._pair(number, place, queue, reviewer) for number, place in shown]
        return {"pairs": pairs, "next": found.next, "done": found.done, "size": found.size}

    def judge(self, body: Json) -> Json:
        """Takes a verdict; on disk when this returns. Raises: UserError, Refused."""
        reviewer, queue, wanted = (
            checked_name(_text(body, "reviewer")),
            _text(body, "queue"),
            body.get("verdict"),
        )
        number = self._number(_text(body, "pair"))
        if wanted not in VERDICTS:
            raise UserError("verdict", f"must be one of {', '.join(VERDICTS)}", wanted)
        low, high = self.subject.ids(number)
        ruling = queue == ADJUDICATIONS
        event = Event(
            _uuid(body), reviewer, "person", "adjudication" if ruling else "verdict", low, high, str(wanted),
            checked_reasons(body.get("reasons", [])), checked_note(body.get("note", "")), queue,
            adjudication=ruling,
        )  # fmt: skip
        with self._current():
            known = self.log.by_uuid(event.uuid)
            if known is None:
                self._person(reviewer)
                self.queues.check(queue)
                if ruling and not self.ledger.disputed[number] and not self.ledger.ruling[number]:
                    raise Refused(
                        "persons do not disagree about this pair any more; judge it in another queue"
                    )
                known = self.log.append([event])[0]
            elif _said(known) != _said(event):
                raise Refused("event: this uuid was used for another verdict already")
            self._catch_up()
            return {"event": known.id, "undo": self._undo_depth(reviewer)}

    def undo(self, body: Json) -> Json:
        """Takes back the reviewer's last verdict that stands. Raises: UserError; Refused if there is none."""
        reviewer, name = checked_name(_text(body, "reviewer")), _uuid(body)
        with self._current():
            known = self.log.by_uuid(name)
            if known is not None and (known.kind != "undo" or known.reviewer != reviewer):
                raise Refused("event: this uuid was used for another event already")
            if known is None:
                if not self._undo_depth(reviewer):
                    raise Refused("nothing is left to undo")
                undone = self.ledger.seats[reviewer].stack[-1]
                known = self.log.undo(Event(name, reviewer, "person", "undo", "", "", None, undoes=undone))
            self._catch_up()
            number = int(self.subject.numbers([known.anchor], [known.partner])[0])
            place = self.queues.place(known.queue, reviewer, number)
            return {
                "pair": self._pair(number, place, known.queue, reviewer), "undo": self._undo_depth(reviewer),
                "queue": known.queue,
            }  # fmt: skip

    def catalogue_rows(self) -> int:
        return len(self.subject.pairs.catalog)

    def _catch_up(self) -> None:
        """Takes in events that other processes appended as well."""
        if self.log.last() != self.ledger.last:
            self.ledger.feed(self.log.since(self.ledger.last))

    def _current(self) -> Any:
        return _Held(self._lock, self._catch_up)

    @property
    def _classes(self) -> list[tuple[str, int]]:
        return list(self.subject.classes.counts().items())

    def _undo_depth(self, reviewer: str) -> int:
        seat = self.ledger.seats.get(reviewer)
        return len(seat.stack) if seat else 0

    def _person(self, reviewer: str) -> None:
        seat = self.ledger.seats.get(reviewer)
        if seat is not None and seat.kind != "person":
            raise Refused(f"{reviewer} is a {seat.kind} here; choose another name")

    def _number(self, pair: str) -> int:
        number, _, of_set = pair.partition("-")
        if not (
            number.isascii() and number.isdigit() and len(number) < 12 and int(number) < len(self.subject)
        ):
            raise UserError("pair", "is not one of this set", pair)
        if of_set != self.set_hash[:8]:
            raise UserError("pair", "is of another set; load the page again", pair)
        return int(number)

    def _pair(self, number: int, place: int, queue: str, reviewer: str) -> Json:
        subject, seat = self.subject, self.ledger.seats.get(reviewer)
        ruling = queue == ADJUDICATIONS
        doubt, evidence = self.queues.doubts.of(number)
        standing = int((seat.ruled if ruling else seat.event)[number]) if seat else 0
        return {
            "id": f"{number}-{self.set_hash[:8]}",
            "position": place,
            "relation": subject.relation(number),
            "category": subject.classes.take(np.array([number])).texts()[0],
            "doubt": doubt,
            "evidence": evidence,
            "anchor": self._image(int(subject.low[number])),
            "partner": self._image(int(subject.high[number])),
            "verdict": self._verdict(standing),
            "others": list(self._others(number, "" if ruling else reviewer)) if ruling else [],
        }

    def _others(self, number: int, reviewer: str) -> Iterator[Json]:
        for name, seat in sorted(self.ledger.seats.items()):
            if name != reviewer and (said := self._verdict(int(seat.event[number]))):
                yield {"reviewer": name, "kind": seat.kind, **said}

    def _verdict(self, event: int) -> Json | None:
        found = self.log.get(event) if event else None
        if found is None:
            return None
        return {"verdict": found.to_verdict, "reasons": list(found.reasons), "note": found.note}

    def _image(self, item: int) -> Json:
        row = self.subject.catalogue_row(item)
        values = {name: self.subject.pairs.catalog.table.column(name)[row].as_py() for name in _SHOWN}
        kind, colon, place = values["source"].partition(":")
        return {
            "id": values["image_id"], "url": f"/images/{row}-{version(values['file_hash'])}",
            **{name: values[name] for name in _SHOWN[2:-2]},
            # Of a file its place in the source; of a path from the root its name alone.
            "file": Path(values["uri"]).name if values["uri"].startswith("/") else values["uri"],
            # A folder's name, but not where on this machine it lies.
            "source": kind + colon + Path(place).name,
        }  # fmt: skip


_SHOWN = (
    "image_id", "file_hash", "width", "height", "category", "concept", "domain", "licence", "uri", "source",
)  # fmt: skip


class _Held:
    """Holds the lock, everybody's events taken in."""

    def __init__(self, lock: Any, catch_up: Any) -> None:
        self._lock, self._catch_up = lock, catch_up

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._catch_up()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def version(file_hash: str) -> str:
    """What of a file's hash stands in an image's address, so that a browser may keep it for good."""
    return "".join(letter for letter in file_hash[:16] if letter.isalnum()) or "0"


def checked_name(name: str) -> str:
    """A reviewer's name. Raises: UserError if it is empty, too long, or not printable."""
    if not 1 <= len(name) <= _NAME or not name.isprintable() or name != name.strip():
        raise UserError("reviewer", f"must be 1 to {_NAME} printable characters, no blank at the ends", name)
    if name.endswith(ADJUDICATOR):
        raise UserError("reviewer", f"must not end with {ADJUDICATOR!r}, which marks adjudications", name)
    return name


def checked_reasons(reasons: object) -> tuple[str, ...]:
    """Reason tags in their own order, each once. Raises: UserError for one that is none of them."""
    if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
        raise UserError("reasons", "must be a list of words", reasons)
    for reason in reasons:
        if reason not in REASONS:
            raise UserError("reasons", f"must be among {', '.join(REASONS)}", reason)
    return tuple(reason for reason in REASONS if reason in reasons)


def checked_note(note: object) -> str:
    """Raises: UserError if it is no text, too long, or holds what is no character."""
    if not isinstance(note, str) or len(note) > _NOTE:
        raise UserError("note", f"must be text of at most {_NOTE} characters")
    if "\0" in note or any(0xD800 <= ord(letter) <= 0xDFFF for letter in note):
        raise UserError("note", "must hold characters only")
    return note


def _text(body: Json, field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise UserError(field, "must be text", value)
    return value


def _uuid(body: Json) -> str:
    text = _text(body, "event")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UserError("event", "must be a uuid", text) from None


def _said(event: Event) -> tuple[object, ...]:
    return event.reviewer, event.anchor, event.partner, event.to_verdict, event.kind
