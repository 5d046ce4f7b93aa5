"""The commands for pictures: features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import METHOD, Images, Overwrite, settings_from
from pipeline.config import Settings, with_values
from pipeline.progress import Progress

LogBin = Annotated[bool, typer.Option("--log-bin", help="Add the context of log-spaced bins to each descriptor.")]


@settings_from(METHOD)
def features(
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz file to write.")],
    log_bin: LogBin = False,
    overwrite: Overwrite = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Write pictures' descriptors and saliency: arrays <stem>/descriptors and <stem>/saliency."""
    from pipeline.tasks.features import features as run

    if log_bin:
        settings = with_values(settings, {"features.log_bin": True})
    names = run(images, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(f"{len(names)} pictures: {output}")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(features)
