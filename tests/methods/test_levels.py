"""Chance and collapse of each method's loss: what its own loss gives for such rows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sempairs.methods import METHODS, Method, build_method
from sempairs.methods.barlow_twins import barlow_terms
from sempairs.methods.byol import byol_loss
from sempairs.methods.dcl import dcl_loss
from sempairs.methods.leoclr import leoclr_loss
from sempairs.methods.moco_v2 import moco_loss
from sempairs.methods.moco_v3 import moco_v3_loss
from sempairs.methods.msf import mean_shift
from sempairs.methods.multicrop import code_loss
from sempairs.methods.nnclr import nnclr_loss
from sempairs.methods.objectives.joint import JointObjective
from sempairs.methods.objectives.several import SeveralObjective
from sempairs.methods.rince import rince_loss
from sempairs.methods.sepp_id import sepp_id_loss
from sempairs.methods.simclr import nt_xent, several_nt_xent
from sempairs.methods.simsiam import negative_cosine
from sempairs.methods.supcon import supcon_loss
from sempairs.methods.supervised import cross_entropy
from sempairs.methods.vicreg import vicreg_terms

PAIRS, WIDTH, QUEUE = 6, 64, 9
EVERY = torch.ones(QUEUE, dtype=torch.bool)


def vicreg(left: Tensor, right: Tensor) -> Tensor:
    terms = vicreg_terms(left, right)
    return 25 * terms.invariance + 25 * terms.variance + terms.covariance


def barlow(left: Tensor, right: Tensor) -> Tensor:
    terms = barlow_terms(left, right)
    return terms.on_diagonal + 0.0051 * terms.off_diagonal


def of_codes(left: Tensor, right: Tensor, queue: Tensor) -> Tensor:
    """Codes as they come, of predictions that favour nothing."""
    return code_loss(torch.stack([left, right]).softmax(-1), torch.zeros(2, PAIRS, WIDTH, dtype=left.dtype))


LOSSES: dict[str, Any] = {
    "simclr": lambda a, b, q: nt_xent(a, b, temperature=0.2),
    "dcl": lambda a, b, q: dcl_loss(a, b, temperature=0.2),
    "rince": lambda a, b, q: rince_loss(a, b, temperature=0.2, q=0.1, lam=0.01),
    "moco_v2": lambda a, b, q: moco_loss(a, b, q, temperature=0.2),
    "leoclr": lambda a, b, q: leoclr_loss(a, (b, b), q, temperature=0.2),
    "sepp_id": lambda a, b, q: sepp_id_loss(
        a, b, b, q, distinct=torch.ones(PAIRS, dtype=torch.bool), temperature=0.2
    ),
    "moco_v3": lambda a, b, q: moco_v3_loss(a, b, temperature=0.2) + moco_v3_loss(b, a, temperature=0.2),
    "nnclr": lambda a, b, q: nnclr_loss(a, b, temperature=0.2),
    "byol": lambda a, b, q: byol_loss(a, b) + byol_loss(b, a),
    "simsiam": lambda a, b, q: negative_cosine(a, b),
    "msf": lambda a, b, q: mean_shift(a, b, q, filled=EVERY, neighbours=3).loss,
    "supcon": lambda a, b, q: supcon_loss(
        a, b, torch.arange(PAIRS) % 3, temperature=0.2, base_temperature=0.2
    ),
    "supervised": lambda a, b, q: cross_entropy(torch.zeros(PAIRS, 4), torch.arange(PAIRS) % 4),
    "swav": of_codes,
    "dino": of_codes,
    "barlow_twins": lambda a, b, q: barlow(a, b),
    "vicreg": lambda a, b, q: vicreg(a, b),
}
SIZES = {"queue": QUEUE, "out": WIDTH, "prototypes": WIDTH, "hidden": 8, "predictor_hidden": 8, "layers": 1}


def build(name: str, encoder: Any, objective: Any = None) -> Method:
    kind = METHODS.get(name).Config
    settings = {key: value for key, value in SIZES.items() if key in kind.model_fields}
    if name == "msf":
        settings["neighbours"] = 3
    return build_method(kind(**settings), encoder, 6, seed=0, meanings=4, objective=objective)


@pytest.mark.parametrize("name", METHODS.names())
def test_collapse_is_the_loss_of_rows_that_are_all_one(name, encoder) -> None:
    rows = torch.ones(PAIRS, WIDTH, dtype=torch.float64) / math.sqrt(WIDTH)
    found = LOSSES[name](rows, rows, rows[:1].expand(QUEUE, -1))
    levels = build(name, encoder).levels(PAIRS)
    assert levels is not None
    assert levels.collapse == pytest.approx(float(found), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - {"barlow_twins", "vicreg"}))
def test_chance_is_the_loss_of_views_that_have_nothing_in_common(name, encoder) -> None:
    """All directions at right angles: no candidate is nearer than another."""
    every = torch.eye(WIDTH, dtype=torch.float64)
    left, right, queue = every[:PAIRS], every[PAIRS : 2 * PAIRS], every[-QUEUE:]
    levels = build(name, encoder).levels(PAIRS)
    assert levels is not None
    assert levels.chance == pytest.approx(float(LOSSES[name](left, right, queue)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_chance_is_the_mean_loss_of_unrelated_views(name, encoder) -> None:
    """Rows from a normal distribution; for VICReg of many pairs, as small batches vary less than 1."""
    pairs = 300
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(20, 2, pairs, WIDTH, generator=generator, dtype=torch.float64)
    found = torch.stack([LOSSES[name](left, right, None) for left, right in draws]).mean()
    levels = build(name, encoder).levels(pairs)
    assert levels is not None
    # VICReg's variance term is a little above 0, half of the columns varying by less than 1.
    assert levels.chance == pytest.approx(float(found), rel=0.02)


def test_with_several_crops_the_candidates_are_more(encoder) -> None:
    rows = torch.ones(PAIRS, 4, dtype=torch.float64)
    levels = build("simclr", encoder, SeveralObjective(partners=3)).levels(PAIRS)
    assert levels is not None
    expected = float(several_nt_xent(rows, rows, rows, rows, temperature=0.2))
    assert levels.chance == levels.collapse == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["simclr", "byol", "moco_v2", "vicreg", "swav"])
def test_both_terms_of_the_joint_objective_have_the_level_of_the_pair(name, encoder, new_encoder) -> None:
    alone, joint = build(name, encoder), build(name, new_encoder(), JointObjective())
    assert joint.levels(PAIRS) == pytest.approx(alone.levels(PAIRS))


def test_a_method_of_someone_elses_need_not_know_its_levels(encoder) -> None:
    assert Method.levels(SimpleNamespace(), 8) is None  # type: ignore[arg-type]
