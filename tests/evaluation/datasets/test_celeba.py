from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.datasets.celeba import load_faces

POINTS = [3, 4, 9, 4, 6, 8, 4, 11, 8, 11]
NAMES = [f"{number:06d}.jpg" for number in range(1, 6)]


def write_celeba(root: Path, nested: bool = True) -> Path:
    """Five pictures of 20x10 pixels; the third face is too small, the fifth has both eyes in one place."""
    folder = root / "CelebA"
    images, annotation, split = (folder / name if nested else folder for name in ("Img", "Anno", "Eval"))
    for path in (images / "img_celeba", annotation, split):
        path.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Image.new("RGB", (20, 10)).save(images / "img_celeba" / name)
    rows = [POINTS] * 4 + [[5, 5, 5, 5, *POINTS[4:]]]
    table = "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in zip(NAMES, rows, strict=True))
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (annotation / "list_landmarks_celeba.txt").write_text(f"5\n{header}\n{table}")
    # 10 * 6 is just 30 % of 20 * 10.
    boxes = ["1 1 10 6", "0 0 20 10", "1 1 10 5", "2 1 12 8", "0 0 20 10"]
    table = "".join(f"{name}  {box}\n" for name, box in zip(NAMES, boxes, strict=True))
    (annotation / "list_bbox_celeba.txt").write_text(f"5\nimage_id x_1 y_1 width height\n{table}")
    splits = "".join(f"{name} {kind}\n" for name, kind in zip(NAMES, "02021", strict=True))
    (split / "list_eval_partition.txt").write_text(splits)
    return folder


@pytest.mark.parametrize("nested", [True, False])
def test_faces_come_with_landmarks_and_split_where_they_are_large_enough(tmp_path: Path, nested: bool) -> None:
    folder = write_celeba(tmp_path, nested)
    for root in (tmp_path, folder):
        faces = load_faces(root)
        assert [(face.picture.name, face.is_train) for face in faces] == [
            ("000001.jpg", True),
            ("000002.jpg", False),
            ("000004.jpg", False),
        ]
        assert faces[0].picture.read().shape == (10, 20, 3)
        assert faces[0].landmarks_xy.tolist() == np.reshape(POINTS, (5, 2)).tolist()
        assert faces[0].eye_distance == pytest.approx(6 / 20)
        assert faces[0].in_picture_units(np.array([[20.0, 10.0]])).tolist() == [[1, 1]]


def test_mafls_lists_come_before_the_partition(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path)
    (folder / "MAFL").mkdir()
    (folder / "MAFL" / "training.txt").write_text("000004.jpg\n000003.jpg\n")
    (folder / "MAFL" / "testing.txt").write_text("000005.jpg\n000001.jpg\n")
    found = [(face.picture.name, face.is_train) for face in load_faces(folder)]
    assert found == [("000004.jpg", True), ("000001.jpg", False)]


@pytest.mark.parametrize(
    "name",
    ["Img/img_celeba", "Anno/list_landmarks_celeba.txt", "Anno/list_bbox_celeba.txt", "Eval/list_eval_partition.txt"],
)
def test_a_missing_file_is_named_with_the_layout(tmp_path: Path, name: str) -> None:
    folder = write_celeba(tmp_path)
    (folder / name).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{Path(name).name}' is missing; expected CelebA/ with Img/img_celeba/"):
        load_faces(folder)


def test_files_that_don_t_fit_are_named(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path)
    file = folder / "Anno" / "list_bbox_celeba.txt"
    whole = file.read_text()
    for changed, message in {
        whole.replace("000002.jpg  0 0 20 10\n", ""): r"list_bbox_celeba\.txt' lacks picture 000002\.jpg",
        whole.replace("000002.jpg  0 0 20 10", "000002.jpg  0 0 20"): r"line 4 has 3 numbers, expected 4",
        whole.replace("000002.jpg  0 0 20 10", "000002.jpg  0 0 x 10"): r"line 4 doesn't hold numbers",
        whole.replace("20 10", "2 1").replace("12 8", "2 1"): r"no face of the test pictures covers 30%",
    }.items():
        file.write_text(changed)
        with pytest.raises(InputError, match=message):
            load_faces(folder)
