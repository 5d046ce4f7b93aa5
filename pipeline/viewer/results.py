"""The results that a viewer shows: what the page is told of them, and the files that it may have."""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.codebook import load_codebook
from pipeline.errors import InputError, UsageError, VidpartsError, one_line
from pipeline.media.inline import data_uri
from pipeline.media.label_layout import read_packed_chunk
from pipeline.media.label_store import open_labels
from pipeline.media.playable import is_playable
from pipeline.media.source import Source
from pipeline.reporting.facts import InputFacts, input_facts
from pipeline.runs.edits import (
    Edits,
    EditState,
    apply_edits,
    default_name,
    edits_place,
    load_edits,
    replace_edits,
)
from pipeline.runs.origin import find_source
from pipeline.runs.record import CODEBOOK, LABELS
from pipeline.tasks.edit import carry_names, results_in
from pipeline.viewer.jobs import Job, make_proxy


class ViewedResult:
    """One finished input.

    Attributes:
        number: of it among all that are shown.
        facts: what there is to tell of it.
        store: its labels as they are on the disk.
        source: the input, if it has moved since.
        problem: why its clip can't be shown; empty where it can.
    """

    def __init__(self, number: int, directory: Path, folder: Path, source: Path | None = None) -> None:
        """Open a result; `folder` is where a clip for the browser may be written."""
        self.number = number
        self.facts: InputFacts = input_facts(directory)
        self.store = open_labels(directory / LABELS)
        self.source = source
        self.problem = ""
        self._proxy_file = folder / f"{number}.mp4"
        self._proxy: Job | None = None
        self._lock = threading.Lock()
        self._source: Source | None = None
        try:
            self._source = find_source(self.facts.record, self.store, source)
        except VidpartsError as error:
            self.problem = one_line(str(error))
        self._playable = self._source is not None and is_playable(self._source)

    @property
    def clip(self) -> Path | None:
        """The file that the browser plays: the input itself, or the clip made of it; None while there is none."""
        if self._proxy is None and self._playable and self._source is not None:
            return Path(self._source.path).resolve()
        return self._proxy_file if self._proxy is not None and self._proxy.state == "done" else None

    def proxy(self) -> Job:
        """The job that makes a clip for the browser; it begins at the first call.

        Raises:
            InputError: the input isn't there.
        """
        with self._lock:
            if self._proxy is None or self._proxy.state in ("failed", "cancelled"):
                if self._source is None:
                    raise InputError(self.problem)
                self._proxy = make_proxy(self._proxy_file, self._source, self.facts.record, self.store)
            return self._proxy

    def stop(self) -> None:
        """End what goes on in the background."""
        if self._proxy is not None:
            self._proxy.cancel()
            self._proxy.join()

    def chunk(self, number: int) -> bytes:
        """One chunk of labels as it lies on the disk, compressed by zstd.

        Raises:
            InputError: there is none, or it is damaged.
        """
        return read_packed_chunk(self.store.path, self.store.layout, number)

    def describe(self) -> dict[str, Any]:
        """What the page is told."""
        facts, store, moves = self.facts, self.store, self.facts.measures.transitions
        transitions = None
        if moves is not None:
            columns = (moves.frame, moves.before, moves.after, moves.pixels)
            transitions = [column.tolist() for column in columns]
        return {
            "number": self.number,
            "name": facts.name,
            "run": edits_place(facts.directory).parent.name,
            "codebook": facts.record.codebook_sha256,
            "size": [store.source_size_hw[1], store.source_size_hw[0]],
            "label_size": [store.size_hw[1], store.size_hw[0]],
            "frames": len(store),
            "chunk_frames": store.layout.chunk_frames,
            "seconds": facts.seconds.tolist(),
            # Larger than a number of JavaScript may be exactly.
            "pts": [str(pts) for pts in store.pts],
            "time_base": str(store.time_base),
            "starts": bool(not facts.record.settings.input.start),
            "areas": facts.measures.areas.T.tolist(),
            "transitions": transitions,
            "thumbnails": [
                {"frame": index, "picture": data_uri(code)} for index, code in sorted(facts.measures.thumbnails.items())
            ],
            "problem": self.problem,
            "playable": self._playable,
        }


class ViewedRun:
    """A run, OUT: its edits, and those of its results that are shown."""

    def __init__(self, number: int, directory: Path, results: list[ViewedResult]) -> None:
        """`directory` is OUT; `results` aren't empty."""
        self.number = number
        self.directory = directory
        self.results = results
        self.file = edits_place(results[0].facts.directory)
        self._record = results[0].facts.record

    @property
    def writable(self) -> bool:
        """Whether edits can be saved."""
        return os.access(self.directory, os.W_OK) and not (self.file.exists() and not os.access(self.file, os.W_OK))

    def edits(self) -> dict[str, Any]:
        """The edits as they are on the disk now.

        Raises:
            InputError: they are damaged.
        """
        return self._told(load_edits(self.file))

    def save(self, state: EditState, known: str) -> dict[str, Any]:
        """Make a state the current one.

        Raises:
            EditConflictError: the edits aren't those any more that the page knows.
            UsageError: it isn't a state of these parts.
            OutputError: it can't be written.
        """
        apply_edits(state, self._record.part_colors, self._record.part_names)
        return self._write(load_edits(self.file).followed_by(state), known)

    def undo(self, known: str) -> dict[str, Any]:
        """Take the last state away; errors as `save`."""
        return self._write(load_edits(self.file).undone(), known)

    def _write(self, edits: Edits, known: str) -> dict[str, Any]:
        replace_edits(edits, self.file, known)
        note = carry_names(self.directory / CODEBOOK, self._record, edits.current)
        return {**self._told(edits), "note": note}

    def _told(self, edits: Edits) -> dict[str, Any]:
        state = edits.current.model_dump(mode="json")
        return {"revision": edits.revision, "state": state, "undoable": len(edits.states)}

    def describe(self) -> dict[str, Any]:
        """What the page is told."""
        record = self._record
        names = record.part_names or ("",) * len(record.part_colors)
        return {
            "number": self.number,
            "name": self.directory.name or str(self.directory),
            "writable": self.writable,
            "colors": ["#" + bytes(color).hex() for color in record.part_colors],
            "names": [name or default_name(label) for label, name in enumerate(names, 1)],
            "edits": self.edits(),
            "results": [result.describe() for result in self.results],
        }


@dataclass(slots=True)
class Viewed:
    """All that a viewer shows, and the folder of its own files."""

    runs: list[ViewedRun]
    folder: tempfile.TemporaryDirectory[str]

    @property
    def results(self) -> list[ViewedResult]:
        """Of all runs, by their numbers."""
        return [result for run in self.runs for result in run.results]

    @property
    def warnings(self) -> list[str]:
        """What the page says above all."""
        found = []
        books = {result.facts.record.codebook_sha256 for result in self.results}
        if len(books) > 1:
            found.append(
                "These results are of different codebooks: a colour doesn't mean the same part in all of them."
            )
        for run in self.runs:
            if not run.writable:
                found.append(f"'{run.directory.name}' can't be written: look, but edits can't be saved.")
            if (run.directory / ".run" / "manifest.json").is_file():
                found.append(f"'{run.directory.name}' is unfinished: what is there is shown; --resume does the rest.")
            found += _codebook_problem(run)
        return found

    @property
    def problems(self) -> list[str]:
        """Why clips can't be shown; the page says it in their places."""
        return [f"{each.facts.name}: {each.problem}" for each in self.results if each.problem]

    def close(self) -> None:
        """End what goes on, and remove own files."""
        for result in self.results:
            result.stop()
        self.folder.cleanup()


def _codebook_problem(run: ViewedRun) -> list[str]:
    file = run.directory / CODEBOOK
    try:
        if file.is_file():
            load_codebook(file)
            return []
    except VidpartsError as error:
        return [one_line(str(error))]
    return [f"'{run.directory.name}' has no {CODEBOOK}: names are kept with the result only."]


def open_results(paths: list[Path], source: Path | None = None) -> Viewed:
    """The results that paths mean: all of OUT, or one OUT/<name>.

    Args:
        paths: runs or results.
        source: the input, if it has moved since; for one result alone.

    Raises:
        InputError: one is none, or can't be read.
        UsageError: a source is given for several results.
    """
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        for result in results_in(path.absolute()):
            group = groups.setdefault(edits_place(result).parent, [])
            group += [result] if result not in group else []
    if source is not None and sum(map(len, groups.values())) > 1:
        raise UsageError("--source is the input of one result; give OUT/<name>")
    folder = tempfile.TemporaryDirectory(prefix="vidparts-view-")
    runs, number = [], 0
    for run_number, (directory, found) in enumerate(groups.items()):
        results = []
        for result in found:
            results.append(ViewedResult(number, result, Path(folder.name), source))
            number += 1
        runs.append(ViewedRun(run_number, directory, results))
    return Viewed(runs, folder)
