"""What several test modules share: real data, a tiny model, small clips."""

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ClipMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips and goldens that lies beside a checkout; not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VIDPARTS_SHARED", default))
    if not (folder / "parity").is_dir():
        pytest.skip(f"real clips and goldens are not at {folder}; set VIDPARTS_SHARED to where they are")
    return folder


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Numeric goldens of the paper's pipeline on a tiny ViT with seeded random weights."""
    return Path(__file__).resolve().parent / "data" / "parity"


@pytest.fixture(scope="session")
def tiny_model(parity_dir: Path) -> Path:
    """A ViT of 12 blocks of 48 channels, patch 8, in DINO's naming; its weights are random."""
    return parity_dir / "vit.safetensors"


def moving_scene(frames: int, size_hw: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """A two-coloured disc that moves over a striped ground."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    pictures = []
    for number in range(frames):
        picture = np.stack([90 + 40 * np.sin(x / 5), 120 + 0 * x, 90 + 40 * np.cos(y / 7)], -1).astype(np.uint8)
        centre_x, centre_y = width * (0.3 + 0.4 * number / max(1, frames)), height * 0.5
        disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (height * 0.3) ** 2
        picture[disc & (y < centre_y)] = (220, 60, 40)
        picture[disc & (y >= centre_y)] = (40, 60, 230)
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="session")
def make_clip() -> ClipMaker:
    """Write frames as a clip: `make_clip(path, frames=8, size_hw=(48, 64), pts=None)`."""

    def write(
        path: Path, frames: int = 8, size_hw: tuple[int, int] = (48, 64), pts: Sequence[int] | None = None
    ) -> Path:
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            for number, picture in enumerate(moving_scene(frames, size_hw)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = pts[number] if pts else number * 40, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
