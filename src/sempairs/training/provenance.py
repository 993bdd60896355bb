"""What a run was made of: the facts a certificate compares, the images it may have seen, and the machine.

`Provenance` is the one record of it: the recipe, what was measured, and every session that worked on the run.
On disk (provenance.json) the measured facts stand inside the recipe's own sections, so that a fact has the
same dotted name in the file, in a contrast's `may_differ` and in a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from sempairs.catalog.exposure import Inherited, record_beside, write_record
from sempairs.catalog.sources import open_source
from sempairs.config import Config, validate
from sempairs.encoders.files import SPEC
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.runs.sessions import Machine, Session, machine_facts

if TYPE_CHECKING:
    from sempairs.training.data import TrainingData
    from sempairs.training.recipe import PretrainRecipe

FORMAT = 2


class PairFacts(Config):
    """images: different images that pretraining can show. mining: the encoder that mined the pairs, or by
    whose features partners are chosen: extra data, which a contrast has to declare. semantic_share: where
    `mixed` changes over training, its mean over the steps."""

    manifest_hash: str
    anchor_hash: str
    semantic_hash: str
    per_epoch: int
    images: int
    class_histogram: dict[str, int]
    mining: dict[str, Any] | None = None
    semantic_share: float | None = None


class DataFacts(Config):
    """pixels: memory or files. pixels_sha256: of the pixel store that crops were cut from, null for files."""

    catalog_hash: str
    training_images: int
    pixels: str
    pixels_sha256: str | None = None


class ScheduleFacts(Config):
    steps: int
    steps_per_epoch: int
    warm_up_steps: int


class OptimiserFacts(Config):
    peak_lr: float


class WeightHashes(Config):
    encoder: str
    method: str


class Measured(Config):
    """What a run measured of itself before its first step.

    images_shown: showings, one a step of each anchor and of each of its partners. crops_per_pair: views that
    are made of each pair, local ones included.
    """

    pairs: PairFacts
    data: DataFacts
    schedule: ScheduleFacts
    optimiser: OptimiserFacts
    images_shown: int
    crops_per_pair: int
    initial_weights: WeightHashes


class Provenance(Config):
    """All that a certificate compares of one run. sessions: every one since the run began, in order."""

    recipe: dict[str, Any]
    measured: Measured
    sessions: tuple[Session, ...]

    def record(self) -> dict[str, Any]:
        """The form of provenance.json: the recipe with what was measured inside its sections, the machine of
        the last session, and all sessions."""
        measured = self.measured.model_dump(mode="json", exclude_none=True)
        machine = self.sessions[-1].model_dump(mode="json", include=set(Machine.model_fields))
        sessions = [session.model_dump(mode="json") for session in self.sessions]
        return {**merged(self.recipe, measured), **machine, "format": FORMAT, "sessions": sessions}

    @classmethod
    def parse(cls, record: Mapping[str, Any], where: str = "provenance") -> Self:
        """What `record` gave. Raises: UserError naming `where` if it is another thing."""
        if record.get("format") != FORMAT:
            remedy = "run it again with this version"
            raise UserError(where, f"must have format {FORMAT}", record.get("format"), remedy)
        left = {
            name: value for name, value in record.items() if name not in {*Machine.model_fields, "format"}
        }
        sessions = left.pop("sessions", [])
        measured: dict[str, Any] = {}
        for name in Measured.model_fields:
            section = _section(Measured, name)
            if section is None or not isinstance(left.get(name), Mapping):
                measured[name] = left.pop(name, None)
            else:
                found = left[name]
                measured[name] = {key: found[key] for key in section.model_fields if key in found}
                left[name] = {key: value for key, value in found.items() if key not in section.model_fields}
                if not left[name]:  # a section of measured facts alone
                    left.pop(name)
        return validate(cls, {"recipe": left, "measured": measured, "sessions": sessions}, where)

    def comparable(self) -> dict[str, Any]:
        """The recipe and all facts, without places and times. A fact of the machine that was not the same in
        all sessions reads "first, then second"; of the code counts what it is, not the name of its commit."""
        machines = [machine_facts(session) for session in self.sessions]
        facts = {name: _in_turn(machine.get(name) for machine in machines) for name in _all_keys(machines)}
        measured = self.measured.model_dump(mode="json", exclude_none=True)
        return {**merged(self.recipe, measured), **facts}


def measured_names() -> tuple[str, ...]:
    """The dotted names of all facts that stand beside the recipe; a contrast may declare them."""
    names: list[str] = []
    for name in Measured.model_fields:
        section = _section(Measured, name)
        names += [name] if section is None else [f"{name}.{field}" for field in section.model_fields]
    return (*names, *Machine.model_fields)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation = model.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _all_keys(records: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))


def _in_turn(values: Iterable[Any]) -> Any:
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", then ".join(str(value) for value in different)


def measure(
    recipe: PretrainRecipe,
    data: TrainingData,
    *,
    steps: int,
    steps_per_epoch: int,
    warm_up: int,
    initial_weights: Mapping[str, str],
) -> Measured:
    """The facts of a run. initial_weights: hashes of encoder and method."""
    from sempairs.training.crops import crops_per_pair

    plan = data.plan
    return Measured(
        pairs=PairFacts(
            manifest_hash=plan.manifest_hash,
            anchor_hash=plan.anchor_hash,
            semantic_hash=plan.semantic_hash,
            per_epoch=plan.n,
            images=len(plan.images),
            class_histogram=plan.class_histogram(),
            mining=plan.selection.mining or None,
            semantic_share=recipe.pairs.phased.mean(steps) if recipe.pairs.phased else None,
        ),
        data=DataFacts(
            catalog_hash=data.catalog.content_hash(),
            training_images=data.n_train,
            pixels=data.pixels,
            pixels_sha256=data.pixels_sha256,
        ),
        schedule=ScheduleFacts(steps=steps, steps_per_epoch=steps_per_epoch, warm_up_steps=warm_up),
        optimiser=OptimiserFacts(peak_lr=recipe.optimiser.peak_lr(recipe.batch_size)),
        images_shown=(1 + recipe.objective.shown_partners) * steps * recipe.batch_size,
        crops_per_pair=crops_per_pair(recipe),
        initial_weights=WeightHashes.model_validate(initial_weights),
    )


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Both records in one, section by section. A key in both must be a section in both."""
    out = dict(left)
    for key, value in right.items():
        if key in out:
            assert isinstance(out[key], dict) and isinstance(value, dict), f"{key} is there twice"
            value = merged(out[key], value)
        out[key] = value
    return out


def inherited(recipe: PretrainRecipe) -> Inherited:
    """What the encoder it starts from, and the one that mined its pairs, were shown.

    Raises: UserError if a record must be beside the weights or pairs and is not.
    """
    from sempairs.encoders.start import folder_of, of_package

    found = recipe.pairs.inherited_by_all()
    if recipe.encoder.weights is None:
        return found
    weights = Path(recipe.encoder.weights)
    if of_package(recipe.encoder.weights):
        return found + Inherited((), (f"what the weights it started from ({weights.name}) were trained on",))
    folder = folder_of(recipe.encoder.weights) or weights.resolve().parent
    about = read_json(folder / SPEC) if (folder / SPEC).is_file() else {}
    expected = about.get("exposure") if isinstance(about, dict) else None
    record = record_beside(folder, expected, field="encoder.weights")
    if record is None:
        return found + Inherited((), (f"what the weights it started from ({weights.name}) were trained on",))
    return found + Inherited((record,))


def write_exposure(
    path: Path,
    data: TrainingData,
    inherits: Inherited | None = None,
    *,
    cache: Path | None = None,
    read_pixels: bool = True,
) -> None:
    """Hashes and sketches of every image that pretraining can show, and all that is inherited: what no scored
    image may share. read_pixels: False leaves out what the catalogue does not know."""
    source = open_source(data.source) if read_pixels else None
    write_record(
        path, data.catalog, data.plan.images, source, inherits or Inherited(), cache=cache, shown=True
    )
