"""What a study is asked to do: arms, contrasts, methods, seeds, tasks, and the rules set beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from sempairs import plugins
from sempairs.config import Config, load_config, validate
from sempairs.evaluation.config import EvaluationConfig

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Overrides = dict[str, Any]


class Contrast(Config):
    """Treatment minus control; the arms may differ in the fields declared here and in nothing else."""

    treatment: Name
    control: Name
    may_differ: tuple[str, ...] = Field(min_length=1)
    primary: bool = False

    @property
    def name(self) -> str:
        return f"{self.treatment} − {self.control}"


class StudyRecipe(Config):
    """A study: every method × arm × seed is one cell, pretrained from `base` with the overrides of both.

    An override is a dotted key of the pretraining recipe and the value it takes, `pairs.arm: semantic`; a
    mapping as value replaces the whole section.
    """

    name: Name
    question: str
    base: dict[str, Any]
    methods: dict[Name, Overrides] = Field(min_length=1)
    arms: dict[Name, Overrides] = Field(min_length=2)
    contrasts: tuple[Contrast, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, max_length=24)
    tasks: tuple[str, ...] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()
    health_margin: float = Field(default=1.0, ge=0)  # points the control must lie above random weights
    equivalence: float = Field(default=0.5, gt=0)  # half-width of "practically the same", in points
    # Facts of the machine that may change from cell to cell without withholding the result.
    may_vary: tuple[Literal["code", "versions", "hardware", "threads", "processes"], ...] = ()
    jobs: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=1, ge=1, le=256)

    @field_validator("base")
    @classmethod
    def _with_plugins(cls, base: dict[str, Any]) -> dict[str, Any]:
        """Tasks and settings of evaluation may be those of the plugins that the base recipe names."""
        if isinstance(named := base.get("plugins"), list | tuple):
            plugins.load(named)
        return base

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, values in (("seeds", self.seeds), ("tasks", self.tasks)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} must each be named once")
        for contrast in self.contrasts:
            missing = {contrast.treatment, contrast.control} - set(self.arms)
            if missing:
                raise ValueError(f"contrast {contrast.name!r} names an arm that is not there: {min(missing)}")
            if contrast.treatment == contrast.control:
                raise ValueError(f"contrast {contrast.name!r} compares an arm with itself")
        names = [contrast.name for contrast in self.contrasts]
        if len(set(names)) < len(names):
            raise ValueError("contrasts must each be named once")
        if sum(contrast.primary for contrast in self.contrasts) != 1:
            raise ValueError("exactly one contrast must say `primary: true`: a study has one primary test")
        return self


def load_study(path: str | Path, overrides: tuple[str, ...] = (), *, seeds: int | None = None) -> StudyRecipe:
    """Read the study recipe in a YAML file, or the one that comes along under that name.

    seeds: how many there are, counted up from the first that the recipe names. Raises: UserError, one line.
    """
    study = load_config(StudyRecipe, path, overrides)
    if seeds is None:
        return study
    first = study.seeds[0]
    return validate(StudyRecipe, study.model_dump(mode="json") | {"seeds": range(first, first + seeds)})
