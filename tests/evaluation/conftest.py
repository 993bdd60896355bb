"""A tiny emoji-like dataset, and encoders that are quick to run."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog.images import pixel_hash
from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.encoders import EncoderConfig, build_encoder, save_encoder
from sempairs.files import sha256_bytes
from sempairs.release import write_release

MEAN = STD = (0.5, 0.5, 0.5)
QUICK = EncoderConfig(arch="tiny-resnet", options={"channels": [8, 8, 8, 8]})
CATEGORIES = ("animal/cat", "animal/dog", "food/pear")
DESIGNERS = ("google", "twitter", "mozilla")  # the last one is held out


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


def draw(category: int, concept: int, designer: int) -> Image.Image:
    """12 x 12: the category is the colour, the concept a position, the designer a shade."""
    pixels = np.full((12, 12, 3), 250 - 40 * designer, dtype=np.uint8)
    row, column = divmod(concept % 9, 3)
    pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, category] = 255 - concept
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 categories x 12 concepts x 3 designers, as drawings/CATEGORY/CONCEPT-DESIGNER.png."""
    root = tmp_path_factory.mktemp("data") / "drawings"
    for category, path in enumerate(CATEGORIES):
        (root / path).mkdir(parents=True)
        for concept in range(12):
            for designer, name in enumerate(DESIGNERS):
                draw(category, 12 * category + concept, designer).save(
                    root / path / f"{concept:02d}-{name}.png"
                )
    return root


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with texture-pairs' columns: dark and light textures in two games, metal in one of them.

    Of each material's ten textures in a game seven train, one validates and two test; two patches each.
    """
    rows: list[dict[str, Any]] = []
    data: dict[str, bytes] = {}
    kinds = [
        ("g", "dark", 30),
        ("g", "light", 220),
        ("h", "dark", 60),
        ("h", "light", 190),
        ("h", "metal", 120),
    ]
    for number, (game, material, shade) in enumerate(kinds):
        for k in range(10):
            for patch in range(2):
                noise = np.random.default_rng([number, k, patch]).integers(-20, 21, (8, 8, 3))
                image, buffer = Image.fromarray(np.uint8(shade + noise)), io.BytesIO()
                image.save(buffer, "PNG")
                uri = f"{game}/{material}{k}/{patch}.png"
                data[uri] = buffer.getvalue()
                rows.append({
                    "image_id": uri, "uri": uri, "file_hash": sha256_bytes(data[uri]), "width": 8,
                    "height": 8, "pixel_hash": pixel_hash(image), "source": "t",
                    "licence": "CC0-1.0",
                    "attribution": "nobody", "concept": material, "domain": game,
                    "category": f"{material}/{game} {material}{k}",
                    "split_group": f"{game}/{material}{k}", "texture": f"{game}/{material}{k}",
                    "patch": str(patch), "split": ("train", "validation", "test")[(k >= 7) + (k >= 8)],
                })  # fmt: skip
    catalog = Catalog.from_columns({key: [row[key] for row in rows] for key in rows[0]})
    out = tmp_path_factory.mktemp("textures") / "release"
    write_release(
        out, name="t", version="1", catalog=catalog, read=data.__getitem__, card="t",
        licences={"CC0-1.0.txt": "text"}, facts={},
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def emoji(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Catalog]:
    """The drawings with emoji-pairs' columns: a source spec, and its catalogue.

    Of each category's concepts 0-5 train, 6-8 validate, 9-11 test; 9 and 10 share a group.
    """
    catalog = open_source(f"folder:{drawings}").scan(decode=True).catalog
    category = catalog.column("category")
    stems = [Path(uri).stem.split("-") for uri in catalog.column("uri")]
    number = np.array([int(concept) for concept, _ in stems])
    designer = np.array([name for _, name in stems], dtype=object)
    held_out = designer == "mozilla"
    concept = np.array([f"{c}/{n}" for c, n in zip(category, number, strict=True)], dtype=object)
    group = np.array(
        [f"{c}/{9 if n == 10 else n}" for c, n in zip(category, number, strict=True)], dtype=object
    )
    split = np.where(number < 6, "train", np.where(number < 9, "validation", "test")).astype(object)
    split[held_out & (split != "test")] = None
    columns = {
        "concept": concept,
        "domain": designer,
        "split_group": group,
        "split": split,
        "held_out": held_out,
    }
    for name, values in columns.items():
        catalog = catalog.with_column(name, values)
    path = tmp_path_factory.mktemp("catalog") / "emoji.arrow"
    catalog.save(path)
    return f"catalog:{path}", Catalog.open(path)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder on disk, without a pretraining run around it."""
    folder = tmp_path_factory.mktemp("encoder") / "quick"
    save_encoder(folder, build_encoder(QUICK, seed=1), QUICK, 16, MEAN, STD)
    return folder


@pytest.fixture(scope="session")
def published() -> Any:
    """The module that writes tiny copies of the published sets."""
    spec = importlib.util.spec_from_file_location(
        "transfer_sets", Path(__file__).with_name("transfer_sets.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
