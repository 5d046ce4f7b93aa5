"""The command that measures the method on public benchmarks: evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import FIT, METHOD, PARTS, Output, Overwrite, settings_from
from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.progress import Progress


class Benchmark(StrEnum):
    """What can be measured on."""

    CUB = "cub"
    COSEG = "coseg"
    SPAIR = "spair"
    FACETS = "facets"
    DAVIS = "davis"
    PARTS = "parts"
    KEYPOINTS = "keypoints"


class ProtocolOption(StrEnum):
    """Protocols of SPair-71k."""

    PAPER = "paper"
    STANDARD = "standard"


class YearOption(StrEnum):
    """Years of DAVIS."""

    Y2016 = "2016"
    Y2017 = "2017"


_OPTIONS = "Benchmark"


@settings_from(METHOD, PARTS, FIT)
def evaluate(
    name: Annotated[Benchmark, typer.Argument(help="What to measure on.", metavar="NAME")],
    data: Annotated[Path, typer.Option(help="The data set, as its archive unpacks.")],
    output: Output,
    limit: Annotated[int | None, typer.Option(help="Sets, pictures, pairs or clips at most.")] = None,
    protocol: Annotated[
        ProtocolOption | None, typer.Option(help="spair: pairs and radius; paper by default.", rich_help_panel=_OPTIONS)
    ] = None,
    year: Annotated[
        YearOption | None, typer.Option(help="davis: whose annotation; 2016 by default.", rich_help_panel=_OPTIONS)
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="spair, facets: layers to sweep, such as 9,11.", metavar="N,N...", rich_help_panel=_OPTIONS),
    ] = None,
    fit_pictures: Annotated[
        int | None, typer.Option(help="coseg, cub: pictures of a set to fit on; all by default.")
    ] = None,
    overwrite: Overwrite = False,
    *,
    settings: Settings,
    progress: Progress,
) -> None:
    """Measure on a public benchmark: items.csv, summary.md; a run that was stopped goes on where it was."""
    from pipeline.tasks.evaluate import evaluate as run

    summary = run(
        name.value,
        data,
        output,
        with_values(settings, {"pictures.fit": fit_pictures}),
        limit=limit,
        protocol=None if protocol is None else protocol.value,
        year=None if year is None else (2016 if year is YearOption.Y2016 else 2017),
        layers=None if layers is None else _numbers(layers),
        overwrite=overwrite,
        progress=progress,
    )
    typer.echo(f"{summary.as_markdown()}\n{output}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--layers is '{text}'; expected numbers with commas between, such as 9,11") from error


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(evaluate)
