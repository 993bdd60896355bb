"""What users of the engine work on: images of tests/training, the devkit of tests/detection."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def _conftest(folder: str) -> Any:
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"conftest_of_{folder.replace('/', '_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_training, _detection = _conftest("training"), _conftest("detection")
images, make_recipe, _quiet = _training.images, _training.make_recipe, _training._quiet
devkit, encoder, quick = _detection.devkit, _detection.encoder, _detection.quick
