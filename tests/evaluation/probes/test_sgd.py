"""Protocols that train: schedules step by step, batches, what moves and what stays, and the last epoch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.encoders import weight_hash
from sempairs.errors import UserError
from sempairs.evaluation import EvaluationConfig, evaluate
from sempairs.evaluation.probes import sgd
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.protocols.low_shot import balanced, listed, read_list
from sempairs.evaluation.target import open_target
from sempairs.evaluation.tasks import TASKS

TRAINED = ("linear-moco-1", "linear-simclr-1", "low-shot-1", "low-shot-10", "fine-tune-1")
QUICK = EvaluationConfig(epochs=1, steps=2, fine_tune_rates=(0.01,), fine_tune_decays=(0.0,))


def recipe(name: str) -> sgd.Recipe:
    found = PROTOCOLS.get(name).recipe  # type: ignore[attr-defined]
    assert isinstance(found, sgd.Recipe)
    return found


def rates(found: sgd.Recipe, n: int) -> list[float]:
    """The factor at the first step of each epoch, and the last step's."""
    steps, per_epoch = sgd.length(n, found)
    every = [sgd.rate_factor(found, step, steps=steps, per_epoch=per_epoch) for step in range(steps)]
    return [*every[::per_epoch], every[-1]]


# Schedules ----------------------------------------------------------------------------------------


def test_moco_falls_at_60_and_80_of_100() -> None:
    assert rates(recipe("linear-moco-1"), 1000) == pytest.approx([1] * 60 + [0.1] * 20 + [0.01] * 21)
    assert sgd.length(1000, recipe("linear-moco-1")) == (400, 4)


@pytest.mark.parametrize("name", ["low-shot-1", "low-shot-10"])
def test_low_shot_falls_at_12_and_16_of_20(name: str) -> None:
    assert rates(recipe(name), 600) == pytest.approx([1] * 12 + [0.2] * 4 + [0.04] * 5)


def test_simclr_is_a_cosine_over_90_epochs_and_leaves_the_last_batch_out() -> None:
    assert sgd.length(600, recipe("linear-simclr-1")) == (180, 2)
    expected = [0.5 * (1 + math.cos(math.pi * epoch / 90)) for epoch in range(90)]
    assert rates(recipe("linear-simclr-1"), 600)[:-1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "group", "n", "peak"),
    [
        ("linear-moco-1", [], 600, [30.0]),
        ("linear-moco-1", [], 64, [7.5]),  # all 64 images are one batch
        ("linear-simclr-1", [], 512, [0.1]),
        ("low-shot-1", ["trunk"], 64, [0.02, 5.0]),
        ("low-shot-10", ["trunk"], 600, [0.01, 0.2]),
    ],
)
def test_rates_reach_the_optimiser(
    name: str, group: list[str], n: int, peak: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    settings: list[dict[str, Any]] = []
    step = torch.optim.SGD.step

    def spied(self: torch.optim.SGD, *a: Any, **k: Any) -> Any:
        seen.append([group["lr"] for group in self.param_groups])
        settings.append({key: self.param_groups[0][key] for key in ("momentum", "weight_decay", "nesterov")})
        return step(self, *a, **k)

    monkeypatch.setattr(torch.optim.SGD, "step", spied)
    found = recipe(name)
    trunk, head = nn.Linear(3, 3), nn.Linear(3, 2)
    groups = [(list(trunk.parameters()), found.trunk_rate)] if group else []
    groups.append((list(head.parameters()), found.rate))
    x = torch.randn(n, 3)
    sgd.train(nn.Sequential(trunk, head), groups, lambda _, rows: x[rows], np.arange(n) % 2, found, seed=0)
    assert seen[0] == pytest.approx(peak)
    assert len(seen) == sgd.length(n, found)[0]
    assert settings[0] == {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False}


def test_fine_tuning_is_5000_steps_of_64_over_twenty_pairs() -> None:
    settings = PROTOCOLS.get("fine-tune-1").settings(EvaluationConfig())
    assert (settings["length"], settings["batch"], settings["nesterov"]) == ("5000 steps", 64, True)
    grid = settings["grid_of_rate_and_decay"]
    assert len(grid) == 20
    assert [rate for rate, _ in grid[::5]] == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    assert grid[0][1] == 0
    assert grid[9] == pytest.approx([0.01, 1e-3 / 0.01])


@given(st.integers(1, 40), st.integers(2, 9), st.booleans(), st.integers(0, 3))
def test_an_epoch_is_every_image_once(n: int, batch: int, drop_last: bool, seed: int) -> None:
    found = sgd.Recipe("2 epochs", batch=batch, rate=1.0, schedule="cosine", drop_last=drop_last)
    if n == 1:
        return
    all_batches = list(sgd.batches(n, found, seed=seed))
    for epoch in (0, 1):
        rows = np.concatenate([r for _, e, r in all_batches if e == epoch])
        assert len(np.unique(rows)) == len(rows)
        rest = n % min(batch, n)
        assert len(rows) == (n - rest if drop_last or rest == 1 else n)
    assert [step for step, _, _ in all_batches] == list(range(len(all_batches)))


# Training -----------------------------------------------------------------------------------------


def test_a_step_is_torchs_own() -> None:
    """Two steps by hand: momentum, rate and mean cross-entropy."""
    x, y = torch.randn(4, 3), np.array([0, 1, 1, 0])
    found = sgd.Recipe("2 epochs", batch=4, rate=0.5, schedule="cosine")
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    sgd.train(model, [(list(model.parameters()), 0.5)], lambda _, rows: x[rows], y, found, seed=0)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for rate in (0.5, 0.25):
        gradients = torch.autograd.grad(
            nn.functional.cross_entropy(twin(x), torch.from_numpy(y)), list(twin.parameters())
        )
        for p, g, v in zip(twin.parameters(), gradients, velocity, strict=True):
            v.mul_(0.9).add_(g)
            with torch.no_grad():
                p -= rate * v
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    model = nn.Linear(2, 2)
    found = sgd.Recipe("1 epochs", batch=4, rate=1.0, schedule="cosine")
    x = torch.full((4, 2), float("inf"))
    with pytest.raises(sgd.Diverged, match="step 0"):
        sgd.train(
            model, [(list(model.parameters()), 1.0)], lambda _, r: x[r], np.arange(4) % 2, found, seed=0
        )


@pytest.fixture
def context(encoder: Path, emoji: tuple[str, Catalog]) -> Context:
    source = open_source(emoji[0])
    return Context(open_target(encoder), source, source.scan().catalog, QUICK)


def problem_of(context: Context) -> Any:
    return TASKS.get("emoji-subgroup").build(context.catalog, context.config)


@pytest.mark.parametrize("name", TRAINED)
def test_the_encoder_given_stays_and_a_second_time_is_the_same(name: str, context: Context) -> None:
    before = weight_hash(context.target.encoder)
    modes = [module.training for module in context.target.encoder.modules()]
    first = PROTOCOLS.get(name).score(context, problem_of(context))
    assert weight_hash(context.target.encoder) == before
    assert [m.training for m in context.target.encoder.modules()] == modes
    assert [p.requires_grad for p in context.target.encoder.parameters()] == [True] * len(
        list(context.target.encoder.parameters())
    )
    again = PROTOCOLS.get(name).score(context, problem_of(context))
    assert first == again
    assert [s.metric for s in first] == list(PROTOCOLS.get(name).metrics)


def test_the_trunk_moves_in_tuning(context: Context) -> None:
    rows = problem_of(context).folds[0].fit
    labels = problem_of(context).labels[rows]
    images = sgd.Images(context, rows)
    found = sgd.Recipe("1 epochs", batch=16, rate=0.1, trunk_rate=0.1, schedule="cosine")
    model = sgd.tune(context, rows, labels, 3, found, images, what="test")
    start = context.target.encoder.state_dict()
    moved = [name for name, value in model[0].state_dict().items() if not torch.equal(value, start[name])]
    assert {"model.conv1.weight", "model.bn1.running_mean", "model.layer4.0.conv2.weight"} <= set(moved)
    frozen = sgd.Recipe("1 epochs", batch=16, rate=0.1, trunk_rate=0.0, schedule="cosine")
    model = sgd.tune(context, rows, labels, 3, frozen, images, what="test")
    for name, value in model[0].named_parameters():
        torch.testing.assert_close(value, start[name])


def test_views_are_crops_of_their_own_image_and_change_with_the_epoch(context: Context) -> None:
    """Odd batches too; a view depends on the epoch and the image, and not on the batch."""
    rows = np.arange(0, 30, 2)
    batch = sgd.Images(context, np.arange(40)).views(rows)
    some = batch(0, np.array([4, 7, 1]))
    assert some.shape == (3, 3, 16, 16)
    assert torch.equal(some, batch(0, np.array([4, 7, 1])))
    assert not torch.equal(some, batch(1, np.array([4, 7, 1])))
    # Every colour of a crop lies between those of its image.
    whole = torch.cat(list(sgd.Images(context, np.arange(40)).clean(rows[[4, 7, 1]])))
    assert (some.amin((2, 3)) >= whole.amin((2, 3)) - 0.15).all()
    assert (some.amax((2, 3)) <= whole.amax((2, 3)) + 0.15).all()
    assert whole.shape == some.shape


def test_order_of_rows_changes_nothing(context: Context) -> None:
    problem = problem_of(context)
    rows = problem.folds[0].fit
    found = sgd.Recipe("1 epochs", batch=16, rate=0.1, schedule="cosine")
    turned = rows[::-1].copy()
    first = sgd.probe(context, rows, problem.labels[rows], 3, found, what="a")
    second = sgd.probe(context, turned, problem.labels[turned], 3, found, what="b")
    assert torch.equal(first.weight, second.weight)


def test_colours_are_learnt_and_shuffled_labels_are_not(context: Context) -> None:
    """The category is a colour; a probe and a tuned trunk both find it, and chance is a third."""
    problem = problem_of(context)
    fold = problem.folds[0]
    rows = np.concatenate([fold.fit, fold.validation])
    found = sgd.Recipe("60 epochs", batch=27, rate=0.5, trunk_rate=0.05, schedule="cosine")
    images = sgd.Images(context, np.union1d(problem.fitted, problem.scored))
    truth = problem.labels[fold.test]
    model = sgd.tune(context, rows, problem.labels[rows], 3, found, images, what="t")
    assert (sgd.predict(context, model, images, fold.test) == truth).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(problem.labels[rows])
    model = sgd.tune(context, rows, shuffled, 3, replace(found, length="20 epochs"), images, what="t")
    assert (sgd.predict(context, model, images, fold.test) == truth).mean() < 0.75


def test_scored_images_choose_nothing(context: Context) -> None:
    """Labels of the scored images moved by one class leave the predictions, so right ones become wrong."""
    problem = problem_of(context)
    for name in TRAINED:
        predicted: list[np.ndarray] = []
        for labels in (problem.labels, None):
            changed = problem
            if labels is None:
                other = problem.labels.copy()
                other[problem.folds[0].test] = (other[problem.folds[0].test] + 1) % 3
                changed = type(problem)(other, problem.classes, problem.folds, problem.units)
            score = PROTOCOLS.get(name).score(context, changed)[0]
            predicted.append(np.array(score.value))
            assert "last" in score.selection
        assert predicted[0] + predicted[1] <= 1 + 1e-9


# Low-shot -----------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(1, 60), st.sampled_from([0.01, 0.1, 0.5]), st.integers(0, 3))
def test_a_share_is_balanced_nested_and_independent_of_order(
    classes: int, each: int, share: float, seed: int
) -> None:
    labels = np.repeat(np.arange(classes), each)
    names = np.array([f"image {i}" for i in range(len(labels))])
    chosen = balanced(labels, names, share, seed=seed)
    assert np.bincount(labels[chosen], minlength=classes).tolist() == [max(1, round(share * each))] * classes
    larger = balanced(labels, names, min(1.0, 3 * share), seed=seed)
    assert set(chosen) <= set(larger)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert set(names[order][balanced(labels[order], names[order], share, seed=seed)]) == set(names[chosen])


def test_imagenet_counts() -> None:
    labels = np.repeat(np.arange(100), 1281)
    names = np.arange(len(labels)).astype(str)
    assert np.bincount(labels[balanced(labels, names, 0.01, seed=0)]).tolist() == [13] * 100


def test_a_list_of_names_with_blanks_that_windows_saved(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfimg (2).jpg\r\n\r\n img (1).jpg \r\nimg (2).jpg")
    assert read_list(str(tmp_path / "list.txt")) == ["img (1).jpg", "img (2).jpg"]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf\r\n")
    with pytest.raises(UserError, match="must name images"):
        read_list(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_names_with_blanks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_text("a cat/1 2.png\n\n  3.png\n", encoding=encoding)
    wanted = read_list(str(tmp_path / "list.txt"))
    assert wanted == ["3.png", "a cat/1 2.png"]
    names = np.array(["a cat/1 2.png", "b/3.png", "c/4.png", "d/4.png"])
    assert listed(names, wanted, "list.txt").tolist() == [0, 1]
    assert listed(names, ["c/4.png"], "list.txt").tolist() == [2]
    with pytest.raises(UserError, match=r"by their whole path where 2 end alike, got '4\.png'"):
        listed(names, ["4.png"], "list.txt")


def test_a_published_list_is_taken(encoder: Path, emoji: tuple[str, Catalog], tmp_path: Path) -> None:
    catalog = emoji[1]
    train = (catalog.column("split") == "train") & (catalog.column("domain") == "google")
    names = [Path(i).name if k % 2 else i for k, i in enumerate(catalog.column("image_id")[train])]
    # Names repeat between categories here, so they are given whole.
    names = list(catalog.column("image_id")[train])[::3]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    config = QUICK.model_copy(update={"low_shot_lists": {"low-shot-1": str(tmp_path / "list.txt")}})
    task = TASKS.get("emoji-subgroup").at(emoji[0]).name
    keyed_, given_ = (
        evaluate(encoder, [task], data=emoji[0], protocols=["low-shot-1"], config=c)[0]
        for c in (QUICK, config)
    )
    assert given_.extra["labelled"] == [len(names)]
    assert given_.settings_hash != keyed_.settings_hash
    (tmp_path / "list.txt").write_text("nobody.png\n")
    with pytest.raises(UserError, match=r"1 of 1 are not among them, got 'nobody\.png'"):
        evaluate(encoder, [task], data=emoji[0], protocols=["low-shot-1"], config=config)
    (tmp_path / "list.txt").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        evaluate(encoder, [task], data=emoji[0], protocols=["low-shot-1"], config=config)


def test_a_training_with_dropout_goes_on_from_its_state(tmp_path: Path) -> None:
    """Whatever torch's global generator has given meanwhile."""
    x, y = torch.randn(24, 6), np.arange(24) % 3
    found = sgd.Recipe("7 steps", batch=8, rate=0.1, schedule="cosine", nesterov=True)

    def trained(keep: Path | None, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
        model.load_state_dict(first.state_dict())
        batches = 0

        def batch(_: int, rows: Any) -> torch.Tensor:
            nonlocal batches
            batches += 1
            if batches == stop_at:
                raise RuntimeError("power cut")
            return x[rows]

        sgd.train(model, [(list(model.parameters()), 0.1)], batch, y, found, seed=0, keep=keep)
        return model.state_dict()

    first = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
    whole = trained(None)
    with pytest.raises(RuntimeError, match="power cut"):
        trained(tmp_path / "kept", stop_at=5)
    torch.rand(3)
    resumed = trained(tmp_path / "kept", stop_at=4)  # three steps are left
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_value_is_worked_out_once_also_over_an_interruption(drawings: Path, tmp_path: Path) -> None:
    source = open_source(f"folder:{drawings}")
    catalog, asked = source.scan().catalog, []

    def compute(context: Context) -> float:
        asked.append(context.kept)
        if context.kept is not None:
            context.kept.mkdir(parents=True)
        return 0.1 + 0.2

    for kept in (tmp_path / "kept", None):
        context = Context(open_target("random:tiny-resnet", seed=0), source, catalog, kept=kept)
        assert [context.once(["key", 1.5], compute) for _ in range(2)] == [0.1 + 0.2] * 2
    assert len(asked) == 3 and asked[1:] == [None, None]
    assert asked[0].parent == tmp_path / "kept" and not asked[0].exists()
