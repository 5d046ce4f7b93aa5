"""The command that measures the method on public benchmarks: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import CLUSTERS, FIT, METHOD, PARTS, Output, Overwrite, settings_from
from pipeline.cli.reports import OpenReport, conclude
from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.progress import Progress


@settings_from(METHOD, CLUSTERS, PARTS, FIT)
def evaluate(
    name: Annotated[
        Literal["cub", "celeba", "coseg", "spair", "facets", "davis", "parts", "keypoints"],
        typer.Argument(help="What to measure on.", metavar="NAME"),
    ],
    data: Annotated[Path, typer.Option(help="The data set, as its archive unpacks.")],
    output: Output,
    limit: Annotated[int | None, typer.Option(help="Sets, pictures, pairs or clips at most.")] = None,
    protocol: Annotated[
        Literal["paper", "standard"] | None, typer.Option(help="spair: pairs and radius; paper by default.")
    ] = None,
    method: Annotated[
        Literal["ours", "dff"] | None, typer.Option(help="cub, celeba, coseg: ours, or factorisation as a baseline.")
    ] = None,
    year: Annotated[
        Literal["2016", "2017"] | None, typer.Option(help="davis: whose annotation; 2016 by default.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="spair, facets: layers to sweep, such as 9,11.", metavar="N,N..."),
    ] = None,
    fit_pictures: Annotated[
        int | None, typer.Option(help="coseg, cub, celeba: pictures of a set to fit on; all by default.")
    ] = None,
    overwrite: Overwrite = False,
    show: OpenReport = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Measure on a public benchmark.

    Writes OUT/items.csv, settings.json and summary.md; an interrupted run is continued.
    """
    from pipeline.tasks.evaluate import evaluate as run

    summary = run(
        name,
        data,
        output,
        with_values(settings, {"pictures.fit": fit_pictures}),
        limit=limit,
        protocol=protocol,
        method=method,
        year=None if year is None else (2016 if year == "2016" else 2017),
        layers=None if layers is None else _numbers(layers),
        overwrite=overwrite,
        progress=progress,
    )
    typer.echo(f"{summary.as_markdown()}\n{output}")
    conclude(output, show, progress)


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--layers is '{text}'; expected numbers with commas between, such as 9,11") from error


COMMANDS = (evaluate,)
