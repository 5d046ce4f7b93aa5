"""Results item by item as CSV that a stopped run goes on from, and a summary with the paper's figures beside ours.

<output>/items.csv        a line or more for each item
<output>/settings.json    what the items were computed with, and its hash
<output>/summary.md       the figures
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.errors import OutputError
from pipeline.files import sync_descriptor, write_file

Value = str | int | float
Row = Mapping[str, Value]
"""One line of results by column; NaN is an empty cell."""

Columns = Mapping[str, type[str] | type[int] | type[float]]

Item = TypeVar("Item")

KEY = "item"
"""The column that says which item a line belongs to."""

LINES = "lines"
"""The column that says how many lines the item has: an item with fewer was torn by a crash."""


class Progress(Protocol):
    """What an evaluation reports to while it works."""

    def start(self, name: str, total: int | None) -> None:
        """A pass over `total` items begins."""

    def advance(self, frames: int = 1) -> None:
        """More items are done."""

    def finish(self) -> None:
        """The pass ends."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of a summary.

    Attributes:
        name: what it is.
        ours: what was measured; NaN where nothing was.
        published: columns of other figures by their heading, such as the paper's.
    """

    name: str
    ours: float
    published: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """What an evaluation found.

    Attributes:
        title: the table's heading.
        figures: its lines.
        notes: sentences under it: what was measured how, on how much.
    """

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float:
        """Our figure of this name."""
        return next(figure.ours for figure in self.figures if figure.name == name)

    def as_markdown(self) -> str:
        """The summary as a table in Markdown; a figure that isn't there is a dash."""
        headings = list(dict.fromkeys(heading for figure in self.figures for heading in figure.published))
        lines = [f"| {' | '.join(['figure', 'ours', *headings])} |", f"| --- |{' ---: |' * (1 + len(headings))}"]
        for figure in self.figures:
            others = (figure.published.get(heading, math.nan) for heading in headings)
            lines.append(f"| {' | '.join([figure.name, *map(_cell, [figure.ours, *others])])} |")
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"# {self.title}", "", *lines, *(["", *notes] if notes else []), ""])


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation's output and how it is done.

    Attributes:
        output: the folder of results.
        settings: all that the results depend on; a run goes on only where they are the same.
        progress: where to tell how far it is.
        limit: number of items at most; None for all.
        overwrite: begin anew instead of going on.
    """

    output: Path
    settings: Mapping[str, object]
    progress: Progress
    limit: int | None = None
    overwrite: bool = False

    def within(self, name: str) -> Run:
        """The same run for one of several passes, with a folder of its own."""
        return replace(self, output=self.output / name, settings={**self.settings, "pass": name})

    def measure(
        self,
        name: str,
        columns: Columns,
        items: Sequence[tuple[str, Item]],
        measure: Callable[[Sequence[Item]], Iterator[Sequence[Row]]],
    ) -> list[Row]:
        """Measure the items that aren't yet, writing each down as it comes, and return the lines of all.

        Args:
            name: of the pass, for the progress.
            columns: the lines' columns with their types, without the key.
            items: items with their unique keys.
            measure: called once with the items that are left; yields each one's lines, in order.

        Raises:
            OutputError: the results can't be written, or stand there from other settings.
        """
        chosen = list(items)[: self.limit]
        open_store = ItemStore.begin if self.overwrite else ItemStore.go_on
        store = open_store(self.output, columns, self.settings)
        pending = [(key, item) for key, item in chosen if key not in store.done]
        self.progress.start(name, len(chosen))
        self.progress.advance(len(chosen) - len(pending))
        if pending:
            results = measure([item for _, item in pending])
            for (key, _), rows in zip(pending, results, strict=True):
                store.append(key, rows)
                self.progress.advance()
        self.progress.finish()
        keys = {key for key, _ in chosen}
        return [row for row in store.rows if row[KEY] in keys]

    def write_summary(self, summary: Summary) -> Summary:
        """Write the summary beside the items and return it.

        Raises:
            OutputError: it can't be written.
        """
        write_file(self.output / "summary.md", summary.as_markdown().encode())
        return summary


class ItemStore:
    """A CSV file of results that grows item by item and is read back by the next run."""

    def __init__(self, file: Path, columns: Columns, rows: Iterable[Row]) -> None:
        """Hold a file's lines and write them back whole; see `begin` and `go_on`.

        Raises:
            OutputError: the file can't be written.
        """
        self._file = file
        self._columns = columns
        self.rows = list(rows)
        self.done = {str(row[KEY]) for row in self.rows}
        header = ",".join(columns) + "\n"
        write_file(file, header.encode() + _as_csv(self.rows, columns))

    @classmethod
    def begin(cls, folder: Path, columns: Columns, settings: Mapping[str, object]) -> ItemStore:
        """Begin a folder's results anew.

        Args:
            folder: made where it isn't there.
            columns: the lines' columns with their types, without the key.
            settings: what the results depend on.

        Raises:
            OutputError: the folder can't be written.
        """
        write_file(folder / "settings.json", _describe_settings(settings).encode())
        return cls(folder / "items.csv", {KEY: str, LINES: int, **columns}, [])

    @classmethod
    def go_on(cls, folder: Path, columns: Columns, settings: Mapping[str, object]) -> ItemStore:
        """Read a folder's results back, or begin them where there are none; for the arguments see `begin`.

        Raises:
            OutputError: the folder can't be written, or holds results of other settings.
        """
        file = folder / "items.csv"
        if not file.exists():
            return cls.begin(folder, columns, settings)
        _require_same_settings(folder / "settings.json", settings)
        all_columns: Columns = {KEY: str, LINES: int, **columns}
        return cls(file, all_columns, _read_rows(file, all_columns))

    def append(self, key: str, rows: Sequence[Row]) -> None:
        """Write an item's lines at the end; they are on disk when this returns.

        Raises:
            OutputError: they can't be written.
        """
        new: list[Row] = [{KEY: key, LINES: len(rows), **row} for row in rows]
        try:
            with self._file.open("ab") as stream:
                stream.write(_as_csv(new, self._columns))
                stream.flush()
                sync_descriptor(stream.fileno())
        except OSError as error:
            raise OutputError(f"'{self._file}' can't be written: {error.strerror or error}") from error
        self.rows += new
        self.done.add(key)


def mean_of(rows: Iterable[Row], column: str) -> float:
    """Mean of a column over the lines that have a value there; NaN where none has."""
    values = [float(row[column]) for row in rows]
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def grouped(rows: Iterable[Row], column: str) -> dict[Value, list[Row]]:
    """Lines by their value in a column, in the order in which the values come."""
    groups: dict[Value, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def mean_of_means(rows: Iterable[Row], column: str, by: str) -> float:
    """Mean over groups of the mean of each group; groups without a value are left out."""
    means = [mean_of(members, column) for members in grouped(rows, by).values()]
    known = [value for value in means if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _read_rows(file: Path, columns: Columns) -> list[Row]:
    try:
        text = file.read_text(encoding="utf-8")
        # Only whole lines count: a run that was killed may have left half a line.
        lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        same_columns = list(lines.fieldnames or ()) == list(columns)
        rows = [{name: _parse(line[name], kind) for name, kind in columns.items()} for line in lines if same_columns]
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"'{file}' can't be read back: {error}; give --overwrite to begin anew") from error
    if not same_columns:
        raise OutputError(f"'{file}' has other columns than this evaluation writes; give --overwrite to begin anew")
    return [row for members in grouped(rows, KEY).values() if len(members) == members[0][LINES] for row in members]


def _parse(text: str, kind: type[str] | type[int] | type[float]) -> Value:
    return math.nan if kind is float and text == "" else kind(text)


def _as_csv(rows: Iterable[Row], columns: Columns) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
    writer.writerows({name: "" if _is_missing(value) else value for name, value in row.items()} for row in rows)
    return stream.getvalue().encode()


def _is_missing(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)


def settings_hash(settings: Mapping[str, object]) -> str:
    """A short hash of settings, equal for equal settings in whatever order."""
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()[:16]


def _canonical(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _describe_settings(settings: Mapping[str, object]) -> str:
    return json.dumps({"hash": settings_hash(settings), "settings": settings}, indent=2, default=str) + "\n"


def _require_same_settings(file: Path, settings: Mapping[str, object]) -> None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        same, before = stored["hash"] == settings_hash(settings), stored["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"'{file}' doesn't say what the results beside it are; give --overwrite") from error
    if not same:
        now = json.loads(_canonical(settings))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        raise OutputError(
            f"'{file.parent}' holds results of other settings ({', '.join(changed)}); "
            "give another -o, or --overwrite to begin anew"
        )


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
