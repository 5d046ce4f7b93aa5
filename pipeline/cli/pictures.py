"""The commands for what pictures have in common: coseg, parts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.options import (
    CLUSTERS,
    MEMORY,
    METHOD,
    PARTS,
    RENDER,
    CodebookFile,
    DryRun,
    Images,
    Output,
    Overwrite,
    Resume,
    settings_from,
)
from pipeline.cli.reports import OpenReport, conclude
from pipeline.config import MaskRefinement, Settings
from pipeline.progress import Progress


def _fit_pictures(
    fit_pictures: Annotated[int | None, typer.Option(help="Pictures to fit on; default: what 2 GB hold.")] = None,
) -> dict[str, Any]:
    return {"pictures.fit": fit_pictures}


def _masks(
    refine: Annotated[MaskRefinement | None, typer.Option(help="What makes masks follow edges.")] = None,
    remove_outliers: Annotated[
        bool, typer.Option("--remove-outliers", help="Leave out pictures unlike the others.")
    ] = False,
) -> dict[str, Any]:
    return {"pictures.refine": refine, "pictures.remove_outliers": remove_outliers or None}


def _stages(
    crop_augmentations: Annotated[
        int | None,
        typer.Option(help="Random crops of each picture, with their mirror images, that join the fit; for small sets."),
    ] = None,
    three_stages: Annotated[
        bool,
        typer.Option(
            "--three-stages",
            help="Find parts twice, the second time in what every picture has; for small varied sets.",
        ),
    ] = False,
) -> dict[str, Any]:
    return {"pictures.crop_augmentations": crop_augmentations, "pictures.three_stages": three_stages or None}


@settings_from(METHOD, CLUSTERS, _fit_pictures, _masks, MEMORY)
def coseg(
    images: Images,
    output: Output,
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Cut out the object that pictures have in common.

    Writes OUT/<stem>_mask.png, <stem>_cutout.png and overview.png.
    """
    from pipeline.tasks.coseg import coseg as run
    from pipeline.tasks.coseg import estimate_coseg

    if dry_run:
        typer.echo(estimate_coseg(images, settings, progress=progress).summary())
        return
    outcome = run(images, output, settings, overwrite=overwrite, resume=resume, progress=progress)
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


@settings_from(METHOD, CLUSTERS, PARTS, _fit_pictures, _stages, MEMORY, RENDER)
def parts(
    images: Images,
    output: Output,
    codebook: CodebookFile = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find the parts that objects in pictures share.

    Writes OUT/<stem>_labels.png, <stem>_parts.png, overview.png and codebook.safetensors.
    """
    from pipeline.tasks.parts import estimate_parts
    from pipeline.tasks.parts import parts as run

    if dry_run:
        typer.echo(estimate_parts(images, settings, codebook=codebook, progress=progress).summary())
        return
    outcome = run(images, output, settings, codebook=codebook, overwrite=overwrite, resume=resume, progress=progress)
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


COMMANDS = (coseg, parts)
