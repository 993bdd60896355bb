"""`sempairs embed` and `sempairs evaluate`: features of images, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sempairs.cli.import_ import PREFIX
from sempairs.cli.results import show_results

_ENCODER = (
    "A run folder; an encoder's folder or encoder.json; a checkpoint of another project, as "
    "`sempairs import` takes it; efficientnet-lite0, trained on ImageNet with labels; or random:ARCH, "
    "such as random:tiny-resnet or random:resnet50@96 (input of 96 pixels), for untrained weights."
)


def embed(
    encoder: Annotated[str, typer.Argument(help=_ENCODER)],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="emoji-pairs, folder:PATH, ...")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    split: Annotated[str | None, typer.Option("--split", help="Only the images of this split.")] = None,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bfloat16: faster, a little coarser.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the weights of random:ARCH.")] = 0,
    prefix: Annotated[str | None, typer.Option("--prefix", help=PREFIX)] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Images at once. Default: what fits in little memory, at most 256."
        ),
    ] = None,
) -> None:
    """Write the features of a source's images as a table: image_id, file_hash, features.

    Images are read and embedded part by part, so memory does not grow with them but for the features.
    """
    from sempairs.errors import UserError

    if out.suffix != ".parquet":
        raise UserError("--out", "must be a .parquet file", str(out))
    from sempairs.evaluation.export import export_features

    rows, width = export_features(
        encoder, data, out, split=split, precision="bf16" if bf16 else "float32", seed=seed, prefix=prefix,
        batch_size=batch_size,
    )  # fmt: skip
    typer.echo(f"{rows} images, {width} features each: {out}")


def _show_tasks(wanted: bool) -> None:
    if not wanted:
        return
    from sempairs.evaluation.tasks import TASKS

    families = sorted(TASKS.families().values(), key=lambda family: family.example)
    width = max(len(family.example) for family in families)
    for family in families:
        typer.echo(f"{family.example.ljust(width)}  {family.summary}")
    typer.echo(f"{'SOURCE'.ljust(width)}  the labels of any source, such as folder:PATH")
    raise typer.Exit


def _show_protocols(wanted: bool) -> None:
    if not wanted:
        return
    import json

    from sempairs.evaluation.config import EvaluationConfig
    from sempairs.evaluation.protocols import PROTOCOLS

    for name in PROTOCOLS.names():
        protocol = PROTOCOLS.get(name)
        typer.echo(f"{name}\n  {protocol.summary}")
        typer.echo(f"  takes: {', '.join(kind.__name__ for kind in protocol.takes)}")
        typer.echo(f"  metrics: {', '.join(protocol.metrics)}")
        settings = protocol.settings(EvaluationConfig())
        typer.echo(f"  settings: {json.dumps(settings, ensure_ascii=False)}")
        own = protocol.Config().model_dump(mode="json")
        told = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in own.items()]
        typer.echo(f"  --set: {', '.join(told) or 'none of its own'}\n")
    raise typer.Exit


def evaluate(
    out: Annotated[
        Path,
        typer.Option("--out", help="JSON Lines file; results are added to it. A new folder for --compare."),
    ],
    encoder: Annotated[str | None, typer.Argument(help=_ENCODER, show_default=False)] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="Repeatable; see --list-tasks. Any source with labels is one too, such as folder:PATH. "
            "Without it: emoji-subgroup, emoji-subgroup-held-out, emoji-retrieval and digits, or the labels "
            "of --data.",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Repeatable; see --list-protocols. Without it: each task's own, and kNN.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Evaluate on this source; emoji tasks move to it."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting: --set lambdas=7, --set max_fit_images=5000."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder to keep pixels and features in, for next time.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the weights of random:ARCH.")] = 0,
    prefix: Annotated[str | None, typer.Option("--prefix", help=PREFIX)] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    suite: Annotated[
        str | None,
        typer.Option("--suite", metavar="NAME", help="transfer: every published set under --data-root."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            "--transfer-root",
            envvar="SEMPAIRS_TRANSFER_ROOT",
            help="Folder of the suite's sets, each as torchvision lays it out.",
            show_envvar=True,
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare", metavar="A B", help="Two encoders instead of one: paired differences, as a page."
        ),
    ] = None,
    list_tasks: Annotated[
        bool,
        typer.Option("--list-tasks", help="Show the tasks, and end.", is_eager=True, callback=_show_tasks),
    ] = False,
    list_protocols: Annotated[
        bool,
        typer.Option(
            "--list-protocols",
            help="Show the protocols with all their settings, and end.",
            is_eager=True,
            callback=_show_protocols,
        ),
    ] = False,
) -> None:
    """Score an encoder on tasks: linear probe, kNN, retrieval, and any other protocol by name.

    Refuses to score images that the encoder's pretraining has seen. * marks a task's primary number.
    With --compare A B, scores both on the same images and writes a page: differences, intervals and tests,
    where each one wins, nearest neighbours, maps.
    """
    from sempairs.config import override, validate
    from sempairs.errors import UserError
    from sempairs.evaluation.config import EvaluationConfig

    config = validate(EvaluationConfig, override({}, overrides or []), "--set")
    if (encoder is None) == (compare is None):
        raise UserError("evaluate", "needs one encoder, or two after --compare")
    if compare is not None:
        from sempairs.cli.compare import run_comparison

        if protocol:
            raise UserError("--protocol", "is each task's own when two encoders are compared", protocol)
        if prefix is not None:
            remedy = "import the checkpoint with `sempairs import` first"
            raise UserError("--prefix", "must be left out when two encoders are compared", prefix, remedy)
        run_comparison(
            compare, task or (), out, config=config, data=data, cache=cache, seed=seed, device=device
        )
        return
    assert encoder is not None
    if out.is_dir():
        raise UserError("--out", "must be a file, such as results.jsonl", str(out))
    if suite is not None:
        from sempairs.cli.suites import run_suite

        if task or data is not None:
            raise UserError(
                "--suite", "names its tasks and data itself", suite, "leave --task and --data out"
            )
        run_suite(
            suite, encoder, data_root, out, protocols=protocol or (), config=config, cache=cache, seed=seed,
            prefix=prefix, device=device,
        )  # fmt: skip
        return
    from sempairs.evaluation.suite import evaluate as run

    results = run(
        encoder, task or (), out, protocols=protocol or (), config=config, data=data, cache=cache, seed=seed,
        prefix=prefix, device=device,
    )  # fmt: skip
    show_results(results, out)
