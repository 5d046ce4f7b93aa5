"""The commands for finished results: render, edit, export, verify."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Moved, Output, Overwrite, Result, settings_from
from pipeline.config import ExportFormat, PaletteName, Style
from pipeline.errors import UsageError
from pipeline.media.exports.pictures import PictureFormat
from pipeline.progress import Progress

Run = Annotated[Path, typer.Argument(help="The directory of a run, OUT, or of one of its inputs.", metavar="OUT")]


@settings_from()
def render(
    result: Result,
    output: Annotated[Path, typer.Option("--output", "-o", help="The clip to write, an .mp4 file.")],
    style: Annotated[Style, typer.Option(help="How to paint.")] = "overlay",
    alpha: Annotated[float | None, typer.Option(help="Opacity of the colours, 0 to 1.")] = None,
    palette: Annotated[PaletteName | None, typer.Option(help="Colours; those of the run by default.")] = None,
    source: Moved = None,
    overwrite: Overwrite = False,
    *,
    progress: Progress,
) -> None:
    """Paint a finished result in another style, with its edits."""
    from pipeline.tasks.render import render as run

    clip = run(
        result,
        output,
        style=style,
        alpha=alpha,
        palette=palette,
        source=source,
        overwrite=overwrite,
        progress=progress,
    )
    typer.echo(f"{clip.frames} frames: {clip.file}")


@settings_from()
def edit(
    result: Annotated[
        Path, typer.Argument(help="The directory of a run, OUT, or a codebook (names only).", metavar="OUT")
    ],
    name: Annotated[
        list[str] | None, typer.Option(help="Name a part, as 1=head; 1= takes the name away.", metavar="PART=NAME")
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Make parts one, the first of them.", metavar="PART+PART")
    ] = None,
    split: Annotated[list[int] | None, typer.Option(help="Take a merged part out again.", metavar="PART")] = None,
    hide: Annotated[list[int] | None, typer.Option(help="Make a part background.", metavar="PART")] = None,
    show: Annotated[list[int] | None, typer.Option(help="Show a hidden part again.", metavar="PART")] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Recolour a part, as 2=#ff8800.", metavar="PART=#RRGGBB")
    ] = None,
    order: Annotated[str | None, typer.Option(help="Parts to list first, as 3,1,2.", metavar="PART,PART")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last edit back.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Take all edits back.")] = False,
    *,
    progress: Progress,
) -> None:
    """Name, merge, hide and recolour the parts of a run.

    Labels stay as they are: corrections are kept in OUT/edits.json, and `render`, `export`, `report` and `view` apply
    them. Without options it shows the parts.
    """
    from pipeline.runs.edits import Change
    from pipeline.tasks.edit import edit as run

    change = Change(
        show=show or (),
        split=split or (),
        merge=[_labels(text, "+", "--merge 2+3") for text in merge or ()],
        hide=hide or (),
        names=dict(_assignment(text, "--name 1=head") for text in name or ()),
        colors=dict(_assignment(text, "--color 2=#ff8800") for text in color or ()),
        order=_labels(order, ",", "--order 3,1,2") if order else (),
    )
    if (undo and reset) or ((undo or reset) and change.asked()):
        raise UsageError("--undo and --reset stand alone")
    typer.echo(run(result, change, undo=undo, reset=reset).summary())


@settings_from()
def export(
    result: Result,
    output: Output,
    format: Annotated[
        ExportFormat,
        typer.Option(
            help="davis: palette PNGs; coco: RLE JSON; npz: arrays; yolo: polygons; cvat: masks to upload; "
            "label-studio: brush RLE; csv, parquet: where each part is, frame by frame."
        ),
    ],
    images: Annotated[
        PictureFormat | None, typer.Option(help="Also write the pictures that the annotations name.")
    ] = None,
    source: Moved = None,
    overwrite: Overwrite = False,
    *,
    progress: Progress,
) -> None:
    """Export label maps or tracks for other tools, with the edits."""
    from pipeline.tasks.export import export as run

    written = run(result, output, format, images=images, source=source, overwrite=overwrite, progress=progress)
    typer.echo(str(written))


@settings_from()
def verify(result: Result, *, progress: Progress) -> None:
    """Check that a finished result is complete.

    Compares checksums, and that labels and clip hold every frame once, at its own time.
    """
    from pipeline.tasks.verify import verify as run

    found = run(result, progress=progress)
    typer.echo(f"{found.directory}: {found.frames} frames, all there")


def _assignment(text: str, example: str) -> tuple[int, str]:
    part, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[0-9]{1,3}", part.strip()):
        raise UsageError(f"got '{text}', expected a part's number and a value, such as {example}")
    return int(part), value.strip()


def _labels(text: str, sign: str, example: str) -> list[int]:
    words = [word.strip() for word in text.split(sign)]
    if not all(re.fullmatch(r"[0-9]{1,3}", word) for word in words) or (sign == "+" and len(words) < 2):
        raise UsageError(f"got '{text}', expected numbers of parts, such as {example}")
    return [int(word) for word in words]


COMMANDS = (render, edit, export, verify)
