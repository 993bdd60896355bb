"""SimSiam against a loop over the paper's equations and lightly; its heads and the predictor's rate."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor, nn

from sempairs.methods.base import ParamRule
from sempairs.methods.health import projection_health
from sempairs.methods.simsiam import SimSiam, SimSiamConfig, negative_cosine
from sempairs.views.records import Crop, Views

CONFIG = SimSiamConfig(hidden=8, out=5, predictor_hidden=3)


def reference(p_left: Tensor, z_left: Tensor, p_right: Tensor, z_right: Tensor) -> Tensor:
    """Eq. 1 to 4, pair by pair, the targets constants."""

    def distance(p: Tensor, z: Tensor) -> Tensor:
        return -(p / p.dot(p).sqrt()).dot(z / z.dot(z).sqrt())

    losses = []
    for p1, z1, p2, z2 in zip(p_left, z_left.detach(), p_right, z_right.detach(), strict=True):
        losses.append(distance(p1, z2) / 2 + distance(p2, z1) / 2)
    return torch.stack(losses).mean()


def ours(p_left: Tensor, z_left: Tensor, p_right: Tensor, z_right: Tensor) -> Tensor:
    return (negative_cosine(p_left, z_right) + negative_cosine(p_right, z_left)) / 2


def doubled(views: Views) -> Views:
    crops = tuple(Crop(c.pixels.double(), c.member, c.kind) for c in views.crops)
    return Views(crops, views.pair_id, views.meaning)


@pytest.fixture
def rows(projections) -> list[Tensor]:
    return [*projections(batch=7, width=5), *projections(batch=7, width=5, seed=1)]


def test_value_and_gradient_equal_the_papers_loop(rows):
    loss, expected = ours(*rows), reference(*rows)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [rows[0], rows[2]])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [rows[0], rows[2]]), rtol=1e-10, atol=1e-12)


def test_value_and_gradient_equal_lightlys_scale_included(rows):
    """As its documentation and benchmark have it: half of both directions, the targets detached."""
    p_left, z_left, p_right, z_right = rows
    criterion = NegativeCosineSimilarity()
    theirs = 0.5 * (criterion(p_left, z_right.detach()) + criterion(p_right, z_left.detach()))
    loss = ours(*rows)
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [p_left, p_right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [p_left, p_right]), rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_target(projections):
    prediction, target = projections(batch=3, width=3)
    assert torch.autograd.gradcheck(lambda p: negative_cosine(p, target), (prediction,))
    negative_cosine(prediction, target).backward()
    assert target.grad is None


def test_reordering_pairs_and_length_of_rows_change_nothing(projections):
    prediction, target = projections(batch=7)
    loss = negative_cosine(prediction, target)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(negative_cosine(prediction[order], target[order]), loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(negative_cosine(100 * prediction, target / 7), loss, rtol=1e-12, atol=0)


def test_limits_from_aligned_to_opposed():
    rows = torch.randn(4, 3, dtype=torch.float64)
    assert negative_cosine(rows, 3 * rows).item() == pytest.approx(-1, rel=1e-12)
    assert negative_cosine(rows, -rows).item() == pytest.approx(1, rel=1e-12)
    assert negative_cosine(torch.eye(4)[:2], torch.eye(4)[2:]).item() == 0


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        negative_cosine(torch.randn(shapes[0]), torch.randn(shapes[1]))


def test_method_gives_the_papers_loss_of_its_own_projections_and_predictions(encoder, views, swapped_views):
    method = SimSiam(CONFIG, encoder, 6).double()
    views = doubled(views)
    z = [method.projector(method.encoder(crop.pixels)) for crop in views.crops]
    p = [method.predictor(rows) for rows in z]
    step = method(views)
    torch.testing.assert_close(step.loss, reference(p[0], z[0], p[1], z[1]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dict(step.logs), projection_health(z[0].detach()), rtol=1e-5, atol=1e-6)
    swapped = swapped_views(views)
    torch.testing.assert_close(method(swapped).loss, step.loss, rtol=1e-12, atol=0)


def test_each_view_passes_the_network_by_itself(encoder, views):
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    SimSiam(CONFIG, encoder, 6)(views)
    assert seen == [8, 8]
    assert not SimSiam.joint_forward


def test_only_the_predictors_rate_is_constant_and_the_option_turns_it_off(encoder):
    rules = {g.rule: {n for n, _ in g.parameters} for g in SimSiam(CONFIG, encoder, 6).param_groups()}
    assert rules.keys() == {ParamRule(), ParamRule(constant_lr=True)}
    constant = rules[ParamRule(constant_lr=True)]
    assert constant == {f"predictor.{n}" for n in ("0.weight", "1.weight", "1.bias", "3.weight", "3.bias")}
    scheduled = SimSiam(CONFIG.model_copy(update={"constant_predictor_lr": False}), encoder, 6)
    assert [group.rule for group in scheduled.param_groups()] == [ParamRule()]


def test_heads_are_those_of_the_papers_code(encoder):
    method = SimSiam(CONFIG, encoder, 6)
    linear = [m for m in method.projector if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in linear] == [(8, 6), (8, 8), (5, 8)]
    assert all(m.bias is None for m in linear)
    assert not method.projector[-1].affine
    assert [type(m) for m in method.predictor] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert method.predictor[0].bias is None and method.predictor[-1].bias is not None
