"""Features of images as a table on disk: what `sempairs embed` writes, and mining, audits and plots read.

Parquet with the columns image_id, file_hash and `features`, float32 lists of one width. The metadata, under
`sempairs.`, says which encoder and images they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sempairs.errors import UserError
from sempairs.files import atomic_write, sha256_bytes, stable_hash
from sempairs.metrics import unit

COLUMN = "features"
_PREFIX = "sempairs."


@dataclass(frozen=True, eq=False)
class Embeddings:
    """image_ids: distinct, in any order; vectors: (N, D) float32, finite; about: encoder, data, source, …

    file_hashes: of the images' files when they were embedded.
    """

    image_ids: tuple[str, ...]
    file_hashes: tuple[str, ...]
    vectors: NDArray[np.float32]
    about: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def hash(self) -> str:
        """Of the vectors, the ids they belong to and what is said about them; the same for any row order."""
        order = sorted(range(len(self)), key=self.image_ids.__getitem__)
        ids = [self.image_ids[i] for i in order]
        return stable_hash([ids, sha256_bytes(self.vectors[order].tobytes()), dict(self.about)])

    def of(
        self, image_ids: Sequence[str], file_hashes: Sequence[str] | None = None, *, where: str = "embeddings"
    ) -> NDArray[np.float32]:
        """Vectors (n, D) of the given images, unit length. Raises: UserError if one is not in the table, has
        another `file_hashes` entry than when it was embedded, or has a vector of length 0."""
        place = {name: i for i, name in enumerate(self.image_ids)}
        missing = [name for name in image_ids if name not in place]
        if missing:
            rule = f"lacks {len(missing)} of {len(image_ids)} images"
            remedy = "run `sempairs embed` on the same source"
            raise UserError(where, rule, missing[0], remedy)
        rows = np.array([place[name] for name in image_ids], dtype=np.int64)
        if file_hashes is not None:
            for name, row, now in zip(image_ids, rows, file_hashes, strict=True):
                if self.file_hashes[row] != now:
                    rule = "was made when an image was another file"
                    raise UserError(where, rule, name, "run `sempairs embed` again")
        found = self.vectors[rows]
        nothing = ~found.any(axis=1)
        if nothing.any():
            rule = "must have no vector of length 0"
            raise UserError(where, rule, image_ids[int(np.argmax(nothing))])
        vectors: NDArray[np.float32] = unit(found)
        return vectors

    def save(self, path: str | Path) -> None:
        """Write the table, whole or not at all."""
        width = self.vectors.shape[1]
        values = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), width)
        names = pa.array(self.image_ids, pa.string()), pa.array(self.file_hashes, pa.string())
        table = pa.table({"image_id": names[0], "file_hash": names[1], COLUMN: values})
        table = table.replace_schema_metadata({f"{_PREFIX}{k}": v for k, v in self.about.items()})
        with atomic_write(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def about_file(cls, path: str | Path) -> dict[str, str]:
        """What a table says about itself, without its features. Raises: UserError if it is no Parquet."""
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise UserError(str(path), f"is no readable Parquet file ({error})") from None
        named = {key.decode(): value.decode() for key, value in metadata.items()}
        return {k.removeprefix(_PREFIX): v for k, v in named.items() if k.startswith(_PREFIX)}

    @classmethod
    def open(cls, path: str | Path) -> Embeddings:
        """Raises: UserError if the file is missing, damaged, no such table, or holds an id twice or a number
        that is not finite."""
        file = Path(path)
        if not file.is_file():
            raise UserError(str(file), "does not exist", remedy="write it with `sempairs embed`")
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise UserError(str(file), f"is no readable Parquet file ({error})") from None
        lacking = {"image_id", "file_hash", COLUMN} - set(table.column_names)
        if lacking:
            raise UserError(str(file), f"lacks the column {min(lacking)}", remedy="see `sempairs embed`")
        lists = table.column(COLUMN)
        sizes = lists.type
        if not pa.types.is_fixed_size_list(sizes) or sizes.value_type != pa.float32() or not sizes.list_size:
            raise UserError(f"{file}: {COLUMN}", "must be float32 lists of one width", str(sizes))
        if any(table.column(name).null_count for name in table.column_names):
            raise UserError(str(file), "must have no empty cell")
        flat = lists.combine_chunks()
        if isinstance(flat, pa.ChunkedArray):
            flat = flat.chunk(0) if flat.num_chunks else pa.array([], sizes)
        vectors = np.asarray(flat.flatten(), dtype=np.float32).reshape(len(table), sizes.list_size)
        ids = tuple(str(name) for name in table.column("image_id").to_pylist())
        if len(set(ids)) < len(ids):
            raise UserError(f"{file}: image_id", "must be distinct")
        if not np.isfinite(vectors).all():
            raise UserError(f"{file}: {COLUMN}", "must be finite")
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        about = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
        hashes = tuple(str(name) for name in table.column("file_hash").to_pylist())
        return cls(ids, hashes, vectors, about)
