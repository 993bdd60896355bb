"""A small set of pairs of real pictures, and reviewers who judge them over the API."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sempairs.catalog.sources.base import open_source
from sempairs.cli.main import run
from sempairs.curation.api import CurationApi
from sempairs.curation.server import application
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines

HOST = "http://127.0.0.1:8765"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pairs of 24 photographs in three classes; one of them with alpha, one wide."""
    place = tmp_path_factory.mktemp("curation")
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(8):
            shape = (16, 700, 3) if (name, i) == ("dog", 0) else (16, 12, 3 + (i == 1))
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(place / "photos" / name / f"{i}.png")
    catalog = open_source(f"folder:{place / 'photos'}").scan().catalog
    n = len(catalog)
    catalog = catalog.with_column("split", ["train"] * n)
    save_with_baselines(place / "pairs", catalog, PairsConfig(relation="same_category"))
    return place


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A folder of 12 pairs of one's own."""
    return Path(shutil.copytree(_built / "pairs", tmp_path / "pairs"))


@pytest.fixture
def direct(folder: Path) -> Iterator[CurationApi]:
    found = CurationApi(folder)
    yield found
    found.close()


class Api:
    """The API as the page uses it."""

    def __init__(self, direct: CurationApi) -> None:
        self.direct = direct
        self.client = TestClient(application(direct), base_url=HOST, raise_server_exceptions=False)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.client.post(path, json=body, headers={"origin": HOST, **headers})

    def pairs(self, reviewer: str, queue: str = "all", **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/pairs", queue=queue, reviewer=reviewer, **query)["pairs"]
        return found

    def say(self, reviewer: str, pair: str, verdict: str, queue: str = "all", **more: Any) -> Any:
        body = {
            "reviewer": reviewer,
            "pair": pair,
            "verdict": verdict,
            "reasons": [],
            "note": "",
            "queue": queue,
        }
        answer = self.post("/api/verdicts", {**body, "event": str(uuid.uuid4()), **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def undo(self, reviewer: str) -> Any:
        return self.post("/api/undo", {"reviewer": reviewer, "event": str(uuid.uuid4())})


@pytest.fixture
def api(direct: CurationApi) -> Api:
    return Api(direct)


@pytest.fixture
def sempairs(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs a command line; gives exit status, stdout and the error lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, [line for line in err.splitlines() if line.startswith("error:")]

    return call
