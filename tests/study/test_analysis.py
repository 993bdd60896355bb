"""From results on disk to findings: pairing by seed, health, what is dropped, what is withheld."""

from __future__ import annotations

import numpy as np
import pytest

from sempairs.study.analysis import FLOOR
from sempairs.study.certificate import PairCheck
from sempairs.study.gathered import gather

from .conftest import TASKS

GAIN = {"emoji-subgroup": 2.0, "emoji-subgroup-held-out": 1.0, "emoji-retrieval": 9.0, "digits": -0.5}


def gain(method, arm, seed, task):
    return 0.0 if arm == "augmented" else GAIN[task] + 0.1 * seed


def test_gains_are_paired_by_seed(make_study):
    out, _ = make_study(gain, seeds=range(6))
    findings = gather(out).findings
    primary = findings.primary
    assert primary.seeds == tuple(range(6))
    assert primary.overall.differences == pytest.approx(
        [np.mean(list(GAIN.values())) + 0.1 * s for s in range(6)]
    )
    by_task = {g.task: g.comparison.mean for g in primary.tasks}
    assert by_task == pytest.approx({t: g + 0.25 for t, g in GAIN.items()})
    assert primary.verdict.kind == "gain"
    assert primary.across.improvement == pytest.approx(18.5 / 24)  # digits: five losses and a tie
    assert findings.scores["simclr", FLOOR, "digits", 0] < findings.scores["simclr", "augmented", "digits", 0]


def test_noise_that_both_arms_share_cancels(make_study):
    """Seeds differ by about a point; the gains of one task do not differ at all."""
    out, _ = make_study(lambda m, a, s, t: 0.0 if a == "augmented" else 1.0)
    findings = gather(out).findings
    assert np.std(findings.values("simclr", "augmented", "digits")) > 0.2
    assert findings.primary.overall.sd == pytest.approx(0, abs=1e-9)


def test_a_broken_cell_drops_its_seed_and_says_so(make_study):
    out, _ = make_study(gain, seeds=range(7), broken={"simclr_semantic_seed3": "boom"})
    gathered = gather(out)
    primary = gathered.findings.primary
    assert primary.seeds == (0, 1, 2, 4, 5, 6)
    assert len(primary.dropped) == 1
    assert primary.dropped[0].startswith("seed 3: ")
    assert gathered.broken == ("simclr_semantic_seed3: boom",)


def test_a_method_below_the_margin_is_left_out_of_the_mean(make_study):
    def collapsed(method, arm, seed, task):
        return (-40.0 if method == "byol" else 0.0) + (2.0 if arm == "semantic" else 0.0)

    out, _ = make_study(collapsed, seeds=range(6), methods={"simclr": {}, "byol": {}})
    findings = gather(out).findings
    assert [(h.method, h.healthy) for h in findings.health] == [("simclr", True), ("byol", False)]
    assert "below random weights" in findings.health[1].reason
    assert [m.method for m in findings.primary.methods] == ["simclr"]
    assert findings.primary.overall.mean == pytest.approx(2.0)
    # It is still described.
    assert {g.method for g in findings.primary.tasks} == {"simclr", "byol"}


def test_the_mean_is_over_methods_and_tasks_alike(make_study):
    def two(method, arm, seed, task):
        return 0.0 if arm == "augmented" else {"simclr": 3.0, "byol": 1.0}[method] * (task == "digits")

    out, _ = make_study(two, seeds=range(6), methods={"simclr": {}, "byol": {}})
    primary = gather(out).findings.primary
    assert primary.overall.mean == pytest.approx((3.0 + 1.0) / 2 / len(TASKS))
    assert [m.adjusted_p for m in primary.methods] == pytest.approx(
        [2 * m.comparison.p for m in primary.methods]
    )


def test_no_floor_no_health(make_study):
    broken = {f"random-init_seed{s}": "boom" for s in range(3)}
    out, _ = make_study(gain, broken=broken)
    findings = gather(out).findings
    assert findings.primary.verdict.kind == "no data"
    assert findings.health[0].lead is None


def test_an_undeclared_difference_withholds_the_contrast(make_study):
    def other_threads(cell, record):
        return record | {"threads": 4} if cell.id == "simclr_semantic_seed2" else record

    out, _ = make_study(gain, tamper=other_threads)
    primary = gather(out).findings.primary
    assert primary.verdict.kind == "withheld"
    assert primary.overall is None
    assert primary.tasks == ()
    assert primary.withheld == (
        "simclr_semantic_seed2: training: threads is 4, elsewhere in the study 1",
        "simclr, seed 2: threads (4 against 1)",
    )


def test_other_scoring_settings_withhold_too(make_study):
    out, _ = make_study(gain, settings={"simclr_semantic_seed0": "0ther"})
    checks = gather(out).checks
    assert isinstance(checks[0], PairCheck)
    assert set(checks[0].undeclared) == {f"scored.{task}.settings" for task in TASKS}


def test_a_study_that_has_not_begun(make_study):
    out, _ = make_study(
        gain, seeds=[0], waiting=["simclr_augmented_seed0", "simclr_semantic_seed0", "random-init_seed0"]
    )
    gathered = gather(out)
    assert gathered.findings.primary.verdict.kind == "no data"
    assert {o.state for o in gathered.outcomes.values()} == {"waiting"}


def test_the_choice_of_concepts_has_an_interval_of_its_own(make_study):
    """Each concept gains as much as every other: redrawing concepts changes nothing, redrawing seeds does."""
    out, _ = make_study(gain, seeds=range(4))
    one = next(g for g in gather(out).findings.primary.tasks if g.task == "digits")
    assert (one.concepts.low, one.concepts.high) == pytest.approx((one.comparison.mean, one.comparison.mean))
    assert one.comparison.t.high - one.comparison.t.low > 0.2
