"""How a batch of projections lies in space: logged by methods whose loss alone does not show a collapse.

Norms in a projector keep the encoder's features from shrinking to a point, so that a collapse shows in the
projections first: few directions, and unit vectors close together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sempairs.methods.base import in_float32
from sempairs.methods.distributed import layout_of


@torch.no_grad()
@in_float32
def projection_health(rows: Tensor) -> dict[str, Tensor]:
    """Of projections (B, D) of all processes, brought to unit length, scalars; collective with several:

    projection_std: of their columns, the mean times sqrt(D). About 1 where they fill the sphere, 0 collapsed
    (Chen & He 2021, arXiv:2011.10566, section 4.1).
    projection_rank: their `participation_ratio`.
    """
    units = F.normalize(layout_of(rows).gather(rows), dim=1)
    std = units.std(dim=0, correction=0).mean() * math.sqrt(units.shape[1])
    return {"projection_std": std, "projection_rank": participation_ratio(units)}


@torch.no_grad()
@in_float32
def participation_ratio(rows: Tensor) -> Tensor:
    """(Σλ)² / Σλ² of the eigenvalues λ of the covariance of rows (B, D), a scalar: how many directions they
    vary in, from 1 to min(B − 1, D). 0 for rows that are all one."""
    centred = rows - rows.mean(dim=0)
    # Of the two products with these eigenvalues, the smaller.
    product = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    squares = product.square().sum()
    return torch.where(squares > 0, product.trace().square() / squares.clamp(min=1e-30), 0.0)
