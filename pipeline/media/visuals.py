"""Pictures and videos side by side as inputs, for the tasks that take either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.contract import Source
from pipeline.media.directory import DirectorySource
from pipeline.media.sources import expand, safe_name, unique_name
from pipeline.media.video import VideoSource


class Still(DirectorySource):
    """One picture as a sequence of one frame, so that pictures of any sizes stand beside each other."""

    def __init__(self, file: Path, name: str) -> None:
        """Say which picture."""
        super().__init__(file, name, fps=1, files=[file])


def resolve_visuals(arguments: Sequence[str]) -> list[Source]:
    """The pictures and videos that a command's arguments mean, in their order, each with a name of its own.

    Args:
        arguments: pictures, videos, directories of pictures, globs, or text files of paths.

    Raises:
        InputError: something doesn't exist, or there is nothing.
    """
    sources: list[Source] = []
    taken: set[str] = set()
    for argument in arguments:
        for path, pictures in expand(argument, Path(), lists=True):
            if pictures is None and not path.is_dir():
                sources.append(VideoSource(path, unique_name(safe_name(path.stem), taken)))
                continue
            files = pictures if pictures is not None else DirectorySource(path, path.name, fps=1).files
            sources += [Still(file, unique_name(safe_name(file.stem), taken)) for file in files]
    if not sources:
        raise InputError("no input: give a picture, a video, a directory of pictures, a glob or a list of these")
    return sources
