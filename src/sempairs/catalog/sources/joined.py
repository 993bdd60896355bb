"""`joined:FILE`: several sources as one, each with its own relation and its own share of every batch.

    parts:
      - {source: emoji-pairs, share: 0.5}
      - {source: object-pairs, share: 0.3}
      - {name: names, source: object-pairs, share: 0.2, concept: category, domain: maker}

A relation by columns says what two images share and what they differ in. Each part names the columns that say
so; they become its `concept` and `domain`, and `cross_domain` then means each part's own relation. Concepts
of two parts are never the same one. Paths in the file should be absolute: others are looked for where the
command runs.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

import pyarrow as pa
from PIL import Image
from pydantic import Field, model_validator

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources.base import (
    FileSource,
    Problem,
    Scan,
    Source,
    existing_path,
    open_source,
    source_kind,
)
from sempairs.catalog.table import Catalog
from sempairs.config import Config, read_yaml, validate
from sempairs.errors import UserError, unknown

PART = "part"
SHARE = "batch_share"


class Part(Config):
    """One source. share: of every batch, in relation to the other parts'; all parts have one, or none, and
    then an epoch shows every image. concept, domain: the columns that say what images share and differ in.

    name: stands before its ids and concepts; left out, it is made from the source.
    """

    source: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    share: Annotated[float, Field(gt=0)] | None = None
    concept: str = "concept"
    domain: str = "domain"

    @property
    def label(self) -> str:
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "-", self.source).strip("-")


class Parts(Config):
    """The file."""

    parts: Annotated[tuple[Part, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        labels = [part.label for part in self.parts]
        if len(set(labels)) < len(labels):
            raise ValueError(f"must have names that differ, and two are {max(labels, key=labels.count)}")
        if len({part.share is None for part in self.parts}) > 1:
            raise ValueError("must all have a share, or none")
        return self


@source_kind("joined", summary="several sources in one run, each with its share", example="joined:parts.yaml")
class JoinedSource:
    """The images of all parts, in the order of their ids, `part/id`. Splits and split groups are the parts'.

    The column `part` names each image's part, `batch_share` its share of a batch, of shares that add up to 1.
    """

    def __init__(self, rest: str) -> None:
        path = existing_path("joined", rest, folder=False)
        self.spec = f"joined:{path}"
        self.parts = validate(Parts, read_yaml(path, "list of sources"), str(path)).parts
        for part in self.parts:
            if part.source.partition(":")[0] == "joined":
                raise UserError(f"{self.spec}, parts.source", "must not be joined itself", part.source)
        self._sources: dict[str, Source] = {part.label: open_source(part.source) for part in self.parts}

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        """Scans every part. Raises: UserError if one has no such column, or its images have none of it."""
        tables: list[pa.Table] = []
        problems: list[Problem] = []
        notes: list[str] = []
        ignored = 0
        total = sum(part.share or 0.0 for part in self.parts)
        for part in self.parts:
            found = self._sources[part.label].scan(workers=workers, progress=progress, decode=decode)
            problems += [
                Problem(f"{part.label}/{problem.where}", problem.reason) for problem in found.problems
            ]
            ignored += found.ignored
            notes += [f"{part.label}: {note}" for note in found.notes]
            share = part.share / total if part.share is not None else None
            tables.append(self._placed(part, found.catalog, share))
        try:
            merged = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            rule = f"must have parts whose columns of one name hold one type ({error})"
            raise UserError(self.spec, rule) from None
        return Scan(Catalog.from_table(merged).in_order(), tuple(problems), ignored, tuple(notes))

    def open_image(self, uri: str) -> Image.Image:
        source, name = self._place_of(uri)
        return source.open_image(name)

    def read_bytes(self, uri: str) -> bytes:
        """The bytes of an image's file. Raises: UnreadableImage if it is gone, or its part keeps pixels."""
        source, name = self._place_of(uri)
        if not isinstance(source, FileSource):
            raise UnreadableImage(f"{source.spec} keeps pixels, not files")
        return source.read_bytes(name)

    def _place_of(self, uri: str) -> tuple[Source, str]:
        label, _, name = uri.partition("/")
        if label not in self._sources:
            raise UnreadableImage(f"no image {uri!r} in {self.spec}")
        return self._sources[label], name

    def _placed(self, part: Part, catalog: Catalog, share: float | None) -> pa.Table:
        for column in (part.concept, part.domain):
            if column not in catalog.names:
                raise unknown(f"{self.spec}, column of {part.label}", column, catalog.names)
        if part.concept == part.domain:
            rule = "must differ: images share the one and differ in the other"
            raise UserError(f"{self.spec}, concept and domain of {part.label}", rule, part.concept)
        concept, domain = (_texts(catalog, column) for column in (part.concept, part.domain))
        if not any(concept):
            rule = f"must have values in its column {part.concept}"
            raise UserError(f"{self.spec}, part {part.label}", rule, remedy="name another column as concept")
        n = len(catalog)
        within = f"{part.label}/"
        columns = {
            "image_id": [within + name for name in catalog.column("image_id")],
            "uri": [within + name for name in catalog.column("uri")],
            "source": [self.spec] * n,
            "concept": [None if text is None else f"{part.label}: {text}" for text in concept],
            "domain": domain,
        }
        table = catalog.table.drop([name for name in (PART, SHARE) if name in catalog.names])
        for name, values in columns.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
        return table.append_column(PART, pa.array([part.label] * n, pa.string())).append_column(
            SHARE, pa.array([share] * n, pa.float64())
        )


def _texts(catalog: Catalog, column: str) -> list[str | None]:
    texts: list[str | None] = catalog.table.column(column).cast(pa.string()).to_pylist()
    return texts
