"""The structure: a stage never imports a later one, and importing the package starts nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
    "pages",
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


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, inside functions too, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child)


def _arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """For each module the modules among `sources` that it imports, at its top or inside a function."""
    arrows: dict[str, set[str]] = {}
    for module, text in sources.items():
        named: set[str] = set()
        for node in _statements(ast.parse(text)):
            if isinstance(node, ast.Import):
                named |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                # A module of that name if there is one, else something in the module named first.
                names = [(f"{node.module}.{name.name}", str(node.module)) for name in node.names]
                named |= {inner if inner in sources else outer for inner, outer in names}
        arrows[module] = (named & sources.keys()) - {module}
    return arrows


def _in_circles(arrows: Mapping[str, set[str]]) -> set[str]:
    """The modules that reach themselves: what is left after dropping, again and again, all that import
    nothing left, or that nothing left imports."""
    left = dict(arrows)
    while True:
        imported = set().union(*left.values()) if left else set()
        kept = {m: left[m] & left.keys() for m in left if left[m] & left.keys() and m in imported}
        if kept == left:
            return set(kept)
        left = kept


def test_no_modules_import_each_other_in_a_circle():
    sources = {_module(path): path.read_text() for path in PACKAGE.rglob("*.py")}
    arrows = _arrows(sources)
    assert len(arrows) > 100 and sum(map(len, arrows.values())) > 500  # or this test sees nothing
    assert _in_circles(arrows) == set()


def test_a_circle_is_found_inside_functions_and_not_where_types_alone_are_meant():
    a = "from p import b"
    late = "def f():\n    from p.a import x"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x"
    assert _in_circles(_arrows({"p.a": a, "p.b": late, "p.c": "import p.a"})) == {"p.a", "p.b"}
    assert _in_circles(_arrows({"p.a": a, "p.b": typed, "p.c": "import p.a"})) == set()


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
