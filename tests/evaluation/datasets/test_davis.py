from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.datasets.davis import load_davis

RGB = np.zeros((2, 4, 3), np.uint8)


def write_davis(root: Path, level: str, write_picture: Callable[..., Path], annotations: str = "Annotations") -> None:
    for sequence, frames in {"dog": 3, "goat": 2}.items():
        for frame in range(frames):
            write_picture(root / "JPEGImages" / level / sequence / f"{frame:05d}.jpg", RGB)
            labels = np.array([[0, 1, 2, 255]] * 2, np.uint8)
            mask = Image.fromarray(labels)
            mask.putpalette([value for index in range(256) for value in (index, 0, 0)])
            file = root / annotations / level / sequence / f"{frame:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            mask.save(file)


@pytest.mark.parametrize("level", ["480p", "Full-Resolution", ""])
def test_without_lists_every_sequence_is_taken(tmp_path: Path, write_picture: Callable[..., Path], level: str) -> None:
    write_davis(tmp_path / "DAVIS", level, write_picture)
    for root in (tmp_path, tmp_path / "DAVIS"):
        dog, goat = load_davis(root, 2016)
        assert (dog.name, len(dog.frames), goat.name, len(goat.masks)) == ("dog", 3, "goat", 2)
        assert [path.name for path in dog.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]


def test_one_foreground_of_2016_and_numbered_objects_of_2017(
    tmp_path: Path, write_picture: Callable[..., Path]
) -> None:
    write_davis(tmp_path, "480p", write_picture)
    before, after = load_davis(tmp_path, 2016)[0], load_davis(tmp_path, 2017)[0]
    assert before.count_objects() == 1
    assert before.read_objects(0, 1)[:, 0].tolist() == [[False, True, True, True]]
    assert after.count_objects() == 2
    assert after.read_objects(0, 2)[:, 0].tolist() == [[False, True, False, False], [False, False, True, False]]


def test_lists_of_both_years(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    write_davis(tmp_path, "480p", write_picture)
    write_davis(tmp_path, "480p", write_picture, "Annotations_unsupervised")
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/goat/{frame:05d}.jpg /Annotations/480p/goat/{frame:05d}.png" for frame in range(2)]
    (tmp_path / "ImageSets/480p/val.txt").write_text("\n".join(lines) + "\n")
    assert [sequence.name for sequence in load_davis(tmp_path, 2016)] == ["goat"]
    with pytest.raises(InputError, match=r"ImageSets/2017/val\.txt' is missing"):
        load_davis(tmp_path, 2017)
    (tmp_path / "ImageSets/2017").mkdir()
    (tmp_path / "ImageSets/2017/val.txt").write_text("goat\ndog\n")
    found = load_davis(tmp_path, 2017)
    assert [sequence.name for sequence in found] == ["goat", "dog"]
    assert "Annotations_unsupervised" in str(found[0].masks[0])


def test_missing_files_are_named(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="JPEGImages' is missing; expected JPEGImages/480p"):
        load_davis(tmp_path, 2016)
    write_davis(tmp_path, "480p", write_picture)
    mask = tmp_path / "Annotations/480p/goat/00001.png"
    mask.unlink()
    with pytest.raises(InputError, match=r"goat/00001\.png' is missing"):
        load_davis(tmp_path, 2016)
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("cow\n")
    with pytest.raises(InputError, match="cow' is missing"):
        load_davis(tmp_path, 2017)
    (tmp_path / "Annotations").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="Annotations' is missing"):
        load_davis(tmp_path, 2017)


def test_a_first_frame_without_object_is_an_error(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    write_picture(tmp_path / "JPEGImages/dog/00000.jpg", RGB)
    write_picture(tmp_path / "Annotations/dog/00000.png", np.zeros((2, 4)))
    with pytest.raises(InputError, match="shows no object"):
        load_davis(tmp_path, 2017)[0].count_objects()


def test_real_sequences(shared_dir: Path) -> None:
    found = {sequence.name: sequence for sequence in load_davis(shared_dir / "clips" / "davis", 2016)}
    assert {name: len(sequence.frames) for name, sequence in found.items()} == {
        **{"blackswan": 50, "camel": 90},
        **{"dog": 60, "goat": 90},
    }
    assert found["dog"].read_objects(0, 1).shape == (1, 480, 854)
