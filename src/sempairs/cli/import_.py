"""`sempairs import`: an encoder of another project, as sempairs keeps encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A .pth, .pt, .ckpt, .tar, .bin or .safetensors file; nothing is run."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for encoder.safetensors and encoder.json.")],
    arch: Annotated[
        str | None, typer.Option("--arch", help="timm's name; told from the weights of ResNets and ViTs.")
    ] = None,
    stem: Annotated[
        str | None, typer.Option("--stem", help="small or imagenet; told from the weights of ResNets.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Of the encoder's keys, where the layout is not known.")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", min=8, help="Pixels. Default: 224, or 32 for a small stem.")
    ] = None,
    mean: Annotated[
        tuple[float, float, float], typer.Option("--mean", help="Of R, G, B in [0, 1]. Default: ImageNet's.")
    ] = (0.485, 0.456, 0.406),
    std: Annotated[tuple[float, float, float], typer.Option("--std", help="The same for --mean.")] = (
        0.229,
        0.224,
        0.225,
    ),
) -> None:
    """Make an encoder of a checkpoint of MoCo, SimSiam, SwAV, DINO, lightly, solo-learn, torchvision or timm.

    The layout is recognised by the names of the weights. A weight that is missing, surplus or of another
    shape is an error that names it. `sempairs evaluate CHECKPOINT` does the same on the fly.
    """
    from sempairs.encoders import import_encoder, save_encoder
    from sempairs.errors import UserError

    if stem not in (None, "small", "imagenet"):
        raise UserError("--stem", "must be small or imagenet", stem)
    if (out / "encoder.json").exists():
        raise UserError("--out", "must not hold an encoder already", str(out), "choose another folder")
    encoder, found = import_encoder(
        checkpoint,
        arch=arch,
        stem="small" if stem == "small" else "imagenet" if stem else None,
        prefix=prefix,
        input_size=input_size,
        mean=mean,
        std=std,
    )
    spec = encoder.spec
    save_encoder(out, encoder, spec.config, spec.input_size, spec.mean, spec.std)
    shown = f"{spec.config.arch}{', small stem' if spec.config.stem == 'small' else ''}"
    typer.echo(f"{out}: {shown}, {spec.width} features, written by {found.writer}")
    if found.left_out:
        typer.echo(f"left out: {', '.join(found.left_out[:8])}")
