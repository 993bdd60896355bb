"""The linear probe: multinomial logistic regression on frozen features, λ chosen on validation.

Kornblith et al. 2019, arXiv:1805.08974, A.4.1; Ericsson et al. 2021, arXiv:2011.13377: L-BFGS, λ in
logspace(-6, 5, 45), C = 1/λ, warm start, refitted on training and validation images, no augmentation.
N = images, D = width, K = classes. scikit-learn's `LogisticRegression(C=1/λ)` minimises the same function,

    (1/N) Σ cross-entropy(x W + b, y) + (λ / 2N) ‖W‖²,    b unpenalised,

and with two classes, where it fits one vector w = W₁ - W₀, the same with 2λ. Departures from Ericsson:

- Features are divided by one number, their root mean square deviation over the images fitted on, so that a
  short grid of λ means the same for every encoder. No dimension is scaled against another.
- L-BFGS runs in coordinates where Böhning's bound on the curvature (1992, Ann. Inst. Stat. Math. 44) is near
  the identity: feature principal axes, each scaled by (h s + λ/N)^(-1/2) with variance s and h = 1/K. The
  function and its minimum are the same; the steps to it are several times fewer.
- The path of λ goes from strong to weak, each fit starting from the last.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from sempairs.evaluation.scores import Features, Score, classification_scores
from sempairs.evaluation.tasks.base import Classification

Float = NDArray[np.float32]
Int = NDArray[np.int64]

NAME = "linear-1"
PATH_TOLERANCE = 3e-4
"""Largest gradient entry (scaled coordinates, nats an image) where a fit that is only validated ends. The
fit that is scored goes further: to scikit-learn's predictions but for about one image in a thousand."""
REFIT_TOLERANCE = 1e-5
MAX_ITERATIONS = 1000
CHUNK = 1 << 16
"""Rows at a time, so that memory beyond the features stays bounded."""


@dataclass(frozen=True)
class Model:
    """A fitted probe: scores = (features / scale) @ weight + bias. weight: (D, K), bias: (K,).

    converged: ended at the tolerance, or where the arithmetic allows no further descent; not for want of steps.
    """

    weight: Tensor
    bias: Tensor
    scale: float
    penalty: float
    converged: bool
    loss: float

    def predict(self, features: Float) -> Int:
        """The class of each row, (N,)."""
        x = torch.from_numpy(np.ascontiguousarray(features)).to(self.weight) / self.scale
        return np.asarray((x @ self.weight + self.bias).argmax(1).cpu().numpy(), dtype=np.int64)


def fit_path(
    features: Float,
    labels: Int,
    classes: int,
    penalties: Sequence[float],
    *,
    tolerance: float = PATH_TOLERANCE,
    start: Model | None = None,
    dtype: torch.dtype = torch.float32,
    scale: float | None = None,
    device: torch.device | str = "cpu",
) -> list[Model]:
    """A probe for each λ of `penalties`, in the order given, each fit starting from the one before.

    features: (N, D); labels: (N,) in [0, classes), each class present or not. scale: the number features are
    divided by; None: their root mean square deviation.
    """
    problem = _Problem(features, labels, classes, dtype=dtype, scale=scale, device=device)
    models: list[Model] = []
    for penalty in penalties:
        start = problem.fit(penalty, start=start, tolerance=tolerance)
        models.append(start)
    return models


@dataclass(frozen=True)
class Choice:
    """The probe refitted with the chosen λ; validation accuracy by λ; whether λ is at an end of the grid."""

    model: Model
    penalty: float
    validation: dict[float, float]
    at_edge: bool


def choose_and_refit(
    features: Float,
    labels: Int,
    classes: int,
    penalties: Sequence[float],
    *,
    fit: Int,
    validation: Int,
    device: torch.device | str = "cpu",
) -> Choice:
    """λ by the accuracy on `validation` (ties: the strongest), then one fit on both parts.

    features: (N, D); labels: (N,); fit, validation: rows of them.
    """
    order = sorted(penalties, reverse=True)
    both = np.concatenate([fit, validation])
    if len(order) == 1:
        start, scores = None, {}
    else:
        path = fit_path(features[fit], labels[fit], classes, order, device=device)
        held = features[validation]
        scores = {m.penalty: float((m.predict(held) == labels[validation]).mean()) for m in path}
        start = max(path, key=lambda m: scores[m.penalty])
    best = start.penalty if start else order[0]
    final = fit_path(
        features[both], labels[both], classes, [best],
        tolerance=REFIT_TOLERANCE, start=start, device=device,
    )[0]  # fmt: skip
    return Choice(final, best, scores, len(order) > 1 and best in (order[0], order[-1]))


class _Problem:
    """The data of one fit in its principal axes, shared by every λ."""

    def __init__(
        self,
        features: Float,
        labels: Int,
        classes: int,
        *,
        dtype: torch.dtype,
        scale: float | None,
        device: torch.device | str,
    ) -> None:
        assert features.ndim == 2 and len(features) == len(labels) > 0 and classes >= 2
        x = torch.from_numpy(features).to(device, dtype, copy=True)
        self.mean = x.mean(0, dtype=torch.float64)
        x -= self.mean.to(dtype)
        covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
        for rows in torch.split(x, CHUNK):
            covariance += rows.double().T @ rows.double() / len(x)
        # Of features that are all equal, a collapsed encoder's, nothing can be learnt at any scale.
        self.scale = scale if scale is not None else (float(covariance.diagonal().mean().sqrt()) or 1.0)
        self.mean /= self.scale
        variance, self.axes = torch.linalg.eigh(covariance / self.scale**2)
        self.variance = variance.clamp(min=0)
        self.x = torch.cat([x @ self.axes.to(dtype) / self.scale, torch.ones_like(x[:, :1])], 1)
        self.labels = torch.from_numpy(labels).to(device)
        self.classes = classes

    def fit(self, penalty: float, *, start: Model | None, tolerance: float) -> Model:
        """The minimum for one λ."""
        n, k = len(self.x), self.classes
        ridge = penalty * (2 if k == 2 else 1) / n
        stretch = torch.cat([self.variance / k + ridge, self.variance.new_full((1,), 1 / k)]).rsqrt()[:, None]
        shrink = ridge * stretch.square()
        shrink[-1] = 0  # the intercept

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            v = torch.from_numpy(flat.reshape(-1, k)).to(self.x.device)
            penalised = shrink * v
            loss, gradient = self._cross_entropy((stretch * v).to(self.x.dtype))
            loss = loss / n + 0.5 * (penalised * v).sum()
            gradient = stretch * gradient / n + penalised
            return float(loss), gradient.cpu().numpy().ravel()

        found = minimize(
            objective,
            (self._enter(start) / stretch).cpu().numpy().ravel(),
            jac=True,
            method="L-BFGS-B",
            # No stop by relative decrease: the gradient decides, at whatever scale the loss is.
            options={"maxiter": MAX_ITERATIONS, "maxfun": 10 * MAX_ITERATIONS, "gtol": tolerance, "ftol": 0},
        )
        weight = torch.from_numpy(found.x.reshape(-1, k)).to(self.x.device) * stretch
        outer = self.axes @ weight[:-1]
        return Model(
            weight=outer.to(self.x.dtype),
            bias=(weight[-1] - self.mean @ outer).to(self.x.dtype),
            scale=self.scale,
            penalty=penalty,
            converged=found.nit < MAX_ITERATIONS,
            loss=float(found.fun),
        )

    def _cross_entropy(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images of the cross-entropy, and its gradient by `weight`, (D + 1, K), in float64."""
        loss = torch.zeros((), dtype=torch.float64, device=weight.device)
        gradient = torch.zeros_like(weight, dtype=torch.float64)
        for x, labels in zip(torch.split(self.x, CHUNK), torch.split(self.labels, CHUNK), strict=True):
            rows = torch.arange(len(x), device=x.device)
            scores = x @ weight
            scores -= scores.amax(1, keepdim=True)
            own = scores[rows, labels].sum(dtype=torch.float64)
            total = scores.exp_().sum(1, keepdim=True)
            loss += total.log().sum(dtype=torch.float64) - own
            scores /= total
            scores[rows, labels] -= 1
            gradient += x.T @ scores
        return loss, gradient

    def _enter(self, start: Model | None) -> Tensor:
        """A model's weights in these axes, (D + 1, K); zeros where there is none."""
        if start is None:
            return self.x.new_zeros(self.x.shape[1], self.classes, dtype=torch.float64)
        outer = start.weight.double() * (self.scale / start.scale)
        return torch.cat([self.axes.T @ outer, (start.bias.double() + self.mean @ outer)[None]])


def score(
    features: Features,
    problem: Classification,
    penalties: Sequence[float],
    *,
    device: str = "cpu",
    known: dict[Hashable, Choice] | None = None,
) -> list[Score]:
    """Accuracy, and its mean over classes, with λ chosen and refitted in each fold.

    known: probes already fitted on these features, added to; tasks that fit the same images share them.
    """
    known = {} if known is None else known
    predicted, choices = [], []
    for fold in problem.folds:
        rows = np.concatenate([fold.fit, fold.validation])
        labels, places = problem.labels[rows], np.arange(len(rows))
        key = (rows.tobytes(), len(fold.fit), labels.tobytes(), problem.classes)
        if key not in known:
            known[key] = choose_and_refit(
                features.at(rows), labels, len(problem.classes), penalties,
                fit=places[: len(fold.fit)], validation=places[len(fold.fit) :], device=device,
            )  # fmt: skip
        choices.append(known[key])
        predicted.append(known[key].model.predict(features.at(fold.test)))
    return classification_scores(
        NAME,
        problem,
        predicted,
        ("accuracy", "mean_per_class_accuracy"),
        selection="lambda on validation",
        settings={
            "lambdas": list(penalties),
            "scaling": "root mean square",
            "tolerances": [PATH_TOLERANCE, REFIT_TOLERANCE],
            "max_iterations": MAX_ITERATIONS,
            "version": 1,
        },
        extra={
            "lambdas": [choice.penalty for choice in choices],
            "validation": [sorted(choice.validation.items()) for choice in choices],
            "lambdas_at_edge": sum(choice.at_edge for choice in choices),
            "converged": all(choice.model.converged for choice in choices),
        },
    )
