"""The built wheel alone is enough: no repository, no development extras."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def needed(name: str, extras: frozenset[str], found: dict[str, Distribution]) -> None:
    """Adds the distribution called `name`, with these of its extras, and all it needs, to `found`."""
    key = f"{re.sub(r'[-_.]+', '-', name).lower()}[{','.join(sorted(extras))}]"
    if key in found:
        return
    found[key] = distribution(name)
    for line in found[key].requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            needed(requirement.name, frozenset(requirement.extras), found)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """An environment with the wheel and what it needs without extras, as links into this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*build, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True
    )
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    [wheel] = folder.glob("*.whl")
    into = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run([*into, str(wheel)], check=True, capture_output=True, text=True)
    found: dict[str, Distribution] = {}
    for line in distribution("sempairs").requires or ():
        requirement = Requirement(line)
        if requirement.marker is None:
            needed(requirement.name, frozenset(requirement.extras), found)
    for one in found.values():
        for file in one.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(one.locate_file(top)).resolve())
    return folder


def sempairs(fresh, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(fresh / "env" / "bin" / "python"), "-m", "sempairs", *arguments],
        cwd=fresh,
        env={**environment, "OMP_NUM_THREADS": "1", "SEMPAIRS_QUIET": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_it_holds_no_development_extra(fresh):
    absent = ("pytest", "lightly", "statsmodels")
    code = f"import importlib.util as u; print([m for m in {absent!r} if u.find_spec(m)])"
    python = str(fresh / "env" / "bin" / "python")
    done = subprocess.run([python, "-c", code], cwd=fresh, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_study_runs_by_its_name(fresh):
    done = sempairs(fresh, "study", "run", "debug", "--out", "study")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (fresh / "study" / "report.html").stat().st_size > 10_000


def test_recipes_and_data_come_along(fresh):
    shown = sempairs(fresh, "recipes", "show", "quickstart")
    assert shown.returncode == 0 and shown.stdout.startswith("#")
    planned = sempairs(fresh, "study", "plan", "quickstart", "--seeds", "6", "--out", "quickstart")
    assert planned.returncode == 0, planned.stderr[-3000:]
    assert (fresh / "quickstart" / "plan.json").exists()
