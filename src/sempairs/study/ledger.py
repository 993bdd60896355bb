"""The ledger of a study: what happened in its folder, in order, each entry bound to all before it.

`ledger.jsonl` is only ever added to. An entry holds the hash of the one before it and its own hash, so nobody
can change, remove or insert an entry without writing all later ones anew; the hash of the last one is the
study's seal. Whoever noted the seal at the time can tell. Events:

- planned: the hash of the plan. The first entry.
- session: a training session of a cell, whole (`Session`), before its first step.
- sealed: a cell was scored; the hash of its record.json, and of its weights.
- pictures: the hash of the files in examples/ or sights/, as they were made.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Literal

from sempairs.config import Config, validate
from sempairs.errors import UserError
from sempairs.files import stable_hash

LEDGER = "ledger.jsonl"
Event = Literal["planned", "session", "sealed", "pictures"]


class Entry(Config):
    """One thing that happened. time: seconds since 1970. previous: sha256 of the entry before, "" of none."""

    number: int
    time: float
    event: Event
    cell: str = ""
    content: dict[str, Any]
    previous: str
    sha256: str

    def digest(self) -> str:
        """What `sha256` has to be: the hash of all other fields."""
        return stable_hash(self.model_dump(mode="json", exclude={"sha256"}))


def append(study: Path, event: Event, content: dict[str, Any], *, cell: str = "") -> None:
    """Adds an entry, whole or not at all, safe beside other processes.

    A last line without its end, left by a process killed in the middle, is removed first.
    Raises: UserError if the ledger is damaged: nothing is added to what cannot be trusted; OSError if the
    disk is full: what was written of the entry has no end then, and the next one removes it.
    """
    with open(study / LEDGER, "a+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        data = handle.read()
        end = data.rfind(b"\n") + 1
        handle.truncate(end)
        entries = _parse(data[:end], study / LEDGER)
        previous = entries[-1].sha256 if entries else ""
        draft = Entry(
            number=len(entries), time=time.time(), event=event, cell=cell, content=content,
            previous=previous, sha256="",
        )  # fmt: skip
        entry = draft.model_copy(update={"sha256": draft.digest()})
        line = json.dumps(entry.model_dump(mode="json"), sort_keys=True, ensure_ascii=False) + "\n"
        if handle.write(line.encode()) != len(line.encode()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(study / LEDGER))
        os.fsync(handle.fileno())


def read(study: Path) -> list[Entry]:
    """All whole entries. Raises: UserError if there is no ledger, or a line of it is not an entry."""
    try:
        data = (study / LEDGER).read_bytes()
    except OSError as error:
        raise UserError(LEDGER, f"cannot be read ({error.strerror})") from None
    return _parse(data[: data.rfind(b"\n") + 1], study / LEDGER)


def faults(entries: list[Entry]) -> list[str]:
    """Where the chain breaks, a line each; [] for a sound one."""
    found, previous = [], ""
    for number, entry in enumerate(entries):
        if entry.number != number:
            found.append(f"line {number + 1} holds entry {entry.number}: entries were removed or added")
            break
        if entry.previous != previous:
            found.append(f"entry {number} does not follow entry {number - 1}: one of both was changed")
        if entry.digest() != entry.sha256:
            found.append(f"entry {number} ({entry.event} {entry.cell}".rstrip() + ") was changed")
        previous = entry.sha256
    return found


def _parse(data: bytes, path: Path) -> list[Entry]:
    entries = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            found = json.loads(line)
        except ValueError:
            raise UserError(f"{path.name} line {number}", "is not JSON") from None
        if not isinstance(found, dict):
            raise UserError(f"{path.name} line {number}", "is not an entry")
        entries.append(validate(Entry, found, f"{path.name} line {number}"))
    return entries
