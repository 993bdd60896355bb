"""The structure: a stage never imports a later one, and importing the package starts nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sempairs

PACKAGE = Path(sempairs.__file__).parent
LEAVES = (
    "__init__",
    "errors",
    "registry",
    "files",
    "texts",
    "keyed",
    "config",
    "progress",
    "precision",
    "embeddings",
    "metrics",
    "recipes",
    "plugins",
)
STAGES = (
    "catalog", "pairs", "curation", "release", "views", "methods", "encoders", "runs", "training",
    "evaluation", "detection", "study", "testing", "cli",
)  # fmt: skip


def _stage(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if first == "__main__" else first


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from sempairs import catalog` names the stage in the imported name.
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("sempairs.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_stage_imports_a_later_one(path):
    stage = _stage(path)
    assert stage in (*LEAVES, *STAGES), f"{stage} has no place in the data flow"
    allowed = set(LEAVES) | {"__version__"}
    if stage in STAGES:
        allowed |= set(STAGES[: STAGES.index(stage) + 1])
    if path == PACKAGE / "__init__.py":
        return
    assert _imports(path) <= allowed


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = ("torch", "timm", "pyarrow", "numpy", "scipy", "sklearn", "PIL", "matplotlib", "pandas")
    code = f"import sys, sempairs, sempairs.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_resolves():
    for name in sempairs.__all__:
        assert getattr(sempairs, name) is not None


def test_the_architecture_says_where_every_room_and_leaf_module_belongs():
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    leaves = [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    named = [*(f"`{room}/`" for room in rooms), *(f"`{leaf}`" for leaf in leaves)]
    assert [name for name in named if name not in page] == []
