"""`sempairs curate`: judge pairs by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def curate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `pairs build` wrote.")],
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = 8765,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on. Outside loopback the printed address has a token that works once.",
        ),
    ] = "127.0.0.1",
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            metavar="URL",
            help="The address outside, where a reverse proxy leads here: https://label.example.org/review.",
        ),
    ] = None,
    reviewer: Annotated[str, typer.Option("--reviewer", help="The name the page starts with.")] = "",
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Pairs of the audit's random sample to review.")
    ] = 400,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serves a page for judging pairs: same meaning, yes, no or unsure.

    Verdicts go to DIR/curation.sqlite, each on disk before the page moves on. Ctrl-C ends it. From another
    machine: `ssh -L 8765:127.0.0.1:8765 HOST`, or a proxy that --origin names. Judging is blind: labels, file
    names and the audit's evidence are hidden until they are asked for on the page (L, E).
    """
    from sempairs.curation.server import serve

    def ready(address: str) -> None:
        if open_browser:
            import threading
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    def say(line: str) -> None:
        typer.echo(line)

    serve(
        folder, host=host, port=port, origin=origin, reviewer=reviewer, sample=sample, say=say, ready=ready
    )  # fmt: skip
