"""Corrections of a real run, applied by what comes after it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.cluster.codebook import load_codebook
from pipeline.config import Settings, with_values
from pipeline.errors import InputError, UsageError
from pipeline.geometry import resize_labels
from pipeline.media.inputs import open_source
from pipeline.media.label_store import open_labels
from pipeline.runs.edits import Change, load_edits
from pipeline.runs.record import load_record
from pipeline.tasks.edit import edit
from pipeline.tasks.export import export
from pipeline.tasks.fit import fit
from pipeline.tasks.render import render
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify


@pytest.fixture
def run(make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path) -> Path:
    segment([make_clip(tmp_path / "clip.mp4")], tmp_path / "out", small_settings)
    return tmp_path / "out"


def labels_of(result: Path) -> NDArray[np.uint8]:
    return np.stack([labels for _, _, labels in open_labels(result / "labels.zarr").frames()])


def test_labels_and_checksums_stay_as_they_are(run: Path) -> None:
    before = labels_of(run / "clip")
    edit(run, Change(merge=[[1, 2]], hide=[3], names={1: "body"}))
    assert np.array_equal(labels_of(run / "clip"), before)
    assert verify(run / "clip").frames == len(before)


def test_exports_and_render_apply_them(run: Path, tmp_path: Path) -> None:
    raw = labels_of(run / "clip")
    edit(run / "clip", Change(merge=[[1, 2]], hide=[3], colors={1: "#0000ff"}))
    export(run / "clip", tmp_path / "npz", "npz")
    with np.load(tmp_path / "npz" / "labels.npz") as arrays:
        assert np.array_equal(arrays["labels"], np.array([0, 1, 1, 0], dtype=np.uint8)[raw])
    export(run / "clip", tmp_path / "davis", "davis")
    table, size = np.array([0, 1, 1, 0], dtype=np.uint8), open_labels(run / "clip" / "labels.zarr").source_size_hw
    shown = np.asarray(Image.open(tmp_path / "davis" / "00002.png"))
    assert np.array_equal(shown, resize_labels(table[raw[2]], size))
    render(run / "clip", tmp_path / "parts.mp4", style="parts")
    painted = next(open_source(tmp_path / "parts.mp4", "parts", 25).frames()).rgb
    inside = resize_labels(table[raw[0]], size) == 1
    assert inside.any()
    assert np.abs(painted[inside].mean(axis=0) - [0, 0, 255]).max() < 40
    assert painted[~inside].mean() < 40


def test_names_travel_with_the_codebook_and_change_nothing_else(
    run: Path, make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path
) -> None:
    book = run / "codebook.safetensors"
    before = load_record(run / "clip").codebook_sha256
    edit(run, Change(names={2: "wing"}))
    assert load_codebook(book).part_names == ("", "wing", "")
    later = segment([make_clip(tmp_path / "later.mp4", 5)], tmp_path / "later", small_settings, codebook=book)
    record = later.finished[0].record
    assert (record.part_names, record.codebook_sha256) == (("", "wing", ""), before)
    assert [part.name for part in edit(tmp_path / "later").parts] == ["part 1", "wing", "part 3"]
    # The same run again is resumed, though the codebook has got another name since.
    edit(run, Change(names={1: "body"}))
    again = segment([tmp_path / "later.mp4"], tmp_path / "later", small_settings, codebook=book, resume=True)
    assert again.finished[0].record == record
    edit(run, undo=True)
    edit(run, undo=True)
    assert load_codebook(book).part_names == ()


def test_parts_of_a_fitted_codebook_are_named(
    make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path
) -> None:
    book = tmp_path / "parts.safetensors"
    fit([make_clip(tmp_path / "clip.mp4")], book, small_settings)
    plain = book.read_bytes()
    assert [part.name for part in edit(book, Change(names={3: "leg"})).parts] == ["part 1", "part 2", "leg"]
    assert load_codebook(book).part_names == ("", "", "leg")
    with pytest.raises(UsageError, match="can be named only"):
        edit(book, Change(hide=[1]))
    edit(book, Change(names={3: ""}))
    assert book.read_bytes() == plain


def test_a_damaged_codebook_stops_no_edit_and_is_told(run: Path) -> None:
    (run / "codebook.safetensors").write_bytes(b"junk")
    edited = edit(run, Change(names={1: "head"}))
    assert load_edits(run / "edits.json").current.names == {1: "head"}
    assert "the names aren't in the codebook: " in edited.summary()
    assert "\n" not in edited.note


def test_an_edit_is_undone_and_all_of_them_too(run: Path) -> None:
    edit(run, Change(hide=[1]))
    edit(run, Change(hide=[2]))
    assert [part.label for part in edit(run, undo=True).parts] == [2, 3]
    assert [part.label for part in edit(run, reset=True).parts] == [1, 2, 3]
    assert [part.label for part in edit(run, undo=True).parts] == [2, 3]


def test_what_is_no_run_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no result; give the directory"):
        edit(tmp_path / "empty", Change(hide=[1]))
    with pytest.raises(InputError, match="can't be read"):
        edit(tmp_path / "none", Change(hide=[1]))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "run.json").write_text('{"task": "parts", "pictures": []}')
    with pytest.raises(InputError, match=r"no labels of a video; `vidparts report` shows results of pictures"):
        edit(tmp_path / "pictures", Change(hide=[1]))
    with pytest.raises(InputError, match=r"expected the directory of a finished input, such as '.*/clip'"):
        render(run, tmp_path / "x.mp4")
    (tmp_path / "empty" / ".run").mkdir()
    (tmp_path / "empty" / ".run" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"unfinished run and no finished input.*--resume"):
        edit(tmp_path / "empty", Change(hide=[1]))
    (run / "edits.json").write_text('{"states": [{"hidden": [7]}]}')
    with pytest.raises(InputError, match="names part 7, but there are the parts 1 to 3"):
        render(run / "clip", tmp_path / "x.mp4")


def test_edits_stay_with_their_parts_and_give_way_to_other_ones(
    run: Path, small_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run, Change(hide=[1]))
    clip = run.parent / "clip.mp4"
    segment([clip], run, small_settings, overwrite=True)
    assert [part.label for part in edit(run).parts] == [2, 3]
    segment([clip], run, with_values(small_settings, {"cluster.parts": 2}), overwrite=True)
    assert [part.label for part in edit(run).parts] == [1, 2]
    assert "edits-of-earlier-parts.json" in capsys.readouterr().err
    assert (run / "edits-of-earlier-parts.json").is_file()
