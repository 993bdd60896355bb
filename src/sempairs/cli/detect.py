"""`sempairs detect`: what an encoder is worth for finding objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sempairs.cli.import_ import PREFIX

_PROTOCOL = "voc-c4-1 (MoCo's), voc-fpn-1, small-c4-1 or small-fpn-1 for pictures of about 160 pixels."


def detect(
    encoder: Annotated[
        str,
        typer.Argument(
            help="A run folder, an encoder's folder or encoder.json, a checkpoint of another project, or "
            "random:ARCH for untrained weights. ResNets only."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; nothing is written outside it.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="voc:PATH of a VOCdevkit, or coco:PATH.")
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", metavar="NAME", help=_PROTOCOL)] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="YAML with protocol, data and settings, or a name: detect-scenes, detect-voc."
        ),
    ] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Keep every weight and statistic of the encoder as it is.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting: --set iterations=1000, --set batch_size=8."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of new weights, order, mirroring, random:ARCH.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help=PREFIX)] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint in --out. Starts afresh where there is none, and changes "
            "nothing where the run is finished.",
        ),
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Fine-tune a Faster R-CNN on an encoder and score it on a test set.

    Leaves in --out: recipe.yaml, metrics.jsonl, checkpoint/, results.jsonl, detections-SET.parquet and
    index.html with drawn pictures. The detector of the last iteration is scored; nothing is chosen on test
    pictures. With several GPUs, start it with torchrun: the batch is shared out and normalisation is SyncBN.
    """
    from sempairs.detection.config import make_recipe

    loaded = make_recipe(
        encoder,
        data=data,
        protocol=protocol,
        file=recipe,
        overrides=overrides or [],
        frozen=frozen,
        seed=seed,
        prefix=prefix,
    )
    from sempairs.detection.run import detect as run

    results = run(loaded, out, resume=resume, device=device)
    for row in results:
        mark = "*" if row.primary else " "
        typer.echo(f"{row.task}  {row.protocol}  {row.metric:<10}{mark} {100 * row.value:5.1f}  n {row.n}")
    if results:
        typer.echo(f"{out}: results.jsonl, index.html")
