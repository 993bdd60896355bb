"""What of a step is drawn from torch's own generators (dropout, drop path): keyed like every other draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sempairs.keyed import text_key


@contextmanager
def step_draws(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's generators are those of this step and process; then again what they were."""
    key = int(text_key(seed, "dropout", [f"{step} {rank}"])[0]) >> 1
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(key)
        if device.type == "cuda":
            torch.cuda.manual_seed(key)
        yield
