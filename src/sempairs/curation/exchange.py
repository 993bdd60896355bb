"""Verdicts in and out: Parquet, CSV and JSON lines; in also JSON, and text as spreadsheets write it."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sempairs.curation.api import checked_name, checked_note, checked_reasons
from sempairs.curation.lineage import refuse_release, sets_of
from sempairs.curation.store import ADJUDICATIONS, ADJUDICATOR, LOG, Event, EventLog, standing_verdicts
from sempairs.curation.subject import Subject
from sempairs.errors import UserError
from sempairs.files import atomic_write
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import KINDS, VERDICT_SCHEMA, VERDICTS, write_verdicts
from sempairs.texts import decode_text

FORMS = (".parquet", ".csv", ".jsonl")
_READ = (*FORMS, ".json", ".ndjson", ".tsv")
_SEPARATOR = ";"  # between the reasons in a cell of CSV
_DELIMITERS = ",;\t|"
_WORDS = ("verdict", "truth", "reviewer_kind")


def export_verdicts(table: pa.Table, path: str | Path) -> None:
    """Writes standing verdicts, whole or not at all, in the form the suffix names. Raises: UserError."""
    file = Path(path)
    form = file.suffix.lower()
    if form not in FORMS:
        raise UserError("--out", f"must end in one of {', '.join(FORMS)}", file.name)
    if form == ".parquet":
        write_verdicts(file, table)
        return
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        if form == ".jsonl":
            handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
            return
        writer = csv.DictWriter(handle, VERDICT_SCHEMA.names, lineterminator="\n")
        writer.writeheader()
        for row in table.to_pylist():
            writer.writerow(row | {"reasons": _SEPARATOR.join(row["reasons"])})


@dataclass(frozen=True)
class Imported:
    """rows: in the file; new: events appended; same: rows that said what stands already."""

    rows: int
    new: int
    same: int


def import_verdicts(
    folder: str | Path, path: str | Path, *, reviewer: str | None = None, kind: str | None = None
) -> Imported:
    """Takes in verdicts of people or programs about pairs of a set: all rows, or none.

    Columns: anchor, partner, verdict; reviewer and reviewer_kind, or the arguments; reasons, note, queue and
    at may be left out. The queue `conflicts` makes an adjudication. A row that says what stands already adds
    no event. Raises: UserError naming the row for a pair that is not in the set, a value that is none of its
    column's, a name that has another kind in the log, or one reviewer twice about a pair.
    """
    refuse_release(folder)
    pairs = PairSet.open(folder)
    subject = Subject(pairs, folder)
    file, log = Path(path), Path(folder) / LOG
    if kind is not None and kind not in KINDS:
        raise UserError("--reviewer-kind", f"must be one of {', '.join(KINDS)}", kind)
    standing = standing_verdicts(log)
    events: dict[tuple[str, str, str, bool], Event] = {}
    for where, row in rows_of(file, ("anchor", "partner", "verdict")):
        try:
            event = _event(row, reviewer, kind)
        except UserError as error:
            raise UserError(where, str(error)) from None
        key = event.anchor, event.partner, event.reviewer, event.adjudication
        if key in events:
            raise UserError(where, "is a second verdict of one reviewer about one pair", list(key[:3]))
        events[key] = event
        if subject.numbers([event.anchor], [event.partner])[0] < 0:
            remedy = "nothing was imported"
            raise UserError(where, "names a pair that is not in the set", list(key[:2]), remedy)
    kinds = _kinds(standing)
    for at, event in enumerate(events.values(), 1):
        known = kinds.setdefault(event.reviewer, event.reviewer_kind)
        if known != event.reviewer_kind:
            where = f"{file} row {at}: reviewer_kind of {event.reviewer}"
            raise UserError(where, f"is {known} already", event.reviewer_kind, "give another reviewer name")
    told = {_key(row): (row["verdict"], tuple(row["reasons"]), row["note"]) for row in standing.to_pylist()}
    new = [e for k, e in events.items() if told.get(k) != (e.to_verdict, e.reasons, e.note)]
    writer = EventLog(log, sets_of(folder, pairs))
    try:
        writer.append(new)
    finally:
        writer.close()
    return Imported(len(events), len(new), len(events) - len(new))


def _event(row: dict[str, Any], reviewer: str | None, kind: str | None) -> Event:
    name, said = row.get("reviewer") or reviewer, row.get("reviewer_kind") or kind
    if not name:
        raise UserError("reviewer", "is not given", remedy="add the column, or --reviewer")
    if said not in KINDS:
        remedy = "add the column, or --reviewer-kind"
        raise UserError("reviewer_kind", f"must be one of {', '.join(KINDS)}", said, remedy)
    if kind is not None and said != kind:
        raise UserError("reviewer_kind", f"must be {kind}, as --reviewer-kind says", said)
    ids = [row.get("anchor"), row.get("partner")]
    if not all(isinstance(one, str) and one for one in ids) or ids[0] == ids[1]:
        raise UserError("anchor and partner", "must be two image ids", ids)
    verdict, queue = row.get("verdict"), row.get("queue") or "import"
    if verdict not in VERDICTS:
        raise UserError("verdict", f"must be one of {', '.join(VERDICTS)}", verdict)
    if not isinstance(name, str) or not isinstance(queue, str) or not queue.isprintable():
        raise UserError("reviewer and queue", "must be text", [name, queue])
    ruling = queue == ADJUDICATIONS
    if ruling and said != "person":
        raise UserError("queue", "must not be conflicts for what is no person: only persons adjudicate", said)
    low, high = sorted(map(str, ids))
    return Event(
        uuid=str(uuid.uuid4()),
        reviewer=checked_name(name.removesuffix(ADJUDICATOR) if ruling else name),
        reviewer_kind=said,
        kind="import",
        anchor=low,
        partner=high,
        to_verdict=verdict,
        reasons=checked_reasons(row.get("reasons") or []),
        note=checked_note(row.get("note") or ""),
        queue=queue,
        adjudication=ruling,
        at=_time(row.get("at")),
    )


def _time(given: object) -> str:
    if not given:
        return ""
    try:
        when = datetime.fromisoformat(str(given))
    except ValueError:
        raise UserError("at", "must be a time as ISO 8601", given) from None
    if when.tzinfo is None:
        raise UserError("at", "must say its time zone", given)
    return when.astimezone(UTC).isoformat(timespec="milliseconds")


def _key(row: dict[str, Any]) -> tuple[str, str, str, bool]:
    ruling = row["queue"] == ADJUDICATIONS
    name = row["reviewer"].removesuffix(ADJUDICATOR) if ruling else row["reviewer"]
    return row["anchor"], row["partner"], name, ruling


def _kinds(standing: pa.Table) -> dict[str, str]:
    return {_key(row)[2]: row["reviewer_kind"] for row in standing.to_pylist()}


def rows_of(file: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row of a Parquet, CSV, JSON lines or JSON file stands, and its values by column.

    Text may have any line ends, a byte order mark, and be in UTF-8 or what its mark says; CSV may be divided
    by commas, semicolons, tabs or bars. Columns are known in any case; values of those with few values, too.
    Raises: UserError if the file cannot be read in its form, or a row lacks a needed column.
    """
    form = file.suffix.lower()
    if form not in _READ:
        raise UserError(str(file), f"must end in one of {', '.join(_READ)}")
    if not file.is_file():
        raise UserError(str(file), "does not exist")
    try:
        if form == ".parquet":
            found: list[Any] = pq.read_table(file, partitioning=None).to_pylist()
        elif form in (".csv", ".tsv"):
            found = _csv_rows(decode_text(file.read_bytes()), needed)
        else:
            found = _json_rows(decode_text(file.read_bytes()))
    except UnicodeDecodeError as error:
        raise UserError(str(file), f"is not readable ({error})", remedy="save it as UTF-8") from None
    except (pa.ArrowException, OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(str(file), f"is not readable ({error})") from None
    if not found:
        raise UserError(str(file), "holds no rows")
    for number, row in enumerate(found, 1):
        where = f"{file} row {number}"
        named = _named(row) if isinstance(row, dict) else {}
        if None in named or not set(needed) <= set(named):
            rule = f"must have {', '.join(needed[:-1])} and {needed[-1]}, and one value a column"
            raise UserError(where, rule)
        yield where, named


def _named(row: dict[Any, Any]) -> dict[Any, Any]:
    """Columns by their names as they are documented, and words of few values in small letters."""
    named: dict[Any, Any] = {}
    for name, value in row.items():
        key = name.strip().lower() if isinstance(name, str) else None
        if key in named:
            return {None: f"{name} twice"}
        named[key] = value.strip().lower() if key in _WORDS and isinstance(value, str) else value
    if isinstance(named.get("reasons"), str):
        named["reasons"] = [word.strip() for word in named["reasons"].split(_SEPARATOR) if word.strip()]
    return named


def _csv_rows(text: str, needed: tuple[str, ...]) -> list[dict[Any, Any]]:
    """Rows by the header's names; what a row has beyond the header is under None."""
    delimiters = _DELIMITERS
    first, _, rest = text.partition("\n")
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) == 5:
        delimiters, text = first.strip().strip('"')[4], rest  # a line for spreadsheets
    header = (text.lstrip().splitlines() or [""])[0]

    def fits(delimiter: str) -> bool:
        names = next(csv.reader([header], delimiter=delimiter), [])
        return set(needed) <= {name.strip().lower() for name in names}

    chosen = next(filter(fits, delimiters), delimiters[0])
    reader = csv.DictReader(io.StringIO(text.lstrip(), newline=""), delimiter=chosen, strict=True)
    return [row for row in reader if any(row.values())]


def _json_rows(text: str) -> list[Any]:
    """The objects of a list, or those of lines."""
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
        except ValueError:  # lines that are lists are none of ours either, and are said as such
            whole = None
        if isinstance(whole, list):
            return whole
    return [json.loads(line) for line in text.replace("\r", "\n").split("\n") if line.strip()]
