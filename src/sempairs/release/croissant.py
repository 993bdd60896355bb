"""Croissant metadata: the release described for machines. https://docs.mlcommons.org/croissant, version 1.0.

One record set of images over all shards, one of pairs for each arm. Files lie beside `croissant.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import DATA, IMAGE
from sempairs.files import sha256_file
from sempairs.pairs.released import RELEASED, plain
from sempairs.release.describe import citation_of, columns_meaning, licences_of, summary_of

if TYPE_CHECKING:
    from sempairs.release.build import Dataset

_PARQUET = "application/x-parquet"
_SHARDS = "image-shards"
_IMAGES = "images"
_TYPES = (
    (pa.types.is_boolean, "sc:Boolean"),
    (pa.types.is_integer, "sc:Integer"),
    (pa.types.is_floating, "sc:Float"),
)
# As the specification gives it; `mlcroissant` compares.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(dataset: Dataset, catalog: Catalog, folder: Path) -> dict[str, Any]:
    """The JSON-LD of a release whose Parquet files lie in `folder`."""
    facts = dataset.facts
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": dataset.name,
        "alternateName": facts.title or None,
        "description": summary_of(dataset, catalog),
        "version": dataset.version,
        "license": [_licence_address(name) for name in licences_of(dataset, catalog)],
        "url": facts.url,
        "datePublished": facts.date,
        "creator": [{"@type": "sc:Person", "name": name} for name in facts.creator],
        "citeAs": citation_of(dataset),
        "keywords": ["semantic pairs", "self-supervised learning", *facts.keywords],
        "isLiveDataset": False,
        "distribution": [*_files(folder), _shards(dataset)],
        "recordSet": [_images(dataset, catalog), *_pairs(dataset)],
    }
    return {key: value for key, value in described.items() if value not in (None, [])}


def _licence_address(name: str) -> str:
    return name if name.startswith("LicenseRef-") else f"https://spdx.org/licenses/{name}.html"


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*/*.parquet")):
        name = file.relative_to(folder).as_posix()
        yield {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{file.stat().st_size} B",
            "encodingFormat": _PARQUET,
            "sha256": sha256_file(file),
        }


def _shards(dataset: Dataset) -> dict[str, Any]:
    what = "Catalogue rows, without images." if dataset.references_only else "Catalogue rows and images."
    return {
        "@type": "cr:FileSet",
        "@id": _SHARDS,
        "name": _SHARDS,
        "description": what,
        "encodingFormat": _PARQUET,
        "includes": f"{DATA}/*.parquet",
    }


def _images(dataset: Dataset, catalog: Catalog) -> dict[str, Any]:
    meaning = columns_meaning()
    source = {"fileSet": {"@id": _SHARDS}}
    ids = _ids(catalog.names)
    fields = [
        _field(
            _IMAGES,
            column.name,
            _data_type(column.type),
            meaning.get(column.name, ""),
            source,
            ids[column.name],
        )
        for column in catalog.table.schema
        if not pa.types.is_list(column.type)
    ]
    if not dataset.references_only:
        field = _field(_IMAGES, IMAGE, "sc:ImageObject", "the image file", source)
        field["source"]["transform"] = {"jsonPath": "bytes"}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": _IMAGES,
        "name": _IMAGES,
        "description": "One record an image.",
        "key": {"@id": f"{_IMAGES}/image_id"},
        "field": fields,
    }


def _pairs(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for arm, pairs in dataset.sets.items():
        name = f"{RELEASED}-{arm}"
        source = {"fileObject": {"@id": f"{RELEASED}/{arm}.parquet"}}
        meaning = {
            "anchor": "image_id of the anchor", "partner": "image_id of the partner; null: drawn every epoch",
            "relation": "what the two images share", "score": "the builder's score, if it has one",
            "builder": "what made the pair", "params": "what the builder was told, as JSON",
        }  # fmt: skip
        yield {
            "@type": "cr:RecordSet",
            "@id": name,
            "name": name,
            "description": f"One record a pair of the {arm} arm.",
            "field": [
                _field(name, field.name, _data_type(field.type), meaning[field.name], source)
                for field in plain(pairs.table).schema
            ],
        }


def _ids(columns: Sequence[str]) -> dict[str, str]:
    """What each column is called in an id, which may hold no blank."""
    found: dict[str, str] = {}
    for column in columns:
        name = "_".join(column.split())
        while name in found.values() or (name != column and name in columns):
            name += "_"
        found[column] = name
    return found


def _field(
    of: str, column: str, kind: str, meaning: str, source: dict[str, Any], name: str = ""
) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{of}/{name or column}",
        "name": column,
        "description": meaning or column,
        "dataType": kind,
        "source": {**source, "extract": {"column": column}},
    }


def _data_type(kind: pa.DataType) -> str:
    return next((name for test, name in _TYPES if test(kind)), "sc:Text")
