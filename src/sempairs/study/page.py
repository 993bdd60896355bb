"""The report's page: everything it shows, laid out for the template `templates/report.html`.

It is made of what was gathered, and checked, alone; only figures made by `figures` go in as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from sempairs import pages
from sempairs.study.analysis import FLOOR, Finding, Findings
from sempairs.study.certificate import PairCheck, flatten, shown
from sempairs.study.figures import Curve, GainRow, Heading, curves, gains
from sempairs.study.plan import Plan
from sempairs.study.verdict import concepts_text, p_text, points

if TYPE_CHECKING:
    from sempairs.evaluation.records import Result
    from sempairs.study.gathered import Gallery, Gathered

BADGES = {
    "gain": "Gain",
    "loss": "Loss",
    "too few seeds": "No claim: too few seeds",
    "no claim": "No claim",
    "withheld": "Withheld",
    "no data": "No result",
}
PANELS = (
    ("train", "loss", 1.0, "Training loss"),
    ("probe", "knn", 100.0, "kNN accuracy on validation, %"),
    ("probe", "feature_std", 1.0, "Feature spread (0: collapsed)"),
)
# Facts of the provenance a reader looks for first; all others are listed below them.
KEY_FACTS = (
    ("pairs.arm", "Pairs"),
    ("pairs.relation", "Relation"),
    ("pairs.mode", "Mode"),
    ("pairs.per_epoch", "Pairs per epoch"),
    ("schedule.steps", "Optimiser steps"),
    ("objective.name", "Objective"),
    ("crops_per_pair", "Crops of a pair"),
    ("images_shown", "Pictures shown"),
    ("pairs.images", "Different images"),
    ("pairs.anchor_hash", "Anchors"),
    ("pairs.class_histogram", "Classes of the anchors"),
    ("pairs.manifest_hash", "Pair manifest"),
    ("pairs.mining.encoder", "Pairs mined by"),
    ("initial_weights.encoder", "Initial weights"),
)


def render(gathered: Gathered) -> str:
    """The page as HTML."""
    return pages.render(
        "sempairs.study",
        "report.html",
        context(gathered),
        filters={"points": points, "p": p_text},
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def context(gathered: Gathered) -> dict[str, Any]:
    """All that the template reads."""
    plan, findings = gathered.plan, gathered.findings
    primary = findings.primary
    arms = _arms(plan)
    return {
        "plan": plan,
        "study": plan.study,
        "primary": primary,
        "badge": BADGES[primary.verdict.kind],
        "levels": _levels(findings),
        "floor": FLOOR,
        "caveats": _caveats(gathered),
        "arms": arms,
        "gains": [_gains(findings, finding, i) for i, finding in enumerate(_primary_first(findings))],
        "scores": _scores(findings, arms),
        "same_start": _same_start(gathered),
        "concepts_note": _concepts_note(findings),
        "examples": _examples(gathered),
        "sights": _sights(gathered),
        "curves": _curves(gathered, arms),
        "seal": gathered.seal,
        "alike": _alike(plan),
        "plan_sha256": gathered.plan_sha256,
        "certificates": [_certificate(gathered, finding) for finding in _primary_first(findings)],
        "health": findings.health,
        "cells": [(cell, gathered.outcomes[cell.id]) for cell in plan.cells],
        "protocols": _protocols(gathered),
        "overlap": _overlap(gathered),
        "numbers": _all_numbers(gathered, arms),
        "environment": _environment(gathered),
        "recipe": yaml.safe_dump(plan.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "hours": _duration(sum(outcome.seconds for outcome in gathered.outcomes.values())),
    }


def _arms(plan: Plan) -> list[str]:
    """Treatment and control of the primary contrast first: their place decides colour and dash."""
    first = [plan.primary.treatment, plan.primary.control]
    return first + [arm for arm in plan.arms if arm not in first]


def _primary_first(findings: Findings) -> list[Finding]:
    return sorted(findings.contrasts, key=lambda finding: not finding.contrast.primary)


def _caveats(gathered: Gathered) -> list[str]:
    """What a careful reader should hold against the answer."""
    findings = gathered.findings
    said = list(findings.primary.verdict.caveats)
    if findings.primary.overall:
        said.append(
            "The interval is over seeds of training. It does not cover which concepts were tested (the table "
            "of gains does), nor other data, encoders or longer training."
        )
    said += [f"{h.method} does not count in the mean: {h.reason}." for h in findings.health if not h.healthy]
    said += [f"Left out: {reason}." for reason in findings.primary.dropped]
    said += gathered.seal.notes
    unfinished = sum(outcome.state != "finished" for outcome in gathered.outcomes.values())
    if unfinished:
        said.append(f"{unfinished} of {len(gathered.outcomes)} cells are not finished; see “Cells” below.")
    return said


def _gains(findings: Findings, finding: Finding, index: int) -> dict[str, Any]:
    """The gains figure of a contrast, wide and narrow, and its table."""
    rows = _gain_rows(findings, finding)
    drawn = {
        form: gains(
            rows,
            equivalence=findings.plan.study.equivalence,
            name=f"gains{index}{form}",
            title=f"Gains of {finding.contrast.name} with intervals; the table below has the numbers",
            x_label=f"{finding.contrast.name}, in points",
            narrow=form == "narrow",
        )
        for form in ("wide", "narrow")
        if rows
    }
    grouped = any(isinstance(row, Heading) for row in rows)
    return {"finding": finding, "rows": rows, "grouped": grouped, **drawn}


def _levels(findings: Findings) -> dict[str, float]:
    """What the primary gain is the difference of, and random weights beside it: mean scores, by arm, over the
    methods, tasks and seeds that count; {} where there is no gain."""
    primary = findings.primary
    if primary.overall is None:
        return {}
    arms = {FLOOR: FLOOR, "control": primary.contrast.control, "treatment": primary.contrast.treatment}
    found = {}
    for name, arm in arms.items():
        keys = [
            (gain.method, arm, task.name, seed)
            for gain in primary.methods
            for task in findings.plan.tasks
            for seed in primary.seeds
        ]
        if all(key in findings.scores for key in keys):
            found[name] = float(np.mean([findings.scores[key] for key in keys]))
    return found


def _gain_rows(findings: Findings, finding: Finding) -> list[GainRow | Heading]:
    """Tasks below their method where there are several, each method's mean, and last the mean of all."""
    several = len(findings.plan.methods) > 1
    labels = {task.name: task.label for task in findings.plan.tasks}
    means = {gain.method: gain.comparison for gain in finding.methods}
    rows: list[GainRow | Heading] = []
    for method in findings.plan.methods:
        taken = [gain for gain in finding.tasks if gain.method == method]
        counts = "" if method in means or not means else " (not in the mean)"
        if several and taken:
            rows.append(Heading(method + counts))
        rows += [GainRow(labels[gain.task], gain.comparison, concepts=gain.concepts) for gain in taken]
        if several and method in means and len(taken) > 1:
            rows.append(GainRow(f"mean of {len(taken)} tasks", means[method], kind="mean"))
    if finding.overall:
        label = f"Mean of {len(means)} methods" if len(means) > 1 else "Mean"
        label += ": the primary test" if finding.contrast.primary else ""
        rows.append(GainRow(label, finding.overall, kind="overall"))
    return rows


def _scores(findings: Findings, arms: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "task": task.label,
            "cells": [_score(findings.values(method, arm, task.name)) for arm in (FLOOR, *reversed(arms))],
        }
        for method in findings.plan.methods
        for task in findings.plan.tasks
    ]


def _score(values: Sequence[float]) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": float(np.mean(values)) if values else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _same_start(gathered: Gathered) -> bool:
    """Whether every compared pair of runs of the primary contrast began with the same weights and anchors."""
    contrast = gathered.findings.primary.contrast.name
    checks = [check for check in gathered.checks if check.contrast == contrast]
    wanted = {"initial_weights.encoder", "initial_weights.method", "pairs.anchor_hash"}
    return bool(checks) and all(wanted <= set(check.matched) for check in checks)


def _alike(plan: Plan) -> list[str]:
    """What the seal holds all cells to: all that neither the study nor a contrast lets differ."""
    words = {
        "code": "by one code",
        "hardware": "on one kind of machine",
        "versions": "with one set of versions",
    }
    free = {
        *plan.study.may_vary,
        *(name for contrast in plan.study.contrasts for name in contrast.may_differ),
    }
    return [word for fact, word in words.items() if not any(name.split(".")[0] == fact for name in free)]


def _concepts_note(findings: Findings) -> str:
    """How far the intervals over concepts can be trusted; "" where there are none."""
    groups = [g.groups for finding in findings.contrasts for g in finding.tasks if g.concepts]
    return concepts_text(min(groups)) if groups else ""


def _overlap(gathered: Gathered) -> list[str]:
    """By what every scored image was compared with those of pretraining, in all rows of trained encoders."""
    plan = gathered.plan
    rows = [row for cell in plan.cells if cell.kind == "train" for row in gathered.rows.get(cell.id, [])]
    compared = [row.extra.get("leakage") for row in rows]
    if not compared or not all(isinstance(keys, list) for keys in compared):
        return []
    words = {"file_hash": "file", "pixel_hash": "picture", "split_group": "concept group"}
    return [word for key, word in words.items() if all(key in keys for keys in compared if keys is not None)]


def _examples(gathered: Gathered) -> dict[str, Any] | None:
    gallery = gathered.galleries.get("examples")
    if gallery is None:
        return None
    arms = [
        {
            "arm": arm["arm"],
            "rows": [
                {role: {**picture, "src": _source(gallery, picture["file"])} for role, picture in row.items()}
                for row in arm["rows"]
            ],
        }
        for arm in gallery.index["arms"]
    ]
    return {**gallery.index, "arms": arms}


def _sights(gathered: Gathered) -> dict[str, Any] | None:
    gallery = gathered.galleries.get("sights")
    if gallery is None:
        return None
    arms = [
        {"arm": arm, **{kind: _source(gallery, f"{arm}-{kind}.webp") for kind in ("neighbours", "map")}}
        for arm in gallery.index["arms"]
    ]
    return {**gallery.index, "arms": arms}


def _source(gallery: Gallery, name: str) -> str:
    return pages.data_uri(gallery.files[name], name.rpartition(".")[2])


def _curves(gathered: Gathered, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Panels of learning curves for each method."""
    plan = gathered.plan
    found = []
    for method in plan.methods:
        panels = []
        for kind, key, scale, title in PANELS:
            lines: list[Curve] = []
            levels: dict[str, float] = {}
            for cell in (c for c in plan.cells if c.kind == "train" and c.method == method):
                taken = [m for m in gathered.metrics.get(cell.id, []) if m["kind"] == kind]
                values = [(m.get("epoch", m["step"]), m[key]) for m in taken if m.get(key) is not None]
                for words in ("chance", "collapse"):
                    if taken and taken[-1].get(f"{key}_{words}") is not None:
                        levels[words] = float(taken[-1][f"{key}_{words}"])
                if values:
                    lines.append(Curve(arms.index(cell.arm), *zip(*values, strict=True)))
            if lines:
                # Controls first, so that the treatment's lines lie on top.
                lines.sort(key=lambda line: -line.arm)
                svg = curves(
                    lines, name=f"{method}-{key}", title=f"{title}, {method}", x_label="epoch", scale=scale,
                    levels=levels,
                )  # fmt: skip
                panels.append({"title": title, "svg": svg, "levels": _levels_text(levels, scale)})
        if panels:
            found.append({"method": method, "panels": panels})
    return found


def _levels_text(levels: Mapping[str, float], scale: float) -> str:
    """ "chance 5.54, collapse 0.00"; in words too, as a level far from the curves is not drawn."""
    return ", ".join(f"{words} {scale * value:.2f}" for words, value in levels.items())


def _certificate(gathered: Gathered, finding: Finding) -> dict[str, Any]:
    """What was matched in a contrast and what differed, over its methods and seeds."""
    contrast = finding.contrast
    checks = [check for check in gathered.checks if check.contrast == contrast.name]
    return {
        "contrast": contrast,
        "checks": len(checks),
        "holds": bool(checks) and not finding.withheld,
        "facts": _key_facts(gathered, checks[0]) if checks else [],
        "matched": sorted(set.intersection(*(set(check.matched) for check in checks))) if checks else [],
        "allowed": _union(check.allowed for check in checks),
        "undeclared": finding.withheld,
    }


def _key_facts(gathered: Gathered, check: PairCheck) -> list[dict[str, Any]]:
    plan = gathered.plan
    contrast = next(c for c in plan.study.contrasts if c.name == check.contrast)
    ours, theirs = (
        gathered.seal.provenance[plan.find(check.method, arm, check.seed).id].comparable()
        for arm in (contrast.treatment, contrast.control)
    )
    facts = []
    for field, label in KEY_FACTS:
        left, right = _at(ours, field), _at(theirs, field)
        if (left, right) != (None, None):
            facts.append(
                {"label": label, "treatment": _fact(left), "control": _fact(right), "same": left == right}
            )
    return facts


def _at(record: dict[str, Any], field: str) -> Any:
    value: Any = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return f"{len(value)} classes, {sum(value.values()):,} anchors"
    if isinstance(value, str) and len(value) == 64:
        return value[:12] + "…"
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else shown(value)


def _union(differences: Iterable[dict[str, tuple[Any, Any]]]) -> list[tuple[str, str, str]]:
    """Each field that differed, with the values of the first pair of runs in which it did."""
    found: dict[str, tuple[Any, Any]] = {}
    for each in differences:
        found = each | found
    return [(field, _fact(a), _fact(b)) for field, (a, b) in sorted(found.items())]


def _protocols(gathered: Gathered) -> list[dict[str, Any]]:
    found = []
    for task in gathered.plan.tasks:
        trained = [gathered.rows.get(cell.id, []) for cell in gathered.plan.cells if cell.kind == "train"]
        rows = [r for results in trained for r in results if r.primary and r.task == task.name]
        found.append(
            {
                "task": task,
                "n": " or ".join(f"{n:,}" for n in sorted({r.n for r in rows})) or "–",
                "selection": "; ".join(sorted({r.selection for r in rows})) or "–",
                "settings": ", ".join(sorted({r.settings_hash[:12] for r in rows})) or "–",
                "leakage": _leakage(rows),
            }
        )
    return found


def _leakage(rows: Sequence[Result]) -> str:
    """What the scored images were compared by with the images of pretraining, and what fitting shared."""
    trained = [r.extra for r in rows if isinstance(r.extra.get("leakage"), list)]
    if not trained:
        return "–"
    compared = sorted({key for extra in trained for key in extra["leakage"]})
    shared = max(extra.get("fit_seen_in_pretraining", 0) for extra in trained)
    return f"none by {', '.join(compared)}" + (
        f"; {shared:,} fitting images are pretraining's" if shared else ""
    )


def _all_numbers(gathered: Gathered, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Every number measured, primary or not: mean over seeds, in points."""
    plan = gathered.plan
    values: dict[tuple[str, str, str, str, str], list[float]] = {}
    for cell in plan.cells:
        for r in gathered.rows.get(cell.id, []):
            arm = FLOOR if cell.kind == "reference" else cell.arm
            values.setdefault((cell.method, r.task, r.protocol, r.metric, arm), []).append(100 * r.value)
    keys = dict.fromkeys(key[:4] for key in values)
    return [
        {"key": key, "cells": [_score(values.get((*key, arm), [])) for arm in (FLOOR, *reversed(arms))]}
        for key in sorted(keys)
    ]


def _environment(gathered: Gathered) -> list[tuple[str, str]]:
    """Commit, versions, hardware, precision of the first finished run; the seal says if others differ."""
    for cell in gathered.plan.cells:
        if cell.id in gathered.seal.provenance:
            record = gathered.seal.provenance[cell.id]
            machine = record.sessions[-1].model_dump(mode="json")
            parts: dict[str, Any] = {key: machine[key] for key in ("code", "hardware", "threads", "versions")}
            scored = gathered.plan.study.evaluation.precision
            trained = record.recipe.get("speed", {}).get("precision")
            parts["precision"] = {"training": trained, "scoring": scored}
            return [
                (key.replace("_", " "), "–" if v is None else str(v)) for key, v in flatten(parts).items()
            ]
    return []


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
