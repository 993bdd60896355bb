"""The linear probe: multinomial logistic regression on frozen features, λ chosen on validation.

Kornblith et al. 2019, arXiv:1805.08974, A.4.1; Ericsson et al. 2021, arXiv:2011.13377: L-BFGS, λ in
logspace(-6, 5, 45), C = 1/λ as scikit-learn has it, warm start, refitted on training and validation images,
no augmentation. Departures: features are divided by one number, their root mean square deviation over the
images fitted on, so that a short grid of λ means the same for every encoder (no dimension is scaled against
another); and the path goes from strong to weak λ, each fit starting where the last two lead. The solver is
`logistic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sempairs.evaluation.probes.logistic import Float, Int, Model, fit_path

PATH_TOLERANCE = 1e-3
"""Largest gradient entry (scaled coordinates, nats an image) where a fit that is only validated ends. The
fit that is scored goes further: to scikit-learn's predictions but for about one image in a thousand."""
REFIT_TOLERANCE = 1e-4


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
        path = fit_path(features[fit], labels[fit], classes, order, tolerance=PATH_TOLERANCE, device=device)
        held = features[validation]
        scores = {m.penalty: float((m.predict(held) == labels[validation]).mean()) for m in path}
        start = max(path, key=lambda m: scores[m.penalty])
    best = start.penalty if start else order[0]
    final = fit_path(
        features[both], labels[both], classes, [best],
        tolerance=REFIT_TOLERANCE, start=start, device=device,
    )[0]  # fmt: skip
    return Choice(final, best, scores, len(order) > 1 and best in (order[0], order[-1]))
