"""What shows a collapse: on made-up pairs, with the part of a method that prevents it and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sempairs.methods import Method, MethodConfig, build_method, simsiam
from sempairs.methods.barlow_twins import BarlowTwinsConfig
from sempairs.methods.health import projection_health
from sempairs.methods.simsiam import SimSiamConfig
from sempairs.training.monitor import projection_warning
from sempairs.views.records import Crop, Views

SIMSIAM = SimSiamConfig(hidden=32, out=32, predictor_hidden=8)
BARLOW = BarlowTwinsConfig(hidden=32, out=32, off_diagonal=0.02)
BATCH, STEPS = 64, 300


def made_views(step: int, noise: float) -> Views:
    """The same 64 pictures, each view with noise of its own."""
    pictures = torch.randn(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(1_000_000))
    generator = torch.Generator().manual_seed(step)
    views = [pictures + noise * torch.randn(pictures.shape, generator=generator) for _ in range(2)]
    return Views(
        (Crop(views[0], "anchor"), Crop(views[1], "partner")), torch.arange(BATCH), torch.arange(BATCH)
    )


def last_logs(
    config: MethodConfig, *, noise: float, change: Callable[[Method], None] | None = None, seed: int = 0
) -> dict[str, float]:
    """The logs after 300 steps of SGD, averaged over the last ten."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 16))
    method = build_method(config, encoder, 16, seed=seed)
    if change:
        change(method)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    kept = []
    for step in range(STEPS):
        out = method(made_views(step, noise))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
        kept.append(out.logs)
    return {name: torch.stack([logs[name] for logs in kept[-10:]]).mean().item() for name in kept[0]}


def with_gradient(prediction: Tensor, target: Tensor) -> Tensor:
    return -F.cosine_similarity(prediction, target, dim=1).mean()


def without_predictor(method: Method) -> None:
    method.predictor = nn.Identity()


@pytest.mark.parametrize("seed", [0, 1])
def test_simsiam_stays_healthy(seed):
    logs = last_logs(SIMSIAM, noise=2, seed=seed)
    assert logs["projection_std"] > 0.9
    assert logs["projection_rank"] > 3
    assert projection_warning(logs) is None


@pytest.mark.parametrize("seed", [0, 1])
def test_simsiam_without_its_stop_gradient_is_told(monkeypatch, seed):
    monkeypatch.setattr(simsiam, "negative_cosine", with_gradient)
    logs = last_logs(SIMSIAM, noise=2, seed=seed)
    assert logs["projection_std"] < 0.7
    assert "collapsing" in projection_warning(logs)


@pytest.mark.parametrize("seed", [0, 1])
def test_simsiam_without_its_predictor_is_told(seed):
    logs = last_logs(SIMSIAM, noise=2, change=without_predictor, seed=seed)
    assert logs["projection_std"] < 0.8
    assert "collapsing" in projection_warning(logs)


def test_barlow_twins_stays_healthy_and_without_its_off_diagonal_term_is_told():
    healthy = last_logs(BARLOW, noise=1)
    assert healthy["projection_rank"] > 4
    assert projection_warning(healthy) is None
    alone = last_logs(BARLOW.model_copy(update={"off_diagonal": 0.0}), noise=1)
    assert alone["projection_rank"] < 1.5
    assert "collapsing" in projection_warning(alone)


def test_methods_that_do_not_measure_their_projections_are_not_warned_of():
    assert projection_warning({"loss": 1.0}) is None


def test_health_of_a_full_sphere_a_plane_a_line_and_a_point():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20_000, 16, generator=generator)
    sphere = projection_health(5 * rows)
    assert sphere["projection_std"].item() == pytest.approx(1, abs=0.01)
    assert sphere["projection_rank"].item() == pytest.approx(16, rel=0.01)
    plane = projection_health(rows * (torch.arange(16) < 2))
    assert plane["projection_rank"].item() == pytest.approx(2, rel=0.01)
    line = projection_health(rows[:, :1] * torch.ones(16))
    assert line["projection_rank"].item() == pytest.approx(1, rel=1e-4)
    point = projection_health(torch.ones(8, 16) * torch.arange(1, 9)[:, None])
    assert point["projection_std"].item() == pytest.approx(0, abs=1e-5)


def test_projection_rank_is_that_of_the_covariances_eigenvalues_whichever_product_is_smaller():
    for count, width in ((40, 6), (6, 40)):
        rows = torch.randn(count, width, generator=torch.Generator().manual_seed(count))
        units = F.normalize(rows.double(), dim=1)
        values = torch.linalg.eigvalsh(torch.cov(units.T, correction=0))
        expected = values.sum().square() / values.square().sum()
        got = projection_health(rows)
        torch.testing.assert_close(got["projection_rank"].double(), expected, rtol=1e-4, atol=0)
        expected = units.std(dim=0, correction=0).mean() * width**0.5
        torch.testing.assert_close(got["projection_std"].double(), expected, rtol=1e-5, atol=0)
