"""Compare the CRF's speed and labels with pydensecrf, in turns in one process.

    python -m benchmarks.crf CLIP... [--frames 2] [--labels 2 5 10] [--threads 2] [--turns 5]

Unary energies are squared distances of patches (pixels and position, through a fixed random projection) to their
k-means centroids. The last line is JSON. Ratios above 1 mean that this program is faster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks import densecrf
from pipeline.cluster.assignment import normalise
from pipeline.cluster.clusters import squared_distances
from pipeline.config import CrfSettings
from pipeline.geometry import grid_size, with_short_side
from pipeline.graph import processors, side_by_side
from pipeline.kernels import meanfield
from pipeline.media.inputs import resolve_inputs
from pipeline.refine.crf import energies_of_pixels

PATCH_PX, STRIDE_PX, CHANNELS = 8, 4, 384


@dataclass(frozen=True, slots=True)
class Timing:
    """One line of the table; times are medians over frames and turns."""

    labels: int
    pydensecrf_ms: float
    own_1_thread_ms: float
    own_ms: float
    """Wall time per frame with one frame on each thread."""
    ratio: float
    """Median over frames of pydensecrf's time over ours, all threads."""
    ratio_1_thread: float
    processor_ratio: float
    """The same for CPU time on one thread, which other load on the machine disturbs less."""
    agreement: float
    """Smallest share of equal labels in a frame."""


def frames_of(clip: str, count: int, load_size: int) -> Iterator[NDArray[np.uint8]]:
    """Evenly spaced frames of a clip at their processed size."""
    from PIL import Image

    source = resolve_inputs([clip], fps=25)[0]
    total = source.count()
    wanted = {total * index // count for index in range(count)}
    for index, frame in enumerate(source.frames()):
        if index in wanted:
            height, width = with_short_side(frame.rgb.shape[:2], load_size)
            yield np.asarray(Image.fromarray(frame.rgb).resize((width, height), Image.Resampling.LANCZOS))


def energies_of(image: NDArray[np.uint8], labels: int) -> NDArray[np.float32]:
    """Unary energies [labels, h, w] of a picture, from k-means centroids as in the pipeline."""
    rows, columns = grid_size(image.shape[:2], PATCH_PX, STRIDE_PX)
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    patches = torch.nn.functional.unfold(pixels, PATCH_PX, stride=STRIDE_PX)[0].T
    place = torch.cartesian_prod(torch.linspace(0, 2, rows), torch.linspace(0, 2, columns))
    features = torch.cat([patches, place], dim=1)
    projection = torch.randn(features.shape[1], CHANNELS, generator=torch.Generator().manual_seed(0))
    descriptors = normalise(torch.tanh(features @ projection * 0.15))
    means = KMeans(labels, n_init=1, random_state=0).fit(descriptors[::5].numpy())
    distances = squared_distances(descriptors, torch.from_numpy(means.cluster_centers_).float())
    energies = (distances - distances.amax(dim=1, keepdim=True)).T.reshape(labels, rows, columns)
    return energies_of_pixels(energies.numpy(), image.shape[:2])


def in_turns(ways: list[Callable[[], object]], turns: int) -> NDArray[np.float64]:
    """Median wall and CPU milliseconds of each function, measured in turns; [2, ways]."""
    spent = np.empty((turns, 2, len(ways)))
    for turn in range(turns):
        for index, way in enumerate(ways):
            begin = time.perf_counter(), time.process_time()
            way()
            spent[turn, :, index] = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return np.asarray(1000 * np.median(spent, axis=0))


def measure(images: list[NDArray[np.uint8]], labels: int, threads: int, turns: int) -> Timing:
    """Measure one line of the table."""
    crf = CrfSettings()
    times, agreements = [], []
    for image in images:
        unary = energies_of(image, labels)
        reference = densecrf.infer_labels(unary, image, crf)
        own = partial(meanfield.infer_labels, unary, image, crf)
        agreements.append(float((own() == reference).mean()))
        ways: list[Callable[[], object]] = [
            partial(densecrf.infer_labels, unary, image, crf),
            own,
            partial(_side_by_side, own, threads),
        ]
        times.append(in_turns(ways, turns) / [1, 1, threads])
    table = np.array(times)
    reference_ms, alone_ms, own_ms = np.median(table[:, 0], axis=0).tolist()
    ratios = np.median(table[:, :, :1] / table[:, :, 1:], axis=0)
    (ratio_1_thread, ratio), (processor_ratio, _) = ratios.tolist()
    agreement = min(agreements)
    return Timing(labels, reference_ms, alone_ms, own_ms, ratio, ratio_1_thread, processor_ratio, agreement)


def _side_by_side(way: Callable[[], object], threads: int) -> None:
    list(side_by_side(range(threads), lambda _: way(), threads))


def main() -> None:
    """Parse the options, measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Compare the CRF with pydensecrf on frames of clips.")
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--frames", type=int, default=2, help="frames of each clip")
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 3, 5, 7, 10])
    parser.add_argument("--load-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=processors(), help="frames in parallel")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    images = [image for clip in options.clips for image in frames_of(clip, options.frames, options.load_size)]
    if not images:
        sys.exit("the clips contain no frames; expected video files or directories of frames")
    print(f"{'labels':>6}{'pydensecrf ms':>15}{'1 thread ms':>13}{'ms':>8}{'ratio':>8}{'1 thread':>10}", end="")
    print(f"{'processor':>11}{'agreement':>11}")
    rows = [measure(images, labels, options.threads, options.turns) for labels in options.labels]
    for row in rows:
        numbers = f"{row.labels:6d}{row.pydensecrf_ms:15.1f}{row.own_1_thread_ms:13.1f}{row.own_ms:8.1f}"
        print(f"{numbers}{row.ratio:8.2f}{row.ratio_1_thread:10.2f}{row.processor_ratio:11.2f}{row.agreement:11.5f}")
    print(
        json.dumps(
            {
                "benchmark": "crf",
                "frames": len(images),
                "threads": options.threads,
                "rows": [asdict(row) for row in rows],
            }
        )
    )


if __name__ == "__main__":
    main()
