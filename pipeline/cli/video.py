"""The commands for videos: segment, fit, render, export, verify, info."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    FIT,
    FRAMES,
    MEMORY,
    METHOD,
    PARTS,
    RENDER,
    CodebookFile,
    DryRun,
    Inputs,
    Output,
    Overwrite,
    PaletteOption,
    Result,
    StyleOption,
    settings_from,
)
from pipeline.config import Settings
from pipeline.progress import Progress


class ExportFormat(StrEnum):
    """Formats that label maps are exported in."""

    DAVIS = "davis"
    COCO = "coco"
    NPZ = "npz"


@settings_from(METHOD, PARTS, FIT, FRAMES, MEMORY, RENDER)
def segment(
    inputs: Inputs,
    output: Output,
    codebook: CodebookFile = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that ended early, to the same bytes.")
    ] = False,
    save_frames: Annotated[
        bool, typer.Option("--save-frames", help="Also write the painted frames under the input's own names.")
    ] = False,
    dry_run: DryRun = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find the parts in videos and paint them: OUT/<name>/overlay.mp4, labels.zarr, run.json."""
    if dry_run:
        from pipeline.forecast.dry_run import estimate

        found = estimate(inputs, settings, codebook=codebook, save_frames=save_frames, progress=progress)
        typer.echo(found.summary())
        return
    from pipeline.tasks.segment import segment as run

    outcome = run(
        inputs,
        output,
        settings,
        codebook=codebook,
        overwrite=overwrite,
        resume=resume,
        save_frames=save_frames,
        progress=progress,
    )
    typer.echo(outcome.summary())
    outcome.raise_failures()


@settings_from(METHOD, PARTS, FIT, FRAMES, MEMORY)
def fit(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="The codebook to write, a .safetensors file.")],
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find the parts that videos share, and write them as a codebook."""
    if dry_run:
        from pipeline.forecast.dry_run import estimate

        typer.echo(estimate(inputs, settings, paints=False, progress=progress).summary())
        return
    from pipeline.tasks.fit import fit as run

    found = run(inputs, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(f"{found.parts} parts from {found.origin.frames} frames: {output}")


@settings_from()
def render(
    result: Result,
    output: Annotated[Path, typer.Option("--output", "-o", help="The clip to write, an .mp4 file.")],
    style: Annotated[StyleOption, typer.Option(help="How to paint.")] = StyleOption.OVERLAY,
    alpha: Annotated[float | None, typer.Option(help="Opacity of the colours, 0 to 1.")] = None,
    palette: Annotated[PaletteOption | None, typer.Option(help="Colours; the codebook's own by default.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="The input, where it isn't any more where it was segmented.")
    ] = None,
    overwrite: Overwrite = False,
    *,
    progress: Progress,
) -> None:
    """Paint a finished result again in another style; nothing is computed anew."""
    from pipeline.tasks.render import render as run

    clip = run(
        result,
        output,
        style=style.value,
        alpha=alpha,
        palette=palette.value if palette else None,
        source=source,
        overwrite=overwrite,
        progress=progress,
    )
    typer.echo(f"{clip.frames} frames: {clip.file}")


@settings_from()
def export(
    result: Result,
    output: Output,
    format: Annotated[ExportFormat, typer.Option(help="davis: palette PNGs; coco: RLE JSON; npz: arrays.")],
    overwrite: Overwrite = False,
    *,
    progress: Progress,
) -> None:
    """Write a finished result's label maps in a format that other tools read."""
    from pipeline.tasks.export import export as run

    typer.echo(str(run(result, output, format.value, overwrite=overwrite)))


@settings_from()
def verify(result: Result, *, progress: Progress) -> None:
    """Check that a finished result is whole: checksums, and every frame once at its own time."""
    from pipeline.tasks.verify import verify as run

    found = run(result, progress=progress)
    typer.echo(f"{found.directory}: {found.frames} frames, all there")


@settings_from()
def info(*, progress: Progress) -> None:
    """Show versions, devices, models, and which of them can be had here."""
    from pipeline.tasks.info import info as run

    typer.echo(run())


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (segment, fit, render, export, verify, info):
        app.command()(command)
