"""Multinomial logistic regression by L-BFGS, to the minimum that scikit-learn has, several times sooner.

N = images, D = width, K = classes. The function is that of scikit-learn's `LogisticRegression(C=1/λ)`,

    (1/N) Σ cross-entropy(x W + b, y) + (λ / 2N) ‖W‖²,    b unpenalised,

and with two classes, where it fits one vector w = W₁ - W₀, the same with 2λ. Features are centred (which b
takes up) and divided by one number. L-BFGS runs in coordinates where the curvature is near the identity: the
features' principal axes, each scaled by (h s + λ/N)^(-1/2) with variance s and h the mean of p (1 - p), in
the manner of Böhning's bound (1992, Ann. Inst. Stat. Math. 44). The function and its minimum stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

Float = NDArray[np.float32]
Int = NDArray[np.int64]

ROUND, MAX_STEPS = 100, 3000
LEAST = -50.0
"""Smallest score below an image's largest that is told from smaller ones; exp(-50) is 2e-22."""
CHUNK = 1 << 16
"""Rows at a time, so that memory beyond the features stays bounded."""
SMALL = 3 * 10**7
"""Products N D K below which one core is used. Steps of well under a millisecond gain nothing from a second
core, and wait for it, twenty times and more, wherever it has other work."""


@dataclass(frozen=True)
class Model:
    """A fitted probe: scores = (features / scale) @ weight + bias. weight: (D, K), bias: (K,).

    converged: ended at the tolerance or where the arithmetic allows no further descent, with steps to spare.
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
    tolerance: float,
    start: Model | None = None,
    dtype: torch.dtype = torch.float32,
    scale: float | None = None,
    device: torch.device | str = "cpu",
) -> list[Model]:
    """A probe for each λ of `penalties`, in the order given, each fit starting where the two before it lead.

    features: (N, D); labels: (N,) in [0, classes), each class present or not. scale: the number features are
    divided by; None: their root mean square deviation.
    """
    models: list[Model] = []
    with _one_core(features.size * classes < SMALL):
        problem = _Problem(features, labels, classes, dtype=dtype, scale=scale, device=device)
        for penalty in penalties:
            begin = _ahead(models, penalty) if models else start
            models.append(problem.fit(penalty, start=begin, tolerance=tolerance))
    return models


def _ahead(models: Sequence[Model], penalty: float) -> Model:
    """Where a fit starts: the last one, moved on along the line through the last two in log λ.

    The path is smooth, so that half the steps are saved. Never further than the last step between two fits.
    """
    last = models[-1]
    if len(models) < 2 or penalty == last.penalty or last.penalty == models[-2].penalty:
        return last
    before = models[-2]
    step = math.log(penalty / last.penalty) / math.log(last.penalty / before.penalty)
    step = min(max(step, 0.0), 1.0)
    return replace(
        last,
        weight=last.weight + step * (last.weight - before.weight),
        bias=last.bias + step * (last.bias - before.bias),
    )


@contextmanager
def _one_core(wanted: bool) -> Iterator[None]:
    """torch's work on one thread inside, and as before afterwards."""
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
        """The minimum for one λ, in rounds: each one measures the curvature where it begins."""
        n, k = len(self.x), self.classes
        ridge = penalty * (2 if k == 2 else 1) / n
        weight, steps = self._enter(start), 0
        while True:
            curvature = self._curvature(weight)
            stretch = torch.cat([self.variance * curvature + ridge, weight.new_full((1,), curvature)])
            stretch = stretch.rsqrt()[:, None]
            shrink = ridge * stretch.square()
            shrink[-1] = 0  # the intercept
            objective = self._objective(stretch, shrink)
            found = minimize(
                objective,
                (weight / stretch).cpu().numpy().ravel(),
                jac=True,
                method="L-BFGS-B",
                # No stop by relative decrease: the gradient decides, at whatever scale the loss is.
                options={"maxiter": ROUND, "maxfun": 10 * ROUND, "gtol": tolerance, "ftol": 0},
            )
            weight = torch.from_numpy(found.x.reshape(-1, k)).to(self.x.device) * stretch
            steps += found.nit
            if found.nit < ROUND or steps >= MAX_STEPS:
                break
        outer = self.axes @ weight[:-1]
        return Model(
            weight=outer.to(self.x.dtype),
            bias=(weight[-1] - self.mean @ outer).to(self.x.dtype),
            scale=self.scale,
            penalty=penalty,
            converged=steps < MAX_STEPS,
            loss=float(found.fun),
        )

    def _objective(
        self, stretch: Tensor, shrink: Tensor
    ) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
        """Value and gradient by v, flat, where the weights are stretch * v."""
        n, k = len(self.x), self.classes

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            v = torch.from_numpy(flat.reshape(-1, k)).to(self.x.device)
            penalised = shrink * v
            loss, gradient = self._cross_entropy((stretch * v).to(self.x.dtype))
            loss = loss / n + 0.5 * (penalised * v).sum()
            gradient = stretch * gradient / n + penalised
            return float(loss), gradient.cpu().numpy().ravel()

        return objective

    def _curvature(self, weight: Tensor) -> float:
        """Mean over images and classes of p (1 - p), the diagonal of the softmax's own curvature."""
        k = self.classes
        squares = torch.zeros((), dtype=torch.float64, device=weight.device)
        for x in torch.split(self.x, CHUNK):
            squares += (x @ weight.to(x.dtype)).softmax(1).square().sum(dtype=torch.float64)
        # Where every image is sure of its class the ridge is all there is; a floor keeps the steps finite.
        return max((1 - float(squares) / len(self.x)) / k, 1e-4 / k)

    def _cross_entropy(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images of the cross-entropy, and its gradient by `weight`, (D + 1, K), in float64."""
        loss = torch.zeros((), dtype=torch.float64, device=weight.device)
        gradient = torch.zeros_like(weight, dtype=torch.float64)
        for x, labels in zip(torch.split(self.x, CHUNK), torch.split(self.labels, CHUNK), strict=True):
            rows = torch.arange(len(x), device=x.device)
            scores = x @ weight
            scores -= scores.amax(1, keepdim=True)
            own = scores[rows, labels].sum(dtype=torch.float64)
            # Below, exp and its products leave the normal numbers, and arithmetic is ten times slower.
            total = scores.clamp_(min=LEAST).exp_().sum(1, keepdim=True)
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
