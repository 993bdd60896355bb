"""Training views of a batch of pairs, all on tensors, every draw keyed.

Views are rendered in an order of work's own choosing (views that share where hue comes in their chain lie
together, so that each step runs on whole arrays) and put back in place. Nothing depends on that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sempairs.views import background, blur, colour, crop
from sempairs.views.config import ViewsConfig
from sempairs.views.parameters import CONTRAST, HUE, SATURATION, ViewParameters, draw_parameters
from sempairs.views.records import Crop, Views
from sempairs.views.store import PixelStore, on_white

Int = NDArray[np.int64]

# Pixels of output worked on at once: what stays in the cache of a core, or what fills an accelerator.
_CORE_PIXELS, _DEVICE_PIXELS = 1 << 16, 1 << 24
# Positions of hue in a view's chain of four; then two groups that have none.
_NO_HUE, _NO_JITTER = 4, 5


class ViewMaker:
    """Makes views of the images of a store by one config.

    The same key gives the same views: parameters bit for bit, whatever the batches; pixels bit for bit on one
    machine, device and number of threads. Work is done in float32 also under autocast and TF32.
    """

    def __init__(
        self, config: ViewsConfig, store: PixelStore, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = torch.device(device)
        self._recipe = config.resolved()
        self._store = store.on_white() if config.background == "white" else store
        self._mean = torch.tensor(config.mean, device=self.device)[:, None, None, None]
        self._std = torch.tensor(config.std, device=self.device)[:, None, None, None]

    def make(
        self, epoch: int, anchor: ArrayLike, partner: ArrayLike, occurrence: ArrayLike, meaning: ArrayLike
    ) -> Views:
        """Two views of each pair: rows of the store `anchor` and `partner`, key `occurrence`, all (B,)."""
        rows = np.concatenate([np.asarray(anchor), np.asarray(partner)]).astype(np.int64)
        keys = np.asarray(occurrence).astype(np.int64)
        pixels = self._render(rows, self.parameters(epoch, keys))
        of_anchor, of_partner = pixels[: len(keys)], pixels[len(keys) :]
        return Views(
            crops=(Crop(of_anchor, "anchor"), Crop(of_partner, "partner")),
            pair_id=torch.from_numpy(keys).to(self.device),
            meaning=torch.from_numpy(np.asarray(meaning).astype(np.int64)).to(self.device),
        )

    def clean(self, rows: ArrayLike) -> Tensor:
        """The images themselves, (B, 3, S, S) normalised: resized with antialiasing, on white."""
        chosen = np.asarray(rows).astype(np.int64)
        size = self.config.size
        out = torch.empty(len(chosen), 3, size, size, device=self.device)
        side = self._store.size
        with _exact(self.device):
            for part in self._chunks(np.arange(len(chosen))):
                box = torch.tensor([0.0, 0.0, side, side], device=self.device).expand(len(part), 4)
                straight = torch.zeros(len(part), dtype=torch.bool, device=self.device)
                images = on_white(self._store.take(chosen[part], self.device))
                self._place(out, crop.resized_crop(images, box, straight, size), part)
        return out

    def parameters(self, epoch: int, occurrence: ArrayLike) -> ViewParameters:
        """What `make` does to each view: B anchors, then B partners."""
        return draw_parameters(
            self._recipe,
            size=self._store.size,
            seed=self.seed,
            epoch=epoch,
            occurrence=np.asarray(occurrence).astype(np.int64),
            background=self._store.channels == 4,
        )

    def _render(self, rows: Int, parameters: ViewParameters) -> Tensor:
        """Views (V, 3, S, S) of the store's images at `rows` (V,)."""
        size = self.config.size
        out = torch.empty(len(rows), 3, size, size, device=self.device)
        has_hue = self._recipe.jitter_strength[HUE] > 0
        hue_at = np.argmax(parameters.order == HUE, axis=1) if has_hue else np.full(len(rows), _NO_HUE)
        group = np.where(parameters.jitter, hue_at, _NO_JITTER)
        order = np.lexsort((parameters.gray, group))
        chains = _chains(parameters)
        with _exact(self.device):
            for position in np.unique(group):
                for part in self._chunks(order[group[order] == position]):
                    planes = self._cropped(rows[part], parameters, part)
                    if position != _NO_JITTER:
                        self._jitter(planes, self._tensor(chains[:, part]), hue_at=int(position))
                    self._finish(planes, parameters, part)
                    self._place(out, planes, part)
        return out

    def _cropped(self, rows: Int, parameters: ViewParameters, part: Int) -> Tensor:
        """Cropped, flipped and resized planes (3, B, S, S) in [0, 1], laid over their backgrounds."""
        images = self._store.take(rows, self.device)
        box, flip = self._tensor(parameters.box[part]), self._tensor(parameters.flip[part]) > 0
        planes = crop.resized_crop(images, box, flip, self.config.size)
        if parameters.background is None:
            return planes
        draws, texture = self._tensor(parameters.background[part]), self.config.background == "texture"
        return background.composite(planes, background.backdrop(draws, self.config.size, texture=texture))

    def _jitter(self, planes: Tensor, chain: Tensor, *, hue_at: int) -> None:
        """In place: three blends, the hue between them at `hue_at`. chain: (10, B), see `_chains`."""
        for step in range(4):
            if step == hue_at:
                colour.shift_hue_(planes, chain[9])
            if step < 3:
                colour.blend_(planes, *chain[3 * step : 3 * step + 3])

    def _finish(self, planes: Tensor, parameters: ViewParameters, part: Int) -> None:
        """In place: gray, blur and solarise where drawn."""
        grays = int(parameters.gray[part].sum())
        if grays:  # they come last in a part
            colour.grayscale_(planes[:, len(part) - grays :])
        blurred = np.flatnonzero(parameters.sigma[part])
        if len(blurred):
            sigma, index = self._tensor(parameters.sigma[part[blurred]]), self._index(blurred)
            planes[:, index] = blur.gaussian_blur(planes[:, index], sigma)
        solarised = np.flatnonzero(parameters.solarise[part])
        if len(solarised):
            index = self._index(solarised)
            planes[:, index] = colour.solarise_(planes[:, index])

    def _place(self, out: Tensor, planes: Tensor, part: Int) -> None:
        """Writes planes (3, B, S, S), normalised, to the images `part` of `out`."""
        out[self._index(part)] = planes.sub_(self._mean).div_(self._std).transpose(0, 1)

    def _chunks(self, rows: Int) -> Iterator[Int]:
        pixels = _CORE_PIXELS * torch.get_num_threads() if self.device.type == "cpu" else _DEVICE_PIXELS
        step = max(8, pixels // max(self.config.size, self._store.size // 2) ** 2)
        return (rows[start : start + step] for start in range(0, len(rows), step))

    def _index(self, rows: Int) -> Tensor:
        return torch.from_numpy(rows).to(self.device)

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def _chains(parameters: ViewParameters) -> NDArray[np.float64]:
    """(10, V): factor, share of gray and share of mean for each of three blends, then the hue shift."""
    kinds = parameters.order[parameters.order != HUE].reshape(-1, 3)
    factors = np.take_along_axis(parameters.factors, kinds, axis=1)
    rest = 1.0 - factors
    blends = np.stack([factors, rest * (kinds == SATURATION), rest * (kinds == CONTRAST)], axis=2)
    return np.concatenate([blends.reshape(-1, 9), parameters.factors[:, HUE:]], axis=1).T


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """float32 products in full, without gradients, whatever the training step around has chosen."""
    products = getattr(torch.backends, "mkldnn" if device.type == "cpu" else "cuda").matmul
    precision = products.fp32_precision
    products.fp32_precision = "ieee"
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        products.fp32_precision = precision
