"""The plan: every cell, its resolved recipe, the contrasts and the tasks, written down before anything runs.

A contrast whose resolved recipes differ in a field it does not declare is refused here. Once written the plan
is frozen: the same folder never runs anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from sempairs.config import Config, save_config, validate
from sempairs.errors import UserError, unknown
from sempairs.files import read_json, stable_hash, write_json
from sempairs.precision import Precision, auto_precision
from sempairs.study import ledger
from sempairs.study.certificate import MEASURED, compare_records, declared, flatten, shown
from sempairs.study.recipe import Contrast, StudyRecipe

PLAN_FILE, RECIPE_FILE = "plan.json", "recipe.yaml"
# How many cells run side by side changes nothing a cell computes, so it may change between runs of one plan.
FREE_FIELDS = ("jobs",)


class PlannedTask(Config):
    """A task with the one protocol and metric that count for it."""

    name: str
    protocol: str
    metric: str

    @property
    def label(self) -> str:
        """The name, of a path its end only."""
        kind, colon, rest = self.name.partition(":")
        return f"{kind}:{PurePath(rest).name}" if colon else self.name


class Cell(Config):
    """One run of the study: a pretraining (`train`) or the evaluation of random weights (`reference`)."""

    id: str
    kind: Literal["train", "reference"]
    method: str
    arm: str  # of a reference: the arm whose encoder it evaluates untrained
    seed: int
    recipe: dict[str, Any]
    hash: str


class Plan(Config):
    """What a study folder is bound to."""

    format: Literal[1] = 1
    study: StudyRecipe
    tasks: tuple[PlannedTask, ...]
    cells: tuple[Cell, ...]
    # contrast -> method -> field -> [treatment's value, control's value]
    differences: dict[str, dict[str, dict[str, tuple[Any, Any]]]]
    # What `precision: auto` took when the plan was made, in every cell and in scoring, and takes anywhere.
    auto_precision: Precision | None = None

    def cell(self, identity: str) -> Cell:
        """The cell of that id. Raises: UserError listing the cells."""
        for cell in self.cells:
            if cell.id == identity:
                return cell
        raise unknown("cell", identity, [cell.id for cell in self.cells])

    def find(self, method: str, arm: str, seed: int) -> Cell:
        """The pretraining cell of a method, an arm and a seed."""
        return self.cell(cell_id(method, arm, seed))

    def reference(self, method: str, seed: int) -> Cell:
        """The cell that evaluates this method's encoder with the weights it starts from."""
        wanted = _encoder_hash(self.find(method, self.primary.control, seed).recipe)
        for cell in self.cells:
            if cell.kind == "reference" and _encoder_hash(cell.recipe) == wanted:
                return cell
        raise UserError(PLAN_FILE, "must have a cell of untrained weights for", f"{method}, seed {seed}")

    @property
    def methods(self) -> tuple[str, ...]:
        """In the recipe's order, which the keys of a JSON file do not keep."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells if cell.kind == "train"))

    @property
    def arms(self) -> tuple[str, ...]:
        """In the recipe's order."""
        return tuple(dict.fromkeys(cell.arm for cell in self.cells if cell.kind == "train"))

    @property
    def primary(self) -> Contrast:
        return next(contrast for contrast in self.study.contrasts if contrast.primary)


def cell_id(method: str, arm: str, seed: int) -> str:
    """Also the name of the cell's folder. Names hold no underscore, so ids are unique."""
    return f"{method}_{arm}_seed{seed}"


def make_plan(study: StudyRecipe, out: Path | None = None) -> Plan:
    """Resolves every cell and checks every contrast.

    out: a study folder; its plan, if there is one, says what `precision: auto` takes, else this machine does.
    Raises: UserError for a cell whose recipe does not hold, an unknown task, or a contrast that differs in an
    undeclared field (named), in nothing at all, or declares a field that does not exist.
    """
    auto = (load_plan(out).auto_precision if out and (out / PLAN_FILE).exists() else None) or auto_precision(
        "auto"
    )
    study = _settled(study, auto)
    cells: list[Cell] = []
    for seed in study.seeds:
        for method in study.methods:
            for arm in study.arms:
                recipe = resolve(study, method, arm, seed)
                cells.append(_cell(cell_id(method, arm, seed), "train", method, arm, seed, recipe))
    differences = {contrast.name: _check(study, contrast) for contrast in study.contrasts}
    first, *others = _references(study, cells)
    # A short cell first: a fault in scoring shows within seconds, and what scoring caches is there for all.
    cells = [first, *cells, *others]
    return Plan(
        study=study, tasks=_tasks(study), cells=tuple(cells), differences=differences, auto_precision=auto
    )


def _settled(study: StudyRecipe, auto: Precision) -> StudyRecipe:
    """With one precision wherever `auto` stands or nothing is said: in all cells, and in scoring."""
    from sempairs.training.recipe import MIXED

    def named(changes: Mapping[str, Any]) -> dict[str, Any]:
        out = dict(changes)
        if out.get("speed.precision") == "auto":
            out["speed.precision"] = MIXED[auto]
        section = out.get("speed")  # a whole section leaves nothing of the base's
        if isinstance(section, Mapping) and section.get("precision", "auto") == "auto":
            out["speed"] = _set(section, "precision", MIXED[auto])
        return out

    base = dict(study.base)
    speed = base.get("speed") or {}
    if isinstance(speed, Mapping) and speed.get("precision", "auto") == "auto":
        base = _set(base, "speed.precision", MIXED[auto])
    evaluation = study.evaluation
    if evaluation.precision == "auto":
        evaluation = evaluation.model_copy(update={"precision": auto})
    return study.model_copy(
        update={
            "base": base,
            "methods": {name: named(changes) for name, changes in study.methods.items()},
            "arms": {name: named(changes) for name, changes in study.arms.items()},
            "evaluation": evaluation,
        }
    )


def resolve(study: StudyRecipe, method: str, arm: str, seed: int) -> dict[str, Any]:
    """The complete pretraining recipe of one cell: base, the method's overrides, the arm's, the seed.

    Raises: UserError naming the cell and the field.
    """
    from sempairs.training.recipe import PretrainRecipe

    data: dict[str, Any] = dict(study.base)
    for key, value in (study.methods[method] | study.arms[arm]).items():
        data = _set(data, key, value)
    data["seed"] = seed
    if "threads" not in data.get("speed", {}):
        data = _set(data, "speed.threads", study.threads)
    where = f"base with {method}, {arm}"
    return validate(PretrainRecipe, data, where=where).model_dump(mode="json")


def check_out(plan: Plan, out: Path) -> None:
    """Raises: UserError if `out` is bound to another plan (naming what differs), or holds other things."""
    if (out / PLAN_FILE).exists():
        _refuse_other(load_plan(out), plan, out)
    elif out.is_dir():
        others = [entry.name for entry in out.iterdir() if entry.name != ".lock"]
        if others:
            rule = f"must be a new, empty or study folder, but holds {min(others)}"
            raise UserError("--out", rule, str(out), "choose another folder, or remove it")


def freeze(plan: Plan, out: Path) -> None:
    """Writes the plan into `out` and begins the ledger with it, or finds it there unchanged.

    Raises: UserError as `check_out`.
    """
    check_out(plan, out)
    if not (out / PLAN_FILE).exists():
        out.mkdir(parents=True, exist_ok=True)
        save_config(plan.study, out / RECIPE_FILE)
        write_json(out / PLAN_FILE, plan.model_dump(mode="json"))
    # A folder in which cells have run without a ledger gets none afterwards.
    if not (out / ledger.LEDGER).exists() and not (out / "runs").exists():
        ledger.append(out, "planned", {"plan": fingerprint(out)})


def load_plan(folder: Path) -> Plan:
    """The plan of a study folder. Raises: UserError if there is none, or it cannot be read."""
    path = folder / PLAN_FILE
    if not path.exists():
        remedy = "give the folder that `sempairs study run` wrote"
        raise UserError("study folder", f"has no {PLAN_FILE}", str(folder), remedy)
    return validate(Plan, read_json(path), where=str(path))


def fingerprint(folder: Path) -> str:
    """SHA-256 of the plan in a study folder, as it is written, but for what may change while it runs."""
    data = read_json(folder / PLAN_FILE)
    study = {name: value for name, value in data["study"].items() if name not in FREE_FIELDS}
    return stable_hash({**data, "study": study})


def _cell(identity: str, kind: Any, method: str, arm: str, seed: int, recipe: dict[str, Any]) -> Cell:
    digest = stable_hash([kind, recipe])
    return Cell(id=identity, kind=kind, method=method, arm=arm, seed=seed, recipe=recipe, hash=digest)


def _references(study: StudyRecipe, cells: list[Cell]) -> list[Cell]:
    """One cell for each different untrained encoder and seed, as the primary control arm has it."""
    control = next(contrast for contrast in study.contrasts if contrast.primary).control
    found: dict[tuple[int, str], Cell] = {}
    encoders = {_encoder_hash(c.recipe | {"seed": 0}) for c in cells if c.arm == control}
    for cell in cells:
        if cell.arm == control:
            # Named after its method only where methods use different encoders.
            owner = f"-{cell.method}" if len(encoders) > 1 else ""
            identity = f"random-init{owner}_seed{cell.seed}"
            reference = _cell(identity, "reference", cell.method, cell.arm, cell.seed, cell.recipe)
            found.setdefault((cell.seed, _encoder_hash(cell.recipe)), reference)
    return list(found.values())


def _encoder_hash(recipe: Mapping[str, Any]) -> str:
    """What decides the scores of untrained weights: the encoder, the pictures it is shown, the seed."""
    views = recipe["views"]
    pixels = {key: views.get(key) for key in ("size", "mean", "std")}
    return stable_hash([recipe["seed"], recipe["encoder"], pixels])


def _set(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    inner = data.get(head)
    if rest:
        value = _set(inner if isinstance(inner, Mapping) else {}, rest, value)
    return {**data, head: value}


def _check(study: StudyRecipe, contrast: Contrast) -> dict[str, dict[str, tuple[Any, Any]]]:
    """The declared differences of a contrast, by method; undeclared ones are refused."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for method in study.methods:
        treatment = _compared(resolve(study, method, contrast.treatment, study.seeds[0]))
        control = _compared(resolve(study, method, contrast.control, study.seeds[0]))
        differences = compare_records(treatment, control)
        where = f"contrast {contrast.name!r} ({method})"
        undeclared = {f: v for f, v in differences.items() if not declared(f, contrast.may_differ)}
        if undeclared:
            listed = ", ".join(f"{f} ({shown(a)} against {shown(b)})" for f, (a, b) in undeclared.items())
            remedy = "make them equal, or declare them in may_differ"
            raise UserError(where, f"differs in undeclared fields: {listed}", remedy=remedy)
        if not differences:
            raise UserError(where, "differs in nothing", remedy="give one arm an override")
        for field in contrast.may_differ:
            known = sorted({*treatment, *control, *MEASURED})
            if not any(declared(name, (field,)) for name in known):
                raise unknown(f"{where}: may_differ", field, known)
        found[method] = differences
    return found


def crops_of(recipe: Mapping[str, Any]) -> int:
    """How many crops of each pair follow from a cell's recipe."""
    from sempairs.training.crops import crops_per_pair
    from sempairs.training.recipe import PretrainRecipe

    return crops_per_pair(validate(PretrainRecipe, recipe))


def _compared(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a contrast compares of a recipe: its fields, and how many crops of a pair follow from them."""
    return flatten(recipe) | {"crops_per_pair": crops_of(recipe)}


def _tasks(study: StudyRecipe) -> tuple[PlannedTask, ...]:
    from sempairs.evaluation import TASKS

    planned = []
    for name in study.tasks:
        task = TASKS.get(name)
        planned.append(PlannedTask(name=name, protocol=task.protocol, metric=task.metric))
    return tuple(planned)


def _refuse_other(old: Plan, new: Plan, out: Path) -> None:
    def fixed(plan: Plan) -> dict[str, Any]:
        data = plan.model_dump(mode="json")
        for field in FREE_FIELDS:
            data["study"].pop(field)
        # Cells by id, so that a difference is named by its cell and field.
        return flatten(data | {"cells": {cell["id"]: cell for cell in data["cells"]}})

    differences = compare_records(fixed(new), fixed(old))
    if differences:
        # A changed recipe changes cells too: name the cause, not its many effects.
        causes = {f: v for f, v in differences.items() if f.startswith("study.")} or differences
        names = {field.removeprefix("study."): values for field, values in causes.items()}
        listed = [f"{field} (now {shown(a)}, planned {shown(b)})" for field, (a, b) in names.items()]
        more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
        rule = f"holds a frozen plan that differs in {', '.join(listed[:4])}{more}"
        raise UserError(str(out), rule, remedy="choose another --out, or restore the recipe")
