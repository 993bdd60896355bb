"""The linear probe against scikit-learn, an independent loop, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sempairs.evaluation.probes import linear, logistic


def made(n: int, width: int, classes: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Skewed, shifted, correlated features of overlapping classes, every class present."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    centres = rng.normal(size=(classes, width))
    mixing = rng.normal(size=(width, width)) / np.arange(1, width + 1)
    features = (centres[labels] + spread * rng.normal(size=(n, width))) @ mixing.T + 3
    return features.astype(np.float32), labels.astype(np.int64)


def exact(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> logistic.Model:
    return logistic.fit_path(
        features, labels, classes, [penalty], tolerance=1e-8, dtype=torch.float64, scale=1.0
    )[0]


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 30.0])
def test_coefficients_are_scikit_learns(classes: int, penalty: float) -> None:
    features, labels = made(300, 12, classes, seed=classes)
    ours = exact(features, labels, classes, penalty)
    # By Newton's method: scikit-learn's L-BFGS stops up to 3e-4 of the scale away from the minimum.
    theirs = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    theirs.fit(features.astype(np.float64), labels)
    weight, bias = ours.weight.numpy().T, ours.bias.numpy()
    if classes == 2:  # there one vector separates the two
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    else:  # a constant added to every bias changes nothing
        bias, theirs.intercept_ = bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean()
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-5 * scale)
    np.testing.assert_allclose(bias, theirs.intercept_, atol=1e-5 * max(1, np.abs(theirs.intercept_).max()))
    assert np.array_equal(ours.predict(features), theirs.predict(features.astype(np.float64)))


def test_accuracy_agrees_with_scikit_learn_to_four_digits() -> None:
    data = load_digits()
    features, labels = data.data.astype(np.float32), data.target.astype(np.int64)
    fit, test = np.arange(900), np.arange(900, 1797)
    for penalty in (1e-2, 1.0, 100.0):
        ours = exact(features[fit], labels[fit], 10, penalty)
        theirs = LogisticRegression(C=1 / penalty, solver="newton-cg", tol=1e-8, max_iter=2000)
        theirs.fit(data.data[fit], labels[fit])
        accuracy = (ours.predict(features[test]) == labels[test]).mean()
        assert abs(accuracy - theirs.score(data.data[test], labels[test])) < 5e-5


def test_the_whole_choice_agrees_with_scikit_learn() -> None:
    """λ on validation, refit on both parts, at the tolerances that evaluations use."""
    data = load_digits()
    features, labels = (data.data * 37).astype(np.float32), data.target.astype(np.int64)
    fit, validation, test = np.arange(300), np.arange(300, 600), np.arange(600, 1797)
    penalties = [1e3, 1e2, 10, 1, 0.1, 1e-2]
    ours = linear.choose_and_refit(features, labels, 10, penalties, fit=fit, validation=validation)
    both = np.concatenate([fit, validation])

    def reference(rows: np.ndarray, penalty: float) -> LogisticRegression:
        centred = features[rows].astype(np.float64)
        scaled = features / np.sqrt(((centred - centred.mean(0)) ** 2).mean())
        model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000).fit(scaled[rows], labels[rows])
        model.scaled = scaled
        return model

    for penalty in penalties:
        model = reference(fit, penalty)
        accuracy = model.score(model.scaled[validation], labels[validation])
        assert ours.validation[penalty] == pytest.approx(accuracy, abs=3.5 / len(validation))
    model = reference(both, ours.penalty)
    accuracy = (ours.model.predict(features[test]) == labels[test]).mean()
    assert accuracy == pytest.approx(model.score(model.scaled[test], labels[test]), abs=5e-5)


def test_the_minimum_is_one_of_the_written_function() -> None:
    """The gradient of (1/N) Σ cross-entropy + (λ/2N) ‖W‖², written out loop by loop, vanishes."""
    features, labels = made(60, 5, 3, seed=0)
    penalty = 0.7
    model = exact(features, labels, 3, penalty)
    weight = model.weight.clone().requires_grad_()
    bias = model.bias.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(torch.from_numpy(features).double(), labels, strict=True):
        scores = [(x * weight[:, k]).sum() + bias[k] for k in range(3)]
        total = total + torch.logsumexp(torch.stack(scores), 0) - scores[y]
    loss = total / len(labels) + penalty / (2 * len(labels)) * weight.square().sum()
    assert model.loss == pytest.approx(loss.item(), rel=1e-10)
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6


def test_a_path_ends_where_each_fit_alone_ends() -> None:
    features, labels = made(120, 8, 4, seed=5)
    penalties = [100.0, 1.0, 1e-2]
    path = logistic.fit_path(features, labels, 4, penalties, tolerance=1e-7, dtype=torch.float64)
    for model in path:
        alone = logistic.fit_path(features, labels, 4, [model.penalty], tolerance=1e-7, dtype=torch.float64)[
            0
        ]
        np.testing.assert_allclose(model.weight, alone.weight, atol=1e-4 * float(alone.weight.abs().max()))
        assert model.converged
        assert alone.converged


def test_a_fit_starts_on_the_line_through_the_last_two() -> None:
    def at(penalty: float, value: float) -> logistic.Model:
        weight = torch.full((2, 2), value)
        return logistic.Model(weight, -weight[0], 1.0, penalty, True, 0.0)

    path = [at(100.0, 1.0), at(10.0, 3.0)]
    for penalty, expected in ((1.0, 5.0), (10**0.5, 4.0), (1e-3, 5.0), (10.0, 3.0), (50.0, 3.0)):
        ahead = logistic._ahead(path, penalty)
        assert ahead.weight[0, 0].item() == pytest.approx(expected)
        assert ahead.bias[0].item() == pytest.approx(-expected)
    assert logistic._ahead(path[:1], 10.0) is path[0]
    assert logistic._ahead([path[1], path[1]], 1.0) is path[1]


def test_a_long_path_takes_fewer_steps_and_ends_at_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made(600, 40, 8, seed=1)
    penalties = list(np.logspace(5, -6, 45))
    calls = [0]
    cross_entropy = logistic._Problem._cross_entropy

    def counted(self: logistic._Problem, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls[0] += 1
        return cross_entropy(self, weight)

    monkeypatch.setattr(logistic._Problem, "_cross_entropy", counted)
    path = logistic.fit_path(features, labels, 8, penalties, tolerance=1e-4, dtype=torch.float64)
    ahead, calls[0] = calls[0], 0
    monkeypatch.setattr(logistic, "_ahead", lambda models, penalty: models[-1])
    plain = logistic.fit_path(features, labels, 8, penalties, tolerance=1e-4, dtype=torch.float64)
    assert ahead < 0.75 * calls[0]
    for model, other in zip(path, plain, strict=True):
        assert model.loss == pytest.approx(other.loss, abs=1e-5)


def test_small_problems_use_one_core_and_leave_the_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made(40, 4, 3, seed=0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    fit = logistic._Problem.fit

    def spied(self: logistic._Problem, *a: object, **k: object) -> logistic.Model:
        seen.append(torch.get_num_threads())
        return fit(self, *a, **k)  # type: ignore[arg-type]

    monkeypatch.setattr(logistic._Problem, "fit", spied)
    try:
        logistic.fit_path(features, labels, 3, [1.0], tolerance=1e-3)
        monkeypatch.setattr(logistic, "SMALL", 0)
        logistic.fit_path(features, labels, 3, [1.0], tolerance=1e-3)
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_float32_and_chunks_agree_with_float64_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made(400, 16, 5, seed=2)
    slow = logistic.fit_path(features, labels, 5, [1.0], tolerance=1e-7, dtype=torch.float64)[0]
    monkeypatch.setattr(logistic, "CHUNK", 64)
    fast = logistic.fit_path(features, labels, 5, [1.0], tolerance=1e-5)[0]
    assert fast.loss == pytest.approx(slow.loss, abs=1e-6)
    np.testing.assert_allclose(fast.weight, slow.weight, atol=5e-3 * float(slow.weight.abs().max()))


@settings(max_examples=15)
@given(factor=st.sampled_from([1e-4, 0.5, 3e3]), shift=st.floats(-5, 5), seed=st.integers(0, 5))
def test_scale_and_shift_of_the_features_change_nothing(factor: float, shift: float, seed: int) -> None:
    features, labels = made(100, 6, 3, seed=seed)
    fit, validation = np.arange(60), np.arange(60, 100)
    plain = linear.choose_and_refit(features, labels, 3, [100, 1, 0.01], fit=fit, validation=validation)
    moved = ((features.astype(np.float64) + shift) * factor).astype(np.float32)
    other = linear.choose_and_refit(moved, labels, 3, [100, 1, 0.01], fit=fit, validation=validation)
    assert other.validation == pytest.approx(plain.validation, abs=1.5 / 40)
    if other.penalty == plain.penalty:
        assert (other.model.predict(moved) != plain.model.predict(features)).mean() <= 0.02


def test_validation_alone_chooses_and_both_parts_are_refitted() -> None:
    """Validation has the truth behind noisy fitting labels, so a strong λ wins; the refit sees both."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(400, 1)).astype(np.float32)
    noise = rng.normal(size=(400, 150)).astype(np.float32)
    features = np.concatenate([3 * signal, noise], axis=1)
    labels = (signal[:, 0] > 0).astype(np.int64)
    flipped = rng.random(400) < 0.3
    noisy = np.where(flipped, 1 - labels, labels)
    fit, validation = np.arange(200), np.arange(200, 400)
    given_labels = np.where(np.arange(400) < 200, noisy, labels)
    choice = linear.choose_and_refit(features, given_labels, 2, [1e-6, 100.0], fit=fit, validation=validation)
    assert choice.penalty == 100.0
    assert choice.validation[100.0] > choice.validation[1e-6]
    again = logistic.fit_path(features, given_labels, 2, [100.0], tolerance=1e-5)[0]
    np.testing.assert_allclose(choice.model.weight, again.weight, atol=1e-3)


def test_ties_go_to_the_strongest_and_the_edge_is_told() -> None:
    features = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    labels = np.repeat(np.arange(3), 20)
    rows = np.arange(60)
    choice = linear.choose_and_refit(
        features, labels, 3, [1e-3, 1.0, 0.1], fit=rows[::2], validation=rows[1::2]
    )
    assert set(choice.validation.values()) == {1.0}
    assert (choice.penalty, choice.at_edge) == (1.0, True)
    single = linear.choose_and_refit(features, labels, 3, [0.1], fit=rows[::2], validation=rows[1::2])
    assert (single.penalty, single.at_edge) == (0.1, False)


def test_collapsed_features_predict_the_commonest_class() -> None:
    features, labels = np.ones((30, 4), dtype=np.float32), np.repeat([0, 1, 1], 10)
    choice = linear.choose_and_refit(
        features, labels, 2, [1.0, 10.0], fit=np.arange(0, 30, 2), validation=np.arange(1, 30, 2)
    )
    assert (choice.model.predict(features) == 1).all()


def test_a_class_that_only_validation_has_is_learnt_by_the_refit() -> None:
    features = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    labels = np.repeat(np.arange(3), 10)
    choice = linear.choose_and_refit(
        features, labels, 3, [1.0, 0.01], fit=np.arange(20), validation=np.arange(20, 30)
    )
    assert (choice.model.predict(features) == labels).all()
