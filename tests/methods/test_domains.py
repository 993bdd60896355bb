"""Negatives of the anchor's own domain: the losses against loops, and a queue that keeps domains."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sempairs.errors import UserError
from sempairs.methods import METHODS, Method, build_method
from sempairs.methods.objectives.joint import JointObjective
from sempairs.methods.objectives.several import SeveralObjective
from sempairs.methods.sides import draw_sides
from sempairs.views.records import Crop, Views

SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7, "queue": 16, "layers": 2}
TAKERS = [name for name in METHODS.names() if "negatives" in METHODS.get(name).Config.model_fields]


def build(name: str, encoder: Any, objective: Any = None, **settings: Any) -> Any:
    kind = METHODS.get(name).Config
    given = {key: value for key, value in SMALL.items() if key in kind.model_fields}
    config = kind(**{**given, "negatives": "same_domain", **settings})
    return build_method(config, encoder, 6, seed=0, objective=objective).double().train()


def with_domains(views: Views, seed: int = 0) -> Views:
    """Three domains, and one image in seven without."""
    crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in views.crops)
    generator = torch.Generator().manual_seed(seed)
    domain = torch.randint(-1, 3, (len(crops), len(views)), generator=generator)
    return replace(views, crops=crops, domain=domain)


def apart(of: Tensor, to: Tensor) -> bool:
    """Whether two domains are known and differ."""
    return bool(of >= 0 and to >= 0 and of != to)


def cross_entropy(query: Tensor, keys: list[Tensor], positive: int, kept: list[int]) -> Tensor:
    s = [F.cosine_similarity(query, key, dim=0) / 0.2 for key in keys]
    whole = sum(torch.exp(s[k]) for k in {positive, *kept})
    return -torch.log(torch.exp(s[positive]) / whole)


def test_the_methods_with_negatives_have_the_option() -> None:
    assert TAKERS == ["dcl", "moco_v2", "moco_v3", "nnclr", "rince", "simclr"]


@pytest.mark.parametrize("mask", ["keep", "mask"])
@pytest.mark.parametrize("objective", [None, SeveralObjective(partners=2)])
def test_simclr_equals_a_loop_over_views_of_the_same_domain(encoder, new_views, mask, objective) -> None:
    method = build("simclr", encoder, objective, same_meaning_negatives=mask)
    views = with_domains(new_views(slots=method.slots))
    twin = copy.deepcopy(method)
    z = twin.projector(twin.encoder(torch.cat([crop.pixels for crop in views.crops])))
    domain, n, count = views.domain.flatten(), len(views), len(views.crops)
    losses = []
    for i in range(len(z)):
        kept = [
            k for k in range(len(z))
            if k % n != i % n and not apart(domain[i], domain[k])
            and not (mask == "mask" and views.meaning[k % n] == views.meaning[i % n])
        ]  # fmt: skip
        own = [k for k in range(len(z)) if k != i and k % n == i % n]
        losses.append(sum(cross_entropy(z[i], list(z), p, [*kept, *own]) for p in own) / (count - 1))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(method(views).loss, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["dcl", "rince"])
def test_batch_losses_leave_out_what_simclr_leaves_out(name, encoder, new_views) -> None:
    """Against the method's own loss with the views of other domains excluded one by one."""
    from sempairs.methods.dcl import dcl_loss
    from sempairs.methods.rince import rince_loss

    method = build(name, encoder)
    views = with_domains(new_views())
    twin = copy.deepcopy(method)
    left, right = twin.projector(twin.encoder(torch.cat([c.pixels for c in views.crops]))).chunk(2)
    domain, n = views.domain.flatten(), len(views)
    exclude = torch.tensor(
        [[k % n != i % n and apart(domain[i], domain[k]) for k in range(2 * n)] for i in range(2 * n)]
    )
    if name == "dcl":
        expected = dcl_loss(left, right, temperature=0.2, exclude=exclude)
    else:
        expected = rince_loss(left, right, temperature=0.2, q=0.1, lam=0.01, exclude=exclude)
    torch.testing.assert_close(method(views).loss, expected, rtol=1e-10, atol=1e-12)


def test_moco_v3_equals_a_loop_in_both_directions(encoder, new_views) -> None:
    method = build("moco_v3", encoder)
    views = with_domains(new_views())
    twin = copy.deepcopy(method)
    x = [crop.pixels for crop in views.crops]
    p = [twin.predictor(twin.projector(twin.encoder(part))) for part in x]
    k = [twin.key_projector(twin.key_encoder(part)).detach() for part in x]
    expected = torch.zeros((), dtype=torch.float64)
    for of, to in ((0, 1), (1, 0)):
        for i in range(8):
            kept = [j for j in range(8) if not apart(views.domain[of][i], views.domain[to][j])]
            expected = expected + 2 * 0.2 * cross_entropy(p[of][i], list(k[to]), i, kept) / 8
    torch.testing.assert_close(method(views).loss, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("objective", [None, JointObjective()])
def test_moco_v2_equals_a_loop_over_queued_keys_of_the_querys_domain(encoder, new_views, objective) -> None:
    method = build("moco_v2", encoder, objective)
    first, views = (with_domains(new_views(slots=method.slots, seed=s), seed=s) for s in (1, 2))
    method(first)
    # One key a pair joins, with the domain it has: of the member that was not the query.
    swap = draw_sides(first.pair_id, method.queue.pushed) if objective is None else torch.zeros(8).bool()
    method.after_step(0.0)
    expected_domains = torch.where(swap, first.domain[0], first.domain[1])
    assert method.queue.domain[:8].tolist() == expected_domains.tolist()
    assert method.queue.domain[8:].tolist() == [-1] * 8
    vectors = method.queue.vectors
    vectors.copy_(F.normalize(vectors, dim=1))  # random ones were so in float32 only
    turn = method.queue.pushed.clone()
    twin = copy.deepcopy(method)
    queue = list(method.queue.vectors.clone())
    got = method(views).loss
    x, domain = [crop.pixels for crop in views.crops], list(views.domain)
    if objective is None:
        swap = draw_sides(views.pair_id, turn)
        mask = swap.view(-1, 1, 1, 1)
        x = [torch.where(mask, x[1], x[0]), torch.where(mask, x[0], x[1])]
        domain = [torch.where(swap, domain[1], domain[0])]
    q = twin.projector(twin.encoder(x[0]))
    expected = torch.zeros((), dtype=torch.float64)
    others = x[1:]
    for part in others:
        key = twin.key_projector(twin.key_encoder(part)).detach()
        for i in range(8):
            kept = [1 + j for j in range(16) if not apart(domain[0][i], twin.queue.domain[j])]
            expected = expected + cross_entropy(q[i], [key[i], *queue], 0, kept) / 8 / len(others)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("objective", [None, JointObjective(heads="two")])
def test_in_one_domain_it_changes_nothing(name, encoder, new_encoder, new_views, objective) -> None:
    plain, method = (build(name, make, objective, negatives=n) for make, n in zip(
        (encoder, new_encoder()), ("all", "same_domain"), strict=True
    ))  # fmt: skip
    for seed in range(2):
        views = with_domains(new_views(slots=method.slots, seed=seed))
        views = replace(views, domain=torch.ones_like(views.domain))
        assert torch.equal(plain(views).loss, method(views).loss)
        plain.after_step(0.0)
        method.after_step(0.0)


@pytest.mark.parametrize("name", TAKERS)
def test_views_without_domains_are_refused(name, encoder, new_views) -> None:
    method: Method = build(name, encoder)
    assert method.needs_domains
    views = new_views()
    crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in views.crops)
    with pytest.raises(UserError, match=r"^method\.negatives needs views that tell the domain"):
        method(replace(views, crops=crops))


@pytest.mark.parametrize("symmetric", [False, True])
def test_each_head_keeps_the_domains_of_the_keys_it_keeps(encoder, new_views, symmetric) -> None:
    """No sides are drawn here: the key of the partner joins, or that of the anchor's other crop."""
    method = build("moco_v2", encoder, JointObjective(heads="two"), queue=32, symmetric=symmetric)
    views = with_domains(new_views(slots=method.slots))
    method(views)
    method.after_step(0.0)
    for head, own in ((method, 1), (method.second, 2)):
        expected = [*views.domain[own].tolist(), *(views.domain[0].tolist() if symmetric else [])]
        assert head.queue.domain[: len(expected)].tolist() == expected
        assert int(head.queue.pushed) == len(expected)


def test_a_second_head_leaves_out_queued_keys_of_other_domains(encoder, new_views) -> None:
    method = build("moco_v2", encoder, JointObjective(heads="two"))
    first, views = (with_domains(new_views(slots=method.slots, seed=s), seed=s) for s in (1, 2))
    method(first)
    method.after_step(0.0)
    for head in (method, method.second):
        head.queue.vectors.copy_(F.normalize(head.queue.vectors, dim=1))
    twin = copy.deepcopy(method)
    x = [crop.pixels for crop in views.crops]
    h, expected = twin.encoder(x[0]), {}
    keys = {place: twin.key_encoder(x[place]) for place in (1, 2)}
    for term, head, place in (("semantic", twin, 1), ("instance", twin.second, 2)):
        q, key = head.projector(h), head.key_projector(keys[place])
        losses = []
        for i in range(8):
            domain = head.queue.domain
            kept = [1 + j for j in range(16) if not apart(views.domain[0][i], domain[j])]
            losses.append(cross_entropy(q[i], [key[i], *head.queue.vectors], 0, kept))
        expected[term] = torch.stack(losses).mean().detach()
    logs = method(views).logs
    for term, value in expected.items():
        torch.testing.assert_close(logs[f"{term}_loss"], value, rtol=1e-10, atol=1e-12)
