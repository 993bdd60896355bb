"""Cross-entropy against a loop; how many meanings there are reaches the classifier."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods import build_method
from sempairs.methods.supervised import Supervised, SupervisedConfig, cross_entropy
from sempairs.views.records import Views


def reference(logits: Tensor, meaning: list[int], smoothing: float) -> Tensor:
    """−Σ_m t_m log softmax(logits)_m row by row, t the smoothed target."""
    rows, classes = logits.shape
    losses = []
    for b in range(rows):
        denominator = sum(torch.exp(logits[b, m]) for m in range(classes))
        for m in range(classes):
            target = (1 - smoothing) * (m == meaning[b]) + smoothing / classes
            losses.append(-target * torch.log(torch.exp(logits[b, m]) / denominator))
    return torch.stack(losses).sum() / rows


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_value_and_gradient_equal_the_loop(projections, smoothing):
    logits, _ = projections(batch=6, width=4)
    meaning = [0, 3, 1, 1, 2, 3]
    loss = cross_entropy(logits, torch.tensor(meaning), label_smoothing=smoothing)
    expected = reference(logits, meaning, smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(got, torch.autograd.grad(expected, logits), rtol=1e-10, atol=1e-12)


def test_gradcheck_and_reordering(projections):
    logits, _ = projections(batch=5, width=3)
    meaning = torch.tensor([0, 2, 1, 1, 0])
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, meaning, label_smoothing=0.1), (logits,))
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    again = cross_entropy(logits[order], meaning[order])
    torch.testing.assert_close(again, cross_entropy(logits, meaning), rtol=1e-12, atol=0)


def test_limits_from_certain_to_ignorant():
    meaning = torch.tensor([0, 1, 2])
    assert cross_entropy(100 * torch.eye(3), meaning).item() == pytest.approx(0, abs=1e-12)
    assert cross_entropy(torch.zeros(3, 3), meaning).item() == pytest.approx(math.log(3), rel=1e-6)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 3), (5,)), ((4, 3), (4, 1))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError):
        cross_entropy(torch.randn(shapes[0]), torch.zeros(shapes[1], dtype=torch.long))


def test_both_views_are_classified_in_one_batch_and_swapping_them_changes_nothing(
    encoder, views, swapped_views
):
    method = build_method(SupervisedConfig(label_smoothing=0.1), encoder, 6, seed=0, meanings=4)
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    step = method(views)
    assert seen == [16]
    logits = method.classifier(encoder(torch.cat([crop.pixels for crop in views.crops])))
    expected = reference(logits, views.meaning.tolist() * 2, 0.1)
    torch.testing.assert_close(step.loss, expected, rtol=1e-5, atol=1e-6)
    right = (logits.argmax(1) == views.meaning.repeat(2)).float().mean()
    assert step.logs["accuracy"].item() == right.item()
    swapped = method(swapped_views(views))
    torch.testing.assert_close(swapped.loss, step.loss, rtol=1e-5, atol=0)


def test_the_number_of_meanings_sets_the_classifier_and_is_asked_for(encoder):
    method = build_method(SupervisedConfig(), encoder, 6, seed=0, meanings=11)
    assert isinstance(method, Supervised)
    assert isinstance(method.classifier, nn.Linear) and method.classifier.weight.shape == (11, 6)
    with pytest.raises(UserError, match="meanings must be given for supervised"):
        build_method(SupervisedConfig(), encoder, 6, seed=0)


def test_it_learns_what_can_be_told_apart(encoder, views):
    method = build_method(SupervisedConfig(), encoder, 6, seed=0, meanings=4)
    optimiser = torch.optim.Adam(method.parameters(), lr=0.05)
    pixels = [views.meaning[:, None, None, None] * torch.ones(3, 8, 8) for _ in views.crops]
    told = Views(
        tuple(type(c)(p, c.member, c.kind) for c, p in zip(views.crops, pixels, strict=True)),
        views.pair_id,
        views.meaning,
    )
    for _ in range(150):
        optimiser.zero_grad()
        step = method(told)
        step.loss.backward()
        optimiser.step()
    assert step.logs["accuracy"].item() == 1
