"""The commands that look at descriptors: features, match, pca, similarity, layers, saliency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import FIT, FRAMES, METHOD, Images, Output, Overwrite, settings_from
from pipeline.cli.reports import OpenReport, conclude
from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.progress import Progress

Visuals = Annotated[
    list[str],
    typer.Argument(help="Pictures, videos, directories of pictures, globs, or a text file.", metavar="INPUT"),
]
First = Annotated[str, typer.Argument(help="A picture.", metavar="A")]
PointText = Annotated[
    str | None, typer.Option("--point", help="A point of the first picture, pixels from its top left.", metavar="X,Y")
]


@settings_from(METHOD)
def match(
    first: First,
    second: Annotated[str, typer.Argument(help="Another picture, of any size.", metavar="B")],
    output: Output,
    pairs: Annotated[int, typer.Option(help="Pairs to find at most.")] = 10,
    threshold: Annotated[float, typer.Option(help="Saliency that both ends must exceed, 0 to 1.")] = 0.05,
    log_bin: Annotated[
        bool | None, typer.Option("--log-bin/--no-log-bin", help="Compare points with their context; on by default.")
    ] = None,
    every_pair: Annotated[bool, typer.Option("--all", help="Write every pair of salient best buddies.")] = False,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Find corresponding points in two pictures.

    Writes OUT/matches.json and matches.png. The layer is 9 of 12 by default.
    """
    from pipeline.tasks.match import match as run

    settings = with_values(settings, {"features.log_bin": log_bin})
    wanted = None if every_pair else pairs
    found = run(
        first, second, output, settings, pairs=wanted, threshold=threshold, overwrite=overwrite, progress=progress
    )
    typer.echo(found.summary())
    conclude(output, show, progress)


@settings_from(METHOD, FIT, FRAMES)
def pca(
    inputs: Visuals,
    output: Output,
    components: Annotated[int, typer.Option(help="Components; below 4 there are no colours.")] = 4,
    separate: Annotated[bool, typer.Option("--separate", help="One basis for each input, not one for all.")] = False,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Paint principal components of descriptors.

    The first in grey, the second to the fourth as colours.
    """
    from pipeline.tasks.pca import pca as run

    outcome = run(
        inputs, output, settings, components=components, separate=separate, overwrite=overwrite, progress=progress
    )
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


@settings_from(METHOD, FRAMES)
def similarity(
    first: First,
    second: Annotated[str, typer.Argument(help="A picture, a video or a directory of pictures.", metavar="B")],
    output: Output,
    point: PointText = None,
    top: Annotated[int, typer.Option(help="Nearest patches to mark and to list.")] = 5,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Paint how similar each place of B is to a point of A.

    Without --point, to the class token of A.
    """
    from pipeline.tasks.similarity import similarity as run

    place = parse_point(point)
    outcome = run(first, second, output, settings, point=place, top=top, overwrite=overwrite, progress=progress)
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


@settings_from(METHOD, FRAMES)
def layers(
    inputs: Visuals,
    output: Output,
    point: PointText = None,
    parts: Annotated[int | None, typer.Option(help="Parts that colour the t-SNE.")] = None,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Draw what each layer and facet shows.

    Principal components of each layer, similarity maps of a point, and a t-SNE of the parts.
    """
    from pipeline.tasks.layers import layers as run

    settings = with_values(settings, {"cluster.parts": parts})
    outcome = run(inputs, output, settings, point=parse_point(point), overwrite=overwrite, progress=progress)
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


@settings_from(METHOD, FRAMES)
def saliency(
    inputs: Visuals,
    output: Output,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Read it at the full size and --stride, not at half the size.")
    ] = False,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Paint saliency as heat maps, and write it as arrays."""
    from pipeline.tasks.saliency import saliency as run

    if full_size:
        settings = with_values(settings, {"saliency.half_size": False})
    outcome = run(inputs, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(outcome.summary())
    conclude(output, show, progress)
    outcome.raise_failures()


@settings_from(METHOD)
def features(
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz file to write.")],
    log_bin: Annotated[
        bool, typer.Option("--log-bin", help="Add the context of log-spaced bins to each descriptor.")
    ] = False,
    overwrite: Overwrite = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Write descriptors and saliency of pictures.

    The .npz file holds arrays <stem>/descriptors and <stem>/saliency.
    """
    from pipeline.tasks.features import features as run

    if log_bin:
        settings = with_values(settings, {"features.log_bin": True})
    names = run(images, output, settings, overwrite=overwrite, progress=progress)
    typer.echo(f"{len(names)} pictures: {output}")


def parse_point(text: str | None) -> tuple[float, float] | None:
    """The point that `X,Y` says.

    Raises:
        UsageError: it isn't two numbers.

    >>> parse_point("12,34.5")
    (12.0, 34.5)
    """
    if text is None:
        return None
    try:
        x, y = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"--point {text!r} is not a point; expected X,Y in pixels, such as 120,80") from error
    return x, y


COMMANDS = (features, match, pca, similarity, layers, saliency)
