"""Features of a source as a table, for whatever comes after: mining pairs, audits, plots."""

from __future__ import annotations

from pathlib import Path

from sempairs.catalog.exposure import Inherited, beside, copy_record
from sempairs.catalog.sources import open_source, scan_and_tell
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.evaluation.features import SETTINGS, compute_features
from sempairs.evaluation.target import open_target
from sempairs.pairs.inherited import UNTRAINED
from sempairs.precision import Precision


def export_features(
    encoder: str | Path,
    data: str,
    out: str | Path,
    *,
    split: str | None = None,
    precision: Precision = "float32",
    seed: int = 0,
    prefix: str | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
) -> tuple[int, int]:
    """Writes a Parquet table: image_id, file_hash, and `features`, float32 lists of one width; (rows, width).
    Beside it, as OUT.exposure.parquet, what the encoder was shown, where that is recorded.

    split: only images of that split. batch_size: images embedded at once; by default as many as fit in little
    memory. The table's metadata names the encoder's weight hash and input, the source and the settings.
    Raises: UserError for names and paths that do not hold, and an image that cannot be read.
    """
    import numpy as np

    from sempairs import __version__

    target, source = open_target(encoder, seed=seed, prefix=prefix), open_source(data)
    catalog = scan_and_tell(source).catalog
    if split is not None:
        chosen = catalog.column("split") == split
        if not chosen.any():
            present = sorted({str(name) for name in catalog.column("split") if name is not None})
            raise UserError(
                "--split", f"must be one of {', '.join(present) or 'none: there are none'}", split
            )
        catalog = catalog.select(np.asarray(chosen))
    features = compute_features(target, source, catalog, precision=precision, device=device, batch=batch_size)
    rows, width = features.shape
    about = {
        "encoder": target.spec.weight_hash,
        "data": catalog.content_hash(),
        "source": source.spec,
        "precision": precision,
        **{f"input_{name}": value for name, value in target.spec.input.items()},
        "sempairs": __version__,
        **SETTINGS,
    }
    # What the encoder was shown comes along: pairs mined from these features bring it to a run.
    if target.record is not None:
        about["exposure"] = copy_record(Inherited((target.record,)), beside(out))
    elif target.kind == "random":
        about["exposure"] = UNTRAINED
    ids, hashes = (tuple(map(str, catalog.column(name))) for name in ("image_id", "file_hash"))
    Embeddings(ids, hashes, features, {key: str(value) for key, value in about.items()}).save(out)
    return rows, width
