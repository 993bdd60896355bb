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
    bias_last: bool = False,
) -> nn.Sequential:
    """`layers` linear maps, width → hidden → … → out, with batch normalisation and ReLU between them.

    `bias`: of the maps before a normalisation, which cancels it; papers differ. `bias_last`: of the last map.
    `norm_last`: a normalisation after the last map, with scale and shift where `affine_last`.
    """
    widths = [width, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    parts.append(nn.Linear(widths[-1], out, bias=bias_last))
    if norm_last:
        parts.append(nn.BatchNorm1d(out, affine=affine_last))
    return nn.Sequential(*parts)


def plain_mlp(width: int, hidden: int, out: int, *, layers: int = 2, norm: bool) -> nn.Sequential:
    """`layers` linear maps, width → hidden → … → out, all with biases, and ReLU between them.

    `norm`: batch normalisation before each ReLU.
    """
    widths = [width, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, nn.Linear(widths[-1], out))
