import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.badja import JOINTS, load_badja


def write_badja(root: Path, joints: str, videos: str, write_picture: Callable[..., Path]) -> None:
    annotations = []
    for frame in (5, 0):
        write_picture(root / videos / f"JPEGImages/dog/{frame:05d}.jpg", np.zeros((540, 480, 3)))
        write_picture(root / videos / f"Annotations/dog/{frame:05d}.png", np.eye(540, 480) * 255)
        annotations.append(
            {
                "image_path": f"DAVIS/JPEGImages/Full-Resolution/dog/{frame:05d}.jpg",
                "segmentation_path": f"DAVIS/Annotations/Full-Resolution/dog/{frame:05d}.png",
                "joints": [[2 * joint, 8 * joint + frame] for joint in range(37)],
                "visibility": [joint % 2 == 0 for joint in range(37)],
            }
        )
    (root / joints).mkdir(parents=True)
    (root / joints / "dog.json").write_text(json.dumps(annotations))
    (root / joints / "rs_dog.json").write_text(json.dumps([{"image_path": "extra_videos/rs_dog/rgb/1.png"}]))


@pytest.mark.parametrize(("joints", "videos"), [("joint_annotations", "DAVIS"), ("joints", "")])
def test_joints_are_points_in_the_frame_in_order_of_time(
    tmp_path: Path, write_picture: Callable[..., Path], joints: str, videos: str
) -> None:
    write_badja(tmp_path, joints, videos, write_picture)
    (clip,) = load_badja(tmp_path)
    assert clip.name == "dog"
    assert [frame.picture.name for frame in clip.frames] == ["dog/00000", "dog/00005"]
    # Rows and columns at 1920 x 1080 are scaled to x and y at 480 x 540, by a quarter and a half.
    first, last = clip.frames
    assert len(JOINTS) == 20
    assert first.points_xy[0].tolist() == [2.0 * JOINTS[0], JOINTS[0]]
    assert last.points_xy[19].tolist() == [2.0 * JOINTS[19] + 1.25, JOINTS[19]]
    assert first.visible.tolist() == [joint % 2 == 0 for joint in JOINTS]
    assert first.read_area() == 480


def test_missing_and_malformed_files_are_named(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="joint_annotations' is missing"):
        load_badja(tmp_path)
    write_badja(tmp_path, "joints", "", write_picture)
    write_picture(tmp_path / "Annotations/dog/00000.png", np.zeros((3, 3)))
    with pytest.raises(InputError, match="differ in size"):
        load_badja(tmp_path)[0].frames[0].read_area()
    (tmp_path / "JPEGImages/dog/00005.jpg").unlink()
    with pytest.raises(InputError, match=r"dog/00005\.jpg' is missing"):
        load_badja(tmp_path)
    (tmp_path / "joints/dog.json").write_text('[{"image_path": "DAVIS/dog/00000.jpg"}]')
    with pytest.raises(InputError, match=r"dog\.json' is no list of joints: KeyError"):
        load_badja(tmp_path)
    (tmp_path / "joints/dog.json").unlink()
    with pytest.raises(InputError, match="no joints of a DAVIS video"):
        load_badja(tmp_path)


def test_real_joints_lie_on_the_animal(shared_dir: Path) -> None:
    clips = {clip.name: clip for clip in load_badja(shared_dir / "clips" / "davis")}
    assert {name: len(clip.frames) for name, clip in clips.items()} == {"camel": 18, "dog": 12}
    from pipeline.evaluation.datasets.layout import read_indices

    hits = []
    for frame in clips["camel"].frames:
        mask = read_indices(frame.mask_path) > 0
        cols, rows = np.floor(frame.points_xy[frame.visible]).astype(int).T
        hits += mask[rows, cols].tolist()
    assert np.mean(hits) > 0.9
