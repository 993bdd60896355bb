"""Checks of a method: what the training loop, checkpoints and studies rely on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods import METHODS, Method, MethodConfig, ObjectiveConfig, build_method
from sempairs.registry import Section
from sempairs.views.records import PAIR, Crop, Slot, Views

WIDTH = 6
BATCH = 8
#: Of the pairs that `made_up_views` gives.
MEANINGS = 4
# Sizes that heads can have at once, so that checks stay quick whatever a method's defaults are.
_SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7}

#: What the running statistics of a normalisation are called in a state dict.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

Check = Callable[[str, ObjectiveConfig | None], None]


def small_encoder() -> nn.Module:
    """Build a network from (B, 3, S, S) to (B, WIDTH) with batch normalisation; always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        convolution = nn.Conv2d(3, WIDTH, 3, padding=1)
    norm, pool = nn.BatchNorm2d(WIDTH), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(convolution, norm, nn.ReLU(), pool, nn.Flatten())


def made_up_views(
    batch: int = BATCH, *, slots: Sequence[Slot] = PAIR, local: int = 0, seed: int = 0
) -> Views:
    """Make noise for `slots`, then for `local` crops of half the size; every third pair is one image."""
    generator = torch.Generator().manual_seed(seed)
    members: tuple[Any, ...] = ("anchor", "partner")
    wanted = [*slots, *(Slot(members[i % 2], "local") for i in range(local))]
    sizes = {"global": 8, "original": 8, "local": 4}
    crops = []
    for slot in wanted:
        size = sizes[slot.kind]
        pixels = torch.randn(batch, 3, size, size, generator=generator)
        crops.append(Crop(pixels, slot.member, slot.kind))
    pairs = torch.arange(batch)
    return Views(tuple(crops), pairs, pairs // 2, pairs % 3 > 0)


def small_config(name: str) -> MethodConfig:
    """Take the method's defaults, with heads of a few columns where it has the usual settings for them."""
    config: Any = METHODS.get(name).Config
    made: MethodConfig = config(**{key: value for key, value in _SMALL.items() if key in config.model_fields})
    return made


def small_method(name: str, objective: ObjectiveConfig | None = None, *, seed: int = 0) -> Method:
    """Build the method around a small encoder. objective: for a `PairMethod`; None: the published one."""
    config, encoder = small_config(name), small_encoder()
    return build_method(config, encoder, WIDTH, seed=seed, meanings=MEANINGS, objective=objective)


def views_for(method: Method, *, seed: int = 0) -> Views:
    """Make up views of the crops the method wants, with local ones where it takes them."""
    return made_up_views(slots=method.slots, local=2 if method.takes_local else 0, seed=seed)


def check_config(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Its config survives a recipe: the section read back is equal, of the same class, and named alike."""
    config = small_config(name)
    again = Section(METHODS).read(config.model_dump(mode="json"))
    assert again == config and type(again) is METHODS.get(name).Config
    assert config.name == name


def check_step(name: str, objective: ObjectiveConfig | None = None) -> None:
    """A step gives a finite scalar loss, detached scalar logs, and detached embeddings of the first crop."""
    method = small_method(name, objective)
    step = method(views_for(method))
    assert step.loss.shape == () and torch.isfinite(step.loss)
    assert step.embeddings.shape == (BATCH, WIDTH) and not step.embeddings.requires_grad
    assert all(log.shape == () and not log.requires_grad for log in step.logs.values())


def check_gradients(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Gradients reach every trainable parameter, and each stands in one parameter group."""
    method = small_method(name, objective)
    method(views_for(method)).loss.backward()
    trainable = {n for n, p in method.named_parameters() if p.requires_grad}
    assert trainable == {n for n, p in method.named_parameters() if p.requires_grad and p.grad is not None}
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())
    grouped = [n for group in method.param_groups() for n, _ in group.parameters]
    assert sorted(grouped) == sorted(trainable)


def check_training(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Thirty steps on one batch lower the loss."""
    method = small_method(name, objective)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = []
    # Over and over the same batch, a queue of negatives would fill with the positives themselves.
    queue = {k: v.clone() for k, v in method.state_dict().items() if "queue." in k}
    for step in range(30):
        method.before_step(step / 30)
        out = method(views_for(method))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        method.after_step(step / 30)
        method.load_state_dict(queue, strict=False)
        losses.append(out.loss.item())
    assert losses[-1] < losses[0], f"{losses[0]} to {losses[-1]}"


def check_state(name: str, objective: ObjectiveConfig | None = None) -> None:
    """`state_dict` carries everything a step depends on: two copies go on alike, bit for bit."""

    def advance(model: Method, step: int) -> Tensor:
        model.before_step(step / 10)
        out = model(views_for(model, seed=step))
        model.zero_grad()
        out.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
        model.after_step(step / 10)
        loss: Tensor = out.loss.detach()
        return loss

    method = small_method(name, objective)
    for step in range(3):
        advance(method, step)
    other = small_method(name, objective, seed=99)
    views = views_for(method)
    assert not torch.equal(other(views).loss, method(views).loss)
    other.load_state_dict(method.state_dict())
    for step in range(3, 6):
        assert torch.equal(advance(method, step), advance(other, step))


def check_repeatable(name: str, objective: ObjectiveConfig | None = None) -> None:
    """A forward pass may be repeated: it changes nothing but running statistics of normalisation."""
    method = small_method(name, objective)
    views = views_for(method)
    first = method(views).loss.detach()
    assert torch.equal(first, method(views).loss.detach())


def check_carried(name: str, objective: ObjectiveConfig | None = None) -> None:
    """What is carried from step to step changes after the step, and is there only where `stateful` says."""
    method = small_method(name, objective)
    method.before_step(0.0)
    method(views_for(method)).loss.backward()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)

    def moved() -> set[str]:
        return {key for key, value in method.state_dict().items() if not torch.equal(before[key], value)}

    carried = {key for key in before.keys() - moved() if not key.endswith(STATISTICS)}
    method.after_step(0.0)
    assert carried <= moved(), f"unchanged by after_step: {sorted(carried - moved())}"
    said = f"{type(method).__name__}.stateful must be true"
    assert type(method).stateful or not carried, f"{said}: it carries {sorted(carried)}"


def check_half_precision(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Under bf16 autocast the loss is float32, and near the exact one."""
    method = small_method(name, objective)
    views = views_for(method)
    exact = method(views).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method(views).loss
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)


def check_crops(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Crops that the method cannot use are refused by its name."""
    method = small_method(name, objective)
    slots, more = method.slots, Slot("anchor")
    wrong: list[dict[str, Any]] = [{"slots": slots[:1]}, {"slots": slots[:1], "local": 1}]
    wrong += [{"slots": (*slots, more)}] + ([] if method.takes_local else [{"slots": slots, "local": 1}])
    for crops in wrong:
        try:
            method(made_up_views(**crops))
        except UserError as error:
            said = str(error)
        else:
            raise AssertionError(f"{name} took crops it has no use for: {crops}")
        assert said.startswith("views must be ") and f" for {name}" in said, said


def check_seed(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Heads are a pure function of the seed, and global randomness is left as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(small_method(name, objective).state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(map(torch.equal, first, small_method(name, objective).state_dict().values()))
    assert not all(map(torch.equal, first, small_method(name, objective, seed=1).state_dict().values()))


#: The checks of a method; each takes its name and an objective.
METHOD_CHECKS: tuple[Check, ...] = (
    check_config,
    check_step,
    check_gradients,
    check_training,
    check_state,
    check_repeatable,
    check_carried,
    check_half_precision,
    check_crops,
    check_seed,
)


def check_method(name: str, objective: ObjectiveConfig | None = None) -> None:
    """Run every check on the method registered as `name`, with that objective, or the published one.

    Raises: AssertionError, UserError.
    """
    for check in METHOD_CHECKS:
        check(name, objective)
