from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.parts import load_part_clips

LABELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def write_archive(folder: Path, labels: np.ndarray = LABELS) -> None:
    (folder / "walk.mp4").touch()
    np.savez_compressed(folder / "walk_parts.npz", labels=labels, names=np.array(["background", "head"]))


def test_an_archive_has_labels_of_every_frame(tmp_path: Path) -> None:
    write_archive(tmp_path, LABELS.astype(np.int64))
    (clip,) = load_part_clips(tmp_path)
    assert (clip.name, clip.source) == ("walk", tmp_path / "walk.mp4")
    labels = clip.read_labels()
    assert list(labels) == [0, 1]
    assert np.array_equal(labels[1], LABELS[1])
    assert labels[1].dtype == np.uint8


@pytest.mark.parametrize("folder", ["", "run"])
def test_a_folder_may_have_labels_of_some_frames(
    tmp_path: Path, write_picture: Callable[..., Path], folder: str
) -> None:
    for name in ("f8", "f9", "g0"):
        write_picture(tmp_path / folder / f"frames/{name}.jpg", np.zeros((3, 4, 3)))
    write_picture(tmp_path / folder / "labels/g0.png", LABELS[1])
    write_picture(tmp_path / folder / "labels/f8.png", LABELS[0])
    (clip,) = load_part_clips(tmp_path)
    assert clip.name == (folder or tmp_path.name)
    assert clip.source == tmp_path / folder / "frames"
    labels = clip.read_labels()
    assert (list(labels), len(labels), 1 in labels) == ([0, 2], 2, False)
    assert np.array_equal(labels[2], LABELS[1])


def test_missing_files_are_named(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"is no folder; expected <clip>\.mp4"):
        load_part_clips(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no clip with parts"):
        load_part_clips(tmp_path)
    write_picture(tmp_path / "run/labels/a.png", LABELS[0])
    with pytest.raises(InputError, match="run/frames' is missing"):
        load_part_clips(tmp_path)
    write_picture(tmp_path / "run/frames/b.jpg", LABELS[0])
    with pytest.raises(InputError, match=r"run/frames/a\.jpg' is missing, the frame of"):
        load_part_clips(tmp_path)
    (tmp_path / "run/labels/a.png").unlink()
    with pytest.raises(InputError, match="holds no label map"):
        load_part_clips(tmp_path)


def test_bad_archives_are_named(tmp_path: Path) -> None:
    write_archive(tmp_path, LABELS[0])
    with pytest.raises(InputError, match=r"walk_parts\.npz' has labels uint8 \(3, 4\), expected \[frame"):
        load_part_clips(tmp_path)[0].read_labels()
    write_archive(tmp_path, LABELS.astype(np.int16) - 1)
    with pytest.raises(InputError, match=r"expected \[frame, row, column\] of 0\.\.255"):
        load_part_clips(tmp_path)[0].read_labels()
    write_archive(tmp_path, LABELS[:0])
    with pytest.raises(InputError, match=r"has labels uint8 \(0, 3, 4\)"):
        load_part_clips(tmp_path)[0].read_labels()
    (tmp_path / "walk_parts.npz").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"walk_parts\.npz' can't be read"):
        load_part_clips(tmp_path)[0].read_labels()
    (tmp_path / "walk.mp4").unlink()
    with pytest.raises(InputError, match=r"walk\.mp4' is missing, the video of"):
        load_part_clips(tmp_path)
