"""The commands for what pictures have in common: coseg, parts."""

from __future__ import annotations

import typer

from pipeline.cli.options import (
    CLUSTERS,
    MEMORY,
    METHOD,
    PARTS,
    RENDER,
    CodebookFile,
    DryRun,
    Group,
    Images,
    Option,
    Output,
    Overwrite,
    Resume,
    settings_from,
)
from pipeline.cli.reports import OpenReport, conclude
from pipeline.config import MaskRefinement, Settings
from pipeline.progress import Progress

_FIT: Group = {"pictures.fit": Option(int, "--fit-pictures", "Pictures to fit on; default: what 2 GB hold.")}
_MASKS: Group = {
    "pictures.refine": Option(MaskRefinement, "--refine", "What makes masks follow edges."),
    "pictures.remove_outliers": Option(bool, "--remove-outliers", "Leave out pictures unlike the others."),
}
_STAGES: Group = {
    "pictures.crop_augmentations": Option(
        int,
        "--crop-augmentations",
        "Random crops of each picture, with their mirror images, that join the fit; for small sets.",
    ),
    "pictures.three_stages": Option(
        bool,
        "--three-stages",
        "Find parts twice, the second time in what every picture has; for small varied sets.",
    ),
}


@settings_from(METHOD, CLUSTERS, _FIT, _MASKS, MEMORY)
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


@settings_from(METHOD, CLUSTERS, PARTS, _FIT, _STAGES, MEMORY, RENDER)
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
