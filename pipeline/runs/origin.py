"""The input that a finished result was made of, found again."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.inputs import open_source
from pipeline.media.label_store import LabelStore
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.runs.record import RunRecord


def find_source(record: RunRecord, store: LabelStore, given: Path | None = None) -> Source:
    """The input of a result, where it was or where a person says that it is now.

    Args:
        record: the result's run.json; it may be a stranger's.
        store: its labels.
        given: where the input is now; None: where it was.

    Raises:
        InputError: it isn't there, can't be read, or is of another size.
    """
    # An untrusted record may name anything: only a plain file or directory is opened, globs aren't expanded.
    path, fps, chosen = given or Path(record.source.path), record.settings.input.fps, record.settings.input
    origin: Source
    try:
        path.exists()
    except OSError as error:
        raise InputError(
            f"the input '{path}' can't be read: {error.strerror}; say with --source where it is"
        ) from error
    if path.is_dir():
        # Of a glob's pictures the directory may hold more.
        every = chosen.every == 1 and chosen.start is None and chosen.end is None
        named = [path / name for name in store.attributes.frame_names] if every else []
        origin = DirectorySource(path, path.name, fps, named or None)
    elif path.is_file():
        origin = open_source(path, path.stem, fps)
    else:
        raise InputError(f"the input '{path}' isn't there any more; say with --source where it is now")
    height, width = origin.probe().size_hw
    if (height, width) != (record.source.height, record.source.width):
        raise InputError(
            f"'{path}' is {width}x{height} pixels, the result was made of "
            f"{record.source.width}x{record.source.height}; give the input it was made of"
        )
    return origin
