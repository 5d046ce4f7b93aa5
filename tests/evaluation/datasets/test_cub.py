from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.cub import load_birds


def write_cub(root: Path) -> Path:
    """Two birds in the archive's layout; landmark j of picture i is at (10 i + j, 20 i + j)."""
    folder = root / "CUB_200_2011"
    (folder / "parts").mkdir(parents=True)
    names = {1: "001.Black_footed_Albatross/a.jpg", 2: "002.Laysan_Albatross/b c.jpg"}
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in names.items()))
    (folder / "image_class_labels.txt").write_text("1 1\n2 2\n")
    (folder / "train_test_split.txt").write_text("1 0\n2 1\n")
    (folder / "bounding_boxes.txt").write_text("1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n")
    lines = [f"{i} {j} {10 * i + j}.5 {20 * i + j}.0 {int(j % 3 > 0)}\n" for i in (1, 2) for j in range(1, 16)]
    (folder / "parts" / "part_locs.txt").write_text("".join(lines))
    return folder


def test_birds_come_with_box_landmarks_and_half(tmp_path: Path) -> None:
    folder = write_cub(tmp_path)
    for root in (tmp_path, folder):
        first, second = load_birds(root)
        assert first.picture.path == folder / "images/001.Black_footed_Albatross/a.jpg"
        assert second.picture.name == "002.Laysan_Albatross/b c.jpg"
        assert (first.class_id, first.is_train, second.class_id, second.is_train) == (1, False, 2, True)
        assert (second.box.left, second.box.top, second.box.width, second.box.height) == (139, 30, 153, 264)
        assert second.landmarks_xy[4].tolist() == [25.5, 45.0]
        assert first.visible.tolist() == [True, True, False] * 5
        assert second.cropped.crop == second.box


def test_points_in_units_of_the_box(tmp_path: Path) -> None:
    write_cub(tmp_path)
    bird = load_birds(tmp_path)[0]
    assert bird.in_box_units(np.array([[60.0, 27.0], [385.0, 331.0]])).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    "name",
    ["images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/part_locs.txt"],
)
def test_a_missing_file_is_named_with_the_layout(tmp_path: Path, name: str) -> None:
    folder = write_cub(tmp_path)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}.*missing; expected CUB_200_2011/ with images/") as caught:
        load_birds(folder)
    assert "\n" not in str(caught.value)


def test_files_that_don_t_fit_are_named(tmp_path: Path) -> None:
    folder = write_cub(tmp_path)
    boxes = (folder / "bounding_boxes.txt").read_text()
    (folder / "bounding_boxes.txt").write_text(boxes.splitlines()[0])
    with pytest.raises(InputError, match=r"bounding_boxes\.txt' lacks picture 2"):
        load_birds(folder)
    (folder / "bounding_boxes.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"bounding_boxes\.txt' line 1 has 3 fields, expected 5"):
        load_birds(folder)
    (folder / "bounding_boxes.txt").write_text(boxes.replace("60.0", "left"))
    with pytest.raises(InputError, match=r"bounding_boxes\.txt' doesn't hold 5 numbers a line"):
        load_birds(folder)
    (folder / "bounding_boxes.txt").write_text(boxes)
    parts = (folder / "parts/part_locs.txt").read_text()
    (folder / "parts/part_locs.txt").write_text("\n".join(parts.splitlines()[:-1]))
    with pytest.raises(InputError, match="14 landmarks of picture 2"):
        load_birds(folder)
