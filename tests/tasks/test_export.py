"""Exports, read back by the libraries that their users have; the pixels that differ are counted."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import ExportFormat, Settings
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.geometry import resize_labels
from pipeline.media.exports.annotation_tools import brush_rle
from pipeline.media.exports.yolo import mask_polygons
from pipeline.media.label_store import open_labels
from pipeline.runs.edits import Change
from pipeline.tasks.edit import edit
from pipeline.tasks.export import export
from pipeline.tasks.segment import segment

Labels = NDArray[np.uint8]
NAMES = ["head", "part 2", "legs: <all> ü"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, make_clip: Callable[..., Path]) -> Path:
    """A result whose labels are ragged, with holes and specks."""
    from pipeline.config import load_settings

    folder = tmp_path_factory.mktemp("export")
    values: dict[str, Any] = {
        "model": str(tiny_model),
        "features.load_size": 96,
        "features.stride": 4,
        "saliency.threshold": 0.3,
        "cluster.parts": 3,
        "cluster.sample_interval": 3,
        "cluster.restarts": 2,
        "crf.iterations": 0,
        "run.device": "cpu",
    }
    clip = make_clip(folder / "clip.mp4", size_hw=(120, 160))
    finished = segment([clip], folder / "out", load_settings(overrides=values)).finished[0]
    edit(folder / "out", Change(names={1: NAMES[0], 3: NAMES[2]}))
    return finished.directory


@pytest.fixture(scope="module")
def expected(result: Path) -> list[Labels]:
    store = open_labels(result / "labels.zarr")
    maps = [resize_labels(labels, store.source_size_hw) for _, _, labels in store.frames()]
    assert len(maps) == 8
    assert {*np.unique(np.stack(maps)).tolist()} == {0, 1, 2, 3}
    return maps


def count_holes(maps: list[Labels]) -> int:
    found = 0
    for labels in maps:
        for part in (1, 2, 3):
            _, hierarchy = cv2.findContours((labels == part).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            found += 0 if hierarchy is None else int((hierarchy[0][:, 3] >= 0).sum())
    return found


def differing(found: list[Labels], expected: list[Labels]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))


def painted(size: tuple[int, int], masks: Iterator[tuple[int, NDArray[Any]]]) -> Labels:
    labels = np.zeros(size, dtype=np.uint8)
    for label, mask in masks:
        labels[np.asarray(mask) > 0] = label
    return labels


def test_supervision_reads_yolo_within_a_thousandth(result: Path, expected: list[Labels], tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is in the extra `readers`")
    export(result, tmp_path, "yolo", images="png")
    images, notes = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    data = sv.DetectionDataset.from_yolo(str(images), str(notes), str(tmp_path / "data.yaml"), force_masks=True)
    assert data.classes == NAMES
    found = []
    for path, picture, items in sorted(data, key=lambda each: each[0]):
        assert Path(path).name == f"{len(found):06d}.png"
        assert picture.shape[:2] == expected[0].shape
        found.append(painted(expected[0].shape, zip(items.class_id + 1, items.mask, strict=True)))
    assert count_holes(expected) > 0
    assert differing(found, expected) < 0.001 * sum(labels.size for labels in expected)


@pytest.mark.parametrize("rounded", [np.floor, np.rint])
def test_polygons_fill_to_the_same_pixels_by_both_ways_of_rounding(
    result: Path, expected: list[Labels], tmp_path: Path, rounded: Callable[[Any], Any]
) -> None:
    export(result, tmp_path, "yolo")
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(NAMES)),
    }
    height, width = expected[0].shape
    found = []
    for index in range(len(expected)):
        labels = np.zeros((height, width), dtype=np.uint8)
        for line in (tmp_path / "labels" / "train" / f"{index:06d}.txt").read_text().splitlines():
            number, *values = map(float, line.split())
            points = rounded(np.reshape(values, (-1, 2)) * [width, height]).astype(np.int32)
            cv2.fillPoly(labels, [points], int(number) + 1)
        found.append(labels)
    assert differing(found, expected) < 0.001 * sum(labels.size for labels in expected)


@settings(max_examples=150)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_a_mask_without_holes_is_its_polygons_exactly(noise: NDArray[np.bool_]) -> None:
    mask = noise.astype(np.uint8)
    cv2.drawContours(mask, cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], -1, 1, cv2.FILLED)
    filled = np.zeros_like(mask)
    for polygon in mask_polygons(mask > 0):
        assert len(polygon) >= 3
        cv2.fillPoly(filled, [polygon.astype(np.int32)], 1)
    assert np.array_equal(filled, mask)


def test_a_ring_keeps_its_hole() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[5:35, 5:35] = True
    mask[10:20, 10:20] = mask[25:30, 12:30] = False
    (polygon,) = mask_polygons(mask)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillPoly(filled, [polygon.astype(np.int32)], 1)
    assert np.array_equal(filled > 0, mask)


def test_datumaro_reads_cvats_masks_exactly(result: Path, expected: list[Labels], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is in the extra `readers`")
    file = export(result, tmp_path / "cvat", "cvat", images="jpg")
    assert file.name == "annotations.zip"
    zipfile.ZipFile(file).extractall(tmp_path / "read")
    data = datumaro.Dataset.import_from(str(tmp_path / "read"), "voc_segmentation")
    names = [label.name for label in data.categories()[datumaro.AnnotationType.label]]
    assert [name for name in names if name != "background"] == ["head", "part 2", "legs  <all> ü"]
    found = []
    for item in sorted(data, key=lambda each: each.id):
        assert item.id == f"frame_{len(found):06d}"
        masks = ((names.index(names[mask.label]), mask.image) for mask in item.annotations if mask.label)
        found.append(painted(expected[0].shape, masks))
        assert (tmp_path / "cvat" / "images" / f"{item.id}.jpg").is_file()
    assert differing(found, expected) == 0
    described = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert [label["name"] for label in described] == ["head", "part 2", "legs  <all> ü"]


def test_supervision_reads_coco_exactly_with_its_pictures(result: Path, expected: list[Labels], tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is in the extra `readers`")
    export(result, tmp_path, "coco", images="png")
    data = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "annotations.json"), force_masks=True)
    assert data.classes == NAMES
    found = [
        painted(expected[0].shape, zip(items.class_id + 1, items.mask, strict=True))
        for _, _, items in sorted(data, key=lambda each: each[0])
    ]
    assert differing(found, expected) == 0


def decoded(rle: list[int]) -> NDArray[np.uint8]:
    """Brush RLE read bit by bit, as its description has it."""
    bits = iter(np.unpackbits(np.array(rle, dtype=np.uint8)).tolist())

    def read(count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + next(bits)
        return value

    size, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < size:
        is_run, length = read(1), 1 + read(widths[read(2)])
        out += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    return np.array(out, dtype=np.uint8)


def test_label_studio_tasks_hold_the_masks(result: Path, expected: list[Labels], tmp_path: Path) -> None:
    file = export(result, tmp_path, "label-studio", images="png")
    tasks = json.loads(file.read_text(encoding="utf-8"))
    config = (tmp_path / "label_config.xml").read_text(encoding="utf-8")
    assert '<Label value="legs: &lt;all&gt; ü" background="#' in config
    try:
        from label_studio_sdk.converter.brush import decode_rle
    except ImportError:
        decode_rle = decoded
    found = []
    for number, task in enumerate(tasks):
        assert task["data"]["image"] == f"/data/local-files/?d=clip/{number:06d}.png"
        results = task["predictions"][0]["result"]
        shape = (results[0]["original_height"], results[0]["original_width"])
        masks = (
            (
                NAMES.index(each["value"]["brushlabels"][0]) + 1,
                decode_rle(each["value"]["rle"]).reshape(*shape, 4)[..., 3],
            )
            for each in results
        )
        found.append(painted(shape, masks))
    assert differing(found, expected) == 0


@settings(max_examples=100)
@given(arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_brush_rle_reads_back(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(
        decoded(brush_rle(mask).tolist()).reshape(*mask.shape, 4) > 0, np.repeat(mask[..., None], 4, 2)
    )


def test_brush_rle_splits_what_is_longer_than_its_widest_field() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[100:, 7] = mask[250:] = True
    read = decoded(brush_rle(mask).tolist()).reshape(300, 400, 4)
    assert np.array_equal(read[..., 0] > 0, mask)


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("coco", [f"clip/{number:06d}.jpg" for number in range(8)]),
        ("yolo", [f"images/train/{number:06d}.jpg" for number in range(8)]),
        ("davis", [f"images/{number:05d}.jpg" for number in range(8)]),
        ("cvat", [f"images/frame_{number:06d}.jpg" for number in range(8)]),
        ("label-studio", [f"clip/{number:06d}.jpg" for number in range(8)]),
    ],
)
def test_pictures_are_those_that_the_annotations_name(
    result: Path, tmp_path: Path, format: ExportFormat, names: list[str]
) -> None:
    export(result, tmp_path, format, images="jpg")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")) == names
    with Image.open(tmp_path / names[3]) as picture:
        assert picture.size == (160, 120)
    if format == "coco":
        named = json.loads((tmp_path / "annotations.json").read_text())["images"]
        assert [image["file_name"] for image in named] == names


def test_png_pictures_are_the_sources_frames(result: Path, tmp_path: Path) -> None:
    from pipeline.media.inputs import open_source

    export(result, tmp_path, "coco", images="png")
    for frame in open_source(result.parents[1] / "clip.mp4", "clip", 25).frames():
        assert np.array_equal(np.asarray(Image.open(tmp_path / "clip" / f"{frame.index:06d}.png")), frame.rgb)


def test_pictures_where_nothing_names_them_are_refused_before_the_work(result: Path, tmp_path: Path) -> None:
    for format in ("npz", "csv", "parquet"):
        with pytest.raises(UsageError, match=f"--format {format} names no pictures"):
            export(result, tmp_path / "out", format, images="png")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_clip_that_is_missing_or_another_is_told(
    small_settings: Settings, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    segment([clip], tmp_path / "out", small_settings)
    result = tmp_path / "out" / "clip"
    clip.rename(tmp_path / "moved.mp4")
    with pytest.raises(InputError, match="isn't there any more; say with --source"):
        export(result, tmp_path / "a", "yolo", images="png")
    assert not (tmp_path / "a").exists()
    export(result, tmp_path / "b", "yolo", images="png", source=tmp_path / "moved.mp4")
    other = make_clip(tmp_path / "other.mp4", pts=[7 * number for number in range(8)])
    with pytest.raises(InputError, match="isn't what the labels were made of: pts"):
        export(result, tmp_path / "c", "yolo", images="png", source=other)
    with pytest.raises(OutputError, match="isn't empty"):
        export(result, tmp_path / "b", "yolo")


def test_same_labels_give_the_same_bytes(result: Path, tmp_path: Path) -> None:
    for format in ("yolo", "cvat", "label-studio", "csv"):
        for name in ("a", "b"):
            export(result, tmp_path / name / format, format)  # type: ignore[arg-type]
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 8 + 1 + 2 + 2 + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
