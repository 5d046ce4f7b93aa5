import errno
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.files import publish, replaced_file, write_file


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.bin"
    write_file(file, b"1")
    write_file(file, b"22")
    assert file.read_bytes() == b"22"
    assert [path.name for path in file.parent.iterdir()] == ["a.bin"]


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_file(file, b"old")
    with pytest.raises(ZeroDivisionError), replaced_file(file) as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        write_file(tmp_path / "file" / "a.bin", b"")


def test_a_directory_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for name, text in (("partial", "new"), ("target", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(text)
    publish(tmp_path / "partial", tmp_path / "target")
    assert (tmp_path / "target" / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_a_crash_left_of_an_older_directory_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in ("partial", ".target.old"):
        (tmp_path / name).mkdir()
    publish(tmp_path / "partial", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="no space left; free some"), replaced_file(tmp_path / "a") as partial:
        full(partial)
    assert list(tmp_path.iterdir()) == []
