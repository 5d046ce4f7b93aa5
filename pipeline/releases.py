"""Releases of Python and packages: those tested (releases.json), and those installed.

`releases.json` gives of each the oldest and the newest release with which `.ci/run` ended well, and `.ci/run --record`
writes it. Knows nothing of what a package is used for.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.version import __version__

TABLE = Path(__file__).with_name("releases.json")


@dataclass(frozen=True, slots=True)
class Release:
    """What is installed of a package, or of Python, and what was tested.

    Attributes:
        name: as pip knows it.
        installed: the release found here.
        oldest: the oldest release tested.
        newest: the newest one.
    """

    name: str
    installed: str
    oldest: str
    newest: str

    @property
    def tested(self) -> bool:
        """Whether the release lies between those tested."""
        return order(self.oldest) <= order(self.installed) <= order(self.newest)


def releases() -> list[Release]:
    """Python and every package of the table that is installed."""
    table: dict[str, tuple[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    found = ((name, _installed(name), oldest, newest) for name, (oldest, newest) in table.items())
    return [Release(name, installed, oldest, newest) for name, installed, oldest, newest in found if installed]


def untested() -> str:
    """One line that names the installed releases which weren't tested, and those which were; empty if all were."""
    words = [
        f"{each.name} {each.installed} (tested: {each.oldest} to {each.newest})"
        for each in releases()
        if not each.tested
    ]
    return f"vidparts {__version__} wasn't tested with {', '.join(words)}" if words else ""


def order(release: str) -> tuple[int, ...]:
    """The numbers of a release, to compare it by; what its build adds doesn't count.

    >>> order("2.14.1+cu130") < order("2.15.0rc1"), order("2.0") == order("2.0.0")
    (True, True)
    """
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r"\+|(?:a|b|rc|\.dev)\d", release)[0])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _installed(name: str) -> str | None:
    if name == "Python":
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return version(name)
    except PackageNotFoundError:
        return None
