"""What people know about a dataset and its images do not say: read from YAML, kept in `release.json`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sempairs.config import Config

Count = Annotated[int, Field(ge=0)]
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


class KnownTruth(Config):
    """How a screening did on pairs whose truth is known: `what` they are, how many, and how many it judged
    rightly. A false pair is found where it is rejected, a true one kept where it is not."""

    what: str
    false_pairs: Count
    false_found: Count
    true_pairs: Count
    true_kept: Count

    @model_validator(mode="after")
    def _parts_of_wholes(self) -> Self:
        if self.false_found > self.false_pairs or self.true_kept > self.true_pairs:
            raise ValueError("must not have more pairs found or kept than there are")
        return self


class Screening(Config):
    """A model or a rule that judged pairs where no person did. Never called curation."""

    by: str
    kind: Literal["model", "rule"]
    judged: Count
    rejected: Count
    unsure: Count = 0
    known: tuple[KnownTruth, ...] = ()
    note: str = ""


class Section(Config):
    """A section of the card: heading and Markdown."""

    heading: str
    text: str


class Answers(Config):
    """Answers to the datasheet's questions (Gebru et al. 2021) that no count can give; Markdown."""

    motivation: str = ""
    composition: str = ""
    collection: str = ""
    preprocessing: str = ""
    uses: str = ""
    distribution: str = ""
    maintenance: str = ""


class ReleaseFacts(Config):
    """All of it optional; the card says what is not known.

    licence: SPDX id (or LicenseRef-…) of the pair lists, and of images that state none of their own.
    date: of publication, ISO. record: further JSON values for `release.json`.
    """

    title: str = ""
    summary: str = ""
    creator: tuple[str, ...] = ()
    licence: str | None = None
    url: str | None = None
    date: str | None = None
    citation: str | None = None
    contact: str | None = None
    keywords: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    datasheet: Answers = Answers()
    screening: Screening | None = None
    record: dict[str, Any] = Field(default_factory=dict)

    @field_validator("creator", "keywords", "limits", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("date", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        text = None if value is None else str(value)  # YAML reads 2026-01-31 as a date
        if text is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError("must be a date like 2026-01-31")
        return text

    @field_validator("licence")
    @classmethod
    def _spdx(cls, value: str | None) -> str | None:
        if value is not None and not _SPDX.fullmatch(value):
            raise ValueError("must be an SPDX id such as CC-BY-4.0, or LicenseRef-NAME")
        return value

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://\S+$", value):
            raise ValueError("must be an http or https address")
        return value
