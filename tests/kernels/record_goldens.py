"""Record pydensecrf's labels as goldens: `python -m tests.kernels.record_goldens`.

Each case of `tests/data/densecrf.npz` holds `image` uint8 [h, w, 3], `energies` float16 [labels, rows, cols] of a
coarse grid, `settings` (JSON of `CrfSettings`) and pydensecrf's `labels` uint8 [h, w]. The inputs are stored too, so
that they don't change with releases of other packages.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import densecrf
from pipeline.config import CrfSettings
from pipeline.media.video_source import VideoSource
from pipeline.refine.crf import energies_of_pixels
from tests.kernels.test_crf_inference import GOLDENS, nearest_colours, textured

ROOT = Path(__file__).resolve().parents[2]
OTHER_SETTINGS = CrfSettings(
    iterations=3, gaussian_sxy=1.5, gaussian_weight=4, bilateral_sxy=20, bilateral_srgb=5, bilateral_weight=7
)


def cases() -> Iterator[tuple[str, NDArray[np.uint8], int, CrfSettings]]:
    """Name, picture, number of labels and settings."""
    walk = next(VideoSource(ROOT / "samples" / "walk.mp4", "walk").frames()).rgb[70:230, 90:330]
    for labels in (2, 5, 10):
        yield f"walk-{labels}", walk, labels, CrfSettings()
    for name in ("cat", "cup"):
        yield name, np.asarray(Image.open(ROOT / "tests" / "data" / "parity" / f"{name}.png")), 4, CrfSettings()
    yield "other settings", textured(60, 90), 6, OTHER_SETTINGS


def main() -> None:
    """Write the goldens."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, image, labels, settings in cases():
        energies = nearest_colours(image, labels).astype(np.float16)
        arrays[f"{name}/image"], arrays[f"{name}/energies"] = image, energies
        arrays[f"{name}/settings"] = np.array(settings.model_dump_json())
        unary = energies_of_pixels(energies, image.shape[:2])
        arrays[f"{name}/labels"] = densecrf.infer_labels(unary, image, settings)
    np.savez_compressed(GOLDENS, **arrays)


if __name__ == "__main__":
    main()
