"""The corrections of a run as a value and as a file."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, OutputError, UsageError
from pipeline.runs.edits import (
    Change,
    EditConflictError,
    Edits,
    EditState,
    apply_edits,
    load_edits,
    replace_edits,
)

COLORS = [(10, 0, 0), (20, 0, 0), (30, 0, 0), (40, 0, 0)]


def state(**change: object) -> EditState:
    return Change(**change).applied(EditState())  # type: ignore[arg-type]


def test_an_untouched_run_has_its_parts_by_number() -> None:
    edited = apply_edits(EditState(), COLORS)
    assert [(part.label, part.name, part.color) for part in edited.parts] == [
        (label, f"part {label}", COLORS[label - 1]) for label in (1, 2, 3, 4)
    ]
    assert edited.table.tolist() == [0, 1, 2, 3, 4] + [0] * 251


def test_every_kind_of_edit_shows_in_parts_and_table() -> None:
    edits = state(merge=[[2, 3]], hide=[4], names={1: "head", 2: "  legs\n "}, colors={2: "#FF8800"}, order=[2])
    edited = apply_edits(edits, COLORS)
    assert [(part.label, part.name, part.color) for part in edited.parts] == [
        (2, "legs", (255, 136, 0)),
        (1, "head", (10, 0, 0)),
    ]
    assert edited.table[:5].tolist() == [0, 1, 2, 2, 0]


def test_merged_parts_are_hidden_together_and_split_again() -> None:
    edits = state(merge=[[1, 2], [3, 1]], hide=[2])
    assert apply_edits(edits, COLORS).table[:5].tolist() == [0, 0, 0, 0, 4]
    shown = Change(show=[1]).applied(edits)
    assert apply_edits(shown, COLORS).table[:5].tolist() == [0, 3, 3, 3, 4]
    assert apply_edits(Change(split=[2]).applied(shown), COLORS).table[:5].tolist() == [0, 3, 2, 3, 4]


def test_names_of_the_codebook_hold_until_an_edit_beats_them() -> None:
    names = ["head", "", "leg", ""]
    assert [part.name for part in apply_edits(EditState(), COLORS, names).parts] == ["head", "part 2", "leg", "part 4"]
    assert apply_edits(state(names={1: "face"}), COLORS, names).parts[0].name == "face"


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=4, unique=True), max_size=5),
    st.lists(st.integers(1, 6), max_size=3),
)
def test_any_merges_leave_each_label_at_a_part_that_is_left(merges: list[list[int]], hidden: list[int]) -> None:
    edits = EditState()
    for group in merges:
        edits = Change(merge=[group]).applied(edits)
        table = apply_edits(edits, [(1, 2, 3)] * 6).table
        assert len({table[label] for label in group}) == 1
    edited = apply_edits(Change(hide=hidden).applied(edits), [(1, 2, 3)] * 6)
    assert {0, *(part.label for part in edited.parts)} >= set(edited.table[1:7].tolist())
    assert np.array_equal(edited.table[edited.table], edited.table)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"names": {9: "tail"}}, "names part 9, but there are the parts 1 to 4"),
        ({"names": {1: "leg", 2: "Leg"}}, r"parts 1 and 2 would both be called 'Leg'.*--merge 1\+2"),
        ({"names": {1: "part 2"}}, "would both be called"),
        ({"names": {1: "x" * 81}}, "1 to 80 characters"),
        ({"names": {1: "a\x1b[31m"}}, "can be printed"),
        ({"colors": {1: "red"}}, "a colour is written #rrggbb, such as #ff8800, got 'red'$"),
        ({"hide": [0]}, "made: there is no part 0; parts are numbered from 1$"),
        ({"merge": [[2, 2]]}, "part 2 can't be merged into itself"),
        ({"order": [1, 1]}, "order names a part twice"),
    ],
)
def test_what_can_not_be_is_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        apply_edits(state(**change), COLORS)


def test_undo_goes_back_state_by_state() -> None:
    edits = Edits().followed_by(state(hide=[1])).followed_by(state(hide=[1, 2]))
    assert edits.followed_by(edits.current) == edits
    assert edits.undone().current.hidden == (1,)
    assert edits.undone().undone().current == EditState()
    with pytest.raises(UsageError, match="no edit to undo"):
        Edits().undone()


def test_the_file_reads_back_and_is_the_same_bytes(tmp_path: Path) -> None:
    edits = Edits().followed_by(state(names={1: "Kopf ü"}, merge=[[2, 3]]))
    replace_edits(edits, tmp_path / "edits.json", Edits().revision)
    assert load_edits(tmp_path / "edits.json") == edits
    replace_edits(edits, tmp_path / "edits.json", edits.revision)
    assert load_edits(tmp_path / "edits.json").content == edits.content == (tmp_path / "edits.json").read_bytes()
    assert load_edits(tmp_path / "none.json") == Edits()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": "other"}',
        '{"states": [{"names": {"300": "x"}}]}',
        '{"states": [{"merged": {"1": 2, "2": 3}}]}',
        '{"states": [{"colors": {"1": "url(x)"}}]}',
        '{"states": [{"what": 1}]}',
        '{"states": ' + "[" * 100_000 + "]}",
    ],
)
def test_a_damaged_or_hostile_file_is_one_line(content: str, tmp_path: Path) -> None:
    file = tmp_path / "edits.json"
    file.write_text(content)
    with pytest.raises(InputError, match="isn't what `vidparts edit` writes") as told:
        load_edits(file)
    assert "\n" not in str(told.value)


def test_a_link_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("{}")
    (tmp_path / "edits.json").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="no plain file"):
        load_edits(tmp_path / "edits.json")


def test_of_two_that_edit_at_once_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "edits.json"
    known, lost, begin = load_edits(file).revision, [], threading.Barrier(8)

    def write(number: int) -> None:
        begin.wait()
        try:
            replace_edits(Edits().followed_by(state(names={1: f"name {number}"})), file, known)
        except EditConflictError:
            lost.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["edits.json"]
    (winner,) = set(range(8)) - set(lost)
    assert load_edits(file).current.names == {1: f"name {winner}"}


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        replace_edits(Edits(), tmp_path / "file" / "edits.json", Edits().revision)
