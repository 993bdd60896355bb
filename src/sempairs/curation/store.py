"""The event log: every verdict, undo, adjudication and import about the pairs of a set, only ever added to.

`DIR/curation.sqlite` (SQLite, write-ahead log, synchronous=FULL: an event that was acknowledged has been
synced to disk, so neither `kill -9` nor a power cut takes it back). Triggers forbid changing or deleting a
row. Each row carries the hash of itself and the row before, so a log edited by other means is noticed.

A reviewer has two layers about a pair: the own verdict and the adjudication. An event says what stands in one
layer from then on (`stands`: the event whose content it is, 0 for none), so the last event of a (reviewer,
layer, pair) tells its state and nothing has to be played backwards. An undo is an event like any other.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from sempairs.errors import UserError
from sempairs.files import sha256_bytes
from sempairs.pairs.verdicts import VERDICT_SCHEMA

LOG = "curation.sqlite"
FORMAT = 1
ADJUDICATIONS = "conflicts"
"""The queue whose verdicts are adjudications."""
ADJUDICATOR = " (adjudication)"
"""Ends the reviewer's name of an adjudication in tables: there one reviewer has one row a pair."""

_COLUMNS = (
    "id", "uuid", "reviewer", "reviewer_kind", "at", "kind", "anchor", "partner", "from_verdict",
    "to_verdict", "reasons", "note", "queue", "adjudication", "undoes", "stands", "manifest_hash", "format",
    "chain",
)  # fmt: skip
_SCHEMA = """
CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,
  reviewer TEXT NOT NULL, reviewer_kind TEXT NOT NULL CHECK (reviewer_kind IN ('person', 'model', 'rule')),
  at TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('verdict', 'undo', 'adjudication', 'import')),
  anchor TEXT NOT NULL, partner TEXT NOT NULL CHECK (anchor < partner),
  from_verdict TEXT, to_verdict TEXT, reasons TEXT NOT NULL, note TEXT NOT NULL, queue TEXT NOT NULL,
  adjudication INTEGER NOT NULL, undoes INTEGER NOT NULL, stands INTEGER NOT NULL,
  manifest_hash TEXT NOT NULL, format INTEGER NOT NULL, chain TEXT NOT NULL
) STRICT;
CREATE INDEX of_pair ON events (anchor, partner, reviewer, adjudication, id);
CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON events
  WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id OR uuid = NEW.uuid)
  BEGIN SELECT RAISE(ABORT, 'events are never replaced'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
"""


@dataclass(frozen=True)
class Event:
    """One row of the log. id, from_verdict, stands and chain are set when it is appended, and so is `at`
    (UTC, ISO 8601) unless an import gives it.

    anchor < partner: image ids in canonical order. to_verdict: None where an undo leaves no verdict.
    undoes: the event taken back, else 0. stands: the event whose verdict stands from here on, 0 for none.
    """

    uuid: str
    reviewer: str
    reviewer_kind: str
    kind: str
    anchor: str
    partner: str
    to_verdict: str | None
    reasons: tuple[str, ...] = ()
    note: str = ""
    queue: str = ""
    adjudication: bool = False
    undoes: int = 0
    stands: int = 0
    id: int = 0
    at: str = ""
    from_verdict: str | None = None
    manifest_hash: str = ""
    format: int = FORMAT
    chain: str = ""


class Step(NamedTuple):
    """What an event changes, for those who keep count; the fields as in `Event`."""

    id: int
    reviewer: str
    reviewer_kind: str
    kind: str
    anchor: str
    partner: str
    to_verdict: str | None
    adjudication: int
    undoes: int
    stands: int


class EventLog:
    """The log of one folder, opened for reading and appending; made where there is none.

    sets: manifest hashes whose events it may hold, the first that of the set it is opened for.
    Safe to use from several threads; other processes may append too.
    Raises: UserError if the file cannot be written, is damaged, was edited, or belongs to another set.
    """

    def __init__(self, path: str | Path, sets: Sequence[str]) -> None:
        self.path, self.sets = Path(path), tuple(sets)
        self._lock = threading.RLock()
        with _said(self.path):
            self._db = sqlite3.connect(self.path, timeout=10, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._write():
                if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in _statements():
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._check()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Adds events in one transaction: all are on disk when this returns, or none is.

        Returns: them with all fields set. An event whose uuid is there already is not added again; the one
        that is there is returned. Raises: UserError if nothing could be written.
        """
        with self._lock, _said(self.path), self._write():
            done: list[Event] = []
            chain = self._chain()
            for event in events:
                known = self._one("uuid = ?", event.uuid)
                if known is None:
                    known = self._add(event, chain)
                    chain = known.chain
                done.append(known)
            return done

    def undo(self, event: Event) -> Event:
        """Appends the undo of a standing verdict or adjudication: what stood before it stands again."""
        undone = self.get(event.undoes)
        assert undone is not None and undone.kind in ("verdict", "adjudication")
        with self._lock, _said(self.path), self._write():
            before = self._standing(undone, below=undone.id)
            restored = self.get(before) if before else None
            event = replace(
                event, kind="undo", anchor=undone.anchor, partner=undone.partner, queue=undone.queue,
                adjudication=undone.adjudication, stands=before,
                to_verdict=restored.to_verdict if restored else None,
            )  # fmt: skip
            return self._add(event, self._chain())

    def get(self, number: int) -> Event | None:
        """The event of that id."""
        with self._lock:
            return self._one("id = ?", number)

    def by_uuid(self, uuid: str) -> Event | None:
        with self._lock:
            return self._one("uuid = ?", uuid)

    def last(self) -> int:
        """The id of the last event, 0 where there is none; cheap, so that others' events are noticed."""
        with self._lock, _said(self.path):
            return int(self._db.execute("SELECT ifnull(max(id), 0) FROM events").fetchone()[0])

    def since(self, number: int = 0) -> list[Step]:
        """What the events above that id changed, oldest first."""
        with self._lock, _said(self.path):
            sql = f"SELECT {', '.join(Step._fields)} FROM events WHERE id > ? ORDER BY id"
            return [Step(*row) for row in self._db.execute(sql, (number,))]

    @contextmanager
    def _write(self) -> Iterator[None]:
        """A transaction that holds the database's only write lock, rolled back if anything goes wrong."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _add(self, event: Event, chain: str) -> Event:
        number = self._db.execute("SELECT ifnull(max(id), 0) + 1 FROM events").fetchone()[0]
        standing = self._standing(event)
        before = self.get(standing) if standing else None
        event = replace(
            event, id=number, at=event.at or datetime.now(UTC).isoformat(timespec="milliseconds"),
            from_verdict=before.to_verdict if before else None,
            stands=event.stands if event.kind == "undo" else number, manifest_hash=self.sets[0],
        )  # fmt: skip
        event = replace(event, chain=_link(chain, _row(event)))
        marks = ", ".join("?" * len(_COLUMNS))
        self._db.execute(f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({marks})", _row(event))
        return event

    def _standing(self, event: Event, below: int | None = None) -> int:
        """The event that stands in this one's layer: now, or just before the event `below`."""
        sql = (
            "SELECT stands FROM events WHERE anchor = ? AND partner = ? AND reviewer = ? AND adjudication = ?"
            " AND id < ? ORDER BY id DESC LIMIT 1"
        )
        key = event.anchor, event.partner, event.reviewer, int(event.adjudication)
        found = self._db.execute(sql, (*key, below or 1 << 62)).fetchone()
        return int(found[0]) if found else 0

    def _chain(self) -> str:
        found = self._db.execute("SELECT chain FROM events ORDER BY id DESC LIMIT 1").fetchone()
        return str(found[0]) if found else ""

    def _one(self, where: str, value: Any) -> Event | None:
        with _said(self.path):
            sql = f"SELECT {', '.join(_COLUMNS)} FROM events WHERE {where}"
            row = self._db.execute(sql, (value,)).fetchone()
        return _event(row) if row else None

    def _check(self) -> None:
        with _said(self.path):
            check_log(self._db, self.path)
            sets = [row[0] for row in self._db.execute("SELECT DISTINCT manifest_hash FROM events")]
        strange = sorted(set(sets) - set(self.sets))
        if strange:
            remedy = "move it away; `sempairs verdicts export` reads its verdicts where it came from"
            raise UserError(str(self.path), "was made for another set of pairs", strange[0][:12], remedy)


def check_log(db: sqlite3.Connection, path: Path) -> None:
    """Raises: UserError if the log is damaged, of a later version, or was edited."""
    remedy = "put back a copy; nothing was changed"
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "events" not in tables:
        raise UserError(str(path), "is no log of verdicts", remedy=remedy)
    if version > FORMAT:
        raise UserError(str(path), "was written by a later version of sempairs", version)
    broken = UserError(str(path), "was edited or cut short since it was written", remedy=remedy)
    chain, expected = "", 1
    try:
        for row in db.execute(f"SELECT {', '.join(_COLUMNS)} FROM events ORDER BY id"):
            if row[0] != expected or row[-1] != _link(chain, row):
                raise broken
            chain, expected = row[-1], expected + 1
        counted = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    except sqlite3.OperationalError as error:
        raise UserError(str(path), f"is no log of verdicts ({error})", remedy=remedy) from None
    if (counted[0] if counted else 0) != expected - 1:
        raise broken


def standing_verdicts(path: str | Path) -> pa.Table:
    """What every reviewer's verdict about every pair is now: `VERDICT_SCHEMA`, sorted by pair and reviewer.

    path: the log, or the folder of pairs it lies in; where there is none the table is empty. Adjudications
    have the queue `conflicts`, and `ADJUDICATOR` after the reviewer's name, as a table of verdicts holds one
    row a reviewer and pair. Reads only. Raises: UserError if the log is damaged or was edited.
    """
    file = Path(path) / LOG if Path(path).is_dir() else Path(path)
    if not file.exists():
        return VERDICT_SCHEMA.empty_table()
    with _said(file):
        db = _reading(file)
        try:
            check_log(db, file)
            rows = db.execute(_STANDING).fetchall()
        finally:
            db.close()
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[]] * 10
    anchor, partner, verdict, reviewer, kind, reasons, note, queue, at, adjudication = columns
    names = [name + ADJUDICATOR * flag for name, flag in zip(reviewer, adjudication, strict=True)]
    queues = [ADJUDICATIONS if flag else name for name, flag in zip(queue, adjudication, strict=True)]
    told = [json.loads(text) for text in reasons]
    arrays = [anchor, partner, verdict, names, kind, told, note, queues, at]
    columns_of = [pa.array(a, type=f.type) for a, f in zip(arrays, VERDICT_SCHEMA, strict=True)]
    return pa.table(columns_of, schema=VERDICT_SCHEMA)


_STANDING = """
SELECT s.anchor, s.partner, s.to_verdict, s.reviewer, s.reviewer_kind, s.reasons, s.note, s.queue, s.at,
  s.adjudication
FROM (SELECT stands, max(id) FROM events GROUP BY anchor, partner, reviewer, adjudication) AS last
JOIN events AS s ON s.id = last.stands
ORDER BY s.anchor, s.partner, s.adjudication, s.reviewer
"""


def _reading(file: Path) -> sqlite3.Connection:
    """A read-only connection, also in a folder that may not be written: a log at rest needs no side files."""
    import urllib.parse

    address = f"file:{urllib.parse.quote(str(file.absolute()))}"
    db = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        if file.with_name(file.name + "-wal").exists():
            raise
        db = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)
    return db


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """SQLite's errors as one line with what to do about it."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if isinstance(error, sqlite3.IntegrityError):
            rule, remedy = f"refused the event ({text})", ""
        elif "full" in text:
            rule, remedy = "cannot be written: the disk is full", "free some space; what stands in it is safe"
        elif "readonly" in text or "unable to open" in text:
            rule, remedy = f"cannot be written ({text})", "copy the folder to where you may write"
        elif "locked" in text:
            rule, remedy = "is in use by another process", "wait for it to end"
        elif isinstance(error, sqlite3.OperationalError):
            rule, remedy = f"cannot be read or written ({text})", ""
        else:
            rule, remedy = f"is damaged ({text})", "put back a copy; nothing was changed"
        raise UserError(str(path), rule, remedy=remedy) from None


def _statements() -> list[str]:
    """The schema a statement at a time: `executescript` would end the transaction it is in."""
    parts, statement = [], ""
    for line in _SCHEMA.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            parts.append(statement)
            statement = ""
    return parts


def _row(event: Event) -> tuple[Any, ...]:
    values = {name: getattr(event, name) for name in _COLUMNS}
    values["reasons"] = json.dumps(event.reasons)
    values["adjudication"] = int(event.adjudication)
    return tuple(values.values())


def _event(row: tuple[Any, ...]) -> Event:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["reasons"] = tuple(json.loads(values["reasons"]))
    values["adjudication"] = bool(values["adjudication"])
    return Event(**values)


def _link(chain: str, row: tuple[Any, ...]) -> str:
    """Covers the row before and all of this row but its own chain."""
    return sha256_bytes(json.dumps([chain, *row[:-1]]).encode())
