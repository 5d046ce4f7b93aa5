"""edits.json of a run: corrections of its parts, kept beside labels that stay as they are.

The file holds a history of states. `render`, `export`, `report` and the viewer apply the last one; undo takes it away.
What a state changes is a table of 256 labels, and the parts that are left with their names and colours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.documents import Document, message, reason
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.files import write_file
from pipeline.records import MAX_PARTS, Part
from pipeline.runs.record import RECORD, RunRecord

EDITS: Final = "edits.json"

_MAX_BYTES = 4 * 2**20
_MAX_STATES = 200
"""States that are kept; the oldest go first."""
MAX_NAME = 80
"""Characters of a part's name."""


def _checked_name(name: str) -> str:
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned or len(cleaned) > MAX_NAME or not cleaned.isprintable():
        raise ValueError(f"a part's name is 1 to {MAX_NAME} characters that can be printed, got {name[:MAX_NAME]!r}")
    return cleaned


def _checked_label(label: int) -> int:
    if not 1 <= label <= MAX_PARTS:
        raise ValueError(f"there is no part {label}; parts are numbered from 1")
    return label


def _checked_color(code: str) -> str:
    if re.fullmatch("#[0-9a-f]{6}", code) is None:
        raise ValueError(f"a colour is written #rrggbb, such as #ff8800, got {code[:MAX_NAME]!r}")
    return code


Label = Annotated[int, AfterValidator(_checked_label)]
PartName = Annotated[str, Field(max_length=4 * MAX_NAME), AfterValidator(_checked_name)]
HexColor = Annotated[str, AfterValidator(_checked_color)]


class EditState(Document):
    """Corrections of the parts 1..K; what isn't named here is as the run left it."""

    names: dict[Label, PartName] = Field(default_factory=dict)
    colors: dict[Label, HexColor] = Field(default_factory=dict)
    hidden: tuple[Label, ...] = ()
    """Parts that become background."""
    merged: dict[Label, Label] = Field(default_factory=dict)
    """Parts that belong to another one, which itself isn't merged."""
    order: tuple[Label, ...] = ()
    """Parts in the order they are listed in; those that aren't named follow by their labels."""

    @model_validator(mode="after")
    def _consistent(self) -> EditState:
        if any(target in self.merged for target in self.merged.values()):
            raise ValueError("a part is merged into one that is itself merged into another")
        for name, values in (("hidden", self.hidden), ("order", self.order)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names a part twice")
        return self

    @property
    def highest(self) -> int:
        """The highest label that is named; 0 for none."""
        return max([*self.names, *self.colors, *self.hidden, *self.merged, *self.merged.values(), *self.order, 0])


class Edits(Document):
    """What edits.json holds: the states one after the other, the last one current."""

    format: Literal["vidparts-edits-1"] = "vidparts-edits-1"
    states: Annotated[tuple[EditState, ...], Field(max_length=_MAX_STATES)] = ()

    @property
    def current(self) -> EditState:
        """The state that is applied."""
        return self.states[-1] if self.states else EditState()

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()

    @property
    def revision(self) -> str:
        """What tells these edits from others."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    def followed_by(self, state: EditState) -> Edits:
        """The history with one more state; the same where that changes nothing."""
        if state == self.current:
            return self
        return Edits(states=(*self.states, state)[-_MAX_STATES:])

    def undone(self) -> Edits:
        """The history without its last state.

        Raises:
            UsageError: there is none.
        """
        if not self.states:
            raise UsageError("there is no edit to undo")
        return Edits(states=self.states[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class EditedParts:
    """The parts of a run as its edits leave them.

    Attributes:
        parts: those that are left, in their order.
        table: uint8 [256], the label that each stored label becomes.
        colors: uint8 [K, 3], RGB of the labels 1..K of the stored parts.
    """

    parts: tuple[Part, ...]
    table: NDArray[np.uint8]
    colors: NDArray[np.uint8]


def apply_edits(state: EditState, part_colors: Sequence[Sequence[int]], part_names: Sequence[str] = ()) -> EditedParts:
    """The parts that a state leaves of K.

    Args:
        state: the corrections.
        part_colors: RGB of the parts 1..K, as the run painted them.
        part_names: their names, as the codebook has them; those that are missing or empty are `part N`.

    Raises:
        UsageError: a part is named that there isn't, or two would have one name.
    """
    count = len(part_colors)
    if state.highest > count:
        raise UsageError(f"an edit names part {state.highest}, but there are the parts 1 to {count}")
    table, labels = np.zeros(256, dtype=np.uint8), range(1, count + 1)
    roots = [state.merged.get(label, label) for label in labels]
    table[1 : count + 1] = [0 if root in state.hidden else root for root in roots]
    colors = np.array(part_colors, dtype=np.uint8).reshape(-1, 3)
    for label, code in state.colors.items():
        colors[label - 1] = tuple(bytes.fromhex(code[1:]))
    left = [label for label in (*state.order, *labels) if table[label] == label]
    given = {label: name for label, name in enumerate(part_names, 1) if name}
    parts = []
    for label in dict.fromkeys(left):
        red, green, blue = (int(value) for value in colors[label - 1])
        name = state.names.get(label) or given.get(label) or default_name(label)
        parts.append(Part(label, name, (red, green, blue)))
    _require_distinct(parts)
    return EditedParts(tuple(parts), table, colors)


def default_name(label: int) -> str:
    """What a part is called that nobody has named."""
    return f"part {label}"


def _require_distinct(parts: Iterable[Part]) -> None:
    seen: dict[str, int] = {}
    for part in parts:
        other = seen.setdefault(part.name.casefold(), part.label)
        if other != part.label:
            raise UsageError(
                f"the parts {other} and {part.label} would both be called '{part.name}'; "
                f"give another name, or make them one by --merge {other}+{part.label}"
            )


@dataclass(frozen=True, slots=True)
class Change:
    """What a person asks for; applied to a state in this order.

    Attributes:
        show: parts that are hidden no more.
        split: parts that are merged into another no more.
        merge: groups of parts that become one, the first of each.
        hide: parts that become background.
        names: new names by part; an empty one takes the name away.
        colors: new colours by part, `#rrggbb`.
        order: the parts that are listed first.
    """

    show: Sequence[int] = ()
    split: Sequence[int] = ()
    merge: Sequence[Sequence[int]] = ()
    hide: Sequence[int] = ()
    names: Mapping[int, str] | None = None
    colors: Mapping[int, str] | None = None
    order: Sequence[int] = ()

    def asked(self) -> set[str]:
        """The names of what isn't empty."""
        return {each.name for each in fields(self) if getattr(self, each.name)}

    def applied(self, state: EditState) -> EditState:
        """The state with the change.

        Raises:
            UsageError: a name, a colour or a part can't be.
        """
        merged = {label: root for label, root in state.merged.items() if label not in self.split}
        for first, *others in self.merge:
            if first in others:
                raise UsageError(f"part {first} can't be merged into itself")
            root = merged.get(first, first)
            joined = {merged.get(label, label) for label in others} - {root}
            merged |= dict.fromkeys(joined, root)
            merged = {label: root if target in joined else target for label, target in merged.items()}
        # A merged part is shown and hidden with the one that it belongs to.
        shown = {merged.get(label, label) for label in self.show}
        hidden = (*state.hidden, *(merged.get(label, label) for label in self.hide))
        names = {**state.names, **(self.names or {})}
        values = {
            "merged": merged,
            "hidden": [label for label in dict.fromkeys(hidden) if label not in shown or label in self.hide],
            "names": {label: name for label, name in names.items() if name},
            "colors": {**state.colors, **{label: code.lower() for label, code in (self.colors or {}).items()}},
            "order": list(self.order) or state.order,
        }
        try:
            return EditState.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"this edit can't be made: {message(error)}") from error


def edits_place(result: Path) -> Path:
    """Where the edits of a run are: OUT/edits.json, given OUT or OUT/<name>."""
    folder = result.absolute()
    return (folder.parent if (folder / RECORD).is_file() else folder) / EDITS


def load_edits(file: Path) -> Edits:
    """Read edits.json; no edits where there is none.

    Raises:
        InputError: it can't be read, is damaged, no plain file or too large; says why.
    """
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise InputError(f"'{file}' is no plain file; remove it, and edit again")
        if not file.exists():
            return Edits()
        if file.stat().st_size > _MAX_BYTES:
            raise InputError(f"'{file}' has more than {_MAX_BYTES // 2**20} MiB; remove it, and edit again")
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"'{file}' can't be read: {error.strerror or error}") from error
    try:
        return Edits.model_validate_json(content) if content else Edits()
    except (ValidationError, RecursionError) as error:
        raise InputError(f"'{file}' isn't what `vidparts edit` writes ({reason(error)}); mend or remove it") from error


def replace_edits(edits: Edits, file: Path, known: str) -> None:
    """Write edits.json unless another has changed it since the revision `known`, which the edits were made on.

    Raises:
        EditConflictError: it has another revision now.
        OutputError: it can't be written.
    """
    from filelock import FileLock, Timeout

    lock = file.with_name(f".{file.name}.lock")
    try:
        with FileLock(lock, timeout=5):
            try:
                if load_edits(file).revision != known:
                    raise EditConflictError(f"'{file}' was changed meanwhile; look at the change, then edit again")
                write_file(file, edits.content)
            finally:
                # On Windows a file that is open stays.
                with contextlib.suppress(OSError):
                    lock.unlink()
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or "another process holds its lock"
        raise OutputError(f"'{file}' can't be written: {reason}") from error


class EditConflictError(OutputError):
    """Another has changed the edits that a change was made on."""


def edited_parts(record: RunRecord, result: Path) -> EditedParts:
    """The parts of a finished input, OUT/<name>, as the edits of its run leave them.

    Raises:
        InputError: edits.json is damaged, or belongs to other parts.
    """
    file = edits_place(result)
    try:
        return apply_edits(load_edits(file).current, record.part_colors, record.part_names)
    except UsageError as error:
        raise InputError(f"'{file}' doesn't fit the result: {error}") from error
