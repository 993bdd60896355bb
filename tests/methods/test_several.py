"""Several partners of an anchor: the losses with several positives against loops over views."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from sempairs.errors import UserError
from sempairs.methods import PairMethod
from sempairs.methods.dcl import dcl_loss, several_dcl_loss
from sempairs.methods.objectives.joint import JointObjective
from sempairs.methods.objectives.several import SeveralObjective
from sempairs.methods.simclr import nt_xent, same_meaning, several_nt_xent
from sempairs.views.records import Crop, Slot, Views

from .conftest import PAIRWISE, build_variant

SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 16, "queue": 12, "prototypes": 4, "freeze_prototypes": 0}


def crops(count: int, batch: int = 5, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count, batch, width, generator=generator, dtype=torch.float64)
    return [row.clone().requires_grad_() for row in rows]


def cosines(views: list[Tensor], temperature: float) -> list[list[Tensor]]:
    unit = [row / row.dot(row).sqrt() for view in views for row in view]
    return [[one.dot(other) / temperature for other in unit] for one in unit]


def nt_xent_by_hand(views: list[Tensor], temperature: float, meaning: list[int] | None = None) -> Tensor:
    """View by view, positive by positive; pair of view i: i modulo the batch."""
    s, batch = cosines(views, temperature), len(views[0])
    losses = []
    for i in range(len(s)):
        own = [k for k in range(len(s)) if k != i and k % batch == i % batch]
        others = [
            k for k in range(len(s))
            if k % batch != i % batch and not (meaning and meaning[k % batch] == meaning[i % batch])
        ]  # fmt: skip
        whole = sum(torch.exp(s[i][k]) for k in (*own, *others))
        losses.append(sum(-torch.log(torch.exp(s[i][p]) / whole) for p in own) / len(own))
    return torch.stack(losses).mean()


def dcl_by_hand(views: list[Tensor], temperature: float, meaning: list[int] | None = None) -> Tensor:
    s, batch = cosines(views, temperature), len(views[0])
    losses = []
    for i in range(len(s)):
        own = [k for k in range(len(s)) if k != i and k % batch == i % batch]
        others = [
            k for k in range(len(s))
            if k % batch != i % batch and not (meaning and meaning[k % batch] == meaning[i % batch])
        ]  # fmt: skip
        losses.append(
            torch.log(sum(torch.exp(s[i][k]) for k in others)) - sum(s[i][p] for p in own) / len(own)
        )
    return torch.stack(losses).mean()


BY_HAND = {several_nt_xent: nt_xent_by_hand, several_dcl_loss: dcl_by_hand}


@pytest.mark.parametrize("loss", BY_HAND)
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("meaning", [None, [0, 1, 0, 2, 1]])
def test_value_and_gradient_equal_a_loop(loss, count, meaning) -> None:
    views = crops(count)
    exclude = same_meaning(torch.tensor(meaning), count) if meaning else None
    got, expected = loss(*views, temperature=0.3, exclude=exclude), BY_HAND[loss](views, 0.3, meaning)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(got, views)
    torch.testing.assert_close(found, torch.autograd.grad(expected, views), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("several", "usual"), [(several_nt_xent, nt_xent), (several_dcl_loss, dcl_loss)])
def test_one_partner_gives_the_usual_loss(several, usual) -> None:
    left, right = crops(2)
    torch.testing.assert_close(
        several(left, right, temperature=0.2), usual(left, right, temperature=0.2), rtol=1e-13, atol=0
    )


def test_the_order_of_crops_and_of_pairs_changes_nothing() -> None:
    views = crops(4)
    loss = several_nt_xent(*views, temperature=0.2)
    torch.testing.assert_close(several_nt_xent(*views[::-1], temperature=0.2), loss, rtol=1e-12, atol=0)
    turned = [view.roll(2, dims=0) for view in views]
    torch.testing.assert_close(several_nt_xent(*turned, temperature=0.2), loss, rtol=1e-12, atol=0)


def test_collapse_gives_the_log_of_the_number_of_candidates() -> None:
    rows = torch.ones(6, 4, dtype=torch.float64)
    assert several_nt_xent(rows, rows, rows, temperature=0.1).item() == pytest.approx(math.log(17), rel=1e-12)


@pytest.mark.parametrize("loss", BY_HAND)
def test_half_precision_is_widened(loss) -> None:
    views = [view.detach().float() for view in crops(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss(*views, temperature=0.3)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(*(view.double() for view in views), temperature=0.3).float())


def doubled(views: Views) -> Views:
    made = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in views.crops)
    return Views(made, views.pair_id, views.meaning, views.distinct)


@pytest.mark.parametrize("name", sorted(set(PAIRWISE) - {"simclr", "dcl"}))
def test_a_method_without_a_form_of_its_own_takes_the_mean_over_partners(name, encoder, new_views) -> None:
    """Each partner's term by itself, from what the networks gave for all crops."""
    method = build_variant(f"{name} with several", encoder, SMALL).double().train()
    assert isinstance(method, PairMethod)
    views = doubled(new_views(slots=method.slots))
    twin = copy.deepcopy(method)
    method.before_step(0.5)
    twin.before_step(0.5)
    given = twin.project(twin.features(method.crops(views), views), views)
    alone = [twin.compare(given[0], given[j], views.of_crops([0, j])).loss for j in (1, 2, 3)]
    torch.testing.assert_close(method(views).loss, sum(alone) / 3, rtol=1e-10, atol=1e-12)
    assert len({float(loss.detach()) for loss in alone}) == 3


def test_slots_show_the_partners_and_leave_those_of_the_joint_objective_where_they_were() -> None:
    partner = [Slot("partner", number=number) for number in range(3)]
    assert SeveralObjective(partners=3).slots == (Slot("anchor"), *partner)
    joint = JointObjective(partners=3)
    assert joint.slots == (Slot("anchor"), partner[0], Slot("anchor", opposite=True), *partner[1:])
    assert joint.slots[:3] == JointObjective().slots
    assert [term.others for term in joint.terms(0.0)] == [(1, 3, 4), (2,)]
    assert joint.shown_partners == 3


def test_a_method_of_another_loss_refuses_it(encoder) -> None:
    from sempairs.methods import METHODS, build_method

    with pytest.raises(UserError, match=r"^objective\.name must be pair for supcon"):
        build_method(METHODS.get("supcon").Config(), encoder, 6, seed=0, objective=SeveralObjective())
