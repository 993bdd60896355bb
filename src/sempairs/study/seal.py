"""The seal of a study: what binds plan, recipes, sessions, data, code, weights and results to each other.

The chain, each link the SHA-256 of the one before it:

```
a run's files  ->  finished.json (`files`)  ->  record.json of the cell (`trained`)  ->  ledger.jsonl
plan.json, results.jsonl, the scoring session, the pixel stores  ->  record.json     ->  (`sealed`)
```

`check_seal` goes through it from both ends and names whatever does not fit: in a cell, between a cell and the
plan, and between cells, which one code on one machine with one set of versions must have trained and scored,
but for what the study declares. Nothing here is secret: who rewrites every link after a change is found only
by whoever knows the seal, the hash of the ledger's last entry, from before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sempairs.config import Config, load_config, validate
from sempairs.errors import UserError
from sempairs.evaluation.records import Result
from sempairs.files import read_json, sha256_bytes, sha256_file, stable_hash, write_json
from sempairs.runs.folder import FINISHED, PROVENANCE
from sempairs.runs.sessions import Session, machine_facts
from sempairs.study import ledger
from sempairs.study.certificate import FOLLOWS, compare_records, declared, flatten, shown
from sempairs.study.folder import RESULTS, Outcome, cell_folder, cell_results
from sempairs.study.ledger import Entry
from sempairs.study.plan import FREE_FIELDS, PLAN_FILE, RECIPE_FILE, Cell, Plan, fingerprint
from sempairs.study.recipe import StudyRecipe
from sempairs.training.provenance import Provenance

RECORD = "record.json"
STORES = ("pixels/pixels-*", "cache/scored-*")  # stores of pixels that cells share
PICTURES = ("examples", "sights")


class Record(Config):
    """What a finished cell is made of, by hashes.

    plan, recipe: of the plan and of this cell in it. trained: of the run's finished.json, which binds the
    run's files; null for untrained weights. weights: of the encoder that was scored. scored: who scored.
    results: name and hash of each row of results.jsonl, in order. stores: hashes of the pixel stores that
    lay ready, by file. seconds: of work, over all attempts.
    """

    format: Literal[1] = 1
    plan: str
    cell: str
    recipe: str
    trained: str | None
    weights: str
    scored: Session
    results: tuple[tuple[str, str], ...]
    stores: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Misfit:
    """Something that does not fit. where: the cell or file.

    reach: `study`, nothing in the folder can be relied on. `numbers`, those of `cells` may not be what was
    measured. `circumstances`, the numbers of `cells` were made otherwise than the others. `aside`, no number
    is touched. All but the last withhold a contrast that uses one of the cells.
    """

    where: str
    what: str
    reach: Literal["study", "numbers", "circumstances", "aside"]
    cells: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Seal:
    """What was found. hashes: of the ledger's entries, in order; notes: to be known, but no misfit.

    records, provenance: by cell id, of those finished cells in which they can be read.
    """

    hashes: tuple[str, ...]
    misfits: tuple[Misfit, ...]
    notes: tuple[str, ...] = ()
    records: Mapping[str, Record] = field(default_factory=dict)
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The seal: the hash of the last entry, "" where there is none."""
        return self.hashes[-1] if self.hashes else ""

    def withholding(self, cells: set[str]) -> list[Misfit]:
        """The misfits that withhold a result made of these cells."""
        return [m for m in self.misfits if m.reach == "study" or (m.reach != "aside" and cells & {*m.cells})]

    @property
    def untrusted(self) -> set[str]:
        """Cells whose numbers may not be what was measured."""
        return {cell for misfit in self.misfits if misfit.reach == "numbers" for cell in misfit.cells}


def seal_cell(study: Path, cell: Cell, scored: Session, seconds: float) -> None:
    """Writes the cell's record and enters it in the ledger; the last thing a cell does before it is finished.

    Raises: UserError if the run's files are not those that finished.json names.
    """
    folder = cell_folder(study, cell)
    rows = cell_results(study, cell)
    weights = {str(row.extra.get("encoder")) for row in rows}
    assert len(weights) == 1, f"{cell.id} scored {len(weights)} encoders"
    record = Record(
        plan=fingerprint(study),
        cell=cell.id,
        recipe=cell.hash,
        trained=sha256_file(folder / FINISHED) if cell.kind == "train" else None,
        weights=weights.pop(),
        scored=scored,
        results=tuple(_row_hashes(rows)),
        stores=_stores(study),
        seconds=seconds,
    )
    write_json(folder / RECORD, record.model_dump(mode="json"))
    content = {"record": sha256_file(folder / RECORD), "weights": record.weights}
    ledger.append(study, "sealed", content, cell=cell.id)


def seal_pictures(study: Path, name: str) -> None:
    """Enters the files of the folder `name` in the ledger."""
    ledger.append(study, "pictures", {"folder": name, "sha256": _folder_hash(study / name)})


def refuse_changed_run(folder: Path) -> None:
    """Raises: UserError naming a file of a finished run that is not what it was when the run ended."""
    for name, fault in _changed_files(folder):
        remedy = "restore it, or remove the run's folder and train again"
        raise UserError(str(folder / name), fault, remedy=remedy)


def check_seal(study: Path, plan: Plan, outcomes: Mapping[str, Outcome]) -> Seal:
    """Rechecks the whole chain. outcomes: where each cell stands, by cell id."""
    try:
        entries = ledger.read(study)
    except UserError as error:
        return Seal((), (Misfit(ledger.LEDGER, f"{error}: nothing in this folder can be checked", "study"),))
    cells = [_CheckedCell(study, plan, cell, outcomes[cell.id], entries) for cell in plan.cells]
    misfits = [Misfit(ledger.LEDGER, fault, "study") for fault in ledger.faults(entries)]
    misfits += [*_check_plan(study, plan, entries), *(misfit for cell in cells for misfit in cell.misfits)]
    misfits += [*_check_alike(plan, cells), *_check_floors(plan, cells), *_check_stores(study, cells)]
    misfits += _check_pictures(study, entries)
    return Seal(
        tuple(entry.sha256 for entry in entries),
        tuple(misfits),
        (*(note for cell in cells for note in cell.notes), *_other_commits(cells)),
        {cell.id: cell.record for cell in cells if cell.record},
        {cell.id: cell.provenance for cell in cells if cell.provenance},
    )


def _check_plan(study: Path, plan: Plan, entries: Sequence[Entry]) -> Iterator[Misfit]:
    planned = _planned(entries)
    if not planned or entries[0].event != "planned":
        yield Misfit(ledger.LEDGER, "does not begin with a plan", "study")
    elif planned != [fingerprint(study)]:
        yield Misfit(PLAN_FILE, "was changed after it was frozen, or is of another study", "study")
    for cell in plan.cells:
        if cell.hash != stable_hash([cell.kind, cell.recipe]):
            yield Misfit(
                PLAN_FILE, f"the recipe of {cell.id} has another hash than stands beside it", "study"
            )
    try:
        copy = load_config(StudyRecipe, study / RECIPE_FILE)
    except UserError as error:
        yield Misfit(RECIPE_FILE, f"cannot be compared with the plan ({error})", "aside")
        return
    ours, theirs = (flatten(recipe.model_dump(mode="json")) for recipe in (copy, plan.study))
    differing = [name for name in compare_records(ours, theirs) if name not in FREE_FIELDS]
    if differing:
        yield Misfit(RECIPE_FILE, f"differs from the plan in {', '.join(differing[:4])}", "aside")


def _planned(entries: Sequence[Entry]) -> list[Any]:
    return [entry.content.get("plan") for entry in entries if entry.event == "planned"]


class _CheckedCell:
    """One cell, held against its own record, its run, the plan and the ledger.

    record, provenance: None where the cell is not finished, or they cannot be read. sessions: of training,
    since the run began; those that the ledger alone knows are among them.
    """

    def __init__(
        self, study: Path, plan: Plan, cell: Cell, outcome: Outcome, entries: Sequence[Entry]
    ) -> None:
        self.study, self.cell, self.id = study, cell, cell.id
        self.folder = cell_folder(study, cell)
        self.record: Record | None = None
        self.provenance: Provenance | None = None
        self.sessions: list[Session] = []
        self.rows: list[Result] = []
        self.misfits: list[Misfit] = []
        self.notes: list[str] = []
        own = [entry for entry in entries if entry.cell == cell.id]
        sealed = [entry.content for entry in own if entry.event == "sealed"]
        if outcome.state != "finished":
            if outcome.state == "waiting" and outcome.error:
                self._say("", outcome.error)
            elif sealed:
                self._say("", f"was finished once and is {outcome.state} now; run the study again")
            return
        if not sealed:
            self._say("", "counts as finished, but the ledger has no record of it")
        ends = len({content.get("weights") for content in sealed})
        if ends > 1:
            self.notes.append(f"{cell.id} was trained {ends} times, to other weights: the last counts.")
        try:
            self.record = validate(Record, read_json(self.folder / RECORD))
        except UserError as error:
            self._say(RECORD, f"cannot be read ({error})")
            return
        if sealed and sha256_file(self.folder / RECORD) != sealed[-1].get("record"):
            self._say(RECORD, "is not the one that the ledger names")
        self._check_identity(self.record, outcome, _planned(entries))
        if cell.kind == "train":
            self._check_run(self.record, [e.content for e in own if e.event == "session"])
        self._check_rows(self.record, plan)

    def _say(self, file: str, what: str) -> None:
        self.misfits.append(Misfit(f"{self.id}/{file}" if file else self.id, what, "numbers", (self.id,)))

    def _check_identity(self, record: Record, outcome: Outcome, planned: list[Any]) -> None:
        if record.cell != self.id:
            self._say("", f"its folder holds the cell {record.cell}")
        elif record.recipe != self.cell.hash:
            self._say("", "was run by another recipe than the plan has for it")
        if record.plan not in planned:
            self._say("", "was run under another plan than the ledger begins with")
        if record.seconds != outcome.seconds:
            self._say("outcome.json", "names other seconds than the record")

    def _check_run(self, record: Record, known: list[dict[str, Any]]) -> None:
        """The files of the training, its recipe and its sessions; known: the latter as in the ledger."""
        for name, fault in _changed_files(self.folder, record.trained):
            self._say(name, fault)
        try:
            self.provenance = Provenance.parse(read_json(self.folder / PROVENANCE))
            trained = dict(read_json(self.folder / FINISHED)).get("weight_hash")
        except (UserError, TypeError, ValueError) as error:
            self._say("", f"the record of its training cannot be read ({error})")
            return
        if trained != record.weights:
            self._say("", "the encoder that was scored is not the one that was trained")
        differing = compare_records(flatten(self.provenance.recipe), flatten(self.cell.recipe))
        if differing:
            fields = ", ".join(f"{f} ({shown(a)}, planned {shown(b)})" for f, (a, b) in differing.items())
            self._say(PROVENANCE, f"names another recipe than the plan: {fields}")
        last = max((i for i, session in enumerate(known) if session.get("from_step") == 0), default=0)
        try:
            self.sessions = [validate(Session, session) for session in known[last:]]
        except UserError as error:
            self._say("", f"has a session in the ledger that cannot be read ({error})")
            return
        if any(session not in self.sessions for session in self.provenance.sessions):
            self._say(PROVENANCE, "has a session of training that the ledger does not know")

    def _check_rows(self, record: Record, plan: Plan) -> None:
        try:
            rows = self.rows = cell_results(self.study, self.cell)
        except UserError as error:
            self._say(RESULTS, f"cannot be read ({error})")
            return
        found, sealed = list(_row_hashes(rows)), list(record.results)
        ours, theirs = (Counter(name for name, _ in each) for each in (found, sealed))
        faults = [f"the row {name} is missing" for name in theirs - ours]
        faults += [f"the row {name} was added" for name in ours - theirs]
        faults += [f"the row {name} was changed" for name, _ in set(found) - set(sealed) if name in theirs]
        if found != sealed:
            self._say(RESULTS, "; ".join(faults) or "the rows stand in another order")
        for row in rows:
            if row.run != self.id:
                self._say(RESULTS, f"the row {_row_name(row)} is of {row.run}")
            elif row.extra.get("encoder") != record.weights:
                self._say(RESULTS, f"the row {_row_name(row)} is of other weights than this cell's")
            elif row.extra.get("code") != record.scored.code.package_sha256:
                self._say(RESULTS, f"the row {_row_name(row)} was scored by other code than the record names")
        planned = Counter(f"{task.name} {task.protocol} {task.metric}" for task in plan.tasks)
        for name in planned - theirs:
            self._say(RESULTS, f"there never was the row {name}, which is planned")


def _check_alike(plan: Plan, cells: Sequence[_CheckedCell]) -> Iterator[Misfit]:
    """What must be one in the whole study, but for what a contrast or the study itself declares."""
    allowed = [name for contrast in plan.study.contrasts for name in contrast.may_differ]
    allowed += [fact for name in allowed for fact in FOLLOWS.get(name, ())]
    allowed += plan.study.may_vary
    holders: dict[tuple[str, str], dict[str, list[str]]] = {}  # topic -> value -> cells
    for cell in cells:
        for topic, value in _facts(cell):
            if not declared(topic[1], allowed):
                found = holders.setdefault(topic, {}).setdefault(str(value), [])
                if cell.id not in found:
                    found.append(cell.id)
    for (work, fact), by_value in holders.items():
        usual = max(by_value, key=lambda value: len(by_value[value]))
        for value, names in by_value.items():
            if value != usual:
                what = f"{work}: {fact} is {shown(value)}, elsewhere in the study {shown(usual)}"
                listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
                yield Misfit(listed, what, "circumstances", tuple(names))


def _other_commits(cells: Sequence[_CheckedCell]) -> Iterator[str]:
    """Names the commits where there are several; whether the code was the same is said by its files."""
    scored = [cell.record.scored for cell in cells if cell.record]
    sessions = [*scored, *(session for cell in cells for session in cell.sessions)]
    commits = dict.fromkeys(str(session.code.commit or "no commit")[:12] for session in sessions)
    if len(commits) > 1:
        yield f"Cells were run from several commits ({', '.join(commits)}): what counts is the files' hash."


def _facts(cell: _CheckedCell) -> Iterator[tuple[tuple[str, str], Any]]:
    """((among what it must be one, name of the fact), value)."""
    works = [("training", session) for session in cell.sessions]
    works += [("scoring", cell.record.scored)] if cell.record else []
    for work, session in works:
        for fact, value in machine_facts(session).items():
            # Training and scoring may have devices, threads and processes of their own, but no other code.
            own = fact in ("hardware.device", "threads", "processes")
            yield (work if own else "training and scoring", fact), value
    for row in cell.rows:
        for name, found in (("settings", row.settings_hash), ("data", row.extra.get("data")), ("n", row.n)):
            yield ("scoring", f"scored.{row.task}.{name}.{row.protocol}.{row.metric}"), found
    if cell.provenance is not None:
        data, recipe = cell.provenance.measured.data, cell.cell.recipe
        images = stable_hash([recipe.get("data"), recipe.get("monitor", {}).get("split")])
        yield (f"data {images[:8]}", "data.catalog_hash"), data.catalog_hash
        yield (f"data {images[:8]}", "data.pixels_sha256"), data.pixels_sha256


def _check_floors(plan: Plan, cells: Sequence[_CheckedCell]) -> Iterator[Misfit]:
    """Untrained weights are the floor of a run only if they are those that it began with."""
    records = {cell.id: cell.record for cell in cells}
    for cell in cells:
        if cell.provenance is not None and cell.cell.arm == plan.primary.control:
            floor = plan.reference(cell.cell.method, cell.cell.seed).id
            record = records[floor]
            began = cell.provenance.measured.initial_weights.encoder
            if record is not None and record.weights != began:
                yield Misfit(floor, f"scored other weights than {cell.id} began with", "numbers", (floor,))


def _check_stores(study: Path, cells: Sequence[_CheckedCell]) -> Iterator[Misfit]:
    """Each store of pixels: one hash in the records of all cells, and in the file if it is still there."""
    from sempairs.views.store import PixelStore

    users: dict[str, dict[str, list[str]]] = {}  # file -> hash -> cells
    for cell in cells:
        stores = cell.record.stores if cell.record else {}
        for name, digest in stores.items():
            users.setdefault(name, {}).setdefault(digest, []).append(cell.id)
    for name, digests in users.items():
        everyone = tuple(cell for found in digests.values() for cell in found)
        if len(digests) > 1:
            fewest = min(digests.values(), key=len)
            what = f"held other pixels for {', '.join(fewest)} than for the others"
            yield Misfit(name, what, "circumstances", everyone)
        if (study / name).exists():
            try:
                now = PixelStore.open(study / name).content_hash()
            except UserError as error:
                now, fault = None, str(error)
            else:
                fault = "holds other pixels than the cells were given; remove it"
            if now not in digests:
                yield Misfit(name, fault, "circumstances", everyone)


def _check_pictures(study: Path, entries: Sequence[Entry]) -> Iterator[Misfit]:
    """The pictures a report shows; what was changed is not shown, and leaves the numbers as they are."""
    made = {e.content.get("folder"): e.content.get("sha256") for e in entries if e.event == "pictures"}
    for name in PICTURES:
        if (study / name).is_dir() and _folder_hash(study / name) != made.get(name):
            yield Misfit(name, "holds other pictures than were made", "aside")


def _changed_files(folder: Path, sha256: str | None = None) -> Iterator[tuple[str, str]]:
    """Files of a finished run that are not what they were at its end, with the fault. sha256: that
    finished.json itself must have, where it is known."""
    path = folder / FINISHED
    try:
        bound = read_json(path).get("files")
        if sha256 is not None and sha256_file(path) != sha256:
            yield path.name, "is not the one that the record names"
    except (UserError, OSError, AttributeError):
        yield path.name, "is missing or damaged"
        return
    if not isinstance(bound, dict):
        yield path.name, "binds no files: the run was finished by an older version"
        return
    for name, digest in bound.items():
        try:
            if sha256_file(folder / name) != digest:
                yield name, "was changed after the training ended"
        except OSError:
            yield name, "is missing"


def _row_name(row: Result) -> str:
    return f"{row.task} {row.protocol} {row.metric}"


def _row_hashes(rows: Sequence[Result]) -> Iterator[tuple[str, str]]:
    for row in rows:
        yield _row_name(row), sha256_bytes(row.to_json().encode())


def _stores(study: Path) -> dict[str, str]:
    """Hashes of the pixel stores in the folders that cells share, as their headers say; they are compared
    with the pixels whenever a store is opened."""
    from sempairs.views.store import stored_hash

    found = sorted(path for pattern in STORES for path in study.glob(pattern))
    return {path.relative_to(study).as_posix(): stored_hash(path) for path in found}


def _folder_hash(folder: Path) -> str:
    return stable_hash({path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()})
