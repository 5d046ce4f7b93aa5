"""The commands for videos: segment, shard, fit, and info."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import (
    CLUSTERS,
    FIT,
    FRAMES,
    MEMORY,
    METHOD,
    PARTS,
    RENDER,
    WORKERS,
    CodebookFile,
    DryRun,
    Inputs,
    Output,
    Overwrite,
    Resume,
    settings_from,
)
from pipeline.cli.reports import OpenReport, conclude
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.forecast.scaling import Spread

_log = logging.getLogger(__name__)


@settings_from(METHOD, CLUSTERS, PARTS, FIT, FRAMES, MEMORY, RENDER, WORKERS)
def segment(
    inputs: Inputs,
    output: Output,
    codebook: CodebookFile = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    save_frames: Annotated[
        bool, typer.Option("--save-frames", help="Also write the painted frames under the input's own names.")
    ] = False,
    dry_run: DryRun = False,
    show: OpenReport = False,
    plan: Annotated[bool, typer.Option("--plan", help="Fit, divide the work for `vidparts shard`, and stop.")] = False,
    *,
    settings: Settings,
    workers: dict[str, Any],
    progress: Progress,
) -> None:
    """Find the parts in videos and paint them.

    Writes OUT/<name>/overlay.mp4, labels.zarr and run.json, OUT/codebook.safetensors and report.html.
    """
    if dry_run:
        from pipeline.forecast.dry_run import estimate

        spread = _spread(workers) if workers else None
        found = estimate(inputs, settings, codebook=codebook, save_frames=save_frames, spread=spread, progress=progress)
        typer.echo(found.summary())
        return
    from pipeline.distributed.pools import Workers
    from pipeline.tasks.segment import segment as run

    outcome = run(
        inputs,
        output,
        settings,
        codebook=codebook,
        overwrite=overwrite,
        resume=resume,
        save_frames=save_frames,
        workers=Workers(**workers) if workers else None,
        plan_only=plan,
        progress=progress,
    )
    typer.echo(outcome.summary())
    _log.info("where the time went\n%s", outcome.stage_table())
    if outcome.finished:
        conclude(output, show, progress)
    outcome.raise_failures()


def _spread(workers: dict[str, Any]) -> Spread:
    """What is asked of a dry run; without --engine each worker has a machine of its own."""
    from pipeline.forecast.scaling import Spread

    count = workers.get("count", 1)
    if count < 1:
        raise UsageError(f"--workers is {count}; expected at least 1")
    return Spread(count, workers.get("shard_frames"), workers.get("engine") == "local")


@settings_from()
def shard(
    output: Annotated[Path, typer.Argument(help="OUT of `vidparts segment ... --plan`.", metavar="OUT")],
    index: Annotated[int, typer.Option(help="Which share to do, from 0.", metavar="I")],
    of: Annotated[int, typer.Option(help="How many shares there are.", metavar="N")],
    *,
    progress: Progress,
) -> None:
    """Do a share of a planned run, as one job of an array."""
    from pipeline.tasks.shard import shard as run

    outcome = run(output, index, of, progress=progress)
    typer.echo(outcome.summary())
    outcome.raise_failures()


@settings_from(METHOD, CLUSTERS, PARTS, FIT, FRAMES, MEMORY)
def fit(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="The codebook to write, a .safetensors file.")],
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find the parts that videos share: a codebook."""
    if dry_run:
        from pipeline.forecast.dry_run import estimate

        typer.echo(estimate(inputs, settings, paints=False, progress=progress).summary())
        return
    from pipeline.tasks.fit import fit as run

    found = run(inputs, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(f"{found.parts} parts from {found.origin.frames} frames: {output}")


@settings_from()
def info(
    model: Annotated[
        str | None, typer.Option("--fetch", help="Write this model's weights to a file for another machine.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="That .safetensors file.")] = None,
    overwrite: Overwrite = False,
    *,
    progress: Progress,
) -> None:
    """Show versions, devices, models and presets."""
    from pipeline.tasks.info import fetch
    from pipeline.tasks.info import info as run

    if (model is None) != (output is None):
        raise UsageError("--fetch and --output go together: vidparts info --fetch dino_vits8 -o FILE.safetensors")
    typer.echo(run() if model is None or output is None else fetch(model, output, overwrite=overwrite))


COMMANDS = (segment, shard, fit, info)
