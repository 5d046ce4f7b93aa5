import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, load_settings, with_values
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine
from pipeline.stages.grid_points import nearest_places
from pipeline.tasks.similarity import describe_point, similarity

ClipMaker = Callable[..., Path]


@pytest.fixture(scope="module")
def golden_settings(tiny_model: Path) -> Settings:
    return load_settings(overrides={"model": str(tiny_model), "features.load_size": 96, "run.device": "cpu"})


def read(folder: Path) -> dict:
    return json.loads((folder / "similarity.json").read_text())


def test_the_nearest_patches_of_the_goldens_descriptors(
    parity_dir: Path, golden_settings: Settings, tmp_path: Path
) -> None:
    with Image.open(parity_dir / "cat.png") as cat, Image.open(parity_dir / "cup.png") as cup:
        scale, target = np.array(cat.size) / [128, 96], np.array(cup.size) / [115, 96]
    point = tuple(np.array([10 * 4 + 4, 7 * 4 + 4]) * scale + 0.4)
    outcome = similarity(parity_dir / "cat.png", parity_dir / "cup.png", tmp_path, golden_settings, point=point, top=3)
    assert sorted(file.name for file in outcome.files) == ["cup.png", "point.png", "similarity.json"]
    with np.load(parity_dir / "expected.npz") as archive:
        first, second = (archive[f"{name}/descriptors/stride4/layer11/key"] for name in ("cat", "cup"))
    row = first[7 * 31 + 10]
    values = second @ row / np.linalg.norm(second, axis=1) / np.linalg.norm(row)
    best = np.argsort(-values)[:3]
    (frame,) = read(tmp_path)["targets"][0]["frames"]
    for found, index in zip(frame["nearest"], best, strict=True):
        assert (found["x"], found["y"]) == pytest.approx(
            (np.array([index % 27, index // 27]) * 4 + 4) * target, abs=1e-3
        )
        assert found["similarity"] == pytest.approx(values[index], abs=2e-4)
    assert read(tmp_path)["targets"][0]["range"] == pytest.approx([values.min(), values.max()], abs=2e-4)


def test_without_a_point_the_class_token_is_compared(
    parity_dir: Path, golden_settings: Settings, tmp_path: Path
) -> None:
    outcome = similarity(parity_dir / "cat.png", parity_dir / "cup.png", tmp_path, golden_settings, top=1)
    assert sorted(file.name for file in outcome.files) == ["cup.png", "similarity.json"]
    with np.load(parity_dir / "expected.npz") as archive:
        cls, second = archive["cat/cls/stride4/layer11/key"], archive["cup/descriptors/stride4/layer11/key"]
    values = second @ cls / np.linalg.norm(second, axis=1) / np.linalg.norm(cls)
    assert read(tmp_path)["targets"][0]["frames"][0]["nearest"][0]["similarity"] == pytest.approx(
        values.max(), abs=2e-4
    )
    assert read(tmp_path)["first"]["point"] is None


def test_a_point_is_nearest_to_itself(parity_dir: Path, golden_settings: Settings) -> None:
    engine = open_engine(golden_settings, Silent())
    rgb = np.asarray(Image.open(parity_dir / "cat_resized.png").convert("RGB"))
    descriptors = engine.extractor.extract([rgb]).descriptors[0]
    for point, place in [((0.0, 0.0), (0, 0)), ((128.0, 96.0), (22, 30)), ((45.9, 30.2), (7, 10))]:
        found = describe_point(rgb, point, engine)
        assert np.allclose(found, descriptors[place] / descriptors[place].norm(), atol=1e-5)


def test_the_nearest_are_the_plain_first_ones() -> None:
    values = np.array([[0.5, 0.9, 0.9], [0.1, 0.7, 0.2]], dtype=np.float32)
    assert nearest_places(values, 3).tolist() == [[0, 1], [0, 2], [1, 1]]
    assert len(nearest_places(values, 100)) == 6
    assert nearest_places(values, 0).shape == (0, 2)


def test_a_video_becomes_a_clip_with_a_list_for_each_frame(
    tmp_path: Path, parity_dir: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    pts = [0, 40, 90, 150, *range(200, 1000, 40)]
    clip = make_clip(tmp_path / "walk.mp4", frames=len(pts), pts=pts)
    outcome = similarity(parity_dir / "cat.png", clip, tmp_path / "out", small_settings, point=(20, 20), top=2)
    assert outcome.files[0].name == "walk.mp4"
    with av.open(str(outcome.files[0])) as container:
        stream = container.streams.video[0]
        assert [round(frame.pts * stream.time_base * 1000) for frame in container.decode(stream)] == pts
    (target,) = read(tmp_path / "out")["targets"]
    assert [frame["index"] for frame in target["frames"]] == list(range(len(pts)))
    assert [round(frame["seconds"] * 1000) for frame in target["frames"]] == pts
    assert all(len(frame["nearest"]) == 2 for frame in target["frames"])


def test_a_directory_gives_a_map_for_each_picture(tmp_path: Path, parity_dir: Path, small_settings: Settings) -> None:
    for name, size in (("a", (40, 60)), ("b", (70, 50))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"broken")
    outcome = similarity(parity_dir / "cat.png", tmp_path, tmp_path / "out", small_settings, point=(3, 3))
    assert [file.name for file in outcome.files] == ["a.png", "b.png", "point.png", "similarity.json"]
    assert [failure.name for failure in outcome.failures] == ["c"]
    assert Image.open(tmp_path / "out" / "b.png").size == (50, 70)


def test_what_cannot_be_asked(tmp_path: Path, parity_dir: Path, small_settings: Settings) -> None:
    pair, out = (parity_dir / "cat.png", parity_dir / "cup.png"), tmp_path / "out"
    with pytest.raises(UsageError, match=r"point 5000,3 is outside of .*cat.png"):
        similarity(*pair, out, small_settings, point=(5000, 3))
    with pytest.raises(UsageError, match="no log-bins"):
        similarity(*pair, out, with_values(small_settings, {"features.log_bin": True}))
    with pytest.raises(UsageError, match="-1 nearest"):
        similarity(*pair, out, small_settings, top=-1)
    with pytest.raises(InputError, match="doesn't exist"):
        similarity(pair[0], tmp_path / "none.mp4", out, small_settings)
    assert not out.exists()
    out.mkdir()
    (out / "cup.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        similarity(*pair, out, small_settings)
