"""The command line's frame: one app, and errors turned into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand
from typer.main import get_command

from pipeline.cli import descriptors, evaluation, pictures, reports, results, video
from pipeline.cli.streams import lasting_streams
from pipeline.errors import EXIT_INTERRUPTED, Interrupted, OutputError, UsageError, VidpartsError, one_line
from pipeline.version import __version__

PATIENCE_S = 4.0
"""Seconds that the stages get to end by themselves after an interrupt."""

# Typer's base of all complaints about the command line; it has kept it in several places.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="vidparts",
    help="Finds the parts of the objects in a video, without training or annotation, and paints them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class _Command(TyperCommand):
    """A command whose usage line names its arguments as manuals do: `INPUT...`, without braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}").replace("}...", "...") for piece in super().collect_usage_pieces(ctx)]


for _command in (
    *video.COMMANDS,
    *results.COMMANDS,
    *reports.COMMANDS,
    *pictures.COMMANDS,
    *descriptors.COMMANDS,
    *evaluation.COMMANDS,
):
    app.command(cls=_Command)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vidparts {__version__}")
        raise typer.Exit


@app.callback()
def _callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend is one line on stderr and its own exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with lasting_streams() as output:
        code = _run(list(arguments) or ["--help"])
        output.flush()
        if output.error is not None and not isinstance(output.error, BrokenPipeError) and not code:
            reason = getattr(output.error, "strerror", None) or output.error
            code = _say(
                f"standard output can't be written: {reason}; the work is done all the same", OutputError.exit_code
            )
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        code = get_command(app).main(arguments, prog_name="vidparts", standalone_mode=False)
    except VidpartsError as error:
        return _say(str(error), error.exit_code)
    except _CommandLineError as error:
        return _say(f"{_complaint(error)}; see `vidparts --help`", UsageError.exit_code)
    except (Interrupted, KeyboardInterrupt) as stop:
        _leave_at_once(str(stop) or "interrupted")
    return code if isinstance(code, int) else 0


def _complaint(error: Exception) -> str:
    text: str = getattr(error, "format_message", error.__str__)()
    return text.replace("Value error, ", "").rstrip(".")


def _say(message: str, code: int) -> int:
    print(f"vidparts: error: {one_line(message)}", file=sys.stderr)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop the work; whoever asks a second time wants out at once."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda *_: os._exit(EXIT_INTERRUPTED))
    patience = threading.Timer(PATIENCE_S, _give_up)
    patience.daemon = True
    patience.start()
    raise Interrupted


def _give_up() -> None:
    # A batch in the ViT can't be stopped and may take a minute. What counts is on the disk by now, and a run can go on
    # after any end, this one included.
    _leave_at_once("interrupted; if anything was finished, the same command with --resume continues")


def _leave_at_once(message: str) -> NoReturn:
    # All that is ours is closed by now; taking the libraries down takes seconds on a busy machine.
    print(f"vidparts: error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EXIT_INTERRUPTED)
