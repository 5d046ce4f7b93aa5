"""Staged directories: results appear when all of them are complete."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.files import sync
from pipeline.runs.outputs import require_empty


@contextlib.contextmanager
def staged_results(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A directory to write into, whose files are in `output` at the end of the block, or gone on an error.

    A directory that holds other things keeps them; what has the name of a new file is replaced.

    Args:
        output: where the results belong.
        overwrite: write into a directory that isn't empty.

    Raises:
        OutputError: the directory isn't empty, or can't be written.
    """
    output = output.absolute()
    require_empty(output, overwrite)
    # Inside an existing directory, so that files are moved by a rename.
    partial = output / ".vidparts.partial" if output.exists() else output.with_name(f".{output.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        _publish(partial, output)
    except OSError as error:
        raise OutputError(f"'{output}' can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, output: Path) -> None:
    for file in partial.iterdir():
        sync(file)
    if output.exists():
        for file in partial.iterdir():
            file.replace(output / file.name)
    else:
        partial.rename(output)
    sync(output.parent)
