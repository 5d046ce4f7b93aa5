"""Compiled mean-field inference against its plain twin, pydensecrf, and other thread counts."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from benchmarks import densecrf
from pipeline.config import CrfSettings
from pipeline.errors import UsageError
from pipeline.graph import side_by_side
from pipeline.kernels import meanfield, meanfield_torch
from pipeline.refine.crf import energies_of_pixels, refine_labels

GOLDENS = Path(__file__).resolve().parents[1] / "data" / "densecrf.npz"
"""pydensecrf's labels, recorded by tests/kernels/record_goldens.py."""
CLIPS = ("squirrel/squirrel.mp4", "mouse/m3v1mp4.mp4", "kitten_vfr/test-sample2.mp4")


def nearest_colours(image: NDArray[np.uint8], labels: int, seed: int = 0) -> NDArray[np.float32]:
    """Unary energies on a grid of a quarter of the size: squared distances to random colours and positions."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((max(1, width // 4), max(1, height // 4)), Image.Resampling.BOX)
    y, x = np.mgrid[: small.height, : small.width]
    place = np.stack([y / small.height, x / small.width], axis=2)
    points = np.concatenate([np.asarray(small) / 128, place], axis=2).astype(np.float32)
    points /= np.linalg.norm(points, axis=2, keepdims=True) + 1e-6
    flat = points.reshape(-1, 5)
    centroids = flat[np.random.default_rng(seed).choice(len(flat), labels, replace=len(flat) < labels)]
    energies = ((points[None] - centroids[:, None, None]) ** 2).sum(3)
    return np.ascontiguousarray(energies - energies.max(0))


def textured(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(size=smooth.shape) * 4, 0, 255).astype(np.uint8)


def first_frame(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return np.asarray(Image.fromarray(frame).resize((398, 224), Image.Resampling.LANCZOS))


@dataclass
class Golden:
    image: NDArray[np.uint8]
    unary: NDArray[np.float32]
    settings: CrfSettings
    labels: NDArray[np.uint8]


@pytest.fixture(params=["walk-2", "walk-5", "walk-10", "cat", "cup", "other settings"])
def golden(request: pytest.FixtureRequest) -> Golden:
    with np.load(GOLDENS) as file:
        image, energies, settings, labels = (
            file[f"{request.param}/{name}"] for name in ("image", "energies", "settings", "labels")
        )
    unary = energies_of_pixels(energies, image.shape[:2])
    return Golden(image, unary, CrfSettings.model_validate_json(settings.item()), labels)


def test_labels_equal_those_recorded_from_pydensecrf(golden: Golden) -> None:
    found = meanfield.infer_labels(golden.unary, golden.image, golden.settings)
    tensors = torch.from_numpy(golden.unary), torch.from_numpy(golden.image)
    queued = meanfield_torch.infer_labels(*tensors, golden.settings).numpy()
    assert len(np.unique(golden.labels)) > 1
    assert (golden.labels != golden.unary.argmin(0)).mean() > 0.01
    assert (found == golden.labels).mean() >= 0.9995
    assert (queued == golden.labels).mean() >= 0.9995


def test_pydensecrf_gives_what_was_recorded(golden: Golden) -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf isn't installed (vidparts[densecrf])")
    assert np.array_equal(densecrf.infer_labels(golden.unary, golden.image, golden.settings), golden.labels)


@pytest.mark.parametrize("clip", CLIPS)
def test_labels_equal_pydensecrf_on_real_frames(shared_dir: Path, clip: str) -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf isn't installed (vidparts[densecrf])")
    image = first_frame(shared_dir / "clips" / clip)
    for labels in (2, 5, 10):
        unary = energies_of_pixels(nearest_colours(image, labels), image.shape[:2])
        expected = densecrf.infer_labels(unary, image, CrfSettings())
        found = meanfield.infer_labels(unary, image, CrfSettings())
        assert len(np.unique(expected)) > 1
        assert (found == expected).mean() >= 0.999
        if labels == 5:
            queued = meanfield_torch.infer_labels(
                torch.from_numpy(unary), torch.from_numpy(image.copy()), CrfSettings()
            )
            assert (queued.numpy() == expected).mean() >= 0.999
            assert (queued.numpy() == found).mean() >= 0.999


def test_labels_equal_pydensecrf_under_other_settings() -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf isn't installed (vidparts[densecrf])")
    image = textured(60, 90)
    unary = energies_of_pixels(nearest_colours(image, 6), image.shape[:2])
    crf = CrfSettings(
        iterations=3, gaussian_sxy=1.5, gaussian_weight=4, bilateral_sxy=20, bilateral_srgb=5, bilateral_weight=7
    )
    expected = densecrf.infer_labels(unary, image, crf)
    assert (meanfield.infer_labels(unary, image, crf) == expected).mean() >= 0.999


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    labels=st.sampled_from([1, 2, 5, 9, 17]),
    sxy=st.floats(0.5, 12),
    seed=st.integers(0, 99),
)
def test_compiled_and_plain_agree(height: int, width: int, labels: int, sxy: float, seed: int) -> None:
    image = textured(height, width, seed)
    unary = np.random.default_rng(seed).normal(size=(labels, height, width)).astype(np.float32)
    crf = CrfSettings(gaussian_weight=2, bilateral_weight=4, bilateral_sxy=sxy, iterations=4)
    plain = meanfield_torch.infer_labels(torch.from_numpy(unary), torch.from_numpy(image), crf).numpy()
    found = meanfield.infer_labels(unary, image, crf)
    # Pixels whose two best labels are equal up to rounding may have either.
    assert (found != plain).sum() <= 1


def test_the_lattice_spreads_a_pixel_as_a_gaussian() -> None:
    kernel = meanfield_torch.TensorKernel.over(torch.cartesian_prod(torch.arange(41), torch.arange(41)) / 3, 1.0)
    impulse = torch.zeros(41 * 41, 4)
    impulse[20 * 41 + 20, 0] = 1
    spread = kernel.lattice.filtered(impulse)[:, 0].reshape(41, 41)
    share = spread.sum(1) / spread.sum()
    assert float((share * torch.arange(41)).sum()) == pytest.approx(20, abs=0.5)
    assert float((share * (torch.arange(41) - 20) ** 2).sum()) == pytest.approx(9, rel=0.15)


@pytest.mark.parametrize("labels", [1, 2, 5, 9, 19])
def test_bytes_are_the_same_with_any_number_of_threads(labels: int) -> None:
    images = [textured(90, 130, seed) for seed in range(3)]

    def infer(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return meanfield.infer_labels(
            energies_of_pixels(nearest_colours(image, labels), image.shape[:2]), image, CrfSettings()
        )

    alone = [infer(image) for image in images]
    for threads in (1, 2, 3, 8):
        found = side_by_side(images, infer, threads)
        assert all(np.array_equal(*pair) for pair in zip(found, alone, strict=True))


def blob(seed: int, margin: float) -> NDArray[np.float32]:
    """Energies of three labels: the first one by `margin`, but for a disc that the others share."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:120, :160]
    disc = np.hypot(rows - rng.integers(30, 90), cols - rng.integers(30, 130)) < rng.integers(10, 22)
    unary = np.zeros((3, 120, 160), np.float32)
    unary[1:] = margin + rng.normal(0, margin / 10, (2, 120, 160))
    for label, half in ((1, cols < 80), (2, cols >= 80)):
        unary[label, disc & half] = rng.normal(-20, 5, int((disc & half).sum()))
    return unary


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crf", [CrfSettings(), CrfSettings(gaussian_weight=5.0, bilateral_srgb=8.0)])
def test_inferring_what_is_near_other_labels_gives_the_labels_of_all(
    monkeypatch: pytest.MonkeyPatch, seed: int, crf: CrfSettings
) -> None:
    image, unary, inferred = textured(120, 160, seed), blob(seed, 1.0), []

    def counted(energies: NDArray[np.float32], *rest: object) -> NDArray[np.uint8]:
        inferred.append(energies.shape[1])
        return infer(energies, *rest)  # type: ignore[arg-type]

    infer = meanfield._infer
    monkeypatch.setattr(meanfield, "_infer", counted)
    near = meanfield.infer_labels(unary, image, crf)
    monkeypatch.setattr(meanfield, "_WHOLE", 0.0)
    assert np.array_equal(near, meanfield.infer_labels(unary, image, crf))
    assert near.any()
    assert inferred[0] < 0.9 * inferred[1] == 0.9 * 120 * 160


@pytest.mark.parametrize("margin", [0.001, 0.01, 0.1])
def test_where_it_is_a_close_call_labels_spread_through_all_of_a_picture(
    monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    image, unary = np.full((120, 160, 3), 90, np.uint8), blob(1, margin)
    found = meanfield.infer_labels(unary, image, CrfSettings())
    monkeypatch.setattr(meanfield, "_WHOLE", 0.0)
    assert np.array_equal(found, meanfield.infer_labels(unary, image, CrfSettings()))
    assert (found > 0).mean() > 1.4 * (unary.argmin(axis=0) > 0).mean()


def test_a_picture_of_background_alone_stays_that() -> None:
    assert not meanfield.infer_labels(blob(0, 1.0)[:, :20, :20], textured(20, 20), CrfSettings()).any()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 37), (37, 1), (2, 3)])
@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_tiny_pictures(size_hw: tuple[int, int], device: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    unary = rng.normal(size=(3, *size_hw)).astype(np.float32)
    crf = CrfSettings(gaussian_weight=0, bilateral_weight=0)
    if device == "cpu":
        found = meanfield.infer_labels(unary, image, crf)
    else:
        found = meanfield_torch.infer_labels(torch.from_numpy(unary), torch.from_numpy(image), crf).numpy()
    # Kernels with weight 0 have no effect.
    assert found.dtype == np.uint8
    assert np.array_equal(found, unary.argmin(0))


def test_one_label_is_everywhere() -> None:
    image = textured(20, 30)
    assert not refine_labels(np.zeros((1, 5, 7), np.float32), image, CrfSettings()).any()


def test_inputs_stay_as_they_were() -> None:
    image = textured(20, 30)
    energies = nearest_colours(image, 4)
    image.setflags(write=False)
    energies.setflags(write=False)
    refine_labels(energies, image, CrfSettings(iterations=2))


def test_very_unequal_energies_stay_finite() -> None:
    image = textured(20, 30)
    unary = np.zeros((3, 20, 30), np.float32)
    unary[0], unary[2] = -1e4, 1e4
    assert not meanfield.infer_labels(unary, image, CrfSettings()).any()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system doesn't tell a process's peak memory")
def test_memory_stays_bounded_with_255_labels() -> None:
    script = """
import numpy as np
from pathlib import Path
from pipeline.config import CrfSettings
from pipeline.kernels.meanfield import infer_labels
image = np.add.outer(np.add.outer(np.arange(120), np.arange(160)) % 256, [0, 0, 0]).astype(np.uint8)
infer_labels(np.zeros((2, 120, 160), np.float32), image, CrfSettings(iterations=1))
unary = np.random.default_rng(0).normal(size=(255, 120, 160)).astype(np.float32)
# Not getrusage: that counts what the parent held, too.
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
labels = infer_labels(unary, image, CrfSettings(iterations=1))
print((peak() - before) * 1024 / unary.nbytes, labels.max())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    growth, largest = done.stdout.split()
    # Unary energies, marginals, and two tables per kernel, which are smaller in pictures with smooth areas.
    assert float(growth) < 5
    assert int(largest) > 200


def test_pydensecrf_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UsageError, match=r"vidparts\[densecrf\]"):
        densecrf.infer_labels(np.zeros((2, 1, 1), np.float32), np.zeros((1, 1, 3), np.uint8), CrfSettings())


def test_the_plain_path_needs_no_compiled_code(tmp_path: Path) -> None:
    script = """
import sys
for name in ("numba", "llvmlite", "openvino"):
    sys.modules[name] = None
import numpy as np
from pipeline.config import CrfSettings
from pipeline.kernels import blend, infer_labels
labels = infer_labels(np.load(sys.argv[1])["unary"], np.load(sys.argv[1])["image"], CrfSettings())
blend(np.zeros((*labels.shape, 3), np.uint8), labels, np.zeros((256, 3), np.uint8), 0.5)
"""
    environment = {**os.environ, "VIDPARTS_PLAIN": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    file, image = tmp_path / "case.npz", textured(20, 30)
    np.savez(file, unary=energies_of_pixels(nearest_colours(image, 4), (20, 30)), image=image)
    subprocess.run([sys.executable, "-c", script, str(file)], check=True, env=environment)
