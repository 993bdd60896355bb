"""Training views of a batch of pairs, all on tensors, every draw keyed.

Views are rendered in an order of work's own choosing (views that share where hue comes in their chain lie
together, so that each step runs on whole arrays) and put back in place. Nothing depends on that order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sempairs.views import background, blur, colour, crop
from sempairs.views.config import Recipe, ViewsConfig
from sempairs.views.parameters import (
    CONTRAST,
    FURTHER,
    HUE,
    LOCAL,
    SATURATION,
    SLOTS,
    ViewParameters,
    draw_parameters,
)
from sempairs.views.records import PAIR, Crop, Member, Slot, Views
from sempairs.views.store import ImageStore, on_white

Int = NDArray[np.int64]
Rows = dict[tuple[Member, int], Int]  # of each image of a pair: anchor, first partner, ...

MEMBERS: tuple[Member, ...] = ("anchor", "partner")
# Pixels of output worked on at once: near the cache of a core, or enough to fill an accelerator.
_CORE_PIXELS, _DEVICE_PIXELS = 1 << 17, 1 << 24
# Positions of hue in a view's chain of four; then two groups that have none.
_NO_HUE, _NO_JITTER = 4, 5


class ViewMaker:
    """Makes the crops in `slots` of pairs of images of a store by one config; then local ones, if it has any.

    domains: of each row of the store the number of its domain, handed on with the views.
    The same key gives the same views: parameters bit for bit, whatever the batches; pixels bit for bit on one
    machine, device and number of threads. Work is done in float32 also under autocast and TF32.
    """

    def __init__(
        self,
        config: ViewsConfig,
        store: ImageStore,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        slots: Sequence[Slot] = PAIR,
        domains: Int | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = torch.device(device)
        self.slots = tuple(slots)
        self._domains = domains
        self._recipe = config.resolved()
        self._global = [slot for slot in self.slots if slot.kind == "global"]
        locals_ = config.local.count if config.local else 0
        self._local = [Slot(MEMBERS[i % 2], "local") for i in range(locals_)]
        assert self._global and all(slot.kind != "local" for slot in self.slots)
        self._store = store.on_white() if config.background == "white" else store
        self._mean = torch.tensor(config.mean, device=self.device)[:, None, None, None]
        self._inverse_std = (1.0 / torch.tensor(config.std, device=self.device))[:, None, None, None]

    def make(
        self,
        epoch: int,
        anchor: ArrayLike,
        partner: ArrayLike,
        occurrence: ArrayLike,
        meaning: ArrayLike,
        further: ArrayLike | None = None,
    ) -> Views:
        """Make the crops of each pair: those of the slots, then local ones, of anchor and partner in turn.

        Args:
            epoch: Counts from 0; a part of the key of every draw.
            anchor: Rows of the store, (B,).
            partner: Rows of the store, (B,).
            occurrence: Which pair of the plan each is, (B,); a part of the key of every draw.
            meaning: What each pair shows, (B,); below 0 where it is not known.
            further: Rows of the partners that come after the first, (B, K).

        Returns:
            The crops, (B, 3, S, S) each, with pair numbers and meanings.
        """
        others = [] if further is None else list(_whole(further).T)
        rows: Rows = {("anchor", 0): _whole(anchor)}
        rows |= {("partner", number): of for number, of in enumerate([_whole(partner), *others])}
        keys, local = _whole(occurrence), self.config.local
        pixels = self._views(self._global, rows, self.parameters(epoch, keys), self.config.size)
        crops = [
            Crop(self.clean(rows[_shown(s)]) if s.kind == "original" else next(pixels), s.member, s.kind)
            for s in self.slots
        ]
        if local is not None:
            pixels = self._views(self._local, rows, self.local_parameters(epoch, keys), local.size)
            crops += [Crop(next(pixels), slot.member, "local") for slot in self._local]
        return Views(
            crops=tuple(crops),
            pair_id=torch.from_numpy(keys).to(self.device),
            meaning=torch.from_numpy(_whole(meaning)).to(self.device),
            distinct=torch.from_numpy(rows["anchor", 0] != rows["partner", 0]).to(self.device),
            domain=self._domain([*self.slots, *self._local], rows),
        )

    def _domain(self, slots: Sequence[Slot], rows: Rows) -> Tensor | None:
        """(V, B) the domain of the image that each slot shows, if domains are known."""
        if self._domains is None:
            return None
        return torch.from_numpy(self._domains[np.stack([rows[_shown(s)] for s in slots])]).to(self.device)

    def prefetch(self, *rows: ArrayLike) -> None:
        """Says that `make` will soon be asked for these rows: a store of files begins to read them."""
        self._store.prefetch(np.concatenate([_whole(some).ravel() for some in rows]))

    def clean(self, rows: ArrayLike) -> Tensor:
        """The images themselves, (B, 3, S, S) normalised: resized with antialiasing, on white."""
        chosen, size = _whole(rows), self.config.size
        out = torch.empty(len(chosen), 3, size, size, device=self.device)
        whole = np.array([0, 0, self._store.size, self._store.size])
        with _exact(self.device):
            for part in self._slices(0, len(chosen), size):
                images = on_white(self._store.take(chosen[part], self.device))
                box, flip = np.tile(whole, (len(images), 1)), np.zeros(len(images), dtype=bool)
                out[part] = self._normalised(crop.resized(images, *self._axes(box, flip, size)))
        return out

    def parameters(self, epoch: int, occurrence: ArrayLike) -> ViewParameters:
        """What `make` does to each global crop: B of the first, then B of the next, in the order of slots."""
        numbers = _numbered(self._global)
        opposite = {of for of, slot in zip(numbers, self._global, strict=True) if slot.opposite}
        return self._drawn(self._recipe, epoch, occurrence, numbers, opposite)

    def local_parameters(self, epoch: int, occurrence: ArrayLike) -> ViewParameters:
        """What `make` does to each local crop: B of the first, then B of the next."""
        slots = range(LOCAL, LOCAL + len(self._local))
        return self._drawn(self._recipe.of_local(), epoch, occurrence, slots)

    def _drawn(
        self,
        recipe: Recipe,
        epoch: int,
        occurrence: ArrayLike,
        slots: Sequence[int],
        opposite: Collection[int] = (),
    ) -> ViewParameters:
        return draw_parameters(
            recipe,
            size=self._store.size,
            seed=self.seed,
            epoch=epoch,
            occurrence=_whole(occurrence),
            slots=slots,
            opposite=opposite,
            background=self._store.channels == 4,
        )

    def _views(self, slots: Sequence[Slot], rows: Rows, drawn: ViewParameters, size: int) -> Iterator[Tensor]:
        """Views (B, 3, size, size) for each of `slots`, of the images at `rows` (B,)."""
        pixels = self._render(np.concatenate([rows[_shown(slot)] for slot in slots]), drawn, size)
        return iter(pixels.view(len(slots), len(rows["anchor", 0]), *pixels.shape[1:]))

    def _render(self, rows: Int, drawn: ViewParameters, size: int) -> Tensor:
        """Views (V, 3, size, size) of the store's images at `rows` (V,)."""
        hue_at = np.argmax(drawn.order == HUE, axis=1)
        if not self._recipe.jitter_strength[HUE]:
            hue_at[:] = _NO_HUE
        group = np.where(drawn.jitter, hue_at, _NO_JITTER)
        order = np.lexsort((drawn.gray, group))
        rows, group, drawn = rows[order], group[order], drawn.take(order)
        out = torch.empty(len(rows), 3, size, size, device=self.device)
        place = torch.from_numpy(order).to(self.device)
        with _exact(self.device):
            axes = self._axes(drawn.box, drawn.flip, size)
            chain = self._tensor(_chains(drawn))[:, :, None, None]
            for start, stop in _runs(group):
                for part in self._slices(start, stop, size):
                    planes = crop.resized(
                        self._store.take(rows[part], self.device), *(axis.part(part) for axis in axes)
                    )
                    if drawn.background is not None:
                        planes = self._on_background(planes, drawn.background[part])
                    self._jitter(planes, chain[:, part], hue_at=group[start])
                    self._finish(planes, drawn, part)
                    out[place[part]] = self._normalised(planes)
        return out

    def _axes(self, box: Int, flip: NDArray[np.bool_], out: int) -> tuple[crop.Triangles, crop.Triangles]:
        of_flip = torch.from_numpy(flip).to(self.device)
        return crop.box_triangles(self._tensor(box), of_flip, size=self._store.size, out=out)

    def _on_background(self, planes: Tensor, draws: NDArray[np.float64]) -> Tensor:
        texture = self.config.background == "texture"
        behind = background.backdrop(self._tensor(draws), planes.shape[-1], texture=texture)
        return background.composite(planes, behind)

    def _jitter(self, planes: Tensor, chain: Tensor, *, hue_at: int) -> None:
        """In place: three blends, the hue between them at `hue_at`. chain: (10, B, 1, 1), see `_chains`."""
        if hue_at == _NO_JITTER:
            return
        for step in range(4):
            if step == hue_at:
                colour.shift_hue_(planes, chain[9])
            if step < 3:
                colour.blend_(planes, *chain[3 * step : 3 * step + 3])

    def _finish(self, planes: Tensor, drawn: ViewParameters, part: slice) -> None:
        """In place: gray, blur and solarise where drawn."""
        grays = int(drawn.gray[part].sum())
        if grays:  # they come last in a part
            colour.grayscale_(planes[:, -grays:])
        blurred = np.flatnonzero(drawn.sigma[part])
        if len(blurred):
            index = torch.from_numpy(blurred).to(self.device)
            sigma = self._tensor(drawn.sigma[part][blurred])
            planes[:, index] = blur.gaussian_blur(planes[:, index], sigma)
        solarised = np.flatnonzero(drawn.solarise[part])
        if len(solarised):
            index = torch.from_numpy(solarised).to(self.device)
            planes[:, index] = colour.solarise_(planes[:, index])

    def _normalised(self, planes: Tensor) -> Tensor:
        """Planes (3, B, S, S), changed in place, as normalised images (B, 3, S, S)."""
        return planes.sub_(self._mean).mul_(self._inverse_std).transpose(0, 1)

    def _slices(self, start: int, stop: int, size: int) -> Iterator[slice]:
        """Parts of a run of views of `size` pixels, as many at once as suits the device."""
        pixels = _CORE_PIXELS * torch.get_num_threads() if self.device.type == "cpu" else _DEVICE_PIXELS
        step = max(8, pixels // max(size, self._store.size // 2) ** 2)
        return (slice(first, min(first + step, stop)) for first in range(start, stop, step))

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def _whole(values: ArrayLike) -> Int:
    return np.asarray(values).astype(np.int64)


def _shown(slot: Slot) -> tuple[Member, int]:
    """Which image of a pair a slot shows."""
    return slot.member, slot.number


def _numbered(slots: Sequence[Slot]) -> list[int]:
    """The numbers, in keys, of global crops: of each member's first crop, then those of further ones.

    So crops asked for beside the usual two change neither of these.
    """
    first, further = dict(zip(MEMBERS, SLOTS, strict=True)), count(FURTHER)
    return [first.pop(slot.member) if slot.member in first else next(further) for slot in slots]


def _chains(parameters: ViewParameters) -> NDArray[np.float64]:
    """(10, V): factor, share of gray and share of mean for each of three blends, then the hue shift."""
    kinds = parameters.order[parameters.order != HUE].reshape(-1, 3)
    factors = np.take_along_axis(parameters.factors, kinds, axis=1)
    rest = 1.0 - factors
    blends = np.stack([factors, rest * (kinds == SATURATION), rest * (kinds == CONTRAST)], axis=2)
    return np.concatenate([blends.reshape(-1, 9), parameters.factors[:, HUE:]], axis=1).T


def _runs(group: Int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
    return pairwise(edges) if len(group) else iter(())


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
