"""Training by SGD for the protocols that train: on augmented views of the images fitted on, or on features.

Every draw (order of the images, crops, first weights) is keyed by the evaluation's seed, and images are taken
in the order of their names; the weights scored are those of the last step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from sempairs import keyed
from sempairs.config import Duration
from sempairs.encoders import Encoder
from sempairs.evaluation.config import ProtocolConfig
from sempairs.files import folder_lock, stable_hash
from sempairs.progress import track
from sempairs.runs import engine
from sempairs.training.optimisers import optimiser_state, restore_optimiser
from sempairs.training.schedules import warm_up_cosine
from sempairs.views.config import ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.store import PixelStore

if TYPE_CHECKING:  # the protocols import this file
    from sempairs.evaluation.protocols.base import Context

Int = NDArray[np.int64]
Batch = Callable[[int, Int], Tensor]
"""Inputs of a model, (B, ...), for an epoch and places among the images fitted on, (B,)."""

CROP_SCALE = (0.08, 1.0)
VIEWS = {
    "crop": list(CROP_SCALE), "aspect": [3 / 4, 4 / 3], "flip": 0.5,
    "stored": "central square, 8/7 of the view's side",
}  # fmt: skip
"""RandomResizedCrop and RandomHorizontalFlip by torchvision's defaults, as every protocol here has them."""
PREDICTED = 256
SAVES = 20
"""States saved in the course of a training, the last one after its last step."""


@dataclass(frozen=True)
class Recipe:
    """rate: of the head; trunk_rate: of the encoder, 0 where it is frozen. rate_for: the batch that rates are
    for, to which they are proportional; None: they stay as they are. Fewer images than `batch` are one batch.

    schedule: "steps" multiplies by `factor` at .6 and .8 of the epochs, "cosine" falls to 0 step by step.
    head: its first weights, torch's own for a linear layer, or normal of deviation .01 and no bias.
    """

    length: str
    batch: int
    rate: float
    schedule: Literal["steps", "cosine"]
    trunk_rate: float = 0.0
    rate_for: int | None = None
    factor: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    drop_last: bool = False
    head: Literal["linear", "normal .01"] = "linear"

    def settings(self) -> dict[str, Any]:
        """All of it as JSON values."""
        steps = {"milestones": list(MILESTONES)} if self.schedule == "steps" else {}
        return {**asdict(self), **steps}


class EpochsConfig(ProtocolConfig):
    """epochs: of a protocol that trains for epochs; null: as published."""

    epochs: Annotated[int, Field(ge=1)] | None = None

    def taken(self, recipe: Recipe) -> Recipe:
        """A protocol's recipe, for as many epochs."""
        return replace(recipe, length=f"{self.epochs} epochs") if self.epochs else recipe


MILESTONES = (0.6, 0.8)
"""Shares of the epochs after which rates fall: 60 and 80 of 100, 12 and 16 of 20."""


class Diverged(Exception):  # noqa: N818 (a finding, which a search over rates goes on from)
    """The loss was not finite."""


def rate_factor(recipe: Recipe, step: int, *, steps: int, per_epoch: int) -> float:
    """What rates are multiplied by at `step` (from 0) of `steps`."""
    if recipe.schedule == "cosine":
        return warm_up_cosine(step, total=steps, warm_up=0)
    epochs, epoch = steps / per_epoch, step // per_epoch
    return recipe.factor ** sum(epoch >= share * epochs - 1e-9 for share in MILESTONES)


def batches(n: int, recipe: Recipe, *, seed: int, start: int = 0) -> Iterator[tuple[int, int, Int]]:
    """Step, epoch and places (B,) of every batch from step `start` on; an epoch is a keyed order of n images.

    A batch of a single image is left out, as it has no spread to normalise by; so is, with `drop_last`, any
    that is not full.
    """
    size = min(recipe.batch, n)
    total, per_epoch = length(n, recipe)
    for step in range(start, total):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or step == start:
            order = keyed.permutation(seed, "sgd", epoch=epoch, n=n)
        yield step, epoch, order[place * size : (place + 1) * size]


def length(n: int, recipe: Recipe) -> tuple[int, int]:
    """Steps in all, and in an epoch, on n images."""
    size = min(recipe.batch, n)
    full, rest = divmod(n, size)
    per_epoch = full + (rest > 1 and not recipe.drop_last)
    return max(1, Duration.parse(recipe.length).steps(per_epoch)), per_epoch


def train(
    model: nn.Module,
    groups: Sequence[tuple[Sequence[nn.Parameter], float]],
    batch: Batch,
    labels: Int,
    recipe: Recipe,
    *,
    seed: int,
    precision: str = "float32",
    what: str = "training",
    keep: Path | None = None,
) -> None:
    """Train `model` in place by cross-entropy.

    Args:
        model: (B, classes) scores of a batch.
        groups: parameters with their rate.
        batch: makes the inputs of a step.
        labels: (N,), of the images fitted on.
        recipe: length, rates and schedule.
        seed: of the order of images, and of what the model draws itself.
        precision: of the forward pass, "float32" or "bf16".
        what: name beside the progress bar.
        keep: a folder of this training alone, for its states: killed, and called again, it goes on bit for
            bit. The caller removes it. None: nothing is kept.

    Raises: Diverged where the loss is not finite; Interrupted on Ctrl-C, after saving, where states are kept.
    """
    work = _Training(model, groups, batch, labels, recipe, seed, precision, what)
    if keep is None:
        for _ in track(work.steps(0), total=work.total, what=what, unit="step"):
            pass
        return
    with folder_lock(keep):
        engine.drive(work, keep, start=engine.resume(work, keep) or 0)


class _Training(engine.Work):
    """The steps of `train`."""

    resumed_by = ""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        batch: Batch,
        labels: Int,
        recipe: Recipe,
        seed: int,
        precision: str,
        what: str,
    ) -> None:
        super().__init__()
        self.model, self.batch, self.recipe, self.seed, self.what = model, batch, recipe, seed, what
        self.precision, self.n = precision, len(labels)
        self.identity = {}  # the folder is of this training alone
        self.total, self.per_epoch = length(self.n, recipe)
        self.save_every = max(1, self.total // SAVES)
        scale = min(recipe.batch, self.n) / recipe.rate_for if recipe.rate_for else 1.0
        self.place = next(model.parameters()).device
        self.target = torch.from_numpy(labels).to(self.place)
        self.optimiser = torch.optim.SGD(
            [{"params": list(parameters), "peak": scale * rate, "lr": 0.0} for parameters, rate in groups],
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )

    def steps(self, start: int) -> Iterator[int]:
        for step, epoch, rows in batches(self.n, self.recipe, seed=self.seed, start=start):
            factor = rate_factor(self.recipe, step, steps=self.total, per_epoch=self.per_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            inputs = self.batch(epoch, rows)
            bf16 = torch.autocast(self.place.type, torch.bfloat16, enabled=self.precision == "bf16")
            with keyed.torch_draws(self.seed, "dropout", str(step), self.place), bf16:
                scores = self.model(inputs)
            chosen = torch.from_numpy(rows).to(self.place)
            loss = nn.functional.cross_entropy(scores.float(), self.target[chosen])
            if not torch.isfinite(loss):
                raise Diverged(f"the loss is {loss.item()} at step {step}")
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            yield step + 1

    def state(self) -> dict[str, Tensor]:
        out = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        kept = optimiser_state(self.optimiser, self.model)
        return out | {f"optimiser/{name}": value for name, value in kept.items()}

    def restore(self, tensors: dict[str, Tensor], scalars: Mapping[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model/"))
        restore_optimiser(self.optimiser, self.model, part("optimiser/"))


def new_head(width: int, classes: int, recipe: Recipe, *, seed: int, device: str) -> nn.Linear:
    """A linear layer of keyed first weights; global random state is left as it was."""
    with keyed.torch_draws(seed, "weights", "probe"), torch.device("cpu"):
        head = nn.Linear(width, classes)
        if recipe.head == "normal .01":
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
    return head.to(device)


class Images:
    """The images of a problem as training views, or as they are, at the encoder's size.

    rows: of the catalogue, increasing. Views of an image depend on the seed, its epoch and its place by name.
    """

    def __init__(self, context: Context, rows: Int) -> None:
        self.rows = np.unique(rows)
        self._context = context
        self._size = context.target.spec.input_size

    def ordered(self, rows: Int) -> Int:
        """Some of the rows in the order of their names, so that a catalogue's own order changes nothing."""
        names = self._context.catalog.select(rows).column("image_id").astype(str)
        return np.asarray(rows[np.argsort(names, kind="stable")], dtype=np.int64)

    def views(self, rows: Int) -> Batch:
        """Random crops and flips of the images at `rows`, normalised, (B, 3, S, S)."""
        maker = self._maker(self._store(max(4, round(self._size * 8 / 7))))
        places = np.searchsorted(self.rows, rows)

        def batch(epoch: int, chosen: Int) -> Tensor:
            # A draw of the maker makes two views: two images each take one of theirs.
            pairs = np.append(chosen, chosen[-1:]) if len(chosen) % 2 else chosen
            first, second = pairs[0::2], pairs[1::2]
            made = maker.make(epoch, places[first], places[second], first, first)
            both = torch.stack([crop.pixels for crop in made.crops], dim=1).flatten(0, 1)
            return both[: len(chosen)]

        return batch

    def clean(self, rows: Int) -> Iterator[Tensor]:
        """The images at `rows` whole, a batch at a time."""
        maker = self._maker(self._store(self._size))
        places = np.searchsorted(self.rows, rows)
        return (maker.clean(places[i : i + PREDICTED]) for i in range(0, len(places), PREDICTED))

    def _store(self, size: int) -> PixelStore:
        known, key = self._context.known, ("pixels", size, self.rows.tobytes())
        if key not in known:
            known[key] = self._context.pixels(self.rows, size)
        store = known[key]
        assert isinstance(store, PixelStore)
        return store

    def _maker(self, store: PixelStore) -> ViewMaker:
        spec = self._context.target.spec
        config = ViewsConfig(
            size=self._size, mean=spec.mean, std=spec.std, crop_scale=CROP_SCALE,
            without=("jitter", "gray", "blur", "solarise"),
        )  # fmt: skip
        return ViewMaker(config, store, seed=self._context.config.seed, device=self._context.device)


def probe(
    context: Context,
    rows: Int,
    labels: Int,
    classes: int,
    recipe: Recipe,
    *,
    augmented: bool = True,
    what: str,
) -> nn.Linear:
    """A linear classifier trained on features of the frozen encoder: of augmented views, or of the whole
    images. rows: images fitted on; labels: (N,)."""
    config, images = context.config, Images(context, rows)
    rows, labels = _by_name(images, rows, labels)
    encoder = context.target.encoder.to(context.device)
    head = new_head(encoder.width, classes, recipe, seed=config.seed, device=context.device)
    if not augmented:
        values = torch.from_numpy(context.features(rows).at(rows)).to(context.device)

        def batch(epoch: int, chosen: Int) -> Tensor:
            return values[torch.from_numpy(chosen).to(values.device)]

    else:
        views = images.views(rows)

        def batch(epoch: int, chosen: Int) -> Tensor:
            encoder.eval()  # normalisation too is the encoder's own
            with torch.no_grad(), _cast(context):
                return encoder(views(epoch, chosen)).float()  # type: ignore[no-any-return]

    train(
        head, [(list(head.parameters()), recipe.rate)], batch, labels, recipe,
        seed=config.seed, what=what, keep=_keep(context, recipe, rows, labels),
    )  # fmt: skip
    return head


def tune(
    context: Context, rows: Int, labels: Int, classes: int, recipe: Recipe, images: Images, *, what: str
) -> nn.Sequential:
    """A copy of the encoder with a linear classifier, both trained on augmented views. Raises: Diverged."""
    config = context.config
    rows, labels = _by_name(images, rows, labels)
    encoder: Encoder = copy.deepcopy(context.target.encoder).to(context.device)
    head = new_head(encoder.width, classes, recipe, seed=config.seed, device=context.device)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    model = nn.Sequential(encoder, head).train()
    groups = [
        (list(encoder.parameters()), recipe.trunk_rate),
        (list(head.parameters()), recipe.rate),
    ]
    train(
        model, groups, images.views(rows), labels, recipe,
        seed=config.seed, precision=config.settled_precision, what=what,
        keep=_keep(context, recipe, rows, labels),
    )  # fmt: skip
    return model.eval()


def _keep(context: Context, recipe: Recipe, rows: Int, labels: Int) -> Path | None:
    """The folder for the states of one training among those of a protocol on a problem."""
    if context.kept is None:
        return None
    return context.kept / stable_hash([recipe.settings(), rows.tolist(), labels.tolist()])[:16]


def predict(context: Context, model: nn.Module, images: Images, rows: Int) -> Int:
    """The class of each image at `rows`, (N,), by a model of whole images."""
    with torch.inference_mode(), _cast(context):
        found = [model(batch).argmax(1).cpu().numpy() for batch in images.clean(rows)]
    return np.concatenate(found).astype(np.int64)


def predict_features(head: nn.Linear, values: NDArray[np.float32]) -> Int:
    """The class of each row of features, (N,)."""
    with torch.inference_mode():
        scores = head(torch.from_numpy(values).to(head.weight.device))
    return np.asarray(scores.argmax(1).cpu().numpy(), dtype=np.int64)


def _by_name(images: Images, rows: Int, labels: Int) -> tuple[Int, Int]:
    order = images.ordered(rows)
    place = np.argsort(rows, kind="stable")
    return order, labels[place][np.searchsorted(rows[place], order)]


def _cast(context: Context) -> torch.autocast:
    place = torch.device(context.device).type
    return torch.autocast(place, dtype=torch.bfloat16, enabled=context.config.settled_precision == "bf16")
