"""Run as a script, `two_processes.py INPUT OUTPUT RANK`, once for each of two processes.

Each holds some of 8 rows, shared out equally and unequally, and saves what it gets for every loss: its value
and its gradient with respect to the weight of one linear map, in float64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from sempairs.methods.byol import byol_loss
from sempairs.methods.distributed import layout_of
from sempairs.methods.simclr import nt_xent, same_meaning
from sempairs.methods.vicreg import vicreg_terms


def losses(left: Tensor, right: Tensor, meaning: Tensor) -> dict[str, Tensor]:
    terms = vicreg_terms(left, right)
    return {
        "simclr": nt_xent(left, right, temperature=0.2),
        "simclr, masked": nt_xent(left, right, temperature=0.2, exclude=same_meaning(meaning)),
        "byol": byol_loss(left, right) + byol_loss(right, left),
        "vicreg": 25 * terms.invariance + 25 * terms.variance + terms.covariance,
    }


def measure(data: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Loss and weight gradient of each loss on `rows`."""
    weight = data["weight"].clone().requires_grad_()
    left, right = data["left"][rows] @ weight, data["right"][rows] @ weight
    out = {}
    for name, loss in losses(left, right, data["meaning"][rows]).items():
        out[f"{name} loss"] = loss.detach()
        (out[f"{name} gradient"],) = torch.autograd.grad(loss, weight, retain_graph=True)
    return out


def main(source: str, target: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{target}.rendezvous", rank=rank, world_size=2)
    data = torch.load(source, weights_only=True)
    out = {}
    for name, first in (("equal", 4), ("unequal", 6)):
        rows = slice(0, first) if rank == 0 else slice(first, None)
        out[name] = measure(data, rows)
        left = data["left"][rows]
        out[name]["gathered"] = layout_of(left).gather(left)
    torch.save(out, f"{target}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), str(Path(sys.argv[2]).resolve()), int(sys.argv[3]))
