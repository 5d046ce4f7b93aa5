"""Corrections of a run's parts: kept in OUT/edits.json, beside labels that stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cluster.codebook import load_codebook, save_codebook
from pipeline.errors import InputError, UsageError, VidpartsError, one_line
from pipeline.records import Part
from pipeline.runs.edits import (
    Change,
    EditState,
    apply_edits,
    edits_place,
    load_edits,
    replace_edits,
)
from pipeline.runs.notebook import legend_html
from pipeline.runs.record import CODEBOOK, LABELS, RECORD, RunRecord, load_record


@dataclass(frozen=True, slots=True)
class EditedRun:
    """A run's parts after an edit.

    Attributes:
        file: edits.json, or the codebook whose parts were named.
        parts: the parts that are left, in their order.
        state: what was corrected in all.
        note: why the names couldn't be carried into the codebook; empty where they were, or needn't be.
    """

    file: Path
    parts: tuple[Part, ...]
    state: EditState
    note: str = ""

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return legend_html((part, "") for part in self.parts)

    def summary(self) -> str:
        """The parts, one a line, and what became of the others."""
        lines = [f"{part.label:>4}  {code(part.color)}  {part.name}" for part in self.parts]
        lines += [f"{label:>4}  merged into {root}" for label, root in sorted(self.state.merged.items())]
        lines += [f"{label:>4}  hidden" for label in sorted(self.state.hidden)]
        return "\n".join([*lines, *filter(None, [self.note]), str(self.file)])


def code(color: tuple[int, int, int]) -> str:
    """A colour as `#rrggbb`."""
    return "#" + bytes(color).hex()


def edit(result: Path, change: Change | None = None, *, undo: bool = False, reset: bool = False) -> EditedRun:
    """Correct the parts of a run, or name those of a codebook.

    Names are also written into OUT/codebook.safetensors, so that later videos have them.

    Args:
        result: OUT, one of its results OUT/<name>, or a codebook's file.
        change: what to correct; None: nothing.
        undo: take the last edit back instead.
        reset: take all of them back instead; that can be undone.

    Raises:
        InputError: there is no result, or its edits.json is damaged.
        UsageError: a part, name or colour can't be; says which.
        OutputError: the edit can't be written, or another was made meanwhile.
        CodebookError: the codebook that was given can't be read.
    """
    if result.is_file():
        return _name_codebook(result, change, undo=undo or reset)
    # What run.json says of the parts is the same in all results of a run.
    record, file = load_record(results_in(result)[0]), edits_place(result)
    edits = load_edits(file)
    if undo:
        after = edits.undone()
    elif reset:
        after = edits.followed_by(EditState())
    else:
        after = edits.followed_by((change or Change()).applied(edits.current))
    edited, note = apply_edits(after.current, record.part_colors, record.part_names), ""
    if after != edits:
        replace_edits(after, file, edits.revision)
        note = carry_names(file.parent / CODEBOOK, record, after.current)
    return EditedRun(file, edited.parts, after.current, note)


def results_in(result: Path) -> list[Path]:
    """The finished results that a path means: OUT/<name> itself, or all of OUT, by name.

    Raises:
        InputError: there is none; says what there is instead.
    """
    if (result / LABELS).is_dir() and (result / RECORD).is_file():
        return [result]
    try:
        found = sorted(folder for folder in result.iterdir() if (folder / RECORD).is_file())
    except OSError as error:
        raise InputError(
            f"'{result}' can't be read: {error.strerror}; give the directory that `vidparts segment -o` wrote"
        ) from error
    if not found:
        if (result / ".run" / "manifest.json").is_file():
            advice = "it holds an unfinished run and no finished input: `vidparts segment --resume` continues it"
        elif (result / RECORD).is_file():
            advice = "it holds no labels of a video; `vidparts report` shows results of pictures"
        else:
            advice = "it holds no result; give the directory that `vidparts segment -o` wrote"
        raise InputError(f"'{result}': {advice}")
    return found


def carry_names(file: Path, record: RunRecord, state: EditState) -> str:
    """Write the names that a state gives into the run's codebook, if it is there and still the run's.

    Returns:
        Why they couldn't be written, one line; the edit itself holds all the same.
    """
    if not file.is_file():
        return ""
    try:
        codebook = load_codebook(file)
        if codebook.parts == len(record.part_colors):
            names = _names(codebook.parts, record.part_names, state.names)
            if names != codebook.part_names and (any(names) or codebook.part_names):
                save_codebook(replace(codebook, part_names=names), file)
    except VidpartsError as error:
        return one_line(f"saved, but the names aren't in the codebook: {error}")
    return ""


def _names(parts: int, given: tuple[str, ...], new: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(new.get(label, name) for label, name in enumerate(given or ("",) * parts, start=1))


def _name_codebook(file: Path, change: Change | None, *, undo: bool) -> EditedRun:
    codebook, change = load_codebook(file), change or Change()
    if undo or change.asked() - {"names"}:
        raise UsageError("a codebook's parts can be named only; hide, merge and recolour the parts of a result")
    colors = codebook.part_colors.tolist()
    state = change.applied(EditState())
    apply_edits(state, colors, codebook.part_names)
    names = _names(codebook.parts, codebook.part_names, dict.fromkeys(change.names or (), "") | state.names)
    if change.names:
        save_codebook(replace(codebook, part_names=names if any(names) else ()), file)
    return EditedRun(file, apply_edits(EditState(), colors, names).parts, EditState())
