"""Whatever is done to a study after or between its sessions is named; an honest study passes."""

from __future__ import annotations

import html
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sempairs.cli.main import app
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.files import read_json, sha256_file, stable_hash, write_json
from sempairs.runs import sessions
from sempairs.runs.sessions import package_sha256
from sempairs.runs.trackers import Trackers
from sempairs.study import ledger
from sempairs.study.cell import run_cell
from sempairs.study.folder import read_outcome
from sempairs.study.gathered import gather
from sempairs.study.plan import freeze, load_plan, make_plan
from sempairs.study.recipe import StudyRecipe
from sempairs.study.report import write_report
from sempairs.study.runner import prepare

from .conftest import session, toy_list, toy_study

OURS, THEIRS = "simclr_semantic_seed0", "simclr_augmented_seed0"
OTHER = "simclr_semantic_seed1"


def gain(method: str, arm: str, seed: int, task: str) -> float:
    return 0.0 if arm == "augmented" else 2.0 + 0.3 * seed


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    data = read_json(path)
    changed = change(data)
    write_json(path, data if changed is None else changed)


def edit_rows(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))


def swap(left: Path, right: Path) -> None:
    spare = left.with_name("spare")
    left.rename(spare)
    right.rename(left)
    spare.rename(right)


def reseal(run: Path) -> None:
    """What a forger does who knows finished.json and record.json, but not the ledger."""
    finished = read_json(run / "finished.json")
    finished["files"] = {name: sha256_file(run / name) for name in finished["files"]}
    write_json(run / "finished.json", finished)
    edit_json(run / "record.json", lambda r: r.update(trained=sha256_file(run / "finished.json")))


def outcome_of(runs: Path, name: str, recipe_of: str) -> None:
    """Makes a cell's outcome name the recipe that the plan has for another cell."""
    digest = load_plan(runs.parent).cell(recipe_of).hash
    edit_json(runs / name / "outcome.json", lambda outcome: outcome.update(hash=digest))


# What is done to the runs of a finished study, and what has to be said of it.


def swapped(runs: Path) -> None:
    swap(runs / OURS, runs / THEIRS)


def swapped_with_care(runs: Path) -> None:
    swapped(runs)
    outcome_of(runs, OURS, OURS)
    outcome_of(runs, THEIRS, THEIRS)


def training_swapped(runs: Path) -> None:
    for name in ("provenance.json", "metrics.jsonl", "finished.json"):
        swap(runs / OURS / name, runs / THEIRS / name)


def results_copied(runs: Path) -> None:
    shutil.copy(runs / OURS / "results.jsonl", runs / OTHER / "results.jsonl")


def results_renamed_too(runs: Path) -> None:
    rows = (runs / OURS / "results.jsonl").read_text().replace(OURS, OTHER)
    (runs / OTHER / "results.jsonl").write_text(rows)


def value_edited(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows[0].update(value=0.99))


def groups_edited(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows[0]["extra"].update(groups=[[1, 1], [1, 1]]))


def row_removed(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows.pop())


def row_added(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows.append(rows[0]))


def rows_reordered(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows.reverse())


def rows_garbled(runs: Path) -> None:
    (runs / OURS / "results.jsonl").write_text("{\n")


def margin_moved(runs: Path) -> None:
    edit_json(runs.parent / "plan.json", lambda plan: plan["study"].update(health_margin=0.0))


def task_left_out(runs: Path) -> None:
    edit_json(runs.parent / "plan.json", lambda plan: plan.update(tasks=plan["tasks"][:-1]))


def seed_left_out(runs: Path) -> None:
    def change(plan: dict[str, Any]) -> None:
        plan["study"]["seeds"].remove(2)
        plan["cells"] = [cell for cell in plan["cells"] if cell["seed"] != 2]

    edit_json(runs.parent / "plan.json", change)


def planned_recipe_edited(runs: Path) -> None:
    def change(plan: dict[str, Any]) -> None:
        (cell,) = (cell for cell in plan["cells"] if cell["id"] == OURS)
        cell["recipe"]["batch_size"] = 512
        cell["hash"] = stable_hash(["train", cell["recipe"]])

    edit_json(runs.parent / "plan.json", change)
    outcome_of(runs, OURS, OURS)


def question_reworded(runs: Path) -> None:
    recipe = runs.parent / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("question: Do", "question: Why do"))


def curve_smoothed(runs: Path) -> None:
    edit_rows(runs / OURS / "metrics.jsonl", lambda rows: rows.pop(3))


def clock_faked(runs: Path) -> None:
    edit_json(runs / OURS / "provenance.json", lambda r: r["sessions"][0].update(started=1.8e9))
    reseal(runs / OURS)


def host_faked(runs: Path) -> None:
    edit_json(runs / OURS / "provenance.json", lambda r: r["sessions"][0].update(host="elsewhere"))


def commit_faked(runs: Path) -> None:
    for name in (OURS, THEIRS):
        edit_json(runs / name / "provenance.json", lambda r: r["code"].update(commit="f" * 40))


def device_faked(runs: Path) -> None:
    for name in (OURS, THEIRS):
        edit_json(runs / name / "provenance.json", lambda r: r["hardware"].update(device="a GPU"))


def seconds_edited(runs: Path) -> None:
    edit_json(runs / OURS / "outcome.json", lambda outcome: outcome.update(seconds=1.0))


def seed_copied(runs: Path) -> None:
    shutil.rmtree(runs / OTHER)
    shutil.copytree(runs / OURS, runs / OTHER)


def seed_copied_with_care(runs: Path) -> None:
    seed_copied(runs)
    outcome_of(runs, OTHER, OTHER)
    results_renamed_too(runs)
    edit_json(runs / OTHER / "record.json", lambda r: r.update(cell=OTHER, recipe=r["recipe"]))


def cell_removed(runs: Path) -> None:
    shutil.rmtree(runs / OURS)


def outcome_removed(runs: Path) -> None:
    (runs / OURS / "outcome.json").unlink()


def called_broken(runs: Path) -> None:
    edit_json(runs / OURS / "outcome.json", lambda o: o.update(state="broken", error="out of memory"))


def record_removed(runs: Path) -> None:
    (runs / OURS / "record.json").unlink()


def scorer_renamed(runs: Path) -> None:
    edit_json(runs / OURS / "record.json", lambda r: r["scored"].update(host="elsewhere"))


def value_nulled(runs: Path) -> None:
    edit_rows(runs / OURS / "results.jsonl", lambda rows: rows[0].update(value=None))


def outcome_garbled(runs: Path) -> None:
    edit_json(runs / OURS / "outcome.json", lambda outcome: outcome.update(seconds="none", state="done"))


def session_garbled(runs: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        (entry,) = (row for row in rows if row["cell"] == OURS and row["event"] == "session")
        del entry["content"]["threads"]

    edit_rows(runs.parent / "ledger.jsonl", change)


def finish_removed(runs: Path) -> None:
    (runs / OURS / "finished.json").unlink()


def floor_lowered(runs: Path) -> None:
    edit_rows(runs / "random-init_seed0" / "results.jsonl", lambda rows: rows[0].update(value=0.01))


def ledger_removed(runs: Path) -> None:
    (runs.parent / "ledger.jsonl").unlink()


def ledger_shortened(runs: Path) -> None:
    path = runs.parent / "ledger.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-4]))


def ledger_edited(runs: Path) -> None:
    edit_rows(runs.parent / "ledger.jsonl", lambda rows: rows[3].update(time=0.0))


def entry_removed(runs: Path) -> None:
    edit_rows(runs.parent / "ledger.jsonl", lambda rows: rows.pop(3))


def ledger_begun_anew(runs: Path) -> None:
    (runs.parent / "ledger.jsonl").unlink()
    plan = load_plan(runs.parent)
    freeze(plan, runs.parent)


def ledger_garbled(runs: Path) -> None:
    edit_rows(runs.parent / "ledger.jsonl", lambda rows: rows[2].pop("previous"))


DEEDS = [
    (swapped, f"{OURS}: its folder holds another recipe"),
    (swapped_with_care, f"{OURS}: its folder holds the cell {THEIRS}"),
    (training_swapped, f"{OURS}/finished.json: is not the one that the record names"),
    (results_copied, f"{OTHER}/results.jsonl: the row digits linear accuracy is of {OURS}"),
    (results_renamed_too, f"{OTHER}/results.jsonl: the row digits linear accuracy is of other weights"),
    (value_edited, f"{OURS}/results.jsonl: the row emoji-subgroup linear accuracy was changed"),
    (groups_edited, f"{OURS}/results.jsonl: the row emoji-subgroup linear accuracy was changed"),
    (row_removed, f"{OURS}/results.jsonl: the row digits knn-20-0.07 accuracy is missing"),
    (row_added, f"{OURS}/results.jsonl: the row emoji-subgroup linear accuracy was added"),
    (rows_reordered, f"{OURS}/results.jsonl: the rows stand in another order"),
    (rows_garbled, f"{OURS}/results.jsonl: cannot be read"),
    (margin_moved, "plan.json: was changed after it was frozen"),
    (task_left_out, "plan.json: was changed after it was frozen"),
    (seed_left_out, "plan.json: was changed after it was frozen"),
    (
        planned_recipe_edited,
        "provenance.json: names another recipe than the plan: batch_size (256, planned 512)",
    ),
    (question_reworded, "recipe.yaml: differs from the plan in question"),
    (curve_smoothed, f"{OURS}/metrics.jsonl: was changed after the training ended"),
    (clock_faked, f"{OURS}/record.json: is not the one that the ledger names"),
    (clock_faked, f"{OURS}/provenance.json: has a session of training that the ledger does not know"),
    (host_faked, f"{OURS}/provenance.json: was changed after the training ended"),
    (commit_faked, f"{THEIRS}/provenance.json: was changed after the training ended"),
    (device_faked, f"{THEIRS}/provenance.json: was changed after the training ended"),
    (seconds_edited, f"{OURS}/outcome.json: names other seconds than the record"),
    (seed_copied, f"{OTHER}: its folder holds another recipe"),
    (seed_copied_with_care, f"{OTHER}/record.json: is not the one that the ledger names"),
    (seed_copied_with_care, f"{OTHER}: was run by another recipe than the plan has for it"),
    (cell_removed, f"{OURS}: was finished once and is waiting now"),
    (outcome_removed, f"{OURS}: was finished once and is waiting now"),
    (called_broken, f"{OURS}: was finished once and is broken now"),
    (record_removed, f"{OURS}/record.json: cannot be read"),
    (scorer_renamed, f"{OURS}/record.json: is not the one that the ledger names"),
    (value_nulled, f"{OURS}/results.jsonl: cannot be read"),
    (outcome_garbled, f"{OURS}: was finished once and is interrupted now"),
    (session_garbled, f"{OURS}: has a session in the ledger that cannot be read"),
    (finish_removed, f"{OURS}/finished.json: is missing or damaged"),
    (floor_lowered, "random-init_seed0/results.jsonl: the row emoji-subgroup linear accuracy was changed"),
    (ledger_removed, "nothing in this folder can be checked"),
    (ledger_shortened, "counts as finished, but the ledger has no record of it"),
    (ledger_edited, "ledger.jsonl: entry 3 (session simclr_semantic_seed0) was changed"),
    (entry_removed, "ledger.jsonl: line 4 holds entry 4: entries were removed or added"),
    (ledger_begun_anew, "nothing in this folder can be checked"),
    (ledger_garbled, "ledger.jsonl line 3: previous is required: nothing in this folder can be checked"),
]
ASIDE = (question_reworded,)  # no number is touched


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from .conftest import study_recipe, write_study

    out = tmp_path_factory.mktemp("synthetic") / "study"
    write_study(out, study_recipe(), gain)
    return out


@pytest.fixture
def study(synthetic: Path, tmp_path: Path) -> Path:
    """A finished study in a folder of its own."""
    return Path(shutil.copytree(synthetic, tmp_path / "copied"))


@pytest.mark.parametrize(("deed", "said"), DEEDS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_done_is_named(study: Path, deed: Callable[[Path], None], said: str) -> None:
    deed(study / "runs")
    found = gather(study)
    assert any(said in str(misfit) for misfit in found.seal.misfits), [str(m) for m in found.seal.misfits]
    assert not found.holds
    assert (found.findings.primary.verdict.kind == "withheld") == (deed not in ASIDE)
    assert (found.findings.primary.overall is None) == (deed not in ASIDE)


def test_numbers_that_do_not_fit_are_shown_nowhere(study: Path) -> None:
    value_edited(study / "runs")
    found = write_report(study)
    assert OURS not in found.rows
    assert found.findings.values("simclr", "semantic", "digits") == pytest.approx(
        [100 * row.value for name in (OTHER, "simclr_semantic_seed2")
         for row in found.rows[name] if row.task == "digits" and row.primary]
    )  # fmt: skip
    assert "99.0" not in (study / "report.html").read_text()


def test_an_honest_study_passes_wherever_it_lies(study: Path, tmp_path: Path) -> None:
    before = gather(study)
    assert before.seal.misfits == () and before.seal.notes == () and before.holds
    assert set(before.seal.records) == {cell.id for cell in before.plan.cells}
    study.rename(tmp_path / "moved")
    after = write_report(tmp_path / "moved")
    assert after.holds
    assert after.seal.sha256 == before.seal.sha256 == write_report(tmp_path / "moved").seal.sha256
    page = (tmp_path / "moved" / "report.html").read_text()
    assert "Sealed." in page and after.seal.sha256 in page and "Not sound." not in page
    certificate = read_json(tmp_path / "moved" / "certificate.json")
    assert certificate["holds"] is True and certificate["seal"] == after.seal.sha256


def test_the_commands_tell_by_their_status(study: Path) -> None:
    command = CliRunner()
    sound = command.invoke(app, ["study", "verify", str(study)])
    assert sound.exit_code == 0, sound.output
    seal = gather(study).seal.sha256
    assert f"seal: {seal}" in sound.stdout and sound.stderr == ""
    assert command.invoke(app, ["study", "verify", str(study), "--seal", seal]).exit_code == 0
    other = command.invoke(app, ["study", "verify", str(study), "--seal", "0" * 64])
    assert other.exit_code == 1 and "the one given is another" in other.stderr
    assert "not all of it fits" in other.stdout
    earlier = command.invoke(app, ["study", "verify", str(study), "--seal", gather(study).seal.hashes[5]])
    assert earlier.exit_code == 1 and "that of entry 5, and more was added" in earlier.stderr
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    value_edited(study / "runs")
    swap(
        study / "runs" / OTHER / "metrics.jsonl", study / "runs" / "simclr_augmented_seed1" / "metrics.jsonl"
    )
    bad = command.invoke(app, ["study", "verify", str(study)])
    assert bad.exit_code == 1
    lines = bad.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("does not fit: simclr_") for line in lines)
    assert "not all of it fits" in bad.stdout
    assert {path for path in study.rglob("*") if path.is_file()} == set(before)  # writes nothing
    report = command.invoke(app, ["study", "report", str(study)])
    assert report.exit_code == 1 and report.stderr.splitlines() == lines
    assert "Result withheld: 3 things do not fit" in report.stdout


def test_changed_pictures_are_named_and_left_out(study: Path) -> None:
    picture = study / "examples" / "semantic-0-partner.png"
    picture.write_bytes((study / "examples" / "semantic-1-partner.png").read_bytes())
    found = write_report(study)
    assert [str(m) for m in found.seal.misfits] == ["examples: holds other pictures than were made"]
    assert found.findings.primary.verdict.kind == "too few seeds"
    assert "What each arm is shown" not in (study / "report.html").read_text()


# What runs record of themselves, truly, and what does not fit all the same.


def other_code(**more: Any) -> dict[str, Any]:
    return {
        "code": {"package_sha256": "0ther", "commit": None, "dirty": None, "difference_sha256": None}
    } | more


def hardware(**changes: Any) -> dict[str, Any]:
    return {"hardware": session()["hardware"] | changes}


def in_cells(*cells: str, **changes: Any) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    return lambda cell, record: record | changes if cell.id in cells else record


def test_a_cell_resumed_by_other_code_is_named(make_study: Any) -> None:
    def resumed(cell: Any, record: dict[str, Any]) -> dict[str, Any]:
        if cell.id in (OURS, THEIRS):  # in both arms alike: no difference between them
            record["sessions"] = [session(), session(from_step=80, **other_code())]
            record |= other_code()
        return record

    out, _ = make_study(gain, tamper=resumed)
    found = gather(out)
    (misfit,) = found.seal.misfits
    assert str(misfit).startswith(f"{THEIRS}, {OURS}: training and scoring: code.package_sha256 is 0ther")
    assert all(check.undeclared == {} for check in found.checks)
    assert found.findings.primary.verdict.kind == "withheld"


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        (other_code(), "training and scoring: code.package_sha256"),
        (hardware(cpu="another"), "training and scoring: hardware.cpu"),
        (hardware(device="a GPU"), "training: hardware.device"),
        ({"versions": session()["versions"] | {"torch": "2.11.0"}}, "training and scoring: versions.torch"),
        ({"threads": 2}, "training: threads"),
        (
            {"data": {"catalog_hash": "0ther", "training_images": 8192, "pixels": "files"}},
            "data.catalog_hash",
        ),
    ],
)
def test_both_cells_of_a_seed_made_otherwise_are_named(make_study: Any, changes: Any, fact: str) -> None:
    both = ("simclr_augmented_seed1", "simclr_semantic_seed1")
    out, _ = make_study(gain, tamper=in_cells(*both, **changes))
    found = gather(out)
    (misfit,) = found.seal.misfits
    assert set(misfit.cells) == set(both) and fact in misfit.what and misfit.reach == "circumstances"
    assert all(check.undeclared == {} for check in found.checks)
    assert found.findings.primary.verdict.kind == "withheld"


def test_what_a_study_lets_vary_is_no_misfit_between_seeds_and_one_between_arms(make_study: Any) -> None:
    both = ("simclr_augmented_seed1", "simclr_semantic_seed1")
    out, _ = make_study(gain, tamper=in_cells(*both, **hardware(cpu="another")), may_vary=["hardware"])
    assert gather(out).holds
    shutil.rmtree(out)
    out, _ = make_study(gain, tamper=in_cells(both[1], **hardware(cpu="another")), may_vary=["hardware"])
    found = gather(out)
    assert found.seal.misfits == ()
    assert [set(check.undeclared) for check in found.checks] == [set(), {"hardware.cpu"}, set()]
    assert found.findings.primary.verdict.kind == "withheld"


def test_a_declared_difference_of_the_arms_is_no_misfit(make_study: Any) -> None:
    contrast = {"treatment": "semantic", "control": "augmented", "primary": True}
    out, _ = make_study(
        gain,
        tamper=lambda cell, record: record | {"threads": 2} if cell.arm == "semantic" else record,
        contrasts=[contrast | {"may_differ": ["pairs.arm", "threads"]}],
    )
    assert gather(out).holds


def test_other_scoring_of_a_whole_seed_is_named(make_study: Any) -> None:
    both = ("simclr_augmented_seed1", "simclr_semantic_seed1")
    out, _ = make_study(gain, settings=dict.fromkeys(both, "0ther"))
    found = gather(out)
    assert all(set(misfit.cells) == set(both) for misfit in found.seal.misfits)
    assert any("scored.digits.settings.linear.accuracy is 0ther" in m.what for m in found.seal.misfits)
    assert all(check.undeclared == {} for check in found.checks)
    assert found.findings.primary.verdict.kind == "withheld"


def test_several_commits_of_the_same_code_are_told_and_fit(make_study: Any) -> None:
    code = {"code": session()["code"] | {"commit": "f" * 40}}
    out, _ = make_study(gain, tamper=in_cells("simclr_augmented_seed1", "simclr_semantic_seed1", **code))
    found = write_report(out)
    assert found.holds
    (note,) = found.seal.notes
    assert "0123456789ab, ffffffffffff" in note
    assert note in html.unescape((out / "report.html").read_text())


def test_an_unfinished_study_passes(make_study: Any) -> None:
    out, _ = make_study(gain, waiting=[OURS], broken={OTHER: "boom"})
    assert gather(out).holds


# The ledger by itself.


def test_a_plan_without_its_floor_is_one_line(study: Path) -> None:
    def change(plan: dict[str, Any]) -> None:
        plan["cells"] = [cell for cell in plan["cells"] if cell["kind"] == "train"]

    edit_json(study / "plan.json", change)
    found = CliRunner().invoke(app, ["study", "verify", str(study)])
    assert found.exit_code != 0
    with pytest.raises(UserError, match="must have a cell of untrained weights"):
        gather(study)


def test_a_torn_last_entry_is_no_entry(tmp_path: Path) -> None:
    ledger.append(tmp_path, "planned", {"plan": "1"})
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"number": 1, "ev')
    assert len(ledger.read(tmp_path)) == 1
    ledger.append(tmp_path, "sealed", {"record": "2"}, cell="a")
    entries = ledger.read(tmp_path)
    assert [entry.number for entry in entries] == [0, 1] and ledger.faults(entries) == []
    assert entries[1].previous == entries[0].sha256


# The hash of the package.


def test_the_hash_of_a_package_sees_every_file_that_can_matter(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "inner" / "page.html").write_text("<p>")
    first = package_sha256(tmp_path)
    for name in ("__pycache__/a.pyc", ".a.py.swp", "a.py~", "a.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"nothing")
    assert package_sha256(tmp_path) == first
    assert package_sha256(Path(shutil.copytree(tmp_path, tmp_path.parent / "installed"))) == first
    (tmp_path / "inner" / "page.html").write_text("<p>.")
    edited = package_sha256(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, edited, package_sha256(tmp_path)}) == 3


def test_code_outside_of_git_has_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_git", lambda *_: None)
    sessions._checkout_state.cache_clear()
    state = sessions.code_state()
    sessions._checkout_state.cache_clear()
    assert (state.commit, state.dirty) == (None, None)
    assert state.package_sha256 == package_sha256()


# A real study, small.


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen plan of one seed with its pixels ready; nothing has run."""
    place = tmp_path_factory.mktemp("real")
    recipe = toy_study(f"csv:{toy_list(place / 'images')}")
    plan = make_plan(validate(StudyRecipe, recipe))
    freeze(plan, place / "study")
    prepare(plan, place / "study")
    return place / "study"


@pytest.fixture(scope="module")
def real(planned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study finished: one cell was stopped in the middle and went on."""
    out = Path(shutil.copytree(planned, tmp_path_factory.mktemp("finished") / "study"))
    stopped_and_resumed(out, OURS)
    for cell in load_plan(out).cells:
        assert run_cell(out, cell.id).state == "finished"
    return out


def stopped_and_resumed(out: Path, cell: str, between: Callable[[], None] = lambda: None) -> None:
    """Runs a cell in two sessions; what lies between them is done before the second."""
    write = Trackers.write

    def stop(self: Trackers, kind: str, step: int, values: Any) -> None:
        write(self, kind, step, values)
        if kind == "train" and step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trackers, "write", stop)
        assert run_cell(out, cell).state == "interrupted"
    between()
    run_cell(out, cell)


@pytest.fixture
def finished(real: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real, tmp_path / "elsewhere"))


def test_a_real_study_that_was_stopped_resumed_and_copied_passes(finished: Path) -> None:
    found = write_report(finished)
    assert [str(misfit) for misfit in found.seal.misfits] == []
    assert found.holds and found.findings.primary.verdict.kind != "withheld"
    sessions = found.seal.provenance[OURS].sessions
    assert [one.from_step for one in sessions] == [0, 7]
    record = found.seal.records[OURS]
    assert record.scored.code.package_sha256 == package_sha256()
    assert {name.partition("/")[0] for name in record.stores} == {"pixels", "cache"}
    files = read_json(finished / "runs" / OURS / "finished.json")["files"]
    assert {
        "recipe.yaml", "provenance.json", "environment.json", "exposure.parquet", "metrics.jsonl",
        "encoder.json", "encoder.safetensors", "train.csv",
    } <= set(files)  # fmt: skip
    shutil.rmtree(finished / "pixels")
    shutil.rmtree(finished / "cache")
    assert gather(finished).holds  # what may be removed


def forget_an_image(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("exposure.parquet", forget_an_image),
        ("encoder.safetensors", lambda path: shutil.copy(path.parents[1] / THEIRS / path.name, path)),
        ("encoder.json", lambda path: edit_json(path, lambda spec: spec.update(input_size=32))),
        ("environment.json", lambda path: edit_json(path, lambda e: e["sessions"][0].update(host="x"))),
        ("train.csv", lambda path: path.write_text("step,loss\n2,0.1\n")),
    ],
)
def test_a_changed_file_of_a_run_is_named(finished: Path, file: str, change: Callable[[Path], None]) -> None:
    change(finished / "runs" / OURS / file)
    assert f"{OURS}/{file}: was changed after the training ended" in [
        str(misfit) for misfit in gather(finished).seal.misfits
    ]


def alter_pixels(study: Path, *, header: bool = False) -> Path:
    """Paints over the first pixels of the store that cells train on; header: and makes its hash fit."""
    from sempairs.views import store

    (path,) = (study / "pixels").glob("pixels-*")
    data = bytearray(path.read_bytes())
    data[store._HEADER : store._HEADER + 64] = bytes(64)
    if header:
        about = json.loads(data[len(store._TAG) : store._HEADER])
        pixels = np.frombuffer(bytes(data[store._HEADER :]), dtype=np.uint8).reshape(about["shape"])
        about["sha256"] = store._content_hash(pixels)
        data[: store._HEADER] = (store._TAG + json.dumps(about).encode()).ljust(store._HEADER)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("header", [False, True])
def test_a_pixel_store_altered_afterwards_is_named(finished: Path, header: bool) -> None:
    path = alter_pixels(finished, header=header)
    found = gather(finished)
    assert {misfit.where for misfit in found.seal.misfits} == {f"pixels/{path.name}"}
    assert found.findings.primary.verdict.kind == "withheld"


def test_no_cell_trains_on_an_altered_pixel_store(planned: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(planned, tmp_path / "study"))
    alter_pixels(out)
    outcome = run_cell(out, OURS)
    assert outcome.state == "broken" and "was altered after it was built" in outcome.error


def test_a_pixel_store_altered_between_cells_is_named(planned: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(planned, tmp_path / "study"))
    assert run_cell(out, THEIRS).state == "finished"
    alter_pixels(out, header=True)
    assert run_cell(out, OURS).state == "finished"
    found = gather(out)
    assert any("data.pixels_sha256" in misfit.what for misfit in found.seal.misfits)
    assert found.findings.primary.verdict.kind == "withheld"


def test_pixels_altered_while_a_run_was_stopped_end_it(planned: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(planned, tmp_path / "study"))
    stopped_and_resumed(out, OURS, lambda: alter_pixels(out, header=True) and None)
    outcome = read_outcome(out, load_plan(out).cell(OURS))
    assert outcome.state == "broken" and "another pixels than when the run began" in outcome.error


@pytest.mark.parametrize("forged", [False, True])
def test_a_real_cell_resumed_by_other_code_is_named(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: bool
) -> None:
    out = Path(shutil.copytree(planned, tmp_path / "study"))
    true = package_sha256()
    monkeypatch.setattr(sessions, "package_sha256", lambda: "0ther")

    def between() -> None:
        monkeypatch.undo()
        monkeypatch.setenv("SEMPAIRS_QUIET", "1")
        if forged:  # the session by other code is made one by this code before the run goes on
            for name in ("provenance.json", "environment.json"):
                path = out / "runs" / OURS / name
                path.write_text(path.read_text().replace("0ther", true))

    stopped_and_resumed(out, OURS, between)
    assert run_cell(out, THEIRS).state == "finished"
    found = gather(out)
    said = [str(misfit) for misfit in found.seal.misfits]
    assert any("code.package_sha256 is 0ther" in line and OURS in line for line in said)
    if forged:
        assert f"{OURS}/provenance.json: has a session of training that the ledger does not know" in said
    assert found.findings.primary.verdict.kind == "withheld"


def test_scoring_by_an_edited_package_is_named(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(real, tmp_path / "study"))
    (out / "runs" / OURS / "record.json").unlink()
    edit_json(out / "runs" / OURS / "outcome.json", lambda outcome: outcome.update(state="interrupted"))
    monkeypatch.setattr(sessions, "package_sha256", lambda: "0ther")
    assert run_cell(out, OURS).state == "finished"
    (misfit,) = gather(out).seal.misfits
    assert misfit.cells == (OURS,) and "code.package_sha256 is 0ther" in misfit.what


def test_a_package_edited_while_it_scores_breaks_the_cell(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(planned, tmp_path / "study"))
    hashes = iter(["before", *["after"] * 9])
    monkeypatch.setattr(sessions, "package_sha256", lambda: next(hashes))
    outcome = run_cell(out, "random-init_seed0")
    assert outcome.state == "broken" and "was edited while the cell was scored" in outcome.error


def test_a_replaced_encoder_is_not_scored_again(finished: Path) -> None:
    run = finished / "runs" / OURS
    for name in ("encoder.json", "encoder.safetensors"):
        shutil.copy(finished / "runs" / THEIRS / name, run / name)
    (run / "results.jsonl").unlink()
    edit_json(run / "outcome.json", lambda outcome: outcome.update(state="interrupted"))
    outcome = run_cell(finished, OURS)
    assert outcome.state == "broken" and "was changed after the training ended" in outcome.error


def test_a_run_trained_elsewhere_is_named(finished: Path, planned: Path, tmp_path: Path) -> None:
    """Trained by the plan's recipe, but not in this study: nobody knows how often it was tried."""
    from sempairs.training import PretrainRecipe, pretrain

    recipe = validate(PretrainRecipe, load_plan(planned).cell(OURS).recipe)
    pretrain(recipe, tmp_path / OURS)
    run = finished / "runs" / OURS
    shutil.rmtree(run)
    shutil.copytree(tmp_path / OURS, run)
    assert run_cell(finished, OURS).state == "finished"
    said = [str(misfit) for misfit in gather(finished).seal.misfits]
    assert said == [f"{OURS}/provenance.json: has a session of training that the ledger does not know"]


def test_a_cell_done_again_honestly_passes(finished: Path) -> None:
    shutil.rmtree(finished / "runs" / OURS)
    assert not gather(finished).holds
    assert run_cell(finished, OURS).state == "finished"
    found = gather(finished)
    assert found.holds
    assert found.seal.notes == ()  # the same weights


def test_the_cached_features_are_those_that_were_computed(finished: Path) -> None:
    from sempairs.evaluation import evaluate

    plan = load_plan(finished)
    kept = max((finished / "cache").glob("features-*.npz"), key=lambda path: path.stat().st_mtime)
    with np.load(kept) as file:
        features, digest = file["features"], file["sha256"]
    features[0] += 1
    np.savez(kept, features=features, sha256=digest)
    cells = [finished / "runs" / cell.id for cell in plan.cells if cell.kind == "train"]
    with pytest.raises(UserError, match="was altered after it was written"):
        for cell in cells:
            evaluate(cell, plan.study.tasks, config=plan.study.evaluation, cache=finished / "cache")
