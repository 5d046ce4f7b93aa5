"""`vidparts` and `python -m pipeline`: the command line; a fault also says which installed releases weren't tested."""

import atexit
import contextlib
import os
import sys


class _End:
    """Ends the process, once its code is known, behind all that others do at its end.

    Python would look for cycles in all that the libraries hold, which takes a second and finds nothing that matters.
    """

    code: int | None = None

    def __call__(self) -> None:
        if self.code is None:
            return
        # A closed one is None.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)


def program() -> None:
    """Be the program `vidparts`."""
    end = _End()
    # First of all: what is registered last is called first.
    atexit.register(end)
    try:
        main()
    except SystemExit as stop:
        end.code = stop.code if isinstance(stop.code, int) else None
        raise


def main() -> None:
    """Run the command line."""
    try:
        # In here, because importing a package may be what fails.
        from pipeline.cli import main as run

        run()
    except Exception as error:
        from pipeline.releases import untested

        if note := untested():
            error.add_note(note)
        raise


if __name__ == "__main__":
    program()
