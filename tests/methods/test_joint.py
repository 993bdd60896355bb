"""The joint objective: each method's value and gradient against float64 references of two terms."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sempairs.config import Config, validate
from sempairs.errors import UserError
from sempairs.methods import METHODS, AnyObjectiveConfig, Method, PairMethod, build_method
from sempairs.methods.objectives.joint import JointObjective
from sempairs.views.records import Crop, Slot, Views

WIDTH, LAMBDA = 6, 0.3
SMALL = {
    "hidden": 8, "out": 5, "predictor_hidden": 16, "queue": 12, "prototypes": 4, "freeze_prototypes": 0.0,
}  # fmt: skip
TAKERS = [name for name in METHODS.names() if issubclass(METHODS.get(name), PairMethod)]
SLOTS = (Slot("anchor"), Slot("partner"), Slot("anchor"))


def of(name: str) -> ModuleType:
    """The test module of a method, for the reference in it."""
    path = Path(__file__).with_name(f"test_{name}.py")
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def joint(heads: str = "one", weight: Any = LAMBDA) -> JointObjective:
    return JointObjective.model_validate({"weight": weight, "heads": heads})


def build(name: str, encoder: nn.Module, heads: str = "one", weight: Any = LAMBDA, **settings: Any) -> Any:
    kind = METHODS.get(name).Config
    given = {key: value for key, value in {**SMALL, **settings}.items() if key in kind.model_fields}
    return build_method(kind(**given), encoder, WIDTH, seed=0, objective=joint(heads, weight)).double()


def doubled(views: Views) -> Views:
    crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in views.crops)
    return Views(crops, views.pair_id, views.meaning, views.distinct)


@pytest.fixture
def three(new_views) -> Views:
    return doubled(new_views(slots=SLOTS))


# What is below is written for each method out of its equations, module by module and pair of crops by pair of
# crops: (anchor, partner) of weight λ, (anchor, anchor again) of 1 − λ, each through its head.


def together(network: Any, parts: list[Tensor]) -> list[Tensor]:
    return list(torch.split(network(torch.cat(parts)), len(parts[0])))


def apart(network: Any, parts: list[Tensor]) -> list[Tensor]:
    return [network(part) for part in parts]


def contrastive(name: str, method: Any, h: list[Tensor], crops: tuple[int, ...]) -> Any:
    z = dict(zip(crops, together(method.projector, [h[i] for i in crops]), strict=True))
    settings = {"simclr": (0.2,), "dcl": (0.2,), "rince": (0.2, 0.1, 0.01)}[name]
    return lambda i, j: of(name).reference(z[i], z[j], *settings)


def two_networks(name: str, method: Any, h: Any, crops: tuple[int, ...]) -> Any:
    online, following = h
    p = apart(lambda x: method.predictor(method.projector(x)), [online[i] for i in crops])
    network = method.target_projector if name == "byol" else method.key_projector
    t = apart(network, [following[i] for i in crops])
    p, t = (dict(zip(crops, rows, strict=True)) for rows in (p, t))
    settings = () if name == "byol" else (0.2,)
    reference = of(name).reference
    return lambda i, j: reference(p[i], t[j], *settings) + reference(p[j], t[i], *settings)


def reference_of(name: str, method: Any, views: Views, heads: str) -> tuple[Tensor, Tensor]:
    """The semantic and the instance term, with networks of a copy of the method."""
    x = [crop.pixels for crop in views.crops]
    pairs = [(0, 1), (0, 2)]
    shares = [(method, (0, 1)), (method.second, (0, 2))] if heads == "two" else [(method, (0, 1, 2))] * 2
    done: dict[int, Any] = {}

    def loss_of(head: Any, crops: tuple[int, ...]) -> Any:
        if id(head) not in done:
            done[id(head)] = FIRST[name](name, head, h, crops, views)
        return done[id(head)]

    h = ENCODED[name](method, x)
    first, second = (loss_of(head, crops)(i, j) for (head, crops), (i, j) in zip(shares, pairs, strict=True))
    return first, second


def simsiam(name: str, method: Any, h: list[Tensor], crops: tuple[int, ...], views: Views) -> Any:
    z = dict(zip(crops, apart(method.projector, [h[i] for i in crops]), strict=True))
    p = dict(zip(crops, apart(method.predictor, list(z.values())), strict=True))
    return lambda i, j: of(name).reference(p[i], z[i], p[j], z[j])


def redundancy(name: str, method: Any, h: list[Tensor], crops: tuple[int, ...], views: Views) -> Any:
    head = method.expander if name == "vicreg" else method.projector
    z = dict(zip(crops, apart(head, [h[i] for i in crops]), strict=True))
    module = of(name)
    return lambda i, j: module.total(module.reference(z[i], z[j]))


def moco(name: str, method: Any, h: Any, crops: tuple[int, ...], views: Views) -> Any:
    queries, keys = h
    queue = method.queue.vectors.clone()

    def loss(i: int, j: int) -> Tensor:
        return of(name).reference(method.projector(queries[i]), method.key_projector(keys[j]), queue, 0.2)

    return (lambda i, j: (loss(i, j) + loss(j, i)) / 2) if method.config.symmetric else loss


def nnclr(name: str, method: Any, h: list[Tensor], crops: tuple[int, ...], views: Views) -> Any:
    z = dict(zip(crops, apart(method.projector, [h[i] for i in crops]), strict=True))
    p = dict(zip(crops, apart(method.predictor, list(z.values())), strict=True))
    bank = method.queue.vectors

    def near(rows: Tensor) -> Tensor:
        distances = [[((row / row.norm() - other) ** 2).sum() for other in bank] for row in rows.detach()]
        return torch.stack([bank[int(torch.stack(d).argmin())] for d in distances])

    reference = of(name).reference
    return lambda i, j: (reference(near(z[i]), p[j], 0.2) + reference(near(z[j]), p[i], 0.2)) / 2


def swav(name: str, method: Any, h: list[Tensor], crops: tuple[int, ...], views: Views) -> Any:
    prototypes = method.head.directions.weight
    z = together(method.head.layers, [h[i] for i in crops])
    scores = {i: F.normalize(rows, dim=1) @ prototypes.T for i, rows in zip(crops, z, strict=True)}

    def one(code_of: int, predicted: int) -> Tensor:
        q = torch.from_numpy(of(name).reference(scores[code_of].detach().numpy(), 0.02, 3))
        powers = torch.exp(scores[predicted] / 0.1)
        return -(q * (powers / powers.sum(dim=1, keepdim=True)).log()).sum(dim=1).mean()

    return lambda i, j: (one(i, j) + one(j, i)) / 2


ENCODED: dict[str, Any] = {
    **{n: lambda m, x: together(m.encoder, x) for n in ("simclr", "dcl", "rince", "swav")},
    **{n: lambda m, x: apart(m.encoder, x) for n in ("simsiam", "barlow_twins", "vicreg", "nnclr")},
    "byol": lambda m, x: (apart(m.encoder, x), apart(m.target_encoder, x)),
    "moco_v3": lambda m, x: (apart(m.encoder, x), apart(m.key_encoder, x)),
    "moco_v2": lambda m, x: (apart(m.encoder, x), apart(m.key_encoder, x)),
}
FIRST: dict[str, Any] = {
    **{n: lambda n, m, h, c, v: contrastive(n, m, h, c) for n in ("simclr", "dcl", "rince")},
    **{n: lambda n, m, h, c, v: two_networks(n, m, h, c) for n in ("byol", "moco_v3")},
    "simsiam": simsiam, "barlow_twins": redundancy, "vicreg": redundancy, "moco_v2": moco, "nnclr": nnclr,
    "swav": swav,
}  # fmt: skip


def gradients(loss: Tensor, method: Method) -> dict[str, Tensor]:
    named = {name: p for name, p in method.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)
    }


@pytest.mark.parametrize("heads", ["one", "two"])
@pytest.mark.parametrize("name", TAKERS)
def test_value_and_gradient_equal_two_terms_written_by_hand(name, heads, encoder, three) -> None:
    method = build(name, encoder, heads).train()
    twin = copy.deepcopy(method)
    step = method(three)
    semantic, instance = reference_of(name, twin, three, heads)
    expected = LAMBDA * semantic + (1 - LAMBDA) * instance
    torch.testing.assert_close(step.loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(step.logs["semantic_loss"], semantic.detach(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(step.logs["instance_loss"], instance.detach(), rtol=1e-9, atol=1e-10)
    assert float(step.logs["semantic_weight"]) == pytest.approx(LAMBDA)
    got, wanted = gradients(step.loss, method), gradients(expected, twin)
    largest = max(float(value.abs().max()) for value in wanted.values())
    for key, value in got.items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-7, atol=1e-9 * largest, msg=key)


class Recipe(Config):
    objective: AnyObjectiveConfig


def test_the_weight_follows_its_schedule(encoder, three) -> None:
    method = build("simclr", encoder, weight=[[0.2, 0.0], [0.6, 0.8]])
    for progress, weight in ((0.0, 0.0), (0.2, 0.0), (0.3, 0.2), (0.4, 0.4), (0.6, 0.8), (0.99, 0.8)):
        method.before_step(progress)
        step = method(three)
        logs = step.logs
        assert float(logs["semantic_weight"]) == pytest.approx(weight)
        assert float(logs["instance_weight"]) == pytest.approx(1 - weight)
        expected = weight * logs["semantic_loss"] + (1 - weight) * logs["instance_loss"]
        torch.testing.assert_close(step.loss.detach(), expected)


@pytest.mark.parametrize("heads", ["one", "two"])
@pytest.mark.parametrize(("weight", "other"), [(0.0, 1), (1.0, 2)])
def test_a_term_of_no_weight_gives_no_gradient_to_its_crop(encoder, three, heads, weight, other) -> None:
    """In a network without batch statistics, through which crops would reach each other."""
    method = build("simclr", encoder, heads, weight).eval()
    pixels = [crop.pixels.clone().requires_grad_() for crop in three.crops]
    crops = tuple(Crop(x, of.member, of.kind) for x, of in zip(pixels, three.crops, strict=True))
    method(Views(crops, three.pair_id, three.meaning)).loss.backward()
    assert pixels[other].grad.abs().max() == 0
    assert all(pixels[place].grad.abs().max() > 0 for place in range(3) if place != other)


def test_without_the_joint_objective_two_heads_share_one_encoder_and_no_other_weight(encoder, three) -> None:
    method = build("byol", encoder, "two")
    own = dict(method.named_parameters())
    of_second = {name for name in own if name.startswith("second.")}
    assert {name.split(".")[1] for name in of_second} == {"projector", "predictor", "target_projector"}
    first = {name.removeprefix("second."): own[name] for name in of_second}
    assert all(not torch.equal(first[name], own[name]) for name in first if own[name].std() > 0)
    one = build("byol", copy.deepcopy(encoder), "one")
    kept = one.state_dict()
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in kept.items())
    assert method.exported_encoder() is method.encoder


def test_second_heads_have_the_rules_of_the_first(encoder) -> None:
    groups = build("simsiam", encoder, "two").param_groups()
    (constant,) = [group for group in groups if group.rule.constant_lr]
    names = {name for name, _ in constant.parameters}
    assert {name.removeprefix("second.") for name in names if name.startswith("second.")} == {
        name for name in names if not name.startswith("second.")
    }


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("heads", ["one", "two"])
def test_what_joins_the_queue_of_moco(encoder, three, heads, symmetric) -> None:
    """The key of the partner, and with both directions that of the anchor; a second head has its own crop."""
    method = build("moco_v2", encoder, heads, symmetric=symmetric, queue=32).train()
    twin = copy.deepcopy(method)
    method(three)
    method.after_step(0.0)
    order = [1, 2, 0] if symmetric else [1, 2]
    features = {place: twin.key_encoder(three.crops[place].pixels) for place in order}
    for head, of, places in ((method, twin, [1]), (method.second, twin.second, [2])):
        if head is None:
            continue
        places = [*places, *([0] if symmetric else [])]
        keys = torch.cat([of.key_projector(features[place]) for place in places])
        assert int(head.queue.pushed) == 8 * len(places)
        torch.testing.assert_close(head.queue.vectors[: 8 * len(places)], F.normalize(keys, dim=1))
        assert head.queue.meaning[:8].tolist() == three.meaning.tolist()


@pytest.mark.parametrize(("heads", "queues"), [("one", [3]), ("two", [2, 2])])
def test_swav_keeps_a_queue_for_each_crop_a_head_sees(encoder, three, heads, queues) -> None:
    method = build("swav", encoder, heads, queue=8, queue_start=0.0)
    sizes = [len(head.queue) for head in (method, method.second) if head is not None]
    assert sizes == queues
    for step in range(2):
        method.before_step(step / 2)
        method(three).loss.backward()
        method.after_step(step / 2)
    assert all(queue.filled == 8 for head in (method, method.second) if head for queue in head.queue)


def test_same_meaning_negatives_are_masked_in_both_terms(encoder, three) -> None:
    method = build("simclr", encoder, same_meaning_negatives="mask").train()
    twin = copy.deepcopy(method)
    h = together(twin.encoder, [crop.pixels for crop in three.crops])
    z = together(twin.projector, h)
    meaning = three.meaning.tolist()
    terms = [of("simclr").reference(z[0], z[other], 0.2, meaning) for other in (1, 2)]
    expected = LAMBDA * terms[0] + (1 - LAMBDA) * terms[1]
    torch.testing.assert_close(method(three).loss, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - set(TAKERS)))
def test_methods_of_other_losses_refuse_it(name, encoder) -> None:
    with pytest.raises(UserError, match=rf"^objective\.name must be pair for {name}\b.*got 'joint'"):
        build_method(METHODS.get(name).Config(), encoder, WIDTH, seed=0, meanings=4, objective=joint())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "joint", "weight": 1.5}, "must be from 0 to 1"),
        ({"name": "joint", "weight": [[0, 0.5], [1, -0.1]]}, "must be from 0 to 1"),
        ({"name": "joint", "weight": "half"}, "must be a number, or points"),
        ({"name": "joint", "heads": "three"}, "must be 'one' or 'two'"),
        ({"name": "joint", "partners": 0}, "greater than or equal to 1"),
        ({"name": "joint", "lambda": 0.5}, "is not a known key"),
        ({"name": "jiont"}, "objective.name is unknown, got 'jiont'; did you mean 'joint'?"),
    ],
)
def test_mistakes_are_one_line(settings, says) -> None:
    with pytest.raises(UserError) as refused:
        validate(Recipe, {"objective": settings})
    assert says in str(refused.value)
    assert "objective" in str(refused.value)


@pytest.mark.parametrize("weight", [0.25, [[0, 0], [0.5, 1]]])
def test_settings_survive_a_recipe(weight) -> None:
    recipe = validate(Recipe, {"objective": {"name": "joint", "weight": weight, "heads": "two"}})
    data = recipe.model_dump(mode="json")
    assert data["objective"]["weight"] == weight
    assert validate(Recipe, data) == recipe
