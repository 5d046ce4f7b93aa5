"""From a command's arguments (paths, globs, lists) to inputs with unique names."""

from __future__ import annotations

import glob
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.media.animation import AnimationSource
from pipeline.media.kinds import Kind, kind_of
from pipeline.media.picture_sequence import DirectorySource, natural_key, require_text
from pipeline.media.pictures import picture_size, read_picture
from pipeline.media.source import Source
from pipeline.media.video_source import VideoSource

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
"""Text files of paths, one a line; empty lines and lines that begin with # count for nothing."""

_MAX_LIST_BYTES = 16 * 2**20
# Of several pictures in one file that have no times, where no rate is asked for.
_STACK_FPS = 25
_MAX_NAME_BYTES = 120
_UNSAFE = frozenset('/\\:*?"<>|')


def resolve_inputs(arguments: Sequence[str], fps: float) -> list[Source]:
    """The inputs that a command's arguments mean, in their order; a glob's matches in natural order.

    Args:
        arguments: video files, directories of frames, pictures, globs, or text files of paths (relative to the file).
        fps: frame rate of sequences of pictures.

    Raises:
        InputError: something doesn't exist, a glob matches nothing, a list can't be read.
    """
    sources: list[Source] = []
    taken: set[str] = set()
    for path, pictures in _expand_all(arguments):
        name = unique_name(safe_name(_title(path)), taken)
        sources.append(open_source(path, name, fps, pictures))
    if not sources:
        raise InputError("no input: give a video file, a directory of frames, a glob or a list of these")
    return sources


def open_source(path: Path, name: str, fps: float, pictures: Sequence[Path] | None = None) -> Source:
    """The input that a path is, by what the file holds.

    Args:
        path: a file, or a directory of pictures.
        name: the input's name.
        fps: frame rate of pictures that have no times.
        pictures: the pictures of a sequence, where they aren't all of a directory.
    """
    if pictures is not None or path.is_dir():
        return DirectorySource(path, name, fps, pictures)
    kind = kind_of(path)
    if kind is Kind.PICTURE:
        return DirectorySource(path, name, fps, [path])
    return AnimationSource(path, name, fps) if kind is Kind.PICTURES else VideoSource(path, name)


def safe_name(title: str) -> str:
    """A title as the name of a directory on any system: never empty, hidden, `..` or with a separator.

    >>> safe_name("../a:b"), safe_name(".."), safe_name("Gänse 2")
    ('_a_b', 'input', 'Gänse 2')
    """
    kept = "".join(
        "_" if char in _UNSAFE or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in title
    )
    cut = kept.encode("utf-8")[:_MAX_NAME_BYTES].decode("utf-8", errors="ignore")
    return cut.strip(". ") or "input"


_Found = tuple[Path, list[Path] | None]
"""A path, and its pictures where they are not simply those of a directory."""


def _expand_all(arguments: Sequence[str]) -> Iterator[_Found]:
    """The paths that a command's arguments mean."""
    for argument in arguments:
        yield from _expand(argument, Path(), lists=True)


def _expand(argument: str, base: Path, lists: bool) -> Iterator[_Found]:
    """The paths that one argument means; relative ones are relative to `base`, and it may be a list where `lists`."""
    if not argument or "\0" in argument:
        raise InputError(f"input {argument!r} is not a path")
    path = base / argument
    _require_reachable(path)
    if path.is_dir():
        yield path, None
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        if not lists:
            raise InputError(f"{str(path)!r} is a list in a list; give the paths themselves")
        yield from _read_list(path)
    elif path.exists():
        yield path, [path] if kind_of(path) is Kind.PICTURE else None
    elif glob.has_magic(argument):
        yield from _expand_glob(path, argument)
    else:
        raise InputError(
            f"input {str(path)!r} doesn't exist; expected a video file, a directory of frames, a glob or a list"
        )


def _require_reachable(path: Path) -> None:
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"input {str(path)!r} can't be read: {error.strerror}") from error
    require_text(path)


def _expand_glob(pattern: Path, argument: str) -> Iterator[_Found]:
    matches = sorted(_matches(pattern), key=lambda path: natural_key(str(path)))
    for path in matches:
        require_text(path)
    if not matches:
        raise InputError(f"glob {argument!r} matches nothing; check the folder and quote the pattern")
    pictures = [path for path in matches if path.is_file() and kind_of(path) is Kind.PICTURE]
    if not pictures:
        yield from ((path, None) for path in matches)
    elif len(pictures) == len(matches):
        yield pictures[0].parent, pictures
    else:
        raise InputError(
            f"glob {argument!r} matches {len(pictures)} pictures and {len(matches) - len(pictures)} other files; "
            "give a pattern for one kind"
        )


def _matches(pattern: Path) -> list[Path]:
    """What a pattern matches; signs in names of folders that exist are taken as they are, and brackets if need be."""
    parts = pattern.parts
    known = next((count for count in range(len(parts), 0, -1) if Path(*parts[:count]).is_dir()), 0)
    folder, names = glob.escape(str(Path(*parts[:known]))) if known else "", parts[known:]
    for wanted in (names, [name.replace("[", "[[]") for name in names]):
        # Path.glob takes patterns below a folder only; glob.glob takes absolute ones too.
        found = glob.glob(str(Path(folder, *wanted)), recursive=True)  # noqa: PTH207
        if found:
            return [Path(match) for match in found]
    return []


def _read_list(path: Path) -> Iterator[_Found]:
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise InputError(
                f"list {str(path)!r} is larger than {_MAX_LIST_BYTES // 2**20} MiB; expected paths, one a line"
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list {str(path)!r} can't be read: {error}; expected UTF-8 text, one path a line") from error
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise InputError(f"list {str(path)!r} names no input; expected paths, one a line")
    for entry in entries:
        yield from _expand(entry, path.parent, lists=False)


def _pictures_of(path: Path, pictures: list[Path] | None) -> Sequence[Path] | None:
    """The pictures of a sequence or a directory; None for any other file."""
    if pictures is None and path.is_dir():
        return DirectorySource(path, path.name, fps=1).files
    return pictures


def _title(path: Path) -> str:
    # A directory's name has no suffix, and `.` has a name only once it is absolute.
    absolute = path.absolute()
    return absolute.resolve().name if absolute.is_dir() else absolute.stem


def unique_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken; it is added to `taken`."""
    # Some file systems take names that differ in case for the same.
    candidate, number = name, 1
    while unicodedata.normalize("NFC", candidate).casefold() in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(unicodedata.normalize("NFC", candidate).casefold())
    return candidate


def single_picture(path: str | Path) -> Picture:
    """The one picture that an argument means.

    Raises:
        InputError: it means none or several.
    """
    pictures = resolve_pictures([str(path)])
    if len(pictures) != 1:
        raise InputError(f"'{path}' means {len(pictures)} pictures; expected one")
    return pictures[0]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, and a name that is unique among a run's pictures and safe as the name of a file."""

    name: str
    path: Path

    def read(self) -> NDArray[np.uint8]:
        """The upright picture, uint8 [height, width, 3].

        Raises:
            InputError: it can't be read.
        """
        return read_picture(self.path)

    def pixels(self) -> tuple[int, int]:
        """Height and width, without decoding it.

        Raises:
            InputError: it can't be read.
        """
        return picture_size(self.path)


def resolve_pictures(arguments: Sequence[str]) -> list[Picture]:
    """The pictures that a command's arguments mean, in their order; directories and globs in natural order.

    Args:
        arguments: pictures, directories of pictures, globs, or text files of paths.

    Raises:
        InputError: something doesn't exist, is no picture, or holds none.
    """
    found: list[Path] = []
    for path, pictures in _expand_all(arguments):
        files = _pictures_of(path, pictures)
        if files is None:
            raise InputError(
                f"{str(path)!r} is {kind_of(path).value}; expected pictures, directories of pictures or globs"
            )
        found += files
    taken: set[str] = set()
    return [Picture(unique_name(safe_name(path.stem), taken), path) for path in found]


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
    for path, pictures in _expand_all(arguments):
        files = _pictures_of(path, pictures)
        if files is None:
            sources.append(open_source(path, unique_name(safe_name(path.stem), taken), _STACK_FPS))
        else:
            sources += [Still(file, unique_name(safe_name(file.stem), taken)) for file in files]
    if not sources:
        raise InputError("no input: give a picture, a video, a directory of pictures, a glob or a list of these")
    return sources
