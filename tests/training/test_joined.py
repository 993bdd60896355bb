"""A run over several sources: each with its own relation and share, the same images in both arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.config import validate
from sempairs.training.data import batches, epoch_steps, load_data
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain
from sempairs.training.samplers import Shuffled

from .conftest import SIDE, tiny_recipe

SHARES = {"drawings": 0.5, "objects": 0.25, "textures": 0.25}


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Drawings by two designers, objects from four sides, and textures twice as material and as place."""
    root = tmp_path_factory.mktemp("joined")
    columns = {
        "drawings": "concept,domain",
        "objects": "object,side",
        "textures": "category,domain,texture,patch",
    }
    for number, name in enumerate(columns):
        lines = [f"path,split,{columns[name]}"]
        for k in range(24):
            noise = np.random.default_rng([number, k]).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(noise).save(root / name / f"{k}.png")
            values = {
                "drawings": f"c{k // 2},d{k % 2}",
                "objects": f"o{k // 4},s{k % 4}",
                "textures": f"m{k // 12},g{k // 6 % 2},t{k // 3},p{k % 3}",
            }[name]
            split = "validation" if k >= 20 and name == "drawings" else "train"
            lines.append(f"{name}/{k}.png,{split},{values}")
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (root / "parts.yaml").write_text(f"""parts:
- {{name: drawings, source: "csv:{root}/drawings.csv", share: 0.5}}
- {{name: objects, source: "csv:{root}/objects.csv", share: 0.25, concept: object, domain: side}}
- {{name: textures, source: "csv:{root}/textures.csv", share: 0.25, concept: texture, domain: patch}}
""")
    return f"joined:{root}/parts.yaml"


@pytest.fixture
def recipe(joined: str) -> Callable[..., PretrainRecipe]:
    def make(**changes: object) -> PretrainRecipe:
        base = {"data__source": joined, "pairs": {"relation": "cross_domain", "mode": "redrawn"}}
        return validate(PretrainRecipe, tiny_recipe(Path("unused"), **{**base, **changes}))

    return make


def test_each_part_keeps_its_relation_and_share(recipe: Callable[..., PretrainRecipe]) -> None:
    data = load_data(recipe())
    part = data.catalog.column("part")
    shared = {"drawings": "concept", "objects": "object", "textures": "texture"}
    differs = {"drawings": "domain", "objects": "side", "textures": "patch"}
    for batch in batches(data.plan, seed=3, batch_size=12, start=0, stop=9):
        assert Counter(part[batch.anchor]) == {name: 12 * share for name, share in SHARES.items()}
        assert (part[batch.anchor] == part[batch.partner]).all()
        for a, b in zip(batch.anchor, batch.partner, strict=True):
            same, other = data.catalog.column(shared[part[a]]), data.catalog.column(differs[part[a]])
            assert same[a] == same[b]
            assert other[a] != other[b]


def test_both_arms_see_the_same_images(recipe: Callable[..., PretrainRecipe], tmp_path: Path) -> None:
    arms = {arm: recipe(pairs__arm=arm) for arm in ("semantic", "augmented")}
    plans = {arm: load_data(one).plan for arm, one in arms.items()}
    per_epoch = epoch_steps(plans["semantic"], Shuffled(), 12)
    seen: dict[str, list[set[int]]] = {}
    found = {
        arm: list(batches(p, seed=3, batch_size=12, start=0, stop=12 * per_epoch)) for arm, p in plans.items()
    }
    for one, other in zip(found["semantic"], found["augmented"], strict=True):
        assert (one.anchor == other.anchor).all()
        assert (one.occurrence == other.occurrence).all()
        assert (one.meaning == other.meaning).all()
        assert (other.anchor == other.partner).all()
        assert (one.anchor != one.partner).all()
    for arm, shown in found.items():
        seen[arm] = [set(np.concatenate([b.anchor, b.partner]).tolist()) for b in shown]
    assert set().union(*seen["semantic"]) == set().union(*seen["augmented"]) == set(range(68))
    for arm, one in arms.items():
        pretrain(one, tmp_path / arm)
    exposed = [
        sorted(pq.read_table(tmp_path / arm / "exposure.parquet").column("image_id").to_pylist())
        for arm in arms
    ]
    assert exposed[0] == exposed[1]
    assert Counter(name.split("/")[0] for name in exposed[0]) == {
        "drawings": 20,
        "objects": 24,
        "textures": 24,
    }
