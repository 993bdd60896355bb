"""What a set of pairs is asked to be, and what a relation is.

A relation is one file in `relations/`: a config, derived from `PairsConfig`, that is registered. It has
settings of its own, beside those that every relation shares, and says how its pairs are found: either by a
rule on columns (`rule`), which is enough for most, or in a way of its own (`select`). A recipe's section
`pairs` is the config of the relation that its key `relation` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from sempairs.catalog.exposure import Inherited
from sempairs.config import Config, Ramp
from sempairs.pairs.choices.base import AnyChoice
from sempairs.registry import Registry, Section

if TYPE_CHECKING:
    from sempairs.pairs.index import ImageIndex
    from sempairs.pairs.rules import Rule
    from sempairs.pairs.select import Selection

Arm = Literal["semantic", "augmented", "image_matched"]
Probability = Annotated[float, Field(ge=0, le=1)]


class PairsConfig(Config):
    """Which two images form a pair. All arms derive from one semantic set and differ in `arm` alone.

    fixed: N pairs, no image in two of them. redrawn: a pool of images, each an anchor once an epoch, whose
    partner is drawn anew each epoch.

    `PairsConfig(relation="sibling", depth=2)` is the config of that relation, `relations.sibling.Sibling`.
    """

    #: What the two images of a pair are to each other, for cards: "two images of one leaf category".
    description: ClassVar[str]
    #: Whether columns of the catalogue decide which images may be paired, so that `rule` is all there is.
    by_columns: ClassVar[bool] = True
    #: Whether fixed pairs share no image.
    disjoint: ClassVar[bool] = True
    #: Whether a pair is one image twice.
    one_image: ClassVar[bool] = False

    relation: str
    mode: Literal["fixed", "redrawn"] = "fixed"
    # augmented: every partner is the anchor itself. image_matched: so too, but the anchors are taken from all
    # the images the semantic arm shows.
    arm: Arm = "semantic"
    # Probability that a pair is the semantic one rather than the anchor with itself: a number, or points of
    # progress and probability. A pair is semantic while its own draw lies below: it stays so as long as the
    # probability does not fall.
    mixed: Ramp | None = None
    # Share of the anchors, exact, whose partner is of another category, the same all through training.
    corrupted: Probability | None = None
    # Which of the images that may be an anchor's partner are drawn: all, or what these leave, one after the
    # other. Redrawn pairs only.
    choices: tuple[AnyChoice, ...] = ()
    # At most so many pairs an epoch. A redrawn pool may hold a few less: all its images need a partner in it;
    # it keeps every class while count is at least two images a class.
    count: Annotated[int, Field(ge=1)] | None = None
    # At most so many pairs an epoch of one class: the finest category that both images of a pair share.
    per_class: Annotated[int, Field(ge=1)] | None = None
    # The seed of the set of pairs, which runs share. Partners drawn anew use the run's own seed.
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def __new__(cls, **settings: Any) -> PairsConfig:
        # Asked for by the base's name, a config is that of its relation.
        chosen = RELATIONS.get(str(settings.get("relation"))) if cls is PairsConfig else cls
        return super().__new__(chosen)

    @field_validator("arm")
    @classmethod
    def _image_matched_is_fixed(cls, arm: Arm, info: ValidationInfo) -> Arm:
        if arm == "image_matched" and info.data.get("mode") == "redrawn":
            raise ValueError(
                "must not be image_matched for redrawn pairs: there both arms show the same images"
            )
        return arm

    @field_validator("mixed")
    @classmethod
    def _a_probability(cls, mixed: Ramp | None) -> Ramp | None:
        if mixed is not None and not all(0 <= value <= 1 for value in mixed.values):
            raise ValueError("must be in [0, 1] all through training")
        return mixed

    @field_validator("choices")
    @classmethod
    def _of_redrawn_partners(
        cls, choices: tuple[AnyChoice, ...], info: ValidationInfo
    ) -> tuple[AnyChoice, ...]:
        if choices and info.data.get("mode") != "redrawn":
            raise ValueError("must be left out for fixed pairs: they choose among partners drawn anew")
        if choices and info.data.get("corrupted") is not None:
            raise ValueError("must be left out where corrupted is given")
        if sum(choice.ranks for choice in choices) > 1:
            raise ValueError("must hold one at most that ranks partners")
        return choices

    @field_validator("corrupted")
    @classmethod
    def _one_modifier(cls, corrupted: float | None, info: ValidationInfo) -> float | None:
        if corrupted is not None and info.data.get("mixed") is not None:
            raise ValueError("must be left out where mixed is given")
        return corrupted

    @property
    def mixed_always(self) -> float | None:
        """`mixed` where it is one number all through training; None where it is not given, or changes."""
        return None if self.mixed is None else self.mixed.constant

    @property
    def phased(self) -> Ramp | None:
        """`mixed` where it changes over training."""
        return self.mixed if self.mixed is not None and self.mixed.constant is None else None

    @property
    def label(self) -> str:
        """The relation as pairs carry it, `sibling(2)` for instance."""
        return self.relation

    @property
    def domain(self) -> str:
        """The column whose values are counted as the domains of a pair's images."""
        return "domain"

    def shared(self, index: ImageIndex) -> str | None:
        """Name the column whose value both images of a pair share, where it is worth saying."""
        return None

    def identity(self) -> Mapping[str, Any]:
        """Give the settings that decide a redrawn pool beside its images, for the hash of its manifest."""
        return {}

    def inherited(self) -> Inherited:
        """Tell what an encoder that found the pairs was shown: whoever trains on them inherits it. Without
        that of encoders by whose features `choices` go (`inherited_by_all`).

        Raises: UserError if a record of it must be there and is not, or is another one.
        """
        return Inherited()

    def inherited_by_all(self) -> Inherited:
        """`inherited`, and what the encoders were shown by whose features partners are chosen."""
        found = self.inherited()
        for choice in self.choices:
            found = found + choice.inherited()
        return found

    def rule(self, index: ImageIndex) -> Rule:
        """Say who may be whose partner. Raises: UserError if a column it needs is empty or absent."""
        raise NotImplementedError

    def select(self, index: ImageIndex) -> Selection | None:
        """Find the semantic set, for a relation with a way of its own; None where `rule` says all.

        `arm` is not read.
        Raises: UserError if there is no pair, or a column, list or class that is needed is not there.
        """
        return None


#: One relation a file; the key `relation` of a recipe's section `pairs` names one.
RELATIONS: Registry[type[PairsConfig]] = Registry("relation", "sempairs.pairs.relations", key="relation")

#: A recipe's section `pairs`: the config of the relation it names.
AnyPairsConfig = Annotated[PairsConfig, Section(RELATIONS)]


class PairsSection(Config):
    """The pairs section of a recipe on its own, so that errors name its fields as `pairs.…`."""

    pairs: AnyPairsConfig
