"""Study folders with known numbers, as the runner leaves them, without training anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sempairs.evaluation.records import Result, append_results
from sempairs.files import sha256_file, stable_hash, write_json
from sempairs.runs.sessions import Session
from sempairs.study import ledger
from sempairs.study.folder import Outcome, cell_folder, write_outcome
from sempairs.study.plan import Cell, Plan, PlannedTask, cell_id, freeze
from sempairs.study.recipe import StudyRecipe
from sempairs.study.seal import seal_cell, seal_pictures

TASKS = ("emoji-subgroup", "emoji-subgroup-held-out", "emoji-retrieval", "digits")
FLOOR = {"emoji-subgroup": 12.0, "emoji-subgroup-held-out": 10.0, "emoji-retrieval": 8.0, "digits": 70.0}
CONTROL = {"emoji-subgroup": 24.5, "emoji-subgroup-held-out": 21.0, "emoji-retrieval": 27.5, "digits": 84.0}


def study_recipe(**changes: Any) -> StudyRecipe:
    data: dict[str, Any] = {
        "name": "synthetic",
        "question": "Do semantic pairs teach more than augmented pairs of the same images?",
        "base": {"batch_size": 256},
        "methods": {"simclr": {}},
        "arms": {"augmented": {"pairs.arm": "augmented"}, "semantic": {"pairs.arm": "semantic"}},
        "contrasts": [
            {"treatment": "semantic", "control": "augmented", "may_differ": ["pairs.arm"], "primary": True}
        ],
        "seeds": [0, 1, 2],
        "tasks": list(TASKS),
    }
    return StudyRecipe.model_validate(data | changes)


def synthetic_plan(study: StudyRecipe) -> Plan:
    """A plan whose recipes hold only what the study itself reads."""
    cells = []
    for seed in study.seeds:
        for method in study.methods:
            cells += [_cell("train", cell_id(method, arm, seed), method, arm, seed) for arm in study.arms]
        first, control = next(iter(study.methods)), study.contrasts[0].control
        cells.append(_cell("reference", f"random-init_seed{seed}", first, control, seed))
    tasks = [PlannedTask(name=t, protocol="linear", metric="accuracy") for t in study.tasks]
    differences = {
        contrast.name: {m: {"pairs.arm": (contrast.treatment, contrast.control)} for m in study.methods}
        for contrast in study.contrasts
    }
    return Plan(study=study, tasks=tuple(tasks), cells=tuple(cells), differences=differences)


def _cell(kind: Any, identity: str, method: str, arm: str, seed: int) -> Cell:
    recipe = {
        "seed": seed,
        "pairs": {"arm": arm, "relation": "cross_domain", "mode": "redrawn"},
        "encoder": {"arch": "tiny-resnet"},
        "views": {"size": 32, "recipe": "lab", "mean": [0.5] * 3, "std": [0.25] * 3},
        "method": {"name": method},
        "batch_size": 256,
    }
    return Cell(
        id=identity,
        kind=kind,
        method=method,
        arm=arm,
        seed=seed,
        recipe=recipe,
        hash=stable_hash([kind, recipe]),
    )


def results(scores: Mapping[str, float], cell: Cell, settings: str) -> list[Result]:
    """One primary row a task from points, and a second protocol beside it."""
    rows = []
    extra: dict[str, Any] = {"encoder": weights(cell), "code": CODE}
    extra |= {"data": "da7a", "leakage": ["file_hash", "split_group"], "fit_seen_in_pretraining": 812}
    for task, points in scores.items():
        for protocol, shift in (("linear", 0.0), ("knn-20-0.07", -0.02)):
            primary = protocol == "linear"
            value = points / 100 + shift
            # Ten concepts of ten images, some easier than others, that average to the value.
            shares = value + np.linspace(-0.1, 0.1, 10)
            extra["groups"] = [[10 * share, 10] for share in shares]
            rows.append(
                Result(
                    cell.id,
                    task,
                    protocol,
                    "accuracy",
                    value,
                    1797,
                    settings,
                    "last epoch",
                    primary,
                    dict(extra),
                )
            )
    return rows


CODE = "c0de" * 16
MACHINE = {
    "versions": {"python": "3.11.9", "torch": "2.15.0", "timm": "1.0.31", "sempairs": "0.1.0"},
    "hardware": {"cpu": "a processor", "cores": 2, "device": "cpu", "system": "Linux x86_64"},
    "threads": 1,
    "processes": 1,
    "code": {
        "package_sha256": CODE, "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False,
        "difference_sha256": None,
    },
}  # fmt: skip


def session(**changes: Any) -> dict[str, Any]:
    """A session of training or scoring; changes: of its machine."""
    return MACHINE | {"started": 1.7e9, "from_step": 0, "host": "here", "pid": 7} | changes


def weights(cell: Cell) -> str:
    """Of the encoder that a cell scores; untrained: those that its runs began with."""
    return stable_hash(["w", cell.seed] if cell.kind == "reference" else ["trained", cell.id])


def provenance(cell: Cell) -> dict[str, Any]:
    """What a run's provenance.json holds."""
    shared = stable_hash(["anchors", cell.seed])
    return cell.recipe | {
        "format": 2,
        "pairs": cell.recipe["pairs"]
        | {
            "manifest_hash": stable_hash([cell.arm]),
            "anchor_hash": shared,
            "semantic_hash": stable_hash(["semantic"]),
            "per_epoch": 8192,
            "images": 8192,
            "class_histogram": {"animals/mammal": 700, "food/fruit": 120},
        },
        "data": {"catalog_hash": "da7a", "training_images": 8192, "pixels": "files"},
        "optimiser": {"peak_lr": 0.3},
        "schedule": {"steps": 160, "steps_per_epoch": 32, "warm_up_steps": 0},
        "images_shown": 81920,
        "crops_per_pair": 2,
        "initial_weights": {
            "encoder": stable_hash(["w", cell.seed]),
            "method": stable_hash(["m", cell.seed]),
        },
        **MACHINE,
        "sessions": [session()],
    }


def write_study(
    out: Path,
    study: StudyRecipe,
    gain: Callable[[str, str, int, str], float],
    *,
    broken: Mapping[str, str] | None = None,
    waiting: Collection[str] = (),
    settings: Mapping[str, str] | None = None,
    tamper: Callable[[Cell, dict[str, Any]], dict[str, Any]] | None = None,
) -> Plan:
    """A study folder. gain(method, arm, seed, task): points above the control's level.

    broken: error by cell id. waiting: ids of cells that have not begun. settings: hashes of the settings of
    scoring, by cell id. tamper: changes what a run records of itself before it is sealed, the machine of its
    last session with it.
    """
    plan = synthetic_plan(study)
    freeze(plan, out)
    tasks = {name: CONTROL.get(name, 50.0) for name in study.tasks}
    for cell in plan.cells:
        if cell.id in waiting:
            continue
        folder = cell_folder(out, cell)
        folder.mkdir(parents=True)
        if broken and cell.id in broken:
            write_outcome(out, cell, Outcome("broken", broken[cell.id], 12.0, hash=cell.hash))
            continue
        noise = np.random.default_rng([cell.seed, 7]).normal(0, 0.8, len(tasks))
        if cell.kind == "reference":
            scores = {t: FLOOR.get(t, 20.0) + e for t, e in zip(tasks, noise, strict=True)}
        else:
            scores = {
                t: level + e + gain(cell.method, cell.arm, cell.seed, t)
                for (t, level), e in zip(tasks.items(), noise, strict=True)
            }
            record = provenance(cell)
            record = tamper(cell, record) if tamper else record
            record["sessions"][-1] |= {name: record[name] for name in MACHINE}
            for one in record["sessions"]:
                ledger.append(out, "session", one, cell=cell.id)
            write_json(folder / "provenance.json", record)
            _metrics(folder / "metrics.jsonl", cell)
            files = {name: sha256_file(folder / name) for name in ("provenance.json", "metrics.jsonl")}
            write_json(folder / "finished.json", {"weight_hash": weights(cell), "files": files})
        append_results(folder / "results.jsonl", results(scores, cell, (settings or {}).get(cell.id, "5e77")))
        seal_cell(out, cell, Session.model_validate(session()), 84.0)
        write_outcome(out, cell, Outcome("finished", "", 84.0, hash=cell.hash))
    _examples(out / "examples", plan)
    seal_pictures(out, "examples")
    return plan


def _metrics(path: Path, cell: Cell) -> None:
    better = cell.arm != "augmented"
    rng = np.random.default_rng([cell.seed, better])
    lines: list[dict[str, Any]] = []
    for step in range(0, 161, 10):
        if step % 32 < 10:
            knn = 0.12 + (0.14 if better else 0.11) * (1 - np.exp(-step / 60)) + rng.normal(0, 0.004)
            std = 0.75 + 0.15 * (1 - np.exp(-step / 30)) + rng.normal(0, 0.01)
            lines.append(
                {
                    "kind": "probe",
                    "step": step,
                    "epoch": step / 32,
                    "knn": knn,
                    "feature_std": std,
                    "rankme": 90.0,
                }
            )
        if step:
            loss = (3.4 if better else 2.6) + 2.5 * np.exp(-step / 50) + rng.normal(0, 0.04)
            levels = {"loss_chance": 5.54, "loss_collapse": 5.54}
            lines.append({"kind": "train", "step": step, "epoch": step / 32, "loss": loss, **levels})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _examples(folder: Path, plan: Plan) -> None:
    folder.mkdir()
    arms = []
    for arm in (plan.primary.control, plan.primary.treatment):
        rows = []
        for i in range(6):
            row = {}
            for role in ("anchor", "partner", "anchor view", "partner view"):
                other = arm == "semantic" and role.startswith("partner")
                side = 32 if "view" in role else 112
                picture = Image.new("RGB", (side, side), "white")
                draw = ImageDraw.Draw(picture)
                colour = f"hsl({(i * 60 + 25 * other) % 360}, {50 if other else 85}%, 55%)"
                box = [side // 8, side // 8, side * 7 // 8, side * 7 // 8]
                if other:
                    draw.rounded_rectangle(box, side // 6, fill=colour)
                else:
                    draw.ellipse(box, fill=colour)
                file = f"{arm}-{i}-{role.replace(' ', '-')}.png"
                picture.save(folder / file)
                row[role] = {"file": file, "text": f"shape {i} ({'square' if other else 'round'})"}
            rows.append(row)
        arms.append({"arm": arm, "rows": rows})
    write_json(folder / "index.json", {"method": "simclr", "seed": 0, "arms": arms})


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., tuple[Path, Plan]]:
    """make_study(gain, seeds=..., ...) -> (folder, plan)."""

    def make(
        gain: Callable[[str, str, int, str], float],
        *,
        seeds: Sequence[int] = (0, 1, 2),
        broken: Mapping[str, str] | None = None,
        waiting: Collection[str] = (),
        settings: Mapping[str, str] | None = None,
        tamper: Callable[[Cell, dict[str, Any]], dict[str, Any]] | None = None,
        **changes: Any,
    ) -> tuple[Path, Plan]:
        out = tmp_path / "study"
        study = study_recipe(seeds=list(seeds), **changes)
        return out, write_study(
            out, study, gain, broken=broken, waiting=waiting, settings=settings, tamper=tamper
        )

    return make


CONCEPTS, DOMAINS = 24, ("line", "fill", "dark")


def toy_list(folder: Path) -> Path:
    """A CSV of drawings: 24 concepts in four categories, each drawn by three designers, split by concept."""
    folder.mkdir(parents=True)
    lines = ["path,category,concept,domain,split,split_group"]
    for concept in range(CONCEPTS):
        category = ("round", "square")[concept % 2] + ("/warm", "/cold")[concept // 2 % 2]
        split = ("train", "train", "train", "train", "validation", "test")[concept // 4]
        for number, domain in enumerate(DOMAINS):
            picture = _drawing(concept, number)
            name = f"{concept:02d}-{domain}.png"
            picture.save(folder / name)
            lines.append(f"{name},{category},c{concept},{domain},{split},c{concept}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def _drawing(concept: int, domain: int) -> Image.Image:
    paper, ink = ("white", "black") if domain < 2 else ("#222", "white")
    picture = Image.new("RGB", (24, 24), paper)
    draw = ImageDraw.Draw(picture)
    hue = (0, 30, 200, 230)[concept // 2 % 2 * 2 + concept % 2] + concept
    fill = None if domain == 0 else f"hsl({hue}, 80%, 55%)"
    box = [3 + concept % 3, 3, 20, 20 - concept % 4]
    if concept % 2:
        draw.rectangle(box, fill=fill, outline=ink)
    else:
        draw.ellipse(box, fill=fill, outline=ink)
    for bit in range(5):  # its number, so that no two drawings are the same picture
        if concept >> bit & 1:
            draw.rectangle([4 * bit, 22, 4 * bit + 2, 23], fill=ink)
    return picture


def toy_study(source: str, **changes: Any) -> dict[str, Any]:
    """A study recipe that trains for real, in seconds: 16 px, 12 steps."""
    return {
        "name": "toy",
        "question": "Does the pipeline hold?",
        "base": {
            "data": {"source": source, "store_size": 16},
            "pairs": {"relation": "cross_domain", "mode": "redrawn"},
            "views": {"recipe": "lab", "size": 16},
            "encoder": {"arch": "tiny-resnet"},
            "method": {"name": "simclr"},
            "optimiser": {"name": "adamw", "lr": 0.002},
            "schedule": {"duration": "12 steps"},
            "batch_size": 16,
            "monitor": {"log_every": 2, "every": "6 steps", "tensorboard": False},
            "checkpoint": {"every": "2 steps"},
        },
        "methods": {"simclr": {"method": {"name": "simclr"}}},
        "arms": {"augmented": {"pairs.arm": "augmented"}, "semantic": {"pairs.arm": "semantic"}},
        "contrasts": [
            {"treatment": "semantic", "control": "augmented", "may_differ": ["pairs.arm"], "primary": True}
        ],
        "seeds": [0],
        "tasks": [source],
        "evaluation": {"lambdas": 3, "knn": ["knn-20-0.07"]},
        "health_margin": 0.0,
    } | changes
