"""The whole audit of a set of pairs, and its machine-readable files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs import __version__
from sempairs.catalog.near_copies import near_copies
from sempairs.catalog.table import Catalog
from sempairs.embeddings import Embeddings
from sempairs.pairs.audit import duplicates
from sempairs.pairs.audit.balance import Balance, Multiplicity, balance, multiplicity
from sempairs.pairs.audit.doubt import THRESHOLD, Doubts, doubts
from sempairs.pairs.audit.false_pairs import FalsePairs, false_pairs
from sempairs.pairs.audit.licences import Licences, licences
from sempairs.pairs.audit.pixels import SmallPictures
from sempairs.pairs.audit.shared import Shared, open_against, shared
from sempairs.pairs.audit.similarity import Spread, by_relation, cosine, extremes
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.audit.truth import PlantedPairs, planted_pairs
from sempairs.pairs.index import Int
from sempairs.pairs.sample import SAMPLE
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import check_verdicts

FORMAT = "sempairs.audit/1"
SHOWN = 12
DOUBT_SCHEMA = pa.schema(
    [
        pa.field("anchor", pa.string(), nullable=False),
        pa.field("partner", pa.string(), nullable=False),
        pa.field("doubt", pa.float64(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("evidence", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    measured_by: what similarities are made of: "embeddings", "pixels", or "" for none.
    near, copies, similarity, planted: None where not measured. alike, unlike, near_rows: rows to show.
    """

    subject: Subject
    embeddings: dict[str, Any] | None
    measured_by: str
    exact: duplicates.ExactDuplicates
    near: duplicates.NearDuplicates | None
    copies: duplicates.CopiesInSet | None
    shared: Shared
    balance: Balance
    multiplicity: Multiplicity
    similarity: dict[str, Spread] | None
    doubts: Doubts
    planted: PlantedPairs | None
    false_pairs: FalsePairs
    licences: Licences
    near_rows: Int
    alike: Int
    unlike: Int

    def as_json(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        pairs = self.subject.pairs
        return {
            "format": FORMAT,
            "sempairs": __version__,
            "manifest_hash": pairs.manifest_hash,
            "relation": pairs.config.relation,
            "mode": pairs.config.mode,
            "partners_drawn_for_audit": self.subject.drawn,
            "pairs": len(self.subject.distinct),
            "rows": len(self.subject),
            "embeddings": self.embeddings,
            "measured_by": self.measured_by or None,
            "exact_duplicates": asdict(self.exact),
            "near_duplicates": asdict(self.near) if self.near else None,
            "near_copies": asdict(self.copies) if self.copies else None,
            "shared": asdict(self.shared),
            "balance": asdict(self.balance),
            "multiplicity": asdict(self.multiplicity),
            "similarity": {name: asdict(s) for name, s in self.similarity.items()}
            if self.similarity
            else None,
            "doubtful": {"count": self.doubts.count, "threshold": THRESHOLD},
            "planted": asdict(self.planted) if self.planted else None,
            "false_pairs": asdict(self.false_pairs),
            "licences": asdict(self.licences),
        }

    def doubt_table(self) -> pa.Table:
        """The content of `doubt.parquet`: one row a distinct pair, by rank."""
        keys = [self.subject.key(int(row)) for row in self.doubts.rows]
        columns = [
            [key[0] for key in keys],
            [key[1] for key in keys],
            self.doubts.doubt,
            np.arange(1, len(keys) + 1),
            self.doubts.evidence,
        ]
        return pa.table(
            [pa.array(c, f.type) for c, f in zip(columns, DOUBT_SCHEMA, strict=True)], DOUBT_SCHEMA
        )


def audit(
    pairs: PairSet,
    *,
    embeddings: Embeddings | None = None,
    verdicts: pa.Table | None = None,
    against: Sequence[str] | Iterable[tuple[str, Catalog]] = (),
    pixels: bool = True,
    sample: int = SAMPLE,
) -> Audit:
    """Examine a set of pairs; of a redrawn pool the pairs of epoch 0 under draw seed 0.

    Args:
        pairs: The set.
        embeddings: Of all its images; without them similarity is that of the pictures at 8 x 8 pixels, or not
            measured at all.
        verdicts: A table of `VERDICT_SCHEMA`.
        against: Sources or catalogue files of evaluation sets, or names with catalogues.
        pixels: Whether images are decoded, each once.
        sample: Pairs of the random sample whose verdicts give the false-pair rate.

    Returns:
        What was found.

    Raises:
        UserError: if there is no pair of two images, an image has no embedding, the images of the set are not
            where they were, or an argument is not what it must be.
    """
    assert sample >= 1
    subject = Subject.of(pairs)
    if verdicts is not None:
        check_verdicts(verdicts, "verdicts")
    vectors, about = None, None
    if embeddings is not None:
        hashes = [str(value) for value in subject.images.column("file_hash")]
        vectors = embeddings.of(subject.ids, hashes)
        about = {**embeddings.about, "hash": embeddings.hash, "width": vectors.shape[1]}
    others = [(item, open_against(item)) if isinstance(item, str) else item for item in against]
    near, near_rows = None, np.empty(0, dtype=np.int64)
    copies, crossing, sketches = None, None, None
    with ExitStack() as stack:
        pixel_hashes = list(subject.images.column("pixel_hash"))
        measured_by = "embeddings" if vectors is not None else ""
        if pixels:
            small = stack.enter_context(SmallPictures(subject.images))
            near, near_rows = duplicates.near_duplicates(
                subject, small, *duplicates.differences(subject, small)
            )
            pixel_hashes, sketches = small.pixel_hashes, small.sketches
            found_copies = near_copies(sketches, shown=len(sketches) > 2000)
            copies, crossing = duplicates.copies_in_set(subject, found_copies)
            if vectors is None:
                vectors, measured_by = small.vectors(), "pixels"
    similarity = None if vectors is None else cosine(subject, vectors)
    found = doubts(subject, vectors)
    none = np.empty(0, dtype=np.int64)
    alike, unlike = (none, none) if similarity is None else extremes(subject, similarity, SHOWN)
    return Audit(
        subject=subject,
        embeddings=about,
        measured_by=measured_by,
        exact=duplicates.exact_duplicates(subject, pixel_hashes),
        near=near,
        copies=copies,
        shared=shared(subject, pixel_hashes, others, sketches=sketches, crossing_copies=crossing),
        balance=balance(subject),
        multiplicity=multiplicity(subject),
        similarity=None if similarity is None else by_relation(subject, similarity),
        doubts=found,
        planted=planted_pairs(subject, found),
        false_pairs=false_pairs(subject, verdicts, sample),
        licences=licences(subject),
        near_rows=near_rows,
        alike=alike,
        unlike=unlike,
    )
