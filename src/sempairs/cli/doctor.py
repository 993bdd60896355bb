"""`sempairs doctor`: what this machine has, and what works without further ado."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Check the installation: versions, devices, extras and the bundled data. Status 1 if something fails."""
    import platform
    import shutil
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    import torch

    from sempairs import __version__
    from sempairs.catalog.sources.release import BUNDLED, bundled_release
    from sempairs.errors import UserError
    from sempairs.precision import auto_precision, instruction_sets
    from sempairs.release import verify_release
    from sempairs.training.measure import pairs_per_second

    def line(what: str, state: str) -> None:
        typer.echo(f"{what:<18} {state}")

    line("sempairs", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    for package in ("torch", "torchvision", "timm", "lightning-fabric", "pyarrow"):
        try:
            line(package, version(package))
        except PackageNotFoundError:
            line(package, "absent as a package of its own")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    line("devices", ", ".join([f"CPU with {torch.get_num_threads()} threads", *gpus]))
    line("instruction sets", ", ".join(instruction_sets()) or "none that is known")
    line("precision auto", f"{auto_precision('auto')} (on the CPU {auto_precision('cpu')})")
    rate = pairs_per_second(2.0)
    line("speed", f"{rate:,.0f} pairs/s: SimCLR, tiny-resnet, 32 pixels, {torch.get_num_threads()} threads")
    compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    line("compiler", compiler or "none: speed.compile runs without compiling")
    for module, extra, use in (
        ("resvg_py", "build-data", "building emoji-pairs"),
        ("vtkmodules", "build-data", "building object-pairs"),
        ("lightly", "bench", "comparisons"),
        ("kornia", "bench", "comparisons"),
    ):
        line(module, "there" if find_spec(module) else f"absent: pip install 'sempairs[{extra}]' for {use}")
    failed = False
    for name in BUNDLED:
        try:
            release = bundled_release(name)
            problems = verify_release(release)
            line(name, f"{len(problems)} problems" if problems else f"sound, {release}")
            failed = failed or bool(problems)
        except UserError as error:
            line(name, str(error))
            failed = True
    if failed:
        raise typer.Exit(1)
