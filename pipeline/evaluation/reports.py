"""Per-item results in a resumable CSV file, and a summary table with published results.

<output>/items.csv        one row or more per item
<output>/settings.json    the settings that the results depend on, and their hash
<output>/summary.md       the summary table
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
from typing import TypeVar

from pipeline.errors import OutputError
from pipeline.files import append_synced, write_file
from pipeline.progress import Progress

Value = str | int | float
Row = Mapping[str, Value]
"""One row of results, by column name; NaN is written as an empty cell."""

Columns = Mapping[str, type[str] | type[int] | type[float]]

Item = TypeVar("Item")

KEY = "item"
"""Column with the item that a row belongs to."""

LINES = "lines"
"""Column with the item's number of rows: an item with fewer was cut off by a crash."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a summary, with published numbers to compare with.

    Attributes:
        name: the metric.
        ours: our value; NaN where nothing was measured.
        published: other values by column heading, such as the paper's.
    """

    name: str
    ours: float
    published: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """Results of an evaluation.

    Attributes:
        title: heading of the table.
        figures: rows of the table.
        notes: sentences under the table: the protocol, and how many items were measured.
    """

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float:
        """Our value of the figure with this name."""
        return next(figure.ours for figure in self.figures if figure.name == name)

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return self.as_markdown()

    def as_markdown(self) -> str:
        """The summary as a Markdown table; missing values are dashes."""
        headings = list(dict.fromkeys(heading for figure in self.figures for heading in figure.published))
        lines = [f"| {' | '.join(['figure', 'ours', *headings])} |", f"| --- |{' ---: |' * (1 + len(headings))}"]
        for figure in self.figures:
            others = (figure.published.get(heading, math.nan) for heading in headings)
            lines.append(f"| {' | '.join([figure.name, *map(_cell, [figure.ours, *others])])} |")
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"# {self.title}", "", *lines, *(["", *notes] if notes else []), ""])


@dataclass(frozen=True, slots=True)
class Run:
    """Where one evaluation writes its results, and whether it resumes.

    Attributes:
        output: folder of the results.
        settings: everything that the results depend on; a run resumes only if they are equal.
        progress: the progress display.
        limit: maximum number of items; None for all.
        overwrite: start again instead of resuming.
    """

    output: Path
    settings: Mapping[str, object]
    progress: Progress
    limit: int | None = None
    overwrite: bool = False

    def within(self, name: str) -> Run:
        """The run of one of several passes, in a sub-folder of its own."""
        return replace(self, output=self.output / name, settings={**self.settings, "pass": name})

    def measure(
        self,
        name: str,
        columns: Columns,
        items: Sequence[tuple[str, Item]],
        measure: Callable[[Sequence[Item]], Iterator[Sequence[Row]]],
    ) -> list[Row]:
        """Measure the items that have no results yet, write each one's rows at once, and return all rows.

        Args:
            name: name of the pass, for the progress display.
            columns: column names and types, without `KEY` and `LINES`.
            items: items with their unique keys.
            measure: called once with the remaining items; yields each item's rows, in order.

        Raises:
            OutputError: the results can't be written, or the folder holds results of other settings.
        """
        chosen = list(items)[: self.limit]
        store = _ItemStore(self, columns)
        pending = [(key, item) for key, item in chosen if key not in store.done]
        self.progress.start(name, len(chosen), "item")
        self.progress.advance(len(chosen) - len(pending))
        if pending:
            results = measure([item for _, item in pending])
            for (key, _), rows in zip(pending, results, strict=True):
                store.append(key, rows)
                self.progress.advance(name=key)
        self.progress.finish()
        keys = {key for key, _ in chosen}
        return [row for row in store.rows if row[KEY] in keys]

    def write_summary(self, summary: Summary) -> Summary:
        """Write `summary.md` and return the summary.

        Raises:
            OutputError: it can't be written.
        """
        write_file(self.output / "summary.md", summary.as_markdown().encode())
        return summary


class _ItemStore:
    """CSV file of a run's results, to which items are appended; a later run reads it back."""

    def __init__(self, run: Run, columns: Columns) -> None:
        """Read the results of an earlier run with the same settings, or start where there are none.

        Args:
            run: its folder is created if missing.
            columns: column names and types, without `KEY` and `LINES`.

        Raises:
            OutputError: the folder can't be written, or holds results of other settings.
        """
        self._file, settings_file = run.output / "items.csv", run.output / "settings.json"
        self._columns: Columns = {KEY: str, LINES: int, **columns}
        self.rows: list[Row] = []
        if run.overwrite or not self._file.exists():
            write_file(settings_file, _describe_settings(run.settings).encode())
        else:
            _require_same_settings(settings_file, run.settings)
            self.rows = _read_rows(self._file, self._columns)
        self.done = {str(row[KEY]) for row in self.rows}
        # Without the rows of an item that was cut off.
        header = ",".join(self._columns) + "\n"
        write_file(self._file, header.encode() + _as_csv(self.rows, self._columns))

    def append(self, key: str, rows: Sequence[Row]) -> None:
        """Append an item's rows; they are on disk (fsync) when this returns.

        Raises:
            OutputError: they can't be written.
        """
        new: list[Row] = [{KEY: key, LINES: len(rows), **row} for row in rows]
        try:
            append_synced(self._file, _as_csv(new, self._columns))
        except OSError as error:
            raise OutputError(f"'{self._file}' can't be written: {error.strerror or error}") from error
        self.rows += new
        self.done.add(key)


def mean_of(rows: Iterable[Row], column: str) -> float:
    """Mean of a column over the rows that have a value there; NaN if none has."""
    return _mean_of_known(float(row[column]) for row in rows)


def grouped(rows: Iterable[Row], column: str) -> dict[Value, list[Row]]:
    """Rows grouped by a column's value, in order of first appearance."""
    groups: dict[Value, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def mean_of_means(rows: Iterable[Row], column: str, by: str) -> float:
    """Mean over groups of each group's mean; groups without a value are left out."""
    return _mean_of_known(mean_of(members, column) for members in grouped(rows, by).values())


def pooled_pck(rows: Sequence[Row]) -> float:
    """PCK over the points of all rows together, from their columns `correct` and `points`; NaN without points."""
    correct, points = (sum(int(row[name]) for row in rows) for name in ("correct", "points"))
    return correct / points if points else math.nan


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _read_rows(file: Path, columns: Columns) -> list[Row]:
    try:
        text = file.read_text(encoding="utf-8")
        # Only complete lines count: a run that was killed may have left half a line.
        lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        same_columns = list(lines.fieldnames or ()) == list(columns)
        rows = [{name: _parse(line[name], kind) for name, kind in columns.items()} for line in lines if same_columns]
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"'{file}' can't be read back: {error}; give --overwrite to start again") from error
    if not same_columns:
        raise OutputError(f"'{file}' has other columns than this evaluation writes; give --overwrite to start again")
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
    """Short hash of settings that doesn't depend on the order of the keys."""
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
        raise OutputError(f"'{file}' isn't the settings file of an evaluation; give --overwrite") from error
    if not same:
        now = json.loads(_canonical(settings))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        raise OutputError(
            f"'{file.parent}' holds results of other settings ({', '.join(changed)}); "
            "give another -o, or --overwrite to start again"
        )


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
