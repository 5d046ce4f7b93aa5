"""The commands for what pictures have in common: coseg, parts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.options import CLUSTERS, METHOD, PARTS, RENDER, CodebookFile, Images, Output, Overwrite, settings_from
from pipeline.config import MaskRefinement, Settings
from pipeline.progress import Progress


def _fit_pictures(
    fit_pictures: Annotated[int | None, typer.Option(help="Pictures to fit on, evenly spread; default: all.")] = None,
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


@settings_from(METHOD, CLUSTERS, _fit_pictures, _masks)
def coseg(
    images: Images,
    output: Output,
    overwrite: Overwrite = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Cut out the object that pictures have in common.

    Writes OUT/<stem>_mask.png, <stem>_cutout.png and overview.png.
    """
    from pipeline.tasks.coseg import coseg as run

    outcome = run(images, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(outcome.summary())
    outcome.raise_failures()


@settings_from(METHOD, CLUSTERS, PARTS, _fit_pictures, _stages, RENDER)
def parts(
    images: Images,
    output: Output,
    codebook: CodebookFile = None,
    overwrite: Overwrite = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find the parts that objects in pictures share.

    Writes OUT/<stem>_labels.png, <stem>_parts.png, overview.png and codebook.safetensors.
    """
    from pipeline.tasks.parts import parts as run

    outcome = run(images, output, settings, codebook=codebook, overwrite=overwrite, progress=progress)
    typer.echo(outcome.summary())
    outcome.raise_failures()


COMMANDS = (coseg, parts)
