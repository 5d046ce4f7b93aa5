from pathlib import Path

import pytest

from pipeline.errors import InputError, OutputError
from pipeline.runs.staging import staged_results


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("exists", [False, True])
def test_results_appear_together(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "deep" / "out"
    if exists:
        out.mkdir(parents=True)
    with staged_results(out, overwrite=False) as folder:
        (folder / "a.txt").write_text("a")
        assert not (out / "a.txt").exists()
    assert tree(tmp_path / "deep") == {"out/a.txt": "a"}


def test_a_directory_that_holds_something_is_not_touched_unasked(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("mine")
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OutputError, match="isn't empty"), staged_results(tmp_path, overwrite=False):
        pass
    with staged_results(tmp_path, overwrite=True) as folder:
        (folder / "a.txt").write_text("new")
    assert tree(tmp_path) == {"other.txt": "mine", "a.txt": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "other.txt"]


@pytest.mark.parametrize("exists", [False, True])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "out"
    if exists:
        out.mkdir()
        (out / "a.txt").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError), staged_results(out, overwrite=True) as folder:
        (folder / "a.txt").write_text("half")
        raise InputError("stop")
    assert sorted(tmp_path.rglob("*")) == before
    assert not exists or (out / "a.txt").read_text() == "old"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "below"):
        with pytest.raises(OutputError), staged_results(place, overwrite=True):
            pass


def test_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with staged_results(Path(), overwrite=False) as folder:
        (folder / "a.txt").write_text("a")
    assert tree(tmp_path) == {"a.txt": "a"}
