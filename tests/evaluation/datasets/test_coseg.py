from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.coseg import CosegSet, load_sets

WritePicture = Callable[..., Path]

RGB = np.zeros((3, 4, 3), np.uint8)
MASK = np.array([[0, 0, 255, 255]] * 3, np.uint8)


def names(sets: tuple[CosegSet, ...]) -> dict[str, list[str]]:
    return {found.name: [picture.picture.name for picture in found.pictures] for found in sets}


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("{set}/{name}.jpg", "{set}/GroundTruth/{name}.png"),
        ("{set}/images/{name}.jpg", "{set}/masks/{name}.png"),
        ("{set}/Images/{name}.bmp", "{set}/GT/{name}_GT.bmp"),
        ("images/{set}/{name}.jpg", "masks/{set}/{name}.png"),
        ("image/{set}/{name}.png", "ground_truth/{set}/{name}.png"),
    ],
)
def test_every_layout_gives_the_same_sets(tmp_path: Path, write_picture: WritePicture, picture: str, mask: str) -> None:
    for set_name, files in {"Car100": "ab", "Horse100": "c"}.items():
        for name in files:
            write_picture(tmp_path / picture.format(set=set_name, name=name), RGB)
            write_picture(tmp_path / mask.format(set=set_name, name=name), MASK)
    sets = load_sets(tmp_path)
    stems = {found: [Path(path).stem for path in paths] for found, paths in names(sets).items()}
    assert stems == {"Car100": ["a", "b"], "Horse100": ["c"]}
    truth, ignored = sets[0].pictures[1].read_mask()
    assert np.array_equal(truth, MASK > 0)
    assert ignored is None


def test_a_folder_that_is_itself_a_set(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "cats/images/a.jpg", RGB)
    write_picture(tmp_path / "cats/masks/a.png", MASK)
    assert names(load_sets(tmp_path / "cats")) == {"cats": ["cats/a.jpg"]}


def test_a_jpeg_mask_is_cut_at_half(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "set/images/a.jpg", RGB)
    write_picture(tmp_path / "set/masks/a.jpg", np.kron(MASK, np.ones((16, 16), np.uint8)))
    truth, _ = load_sets(tmp_path)[0].pictures[0].read_mask()
    assert np.array_equal(truth, np.kron(MASK, np.ones((16, 16))) > 0)


@pytest.mark.parametrize("prefix", ["", "VOCdevkit/VOC2012/"])
def test_pascal_voc_gives_a_set_a_class_and_ignores_its_void(
    tmp_path: Path, write_picture: WritePicture, prefix: str
) -> None:
    root = tmp_path / prefix
    for name, labels in {"x": [0, 1, 255, 7], "y": [7, 7, 0, 0], "z": [3, 0, 0, 0]}.items():
        write_picture(root / f"JPEGImages/{name}.jpg", RGB)
        write_picture(root / f"SegmentationClass/{name}.png", np.array([labels] * 3))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/trainval.txt").write_text("x\ny\n")
    sets = load_sets(tmp_path)
    assert names(sets) == {"aeroplane": ["aeroplane/x"], "car": ["car/x", "car/y"]}
    truth, ignored = sets[1].pictures[0].read_mask()
    assert truth[0].tolist() == [False, False, False, True]
    assert ignored is not None
    assert ignored[0].tolist() == [False, False, True, False]


def test_missing_files_are_named(tmp_path: Path, write_picture: WritePicture) -> None:
    with pytest.raises(InputError, match=r"nowhere' is missing; expected <set>/images"):
        load_sets(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no set of pictures with masks"):
        load_sets(tmp_path)
    write_picture(tmp_path / "set/images/a.jpg", RGB)
    write_picture(tmp_path / "set/masks/b.png", MASK)
    with pytest.raises(InputError, match=r"masks/a\.png' is missing, the mask of '.*set/images/a\.jpg'"):
        load_sets(tmp_path)
