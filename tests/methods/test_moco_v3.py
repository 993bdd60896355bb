"""MoCo v3's loss against the paper's algorithm as a loop; scale, limits and networks."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods.moco_v3 import MoCoV3, MoCoV3Config, moco_v3_loss
from sempairs.methods.momentum import cosine_momentum

CONFIG = MoCoV3Config(hidden=8, out=5, predictor_hidden=7, momentum=0.9)


def reference(prediction: Tensor, key: Tensor, temperature: float, meaning=None) -> Tensor:
    """Algorithm 1's ctr, query by query: 2T times the cross-entropy."""
    unit = [row / row.dot(row).sqrt() for row in prediction]
    keys = [row / row.dot(row).sqrt() for row in key.detach()]
    losses = []
    for i, q in enumerate(unit):
        total = torch.zeros((), dtype=torch.float64)
        for j, k in enumerate(keys):
            if i == j or meaning is None or meaning[i] != meaning[j]:
                total = total + torch.exp(q.dot(k) / temperature)
        losses.append(-torch.log(torch.exp(q.dot(keys[i]) / temperature) / total))
    return 2 * temperature * torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature):
    prediction, key = projections()
    loss = moco_v3_loss(prediction, key, temperature=temperature)
    expected = reference(prediction, key, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_masked_value_and_gradient_equal_the_loop_without_those_keys(projections):
    prediction, key = projections()
    meaning = [0, 1, 0, 2, 1]
    ids = torch.tensor(meaning)
    exclude = (ids[:, None] == ids) & ~torch.eye(5, dtype=torch.bool)
    loss = moco_v3_loss(prediction, key, temperature=0.2, exclude=exclude)
    expected = reference(prediction, key, 0.2, meaning)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_equals_lightlys_contrast_with_the_other_keys_as_its_memory(projections):
    """lightly has no MoCo v3; a memory bank of the batch's other keys makes its contrast one query's term."""
    prediction, key = projections(batch=4, width=4)
    keys = torch.nn.functional.normalize(key.detach(), dim=1)
    terms = []
    for i in range(4):
        criterion = NTXentLoss(temperature=0.2, memory_bank_size=(3, 4)).double()
        criterion.memory_bank.bank = torch.cat([keys[:i], keys[i + 1 :]])
        terms.append(criterion(prediction[i : i + 1], keys[i : i + 1]))
    ours = moco_v3_loss(prediction, key, temperature=0.2)
    torch.testing.assert_close(ours, 2 * 0.2 * torch.stack(terms).mean(), rtol=1e-12, atol=1e-12)


def test_gradcheck_and_no_gradient_to_keys(projections):
    prediction, key = projections(batch=3, width=3)
    assert torch.autograd.gradcheck(lambda p: moco_v3_loss(p, key, temperature=0.5), (prediction,))
    moco_v3_loss(prediction, key, temperature=0.5).backward()
    assert key.grad is None


def test_order_of_pairs_and_length_of_rows_change_nothing(projections):
    prediction, key = projections(batch=7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = moco_v3_loss(3 * prediction[order], 0.2 * key[order], temperature=0.2)
    expected = moco_v3_loss(prediction, key, temperature=0.2)
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=0)


def test_limits_of_collapse_and_of_perfect_alignment():
    rows = torch.ones(6, 4, dtype=torch.float64)
    collapsed = moco_v3_loss(rows, rows, temperature=0.3).item()
    assert collapsed == pytest.approx(2 * 0.3 * math.log(6), rel=1e-12)
    eye = torch.eye(4, dtype=torch.float64)
    expected = 2 * 0.5 * (math.log(math.exp(1 / 0.5) + 3) - 1 / 0.5)
    assert moco_v3_loss(eye, eye, temperature=0.5).item() == pytest.approx(expected, rel=1e-12)
    others = ~torch.eye(6, dtype=torch.bool)
    assert moco_v3_loss(rows, rows, temperature=0.3, exclude=others).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        moco_v3_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), temperature=0.2)


def test_swapping_views_changes_nothing_but_rounding_and_directions_are_summed(encoder, views, swapped_views):
    method = MoCoV3(CONFIG, encoder, 6).double()
    crops = tuple(type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops)
    views = type(views)(crops, views.pair_id, views.meaning)
    forth = method(views).loss
    back = method(swapped_views(views)).loss
    torch.testing.assert_close(back, forth, rtol=1e-12, atol=0)
    p = [method.predictor(method.projector(method.encoder(crop.pixels))) for crop in crops]
    k = [method.key_projector(method.key_encoder(crop.pixels)) for crop in crops]
    expected = reference(p[0], k[1], 0.2) + reference(p[1], k[0], 0.2)
    torch.testing.assert_close(forth, expected)


def test_key_network_starts_equal_and_follows_along_half_a_cosine(encoder, views):
    method = MoCoV3(CONFIG, encoder, 6)
    start = [p.clone() for p in method.key_projector.parameters()]
    assert all(map(torch.equal, start, method.projector.parameters()))
    method(views).loss.backward()
    with torch.no_grad():
        for parameter in method.projector.parameters():
            parameter -= 0.5 * parameter.grad
    method.after_step(0.25)
    momentum = cosine_momentum(0.9, 1.0, 0.25)
    now = zip(start, method.key_projector.parameters(), method.projector.parameters(), strict=True)
    for old, new, online in now:
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * online.detach())


def built(layers: int, width: int, hidden: int, out: int, *, last_norm: bool) -> list[tuple]:
    """`_build_mlp` of facebookresearch/moco-v3, moco/builder.py: each layer's kind and what decides it."""
    parts: list[tuple] = []
    for i in range(layers):
        last = i == layers - 1
        after = out if last else hidden
        parts.append(("Linear", width if i == 0 else hidden, after, False))
        if not last:
            parts += [("BatchNorm1d", after, True), ("ReLU",)]
        elif last_norm:
            parts.append(("BatchNorm1d", after, False))
    return parts


def described(head: nn.Sequential) -> list[tuple]:
    kinds = {
        nn.Linear: lambda m: (m.in_features, m.out_features, m.bias is not None),
        nn.BatchNorm1d: lambda m: (m.num_features, m.affine),
        nn.ReLU: lambda m: (),
    }
    return [(type(m).__name__, *kinds[type(m)](m)) for m in head]


@pytest.mark.parametrize(("layers", "norm"), [(2, False), (3, True)])
def test_heads_are_those_of_the_released_builder(encoder, layers, norm):
    """MoCo_ResNet: 2 layers, a predictor without a last normalisation. MoCo_ViT: 3 layers, and one with."""
    method = MoCoV3(CONFIG.model_copy(update={"layers": layers, "predictor_norm": norm}), encoder, 6)
    assert described(method.projector) == built(layers, 6, 8, 5, last_norm=True)
    assert described(method.predictor) == built(2, 5, 7, 5, last_norm=norm)


def test_published_settings_have_the_predictor_of_their_network():
    norms = {name: preset.config.predictor_norm for name, preset in MoCoV3.presets.items()}
    assert norms == {"imagenet-r50": False, "imagenet-vit": True, "cifar-r18": False, "tiny": False}


def test_logs_count_same_meaning_negatives_and_the_option_masks_them(encoder, views):
    kept = MoCoV3(CONFIG, encoder, 6)
    masked = MoCoV3(CONFIG.model_copy(update={"same_meaning_negatives": "mask"}), encoder, 6)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    # meanings 0 0 1 1 2 2 3 3: one other pair of each query's own, of seven
    assert first.logs["same_meaning_negatives"].item() == 1
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(1 / 7)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_each_view_passes_each_network_by_itself(encoder, views):
    method, seen = MoCoV3(CONFIG, encoder, 6), []
    for network in (method.encoder, method.key_encoder):
        network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    method(views)
    assert seen == [8, 8, 8, 8]


class Patches(nn.Module):
    """A stand-in for timm's ViT inside an encoder: `model.patch_embed.proj`, then a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential()
        self.model.patch_embed = nn.Sequential()
        self.model.patch_embed.proj = nn.Conv2d(3, 4, 4, stride=4)
        self.layer = nn.Linear(4, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.model.patch_embed.proj(images).mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_patch_embedding_stays_the_random_projection_it_was(views, frozen):
    """Section 4.1: fixed, in the query network and so in the key network; all else learns."""
    torch.manual_seed(0)
    method = MoCoV3(CONFIG.model_copy(update={"freeze_patch_embedding": frozen}), Patches(), 6)
    trained = {name for group in method.param_groups() for name, _ in group.parameters}
    patches = {f"encoder.model.patch_embed.proj.{name}" for name in ("weight", "bias")}
    assert patches & trained == (set() if frozen else patches)
    assert "encoder.layer.weight" in trained
    before = {name: value.clone() for name, value in method.named_parameters()}
    parameters = [p for group in method.param_groups() for _, p in group.parameters]
    optimiser = torch.optim.SGD(parameters, lr=0.1, weight_decay=0.1)
    method(views).loss.backward()
    optimiser.step()
    method.after_step(0.5)
    moved = {name for name, value in method.named_parameters() if not torch.equal(value, before[name])}
    keys = {name.replace("encoder.", "key_encoder.", 1) for name in patches}
    assert (patches | keys) & moved == (set() if frozen else patches | keys)
    assert {"encoder.layer.weight", "key_encoder.layer.weight"} <= moved


def test_an_encoder_without_patches_has_none_to_freeze():
    with pytest.raises(UserError, match="freeze_patch_embedding needs an encoder with a patch embedding"):
        MoCoV3(MoCoV3.presets["imagenet-vit"].config, nn.Linear(3, 4), 4)
