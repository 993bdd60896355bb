"""`sempairs import`: an encoder of another project, as sempairs keeps encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

PREFIX = (
    "Of the encoder's keys, where a checkpoint has several encoders: whole, or some of its parts in a row."
)


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
        str | None,
        typer.Option(
            "--stem",
            help="Of a ResNet with a first convolution of 3 x 3: small (padding 1), padded (padding 2: "
            "solo-learn on CIFAR) or pooled (padding 1, then max pooling).",
        ),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help=PREFIX)] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An argument of timm's network: --set output_stride=8."
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            "--input-size",
            min=8,
            help="Pixels. Default: that of a network for one size only, else 224, or 32 for a small stem.",
        ),
    ] = None,
    mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option("--mean", help="Of R, G, B in [0, 1]. Default: ImageNet's."),
    ] = None,
    std: Annotated[
        tuple[float, float, float] | None, typer.Option("--std", help="The same for --mean.")
    ] = None,
) -> None:
    """Make an encoder of a checkpoint of MoCo, SimSiam, SwAV, DINO, lightly, solo-learn, torchvision or timm.

    The layout is recognised by the names of the weights, at any depth and under any prefix. A weight that is
    missing, surplus or of another shape is an error that names it; what weights do not tell is asked or said.
    `sempairs evaluate CHECKPOINT` does the same on the fly.
    """
    from sempairs.config import override
    from sempairs.encoders import import_encoder, save_encoder
    from sempairs.encoders.config import Stem
    from sempairs.errors import UserError

    if stem not in (None, *get_args(Stem)):
        raise UserError("--stem", f"must be one of {', '.join(get_args(Stem))}", stem)
    if (out / "encoder.json").exists():
        raise UserError("--out", "must not hold an encoder already", str(out), "choose another folder")
    encoder, found = import_encoder(
        checkpoint, arch=arch, stem=cast("Stem | None", stem), prefix=prefix, input_size=input_size,
        mean=mean, std=std, options=override({}, overrides or []),
    )  # fmt: skip
    spec = encoder.spec
    save_encoder(out, encoder, spec.config, spec.input_size, spec.mean, spec.std)
    shown = f"{spec.config.arch}{f', {spec.config.stem} stem' if spec.config.stem else ''}"
    typer.echo(f"{out}: {shown}, {spec.width} features, written by {found.writer}")
    mean_, std_ = (" ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    typer.echo(f"images of {spec.input_size} pixels, mean {mean_}, std {std_}")
    for note in found.notes:
        typer.echo(note)
    if found.left_out:
        more = f" and {len(found.left_out) - 8} more" if len(found.left_out) > 8 else ""
        typer.echo(f"left out: {', '.join(found.left_out[:8])}{more}")
