"""Multilayer perceptrons between an encoder and a loss."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(
    width: int,
    hidden: int,
    out: int,
    *,
    layers: int = 2,
    bias: bool,
    norm_last: bool,
    affine_last: bool = True,
) -> nn.Sequential:
    """`layers` linear maps, width → hidden → … → out, with batch normalisation and ReLU between them.

    `bias`: of the maps before a normalisation, which cancels it; papers differ. The last map has none.
    `norm_last`: a normalisation after the last map, with scale and shift where `affine_last`.
    """
    widths = [width, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    parts.append(nn.Linear(widths[-1], out, bias=False))
    if norm_last:
        parts.append(nn.BatchNorm1d(out, affine=affine_last))
    return nn.Sequential(*parts)
