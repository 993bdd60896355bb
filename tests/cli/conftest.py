"""A folder of small photographs, and a way to run a command line inside this process."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sempairs.cli.main import run


@pytest.fixture
def photos(tmp_path):
    """Three categories of eight images each."""
    make_photos(tmp_path / "photos")
    return tmp_path / "photos"


def make_photos(folder):
    random = np.random.default_rng(0)
    for category in ("cat", "dog", "owl"):
        (folder / category).mkdir(parents=True)
        for i in range(8):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / category / f"{i}.png")


@pytest.fixture
def sempairs(capsys):
    """Runs a command line; gives exit status, stdout and the error lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, [line for line in err.splitlines() if line.startswith("error:")]

    return call
