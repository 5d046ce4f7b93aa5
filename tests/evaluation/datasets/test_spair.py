import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.spair import PairName, load_spair, sample_pairs

LINES = ["000001-cat1-cat2:cat", "000002-cat2-cat3:cat", "000003-bus1-bus2:bus"]


def write_spair(root: Path) -> Path:
    folder = root / "SPair-71k"
    for line in LINES:
        _, source, target = line.partition(":")[0].split("-")
        category = line.partition(":")[2]
        for name in (source, target):
            (folder / "JPEGImages" / category).mkdir(parents=True, exist_ok=True)
            (folder / "JPEGImages" / category / f"{name}.jpg").touch()
        annotation = {
            "src_imname": f"{source}.jpg",
            "trg_imname": f"{target}.jpg",
            "src_imsize": [500, 333, 3],
            "trg_imsize": [400, 300, 3],
            "trg_bndbox": [10, 20, 110, 220],
            "src_kps": [[1, 2], [3, 4]],
            "trg_kps": [[5, 6], [7, 8]],
            "category": category,
        }
        (folder / "PairAnnotation/test").mkdir(parents=True, exist_ok=True)
        (folder / f"PairAnnotation/test/{line}.json").write_text(json.dumps(annotation))
    (folder / "Layout/large").mkdir(parents=True)
    (folder / "Layout/large/test.txt").write_text("\n".join(LINES) + "\n")
    return folder


def test_pairs_come_with_points_sizes_and_boxes(tmp_path: Path) -> None:
    folder = write_spair(tmp_path)
    dataset = load_spair(tmp_path)
    assert [name.text for name in dataset.names] == LINES
    pair = dataset.read(dataset.names[1])
    assert pair.name.category == "cat"
    assert pair.source.path == folder / "JPEGImages/cat/cat2.jpg"
    assert pair.target.name == "cat/cat3.jpg"
    assert pair.source_xy.tolist() == [[1, 2], [3, 4]]
    assert pair.target_xy.tolist() == [[5, 6], [7, 8]]
    assert pair.target_hw == (300, 400)
    assert (pair.target_box.width, pair.target_box.height, pair.target_box.longer_side) == (100, 200, 200)


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Layout/large/test\.txt' is missing; expected SPair-71k/"):
        load_spair(tmp_path)
    folder = write_spair(tmp_path)
    dataset = load_spair(folder)
    (folder / "JPEGImages/bus/bus2.jpg").unlink()
    with pytest.raises(InputError, match=r"bus2\.jpg' is missing"):
        dataset.read(dataset.names[2])
    (folder / f"PairAnnotation/test/{LINES[0]}.json").unlink()
    with pytest.raises(InputError, match=r"cat\.json' is missing"):
        dataset.read(dataset.names[0])
    (folder / f"PairAnnotation/test/{LINES[1]}.json").write_text('{"src_kps": []}')
    with pytest.raises(InputError, match=r"no annotation of a pair: KeyError\('trg_bndbox'\)"):
        dataset.read(dataset.names[1])
    (folder / f"PairAnnotation/test/{LINES[1]}.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        dataset.read(dataset.names[1])
    (folder / "Layout/large/test.txt").write_text("000001-a-b\n")
    with pytest.raises(InputError, match="names no category"):
        load_spair(folder)


def test_the_draw_takes_so_many_of_each_category_whatever_the_order() -> None:
    names = [PairName(f"{number:03d}-a-b:{category}") for category in ("x", "y", "z") for number in range(50)]
    names += [PairName("000-a-b:rare")]
    drawn = sample_pairs(names, 20, seed=0)
    assert [sum(name.category == category for name in drawn) for category in ("x", "y", "z", "rare")] == [20, 20, 20, 1]
    assert len(set(drawn)) == len(drawn)
    assert sample_pairs(names[::-1], 20, seed=0) == drawn
    assert sample_pairs(names, 20, seed=1) != drawn
