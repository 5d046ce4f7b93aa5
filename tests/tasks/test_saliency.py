from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, load_settings, with_values
from pipeline.errors import InputError, OutputError
from pipeline.tasks.saliency import saliency

ClipMaker = Callable[..., Path]


def test_the_goldens_saliency_as_arrays_and_pictures(parity_dir: Path, tiny_model: Path, tmp_path: Path) -> None:
    values = {"features.load_size": 96, "saliency.half_size": False, "run.device": "cpu", "model": str(tiny_model)}
    outcome = saliency([parity_dir / "cat.png", parity_dir / "cup.png"], tmp_path, load_settings(overrides=values))
    assert [file.name for file in outcome.files] == ["cat.png", "cat.npz", "cup.png", "cup.npz"]
    with np.load(parity_dir / "expected.npz") as golden:
        for name in ("cat", "cup"):
            with np.load(tmp_path / f"{name}.npz") as found:
                assert np.abs(found["saliency"].ravel() - golden[f"{name}/saliency/stride4"]).max() <= 2e-4
    with Image.open(parity_dir / "cat.png") as cat, Image.open(tmp_path / "cat.png") as heat:
        assert heat.size == cat.size


def test_by_default_it_is_the_half_pictures(parity_dir: Path, small_settings: Settings, tmp_path: Path) -> None:
    settings = with_values(small_settings, {"features.stride": 4, "features.load_size": 96})
    saliency([parity_dir / "cat.png"], tmp_path, settings)
    with np.load(tmp_path / "cat.npz") as found:
        values = found["saliency"]
    assert values.shape == (23, 31)
    assert len(np.unique(values)) <= 6 * 8


def test_a_picture_at_its_own_size_has_a_half_too(tmp_path: Path, small_settings: Settings) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    content = small_settings.model_dump(exclude_unset=True)
    content["features"]["load_size"] = None
    outcome = saliency([tmp_path / "a.png"], tmp_path / "out", Settings.model_validate(content))
    with np.load(outcome.files[1]) as found:
        assert found["saliency"].shape == (5, 7)


def test_a_video_and_one_that_fails(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=4, pts=[0, 50, 60, 200])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    outcome = saliency([tmp_path / "broken.mp4", clip], tmp_path / "out", small_settings)
    assert [file.name for file in outcome.files] == ["walk.mp4", "walk.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["walk.mp4", "walk.npz"]
    with np.load(outcome.files[1]) as found:
        assert found.files == ["000000", "000001", "000002", "000003"]
        assert found["000003"].shape == (6, 8)
    with av.open(str(outcome.files[0])) as container:
        assert len(list(container.decode(video=0))) == 4
    with pytest.raises(InputError, match="broken"):
        outcome.raise_failures()


def test_earlier_results_are_left_alone(tmp_path: Path, parity_dir: Path, small_settings: Settings) -> None:
    (tmp_path / "cat.npz").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        saliency([parity_dir / "cat.png"], tmp_path, small_settings)
    assert not (tmp_path / "cat.png").exists()
