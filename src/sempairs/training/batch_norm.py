"""Batch normalisation over the rows of all processes, so that a batch is one batch wherever its rows lie.

torch's own `nn.SyncBatchNorm` runs on accelerators only, and is used there. `SyncBatchNorm` here is for the
CPU: exact in any precision, for processes that hold different numbers of rows. Statistics are those of
Ioffe & Szegedy 2015, arXiv:1502.03167, Alg. 1 and 2; those of the processes are combined as in Chan, Golub &
LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", Eq. 2.1.
"""

from __future__ import annotations

from typing import Any

import timm.layers
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from sempairs.errors import UserError

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation whose statistics, in training, are those of the rows of all processes.

    (B, C) or (B, C, …), B and the sizes behind C differing by process at will. In training a call is
    collective.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"must be (B, C) or (B, C, …), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            out: Tensor = super().forward(input)
            return out
        self._check_input_dim(input)
        out, mean, variance = _normalise(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._follow(mean, variance)
        return out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class SyncBatchNormAct(SyncBatchNorm):
    """The same for timm's normalisation with an activation in it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = self.act(self.drop(super().forward(input)))
        return out


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Makes every batch normalisation in `module`, on `device`, one over all processes; its state stays.

    Raises: UserError for a kind of batch normalisation that does more than this module knows.
    """
    own = device.type == "cpu"
    plain = SyncBatchNorm if own else nn.SyncBatchNorm
    with_activation = SyncBatchNormAct if own else timm.layers.SyncBatchNormAct
    for name, part in module.named_modules():
        if not isinstance(part, _BatchNorm):
            continue
        # The class alone changes: parameters, buffers, hooks and references stay what they are.
        if type(part) in _PLAIN:
            part.__class__ = plain
        elif type(part) in (timm.layers.BatchNormAct2d, timm.layers.SyncBatchNormAct):
            part.__class__ = with_activation
        else:
            rule = (
                f"has a batch normalisation ({type(part).__name__} {name}) that is not known over processes"
            )
            raise UserError("encoder.arch", rule, remedy="train it in one process")
        setattr(part, "process_group", None)  # noqa: B010 (an attribute of the new class: all processes)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _normalise(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    out: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(input, weight, bias, eps)
    return out


class _Normalise(torch.autograd.Function):
    """Input to (output, mean, unbiased variance), the latter two (C,) and without gradient."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = input.double() if input.dtype == torch.float64 else input.float()
        own_variance, own_mean = torch.var_mean(wide, _dims(input), correction=0)
        count = own_mean.new_tensor([input.numel() // input.shape[1]])
        own = torch.cat([count, own_mean, own_variance * count])
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        every, width = torch.stack(parts), len(own_mean)
        counts, means, squares = every[:, :1], every[:, 1 : width + 1], every[:, width + 1 :]
        total = float(counts.sum())
        if total < 2:
            raise ValueError(f"batch normalisation needs more than {total:.0f} value a channel")
        mean = (counts * means).sum(dim=0) / total
        spread = (squares + counts * (means - mean).square()).sum(dim=0)
        variance = spread / total
        ctx.total, ctx.dims = total, _dims(input)
        ctx.save_for_backward(input, weight, mean, (variance + eps).rsqrt())
        out = F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)
        unbiased = spread / (total - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        return out, mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, scale = ctx.saved_tensors
        shape = (1, -1, *[1] * (input.ndim - 2))
        gradient = gradients[0].to(mean.dtype)
        unit = (input.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        own = torch.stack([gradient.sum(ctx.dims), (gradient * unit).sum(ctx.dims)])
        every = own.clone()
        dist.all_reduce(every)
        every /= ctx.total
        factor = scale if weight is None else scale * weight
        into = (gradient - every[0].view(shape) - unit * every[1].view(shape)) * factor.view(shape)
        # Weight and bias get this process's own part: data-parallel training averages them like any other.
        _, learns_weight, learns_bias, _ = ctx.needs_input_grad
        of_weight, of_bias = own[1] if learns_weight else None, own[0] if learns_bias else None
        return into.to(input.dtype), of_weight, of_bias, None


def _dims(input: Tensor) -> list[int]:
    return [0, *range(2, input.ndim)]
