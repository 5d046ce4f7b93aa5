from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, load_settings, with_values
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.media.inputs import resolve_inputs
from pipeline.tasks.pca import pca

ClipMaker = Callable[..., Path]


def times_of(clip: Path) -> list[int]:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        return [round(frame.pts * stream.time_base * 1000) for frame in container.decode(stream)]


def frames_of(clip: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in resolve_inputs([str(clip)], fps=25)[0].frames()]


def components(file: Path) -> np.ndarray:
    with np.load(file) as archive:
        return archive["components"]


def test_the_goldens_components(parity_dir: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = load_settings(overrides={"model": str(tiny_model), "features.load_size": 96, "run.device": "cpu"})
    outcome = pca([parity_dir / "cat.png", parity_dir / "cup.png"], tmp_path, settings)
    assert [file.name for file in outcome.files] == [
        "basis.npz",
        "cat-first.png", "cat-colors.png", "cat.npz",
        "cup-first.png", "cup-colors.png", "cup.npz",
    ]  # fmt: skip
    found = [components(tmp_path / f"{name}.npz") for name in ("cat", "cup")]
    with np.load(parity_dir / "expected.npz") as archive:
        golden = [archive[f"{name}/pca"] for name in ("cat", "cup")]
    signs = np.sign(sum((a * b).sum(axis=(0, 1)) for a, b in zip(found, golden, strict=True)))
    for ours, theirs in zip(found, golden, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours * signs - theirs).max() <= 2e-3
    with Image.open(parity_dir / "cat.png") as cat, Image.open(tmp_path / "cat-first.png") as first:
        assert first.size == cat.size
        grey = np.asarray(first)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    # One scale for both pictures: the first component is brightest where it is largest.
    assert grey.max() == 255 or np.asarray(Image.open(tmp_path / "cup-first.png")).max() == 255


def test_colours_keep_their_meaning_through_a_clip(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    pts = [0, 40, 90, 150, 300, 340]
    clip = make_clip(tmp_path / "walk.mp4", frames=6, pts=pts)
    settings = with_values(small_settings, {"cluster.frames": 3, "render.crf": 0})
    outcome = pca([clip], tmp_path / "out", settings)
    names = ["basis.npz", "walk-first.mp4", "walk-colors.mp4"]
    assert [file.name for file in outcome.files] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert times_of(outcome.files[1]) == times_of(outcome.files[2]) == pts
    with np.load(outcome.files[0]) as basis:
        mean, axes, low, high = (basis[name].copy() for name in ("mean", "axes", "low", "high"))
    # All frames use the same basis and scale, also those that weren't sampled.
    from pipeline.progress import Silent
    from pipeline.stages.engine import open_engine

    extractor = open_engine(settings, Silent()).extractor
    for frame, painted in zip(frames_of(clip), frames_of(outcome.files[1]), strict=True):
        descriptors = extractor.extract([extractor.preprocess(frame)]).descriptors[0].numpy()
        values = ((descriptors - mean) @ axes[0] - low[0]) / (high[0] - low[0])
        corner = painted[:4, :4].astype(float).mean()
        assert abs(corner - 255 * values[0, 0].clip(0, 1)) < 6


def test_one_by_one_each_input_has_a_basis_of_its_own(
    parity_dir: Path, tmp_path: Path, small_settings: Settings
) -> None:
    pictures = [parity_dir / "cat.png", parity_dir / "cup.png"]
    together = pca(pictures, tmp_path / "together", small_settings)
    apart = pca(pictures, tmp_path / "apart", small_settings, separate=True)
    alone = pca(pictures[1:], tmp_path / "alone", small_settings)
    assert len(together.files) == 7
    assert len(apart.files) == 8
    assert np.array_equal(components(tmp_path / "apart" / "cup.npz"), components(tmp_path / "alone" / "cup.npz"))
    assert not np.allclose(components(tmp_path / "apart" / "cup.npz"), components(tmp_path / "together" / "cup.npz"))
    assert alone.failures == ()


def test_fewer_components_have_no_colours(parity_dir: Path, tmp_path: Path, small_settings: Settings) -> None:
    outcome = pca([parity_dir / "cat.png"], tmp_path, small_settings, components=2)
    assert [file.name for file in outcome.files] == ["basis.npz", "cat-first.png", "cat.npz"]
    assert components(tmp_path / "cat.npz").shape[2] == 2
    with pytest.raises(UsageError, match="1 to 48"):
        pca([parity_dir / "cat.png"], tmp_path / "more", small_settings, components=49)


def test_one_that_fails_leaves_the_others(parity_dir: Path, tmp_path: Path, small_settings: Settings) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    outcome = pca([tmp_path / "broken.png", parity_dir / "cat.png"], tmp_path / "out", small_settings)
    assert [failure.name for failure in outcome.failures] == ["broken"]
    assert (tmp_path / "out" / "cat-colors.png").exists()
    with pytest.raises(InputError, match=r"broken: .* files"):
        outcome.raise_failures()
    with pytest.raises(InputError, match="broken"):
        pca([tmp_path / "broken.png"], tmp_path / "none", small_settings)


def test_earlier_results_are_left_alone(parity_dir: Path, tmp_path: Path, small_settings: Settings) -> None:
    (tmp_path / "cat-colors.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"cat-colors\.png' exists"):
        pca([parity_dir / "cat.png"], tmp_path, small_settings)
    assert [path.name for path in tmp_path.iterdir()] == ["cat-colors.png"]
    pca([parity_dir / "cat.png"], tmp_path, small_settings, overwrite=True)
    assert (tmp_path / "cat-colors.png").read_bytes() != b"mine"


def test_a_picture_of_one_colour(tmp_path: Path, small_settings: Settings) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "flat.png")
    outcome = pca([tmp_path / "flat.png"], tmp_path / "out", small_settings)
    assert len(outcome.files) == 4
