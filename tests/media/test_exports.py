import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError, OutputError
from pipeline.evaluation.datasets.davis import load_davis
from pipeline.evaluation.datasets.layout import read_indices
from pipeline.geometry import resize_labels
from pipeline.media.coco_rle import encode_mask, mask_runs
from pipeline.media.exports.masks import export_coco, export_davis, export_npz
from pipeline.media.exports.pictures import frame_stems, picture_names
from pipeline.media.label_store import LabelStore, LabelWriter, open_labels
from pipeline.painting.palettes import davis_palette
from pipeline.records import Part

coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is a test dependency")

SOURCE = (45, 70)
PARTS = tuple(Part(label, f"part {label}", (80 * label, 0, 0)) for label in (1, 2, 3))


def write_davis(store: LabelStore, folder: Path) -> list[Path]:
    export_davis(store, folder, frame_stems(store), davis_palette())
    return sorted(folder.iterdir())


def write_coco(store: LabelStore, file: Path, title: str = "clip") -> None:
    export_coco(store, file, [f"{title}/{name}" for name in picture_names(store)], PARTS, title)


def blobs(frames: int) -> list[NDArray[np.uint8]]:
    maps = []
    for number in range(frames):
        labels = np.zeros((12, 18), dtype=np.uint8)
        labels[2:6, 1 + number : 7 + number] = 1
        labels[6:11, 3:12] = 3 if number % 2 else 2
        maps.append(labels)
    return maps


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    with LabelWriter(tmp_path / "labels.zarr", (12, 18), SOURCE, Fraction(1, 30), 3, chunk_frames=4) as writer:
        for number, labels in enumerate(blobs(6)):
            writer.write(2 * number, labels)
    return open_labels(tmp_path / "labels.zarr")


def test_davis_pngs_hold_the_labels_at_the_sources_size(store: LabelStore, tmp_path: Path) -> None:
    files = write_davis(store, tmp_path / "davis")
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(6)]
    for file, labels in zip(files, blobs(6), strict=True):
        with Image.open(file) as image:
            assert image.mode == "P"
            assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
            assert np.array_equal(np.asarray(image), resize_labels(labels, SOURCE))


def test_davis_pngs_of_a_directory_bear_its_names(tmp_path: Path) -> None:
    with LabelWriter(tmp_path / "l.zarr", (12, 18), SOURCE, Fraction(1, 30), 3) as writer:
        for number, labels in enumerate(blobs(2)):
            writer.write(number, labels, f"bild {number + 7}")
    files = write_davis(open_labels(tmp_path / "l.zarr"), tmp_path / "davis")
    assert [file.name for file in files] == ["bild 7.png", "bild 8.png"]


def named(folder: Path, names: list[str]) -> LabelStore:
    with LabelWriter(folder / "l.zarr", (12, 18), SOURCE, Fraction(1, 30), 3) as writer:
        for number, (name, labels) in enumerate(zip(names, blobs(len(names)), strict=True)):
            writer.write(number, labels, name)
    return open_labels(folder / "l.zarr")


def test_davis_pngs_bear_the_stems_of_pictures(tmp_path: Path) -> None:
    store = named(tmp_path, ["00000.jpg", "00001.JPG", "shot.v2.png", "take 1.5"])
    files = write_davis(store, tmp_path / "davis")
    assert [file.name for file in files] == ["00000.png", "00001.png", "shot.v2.png", "take 1.5.png"]


def test_two_frames_of_one_stem_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = named(tmp_path, ["00000.jpg", "00000.png"])
    with pytest.raises(OutputError, match=r"'00000.jpg' and '00000.png' would both be called 00000"):
        write_davis(store, tmp_path / "davis")
    assert not (tmp_path / "davis").exists()


def test_a_davis_export_is_read_back_by_the_layouts_loader(tmp_path: Path) -> None:
    root, names = tmp_path / "DAVIS", [f"{number:05d}.jpg" for number in range(3)]
    for name in names:
        path = root / "JPEGImages" / "480p" / "bear" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SOURCE[::-1]).save(path)
    write_davis(named(tmp_path, names), root / "Annotations" / "480p" / "bear")
    (sequence,) = load_davis(root, 2017)
    assert [path.stem for path in sequence.frames] == [path.stem for path in sequence.masks]
    for path, labels in zip(sequence.masks, blobs(3), strict=True):
        assert np.array_equal(read_indices(path), resize_labels(labels, SOURCE))


def test_coco_names_of_a_directory_are_its_pictures(tmp_path: Path) -> None:
    write_coco(named(tmp_path, ["00000.jpg", "00001.jpg"]), tmp_path / "coco.json", "bear")
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["bear/00000.jpg", "bear/00001.jpg"]


def test_coco_json_is_read_by_pycocotools(store: LabelStore, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write_coco(store, tmp_path / "coco.json", "clip")
    coco = COCO(str(tmp_path / "coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["part 1", "part 2", "part 3"]
    assert len(coco.getImgIds()) == 6
    for number, labels in enumerate(blobs(6)):
        full = resize_labels(labels, SOURCE)
        image = coco.loadImgs([number + 1])[0]
        assert (image["file_name"], image["height"], image["width"]) == (f"clip/{number:06d}.png", *SOURCE)
        seen = np.zeros(SOURCE, dtype=np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[number + 1])):
            mask = coco.annToMask(annotation)
            assert annotation["area"] == mask.sum()
            rle = coco.annToRLE(annotation)
            assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
            seen[mask > 0] = annotation["category_id"]
        assert np.array_equal(seen, full)


def test_npz_is_read_by_numpy(store: LabelStore, tmp_path: Path) -> None:
    export_npz(store, tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz", allow_pickle=False) as archive:
        assert archive["labels"].dtype == np.uint8
        assert np.array_equal(archive["labels"], np.stack(blobs(6)))
        assert archive["pts"].tolist() == [0, 2, 4, 6, 8, 10]
        assert archive["time_base"].tolist() == [1, 30]
        assert archive["source_size_hw"].tolist() == list(SOURCE)
        assert archive["frame_names"].tolist() == [f"{number:05d}" for number in range(6)]


def test_same_labels_give_the_same_bytes(store: LabelStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_npz(store, tmp_path / f"{name}.npz")
        write_coco(store, tmp_path / f"{name}.json", "clip")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_damaged_store_leaves_no_half_export(store: LabelStore, tmp_path: Path) -> None:
    (store.path / "c" / "1" / "0" / "0").unlink()
    for export in (export_npz, lambda labels, file: write_coco(labels, file, "clip")):
        with pytest.raises(InputError, match="chunk 1"):
            export(store, tmp_path / "out")
        assert [file.name for file in tmp_path.iterdir()] == ["labels.zarr"]


def test_an_unwritable_place_is_told(store: LabelStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="can't be written"):
        export_npz(store, tmp_path / "file" / "labels.npz")
    with pytest.raises(OutputError, match="can't be written"):
        write_coco(store, tmp_path / "file" / "labels.json", "clip")
    with pytest.raises(OutputError):
        write_davis(store, tmp_path / "file")


def test_an_empty_frame_has_no_annotation(tmp_path: Path) -> None:
    with LabelWriter(tmp_path / "l.zarr", (12, 18), SOURCE, Fraction(1, 30), 3) as writer:
        writer.write(0, np.zeros((12, 18), np.uint8))
    write_coco(open_labels(tmp_path / "l.zarr"), tmp_path / "c.json", "clip")
    content = json.loads((tmp_path / "c.json").read_text())
    assert (content["annotations"], len(content["images"])) == ([], 1)


@settings(max_examples=200)
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_rle_is_that_of_pycocotools(mask: NDArray[np.bool_]) -> None:
    assert encode_mask(mask).encode() == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert mask_runs(mask).sum() == mask.size


@pytest.mark.parametrize("edge", [0, 1, 2000, 70_000])
def test_rle_spells_long_runs(edge: int) -> None:
    mask = np.zeros((500, 400), dtype=bool)
    mask.T.ravel()[edge:] = True
    mask[::7, 300] = False
    counts = {"size": [500, 400], "counts": encode_mask(mask).encode()}
    assert np.array_equal(coco_mask.decode(counts).astype(bool), mask)
