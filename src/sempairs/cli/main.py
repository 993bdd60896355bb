"""`sempairs`: one verb a stage. Errors a user can mend are one line and status 2."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sempairs import __version__
from sempairs.cli import (
    curate,
    data,
    detect,
    doctor,
    evaluate,
    import_,
    pairs,
    pretrain,
    recipes,
    release,
    study,
    verdicts,
)
from sempairs.errors import UserError
from sempairs.progress import withdraw
from sempairs.runs.signals import Interrupted

# Typer carries its own copy of Click or depends on it, by version; its base class of errors is reached so.
ClickException: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


class _Stopped(Exception):  # noqa: N818 (no fault)
    """Ctrl-C, under a name that Typer does not turn into a status without a word.

    mark: how its line begins. That work was saved and goes on with some command is no error.
    """

    def __init__(self, stop: KeyboardInterrupt) -> None:
        super().__init__(str(stop) or "stopped")
        self.mark = "" if isinstance(stop, Interrupted) else "error: "


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _Stopped(stop) from stop


app = typer.Typer(
    name="sempairs",
    cls=_Verbs,
    help="Datasets of semantic pairs, self-supervised pretraining on them, and controlled studies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(pairs.app, name="pairs")
app.command("curate")(curate.curate)
app.add_typer(verdicts.app, name="verdicts")
app.add_typer(release.app, name="release")
app.command("pretrain")(pretrain.pretrain)
app.command("import")(import_.import_checkpoint)
app.command("embed")(evaluate.embed)
app.command("evaluate")(evaluate.evaluate)
app.command("detect")(detect.detect)
app.add_typer(study.app, name="study")
app.add_typer(recipes.app, name="recipes")
app.command("doctor")(doctor.doctor)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sempairs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Read by `main` from the arguments themselves, so that `--debug` works anywhere on the line."""


def main() -> NoReturn:
    """Entry point: runs the verb and turns every error into its line and exit status."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    _leave(run(arguments, debug=debug))


def _leave(status: int) -> NoReturn:
    """Ends this process; at once where it is one of several that torchrun or srun started.

    Threads of torch.distributed may still want the interpreter while it is taken down, and then abort the
    process (seen with gloo, torch 2.15): the launcher would call a finished run failed.
    """
    started = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    if "torch" in sys.modules and any(number != "1" for number in started):
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Runs one command line.

    Returns the exit status: 0 done, 1 a fault of ours, 2 a mistake, 3 a run that its own alarm stopped, 130
    Ctrl-C.
    """
    try:
        status = app(arguments, standalone_mode=False, prog_name="sempairs")
    except _Stopped as stop:
        return _say(str(stop), 130, debug, stop.mark)
    except (typer.Abort, KeyboardInterrupt):
        return _say("stopped", 130, debug)
    except UserError as error:
        return _say(str(error), error.status, debug)
    except ClickException as error:
        return _say(" ".join(str(error.format_message()).split()) or "see --help", 2, debug)
    except BrokenPipeError:  # `sempairs … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in _SYSTEM:
            return _say(_of_system(error), 2, debug)
        return _say(f"internal: {type(error).__name__}: {error}; run again with --debug", 1, debug)
    except Exception as error:
        return _say(f"internal: {type(error).__name__}: {error}; run again with --debug", 1, debug)
    return status if isinstance(status, int) else 0


_SYSTEM = {
    errno.ENOSPC: "the disk is full; nothing half-written was kept:",
    errno.EDQUOT: "the disk quota is used up; nothing half-written was kept:",
    errno.EFBIG: "the file is larger than this account may write; nothing half-written was kept:",
    errno.EACCES: "permission denied:",
    errno.EPERM: "permission denied:",
    errno.EROFS: "the file system is read-only:",
    errno.ENAMETOOLONG: "the file name is too long:",
    errno.ENOTDIR: "not a folder:",
    errno.EEXIST: "something else is in the place of a folder:",
    errno.EISDIR: "is a folder, not a file:",
    errno.ENOENT: "no such file or folder:",
}


def _of_system(error: OSError) -> str:
    line = _SYSTEM[error.errno or 0]
    if not error.filename:
        return line.rstrip(":")
    path = Path(os.fsdecode(error.filename))
    # What is written is written under another name first; the user knows its folder only.
    return f"{line} {path.parent if path.name.startswith('.partial-') else path}"


def _say(line: str, status: int, debug: bool, mark: str = "error: ") -> int:
    if debug:
        traceback.print_exc()
    # Of several processes, started by torchrun or srun, one says what went wrong.
    if os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")) != "1":
        from sempairs.runs.processes import first_to_tell

        if not first_to_tell():
            return status
    withdraw()
    print(f"{mark}{' '.join(line.split())}", file=sys.stderr)
    return status
