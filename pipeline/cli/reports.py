"""The report at the end of a run, and the commands that show results: report, view."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Moved, settings_from
from pipeline.errors import Interrupted, UsageError, VidpartsError
from pipeline.progress import Progress

OpenReport = Annotated[bool, typer.Option("--open", help="Open the report in a browser at the end.")]


def conclude(output: Path, show: bool, progress: Progress) -> None:
    """Write the report of a run that is done, say where it is, and show it if asked to; no failure undoes the run."""
    from pipeline.tasks.report import report

    try:
        page = report(output, progress=progress)
    except VidpartsError as error:
        progress.say(f"warning: there is no report: {error}")
        return
    typer.echo(f"report: {page}")
    if show:
        _open(page.absolute().as_uri(), progress)


@settings_from()
def report(
    output: Annotated[Path, typer.Argument(help="The directory of a run.", metavar="OUT")],
    show: OpenReport = False,
    *,
    progress: Progress,
) -> None:
    """Write OUT/report.html anew, with the edits.

    One page that opens from the disk: what was found, how steady it is, what to doubt. Where edits change pictures, the
    clips are painted again, as OUT/<name>/corrected.mp4.
    """
    from pipeline.tasks.report import report as run

    page = run(output, progress=progress)
    typer.echo(str(page))
    if show:
        _open(page.absolute().as_uri(), progress)


def _open(address: str, progress: Progress) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(address)
    except (OSError, webbrowser.Error):
        opened = False
    if not opened:
        progress.say(f"no browser was found here; open {address} in one")


@settings_from()
def view(
    outputs: Annotated[list[Path], typer.Argument(help="Directories of runs, or of inputs in them.", metavar="OUT")],
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    source: Moved = None,
    *,
    progress: Progress,
) -> None:
    """Look at results in the browser, and correct them.

    Serves this machine only, until Ctrl-C. Needs the extra: pip install 'vidparts[view]'.
    """
    try:
        from pipeline.viewer.server import serving
    except ImportError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError(f"view needs {error.name}: pip install 'vidparts[view]'") from error

    # Ctrl-C is how it ends, not how it fails.
    with suppress(Interrupted, KeyboardInterrupt), serving(outputs, port, source) as server:
        for warning in server.warnings:
            progress.say(f"warning: {warning}")
        typer.echo(f"{server.address}\nCtrl-C ends it")
        sys.stdout.flush()
        if browser:
            _open(server.address, progress)
        while not server.wait(0.5):
            pass


COMMANDS = (report, view)
