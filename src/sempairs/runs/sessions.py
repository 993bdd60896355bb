"""Who works on a run: for each start of the program, what of machine and code may change a result."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sempairs.config import Config
from sempairs.files import sha256_bytes, sha256_file
from sempairs.precision import instruction_sets

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "sempairs", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "scipy", "scikit-learn",
    "pillow", "pyarrow",
)  # fmt: skip
# The engine comes under either name.
_SAME = {"lightning-fabric": "pytorch-lightning"}
PACKAGE = Path(__file__).resolve().parent.parent


class Code(Config):
    """Which code ran. package_sha256: of every file of the package; it alone decides whether two runs had the
    same code. commit, dirty, difference_sha256: of the package's own checkout, null outside one."""

    package_sha256: str
    commit: str | None = None
    dirty: bool | None = None
    difference_sha256: str | None = None


class Hardware(Config):
    """The machine. instructions: sets that arithmetic may use. device: the accelerator's name, or cpu."""

    system: str
    cpu: str
    instructions: tuple[str, ...] = ()
    cores: int | None
    device: str


class Machine(Config):
    """What did the work: versions of the packages, hardware, threads, processes, code."""

    versions: dict[str, str | None]
    hardware: Hardware
    threads: int
    processes: int
    code: Code


class Session(Machine):
    """One stretch of work on a run by one start of the program. started: seconds since 1970.

    from_step: optimiser steps done before it. It describes a place and a time; what it inherits from
    `Machine` is what may change a result.
    """

    started: float
    from_step: int = 0
    host: str
    pid: int


def machine_facts(machine: Machine) -> dict[str, Any]:
    """What of a session may change a result, by dotted name: versions, hardware, threads, processes, code."""
    facts: dict[str, Any] = {f"versions.{name}": found for name, found in machine.versions.items()}
    facts |= {f"hardware.{name}": found for name, found in machine.hardware.model_dump().items()}
    facts |= {"threads": machine.threads, "processes": machine.processes}
    return facts | {"code.package_sha256": machine.code.package_sha256}


def session(device: torch.device, *, from_step: int = 0) -> Session:
    """This process, now."""
    place = {"started": time.time(), "from_step": from_step, "host": platform.node(), "pid": os.getpid()}
    return Session.model_validate(environment(device) | place)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, threads, processes and code: the fields of `Machine`."""
    import torch

    from sempairs.runs import processes

    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu(),
            "instructions": list(instruction_sets()),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "code": code_state().model_dump(),
    }


def code_state() -> Code:
    """The package's files as they are now, and what git says of them if they lie in their own checkout."""
    package = package_sha256()
    return Code(package_sha256=package, **_checkout_state(package))


def package_sha256(folder: Path = PACKAGE) -> str:
    """SHA-256 over names and contents of a package's files, but for hidden, backup and compiled ones.

    A file is read again only where its size or time of change is another than before, so asking twice in a
    process costs milliseconds, and an edit between training and scoring is seen.
    """
    found = (path for path in folder.rglob("*") if path.is_file() and _is_source(path.relative_to(folder)))
    lines = []
    for path in found:
        about = path.stat()
        lines.append(
            (path.relative_to(folder).as_posix(), _file_sha256(path, about.st_size, about.st_mtime_ns))
        )
    return sha256_bytes("".join(f"{name}\0{digest}\n" for name, digest in sorted(lines)).encode())


def _is_source(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.suffix not in (".pyc", ".pyo") and not path.name.endswith("~")


@lru_cache(maxsize=4096)
def _file_sha256(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


@lru_cache(maxsize=1)
def _checkout_state(package: str) -> dict[str, Any]:
    """Commit of the package's own checkout, and the SHA-256 of what differs from it. package: the hash of the
    files, as the same files are not asked about twice."""
    # A package installed beside a user's own repository is not part of it.
    if _git(PACKAGE, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    commit = _git(PACKAGE, "rev-parse", "HEAD")
    difference = uncommitted()
    return {
        "commit": commit.strip() if commit else None,
        "dirty": bool(difference),
        "difference_sha256": sha256_bytes(difference.encode()) if difference else None,
    }


def uncommitted() -> str:
    """What the package's checkout has that its last commit has not: a diff, then the names of new files."""
    difference = _git(PACKAGE, "diff", "HEAD", "--", str(PACKAGE)) or ""
    fresh = _git(PACKAGE, "ls-files", "--others", "--exclude-standard", "--", str(PACKAGE)) or ""
    return difference + "".join(f"new file: {name}\n" for name in fresh.splitlines())


def _version(package: str) -> str | None:
    for name in (package, _SAME.get(package)):
        if name is not None:
            try:
                return version(name)
            except PackageNotFoundError:
                continue
    return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    """What a read-only git command says, None where it fails or git is absent."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True, text=True, errors="replace", timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
