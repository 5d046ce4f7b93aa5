"""Units of work that go to workers, and what comes back: small records, never frames.

Importing this must stay cheap: a new worker process has it before it knows how many threads its libraries may use.
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputPath:
    """Where an input is.

    Attributes:
        name: its name in the run.
        path: an absolute path.
        fps: the rate of pictures that have no times.
        pictures: the pictures of a sequence, where they aren't all of a directory.
    """

    name: str
    path: str
    fps: float
    pictures: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Inspect:
    """Hash an input and count its packets."""

    input: InputPath


@dataclass(frozen=True, slots=True)
class Shard:
    """Label the frames `start` to `stop` (not included) of an input, by their indices among the selected ones.

    Attributes:
        number: of the input among all of the run.
        start: the first frame.
        stop: the frame behind the last one.
        plan: the token of the plan.
        careful: with the least memory.
    """

    number: int
    start: int
    stop: int
    plan: str
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """Make an input's result: of its shards, or, where it isn't cut, of the input itself.

    Attributes:
        number: of the input among all of the run.
        plan: the token of the plan.
        careful: with the least memory.
    """

    number: int
    plan: str
    careful: bool = False


Unit = Inspect | Shard | Finish


@dataclass(frozen=True, slots=True)
class Inspected:
    """SHA-256 of an input's content, None where it can't be read; and what takes long to find out, if anything does."""

    sha256: str | None
    index: bytes | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A shard is there. `cut` is false where the input can't be cut: all of it is to be done as one."""

    cut: bool = True


@dataclass(frozen=True, slots=True)
class Produced:
    """An input's result is complete in its directory of the run."""


Value = Inspected | Labelled | Produced


@dataclass(frozen=True, slots=True)
class Died:
    """The worker is gone.

    Attributes:
        reason: how it ended, as the end of a sentence.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A unit, and its value, its error, or that its worker died."""

    unit: Unit
    outcome: Value | BaseException | Died


class Pool(ABC):
    """Workers: they take units, and hand back completions as they come."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._waiting = deque[Unit]()

    def submit(self, unit: Unit) -> None:
        """Let the next free worker do a unit."""
        self._waiting.append(unit)

    @abstractmethod
    def completions(self) -> Iterator[Completion]:
        """Each unit that is done, until none is left; more may be submitted meanwhile.

        Raises:
            WorkersError: no worker can be had.
        """

    @abstractmethod
    def close(self) -> None:
        """End all workers, those at work too."""


def host() -> str:
    """The machine's name, for messages."""
    return platform.node() or "this machine"


def describe_unit(unit: Unit, names: tuple[str, ...]) -> str:
    """A unit in words, for messages."""
    match unit:
        case Inspect():
            return f"reading '{unit.input.name}'"
        case Shard():
            return f"frames {unit.start} to {unit.stop - 1} of '{names[unit.number]}'"
        case Finish():
            return f"finishing '{names[unit.number]}'"
