"""Where a run is done: file systems that can't flush, pictures that no clip takes."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Settings, with_values
from pipeline.errors import OutputError, TooLargeError, VidpartsError
from pipeline.forecast.dry_run import estimate
from pipeline.media.clip_writer import MAX_SIDE_PX, is_encodable
from pipeline.media.pictures import read_picture, write_picture
from pipeline.tasks.export import export
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify

ClipMaker = Callable[..., Path]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES])
def test_directories_that_cannot_be_flushed(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    flush, tried = os.fsync, []

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            tried.append(descriptor)
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    result = segment([clip], tmp_path / "out", small_settings, save_frames=True)
    result.raise_failures()
    assert tried
    assert verify(tmp_path / "out" / "walk").frames == 3
    export(tmp_path / "out" / "walk", tmp_path / "davis", "davis")


def test_files_whose_flush_is_unknown_and_disks_that_fail(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, number = make_clip(tmp_path / "walk.mp4", frames=3), errno.EINVAL

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    segment([clip], tmp_path / "out", small_settings).raise_failures()
    number = errno.EIO
    with pytest.raises(OutputError, match="Input/output error"):
        segment([clip], tmp_path / "again", small_settings).raise_failures()


def write_wide(folder: Path, size_hw: tuple[int, int]) -> Path:
    for number in range(2):
        picture = np.full((*size_hw, 3), 90, np.uint8)
        picture[size_hw[0] // 4 : size_hw[0] // 2, number * 40 : size_hw[1] // 2] = (220, 60, 40)
        write_picture(folder / f"{number:05d}.png", picture)
    return folder


def test_what_no_clip_takes_is_refused_before_the_work(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_encodable((16, MAX_SIDE_PX))
    assert not is_encodable((16, MAX_SIDE_PX + 1))
    wide = write_wide(tmp_path / "wide", (1024, MAX_SIDE_PX + 2))
    monkeypatch.setattr("pipeline.media.picture_sequence.read_picture", lambda _: pytest.fail("a frame was read"))
    with pytest.raises(TooLargeError, match=r"16386x1024.*--save-frames.*--style"):
        segment([wide], tmp_path / "out", small_settings).raise_failures()
    assert not (tmp_path / "out" / ".run").exists()
    with pytest.raises(VidpartsError, match="16386x1024"):
        estimate([wide], small_settings)
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    result = segment([wide, clip], tmp_path / "both", small_settings)
    assert [(each.name, type(each.error)) for each in result.failures] == [("wide", TooLargeError)]
    assert [each.name for each in result.finished] == ["walk"]


def test_side_by_side_counts_both_sides(tmp_path: Path, small_settings: Settings) -> None:
    wide = write_wide(tmp_path / "wide", (600, MAX_SIDE_PX // 2 + 2))
    settings = with_values(small_settings, {"render.style": "side-by-side"})
    with pytest.raises(TooLargeError, match="16388x600"):
        segment([wide], tmp_path / "out", settings).raise_failures()


def test_what_no_clip_takes_is_painted_as_pictures(tmp_path: Path, small_settings: Settings) -> None:
    wide = write_wide(tmp_path / "wide", (1024, MAX_SIDE_PX + 2))
    result = segment([wide], tmp_path / "out", small_settings, save_frames=True)
    result.raise_failures()
    folder = tmp_path / "out" / "wide"
    assert sorted(path.name for path in folder.iterdir()) == ["frames", "labels.zarr", "measures.npz", "run.json"]
    assert read_picture(folder / "frames" / "00001.png").shape == (1024, MAX_SIDE_PX + 2, 3)
    assert "too large for H.264" in " ".join(result.finished[0].record.warnings)
    assert verify(folder).frames == 2
