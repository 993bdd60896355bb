"""Run as a script, `two_processes.py INPUT OUTPUT RANK`, once for each of two processes.

Each holds some of 8 rows, shared out equally and unequally, and saves what it gets for every loss: its value
and its gradient with respect to the weight of one linear map, in float64.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from sempairs.methods.barlow_twins import barlow_terms
from sempairs.methods.byol import byol_loss
from sempairs.methods.dcl import dcl_loss
from sempairs.methods.distributed import layout_of
from sempairs.methods.moco_v2 import moco_loss
from sempairs.methods.moco_v3 import moco_v3_loss
from sempairs.methods.msf import mean_shift
from sempairs.methods.negatives import same_meaning_pairs
from sempairs.methods.nnclr import nnclr_loss
from sempairs.methods.queue import Queue
from sempairs.methods.rince import rince_loss
from sempairs.methods.simclr import nt_xent, same_meaning
from sempairs.methods.simsiam import negative_cosine
from sempairs.methods.supcon import supcon_loss
from sempairs.methods.supervised import cross_entropy
from sempairs.methods.vicreg import vicreg_terms


def losses(left: Tensor, right: Tensor, meaning: Tensor) -> dict[str, Tensor]:
    terms = vicreg_terms(left, right)
    other, pairs = same_meaning(meaning), same_meaning_pairs(meaning)
    queue = torch.eye(left.shape[1], dtype=left.dtype)
    on_diagonal, off_diagonal = barlow_terms(left, right)
    filled = torch.ones(len(queue), dtype=torch.bool)
    return {
        "barlow_twins": on_diagonal + 0.0051 * off_diagonal,
        "msf": mean_shift(left, right, queue, filled=filled, neighbours=2).loss,
        "simsiam": (negative_cosine(left, right) + negative_cosine(right, left)) / 2,
        "supcon": supcon_loss(left, right, meaning, temperature=0.2, base_temperature=0.07),
        "supervised": cross_entropy(left, meaning, label_smoothing=0.1),
        "dcl": dcl_loss(left, right, temperature=0.2),
        "dcl, weighted": dcl_loss(left, right, temperature=0.2, sigma=0.5),
        "dcl, masked": dcl_loss(left, right, temperature=0.2, exclude=other),
        "moco_v2": moco_loss(left, right, queue, temperature=0.2),
        "moco_v3": moco_v3_loss(left, right, temperature=0.2),
        "moco_v3, masked": moco_v3_loss(left, right, temperature=0.2, exclude=pairs),
        "nnclr": nnclr_loss(left, right, temperature=0.2),
        "nnclr, masked": nnclr_loss(left, right, temperature=0.2, exclude=pairs),
        "rince": rince_loss(left, right, temperature=0.2, q=0.5, lam=0.01),
        "rince, masked": rince_loss(left, right, temperature=0.2, q=0.5, lam=0.01, exclude=other),
        "simclr": nt_xent(left, right, temperature=0.2),
        "simclr, masked": nt_xent(left, right, temperature=0.2, exclude=other),
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


def queued(data: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """What a queue of 11 places holds after two batches, the second of which comes round its end."""
    torch.manual_seed(0)
    queue = Queue(11, data["left"].shape[1]).double()
    for name in ("left", "right"):
        queue.push(data[name][rows], data["meaning"][rows])
    return queue.state_dict()


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
        out[name]["queue"] = queued(data, rows)
    torch.save(out, f"{target}.{rank}")
    os._exit(0)  # as `sempairs` itself: threads of gloo can abort a process that is taken down


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), str(Path(sys.argv[2]).resolve()), int(sys.argv[3]))
