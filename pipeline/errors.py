"""The tree of errors, each with the exit code that the command line ends with.

    VidpartsError
    ├── UsageError      2    a setting or an option is wrong
    │   └── WorkersError
    ├── InputError      3    an input can't be read, or holds nothing to work on
    ├── OutputError     4    an output can't be written: it exists, no space, no permission
    │   └── TooLargeError
    └── ModelError      5    a model or codebook is missing or doesn't fit
        ├── CodebookError
        ├── WorkerModelError
        └── DeviceMemoryError

A message is one line that says what was got, what was expected and what to do.
"""

from typing import ClassVar

EXIT_INTERRUPTED = 130

_LONGEST_LINE = 1500
"""Longest message, characters; a path alone may have 4,096, and text from a hostile file any number."""


class Interrupted(BaseException):
    """The user or the system asks the program to end; like KeyboardInterrupt not an `Exception`."""


class VidpartsError(Exception):
    """What a user can cause and correct; anything else that is raised is a bug."""

    exit_code: ClassVar[int] = 1
    resumable: ClassVar[bool] = False
    """Whether the same run may succeed later, so that its progress is worth keeping."""


class UsageError(VidpartsError):
    """A setting or an option is wrong."""

    exit_code = 2


class WorkersError(UsageError):
    """Workers can't be had, or one of them isn't what the run was begun with."""

    resumable = True


class InputError(VidpartsError):
    """An input can't be read, or holds nothing to work on."""

    exit_code = 3


class OutputError(VidpartsError):
    """An output can't be written: it exists, there is no space, or no permission."""

    exit_code = 4
    resumable = True


class TooLargeError(OutputError):
    """Pictures are larger than the format of an output takes."""

    resumable = False


class ModelError(VidpartsError):
    """A model is missing or doesn't fit."""

    exit_code = 5


class CodebookError(ModelError):
    """A codebook can't be read, or belongs to another model or to other settings."""


class WorkerModelError(ModelError):
    """A worker lacks the run's model; others may have it."""

    resumable = True


class DeviceMemoryError(ModelError):
    """The model and one picture don't fit the GPU's free memory; another process may use the rest."""

    resumable = True


def one_line(message: str) -> str:
    """A message as one line that is safe on a terminal: it may contain file names and text from hostile files.

    >>> one_line("'a\\nb' is broken")
    "'a\\\\nb' is broken"
    """
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in message)
    half = _LONGEST_LINE // 2
    return shown if len(shown) <= _LONGEST_LINE else f"{shown[:half]} ... {shown[-half:]}"
