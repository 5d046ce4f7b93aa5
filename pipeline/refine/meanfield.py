"""Mean-field inference in the fully connected CRF on the processor (Krähenbühl and Koltun, 2011, algorithm 1).

The labels go through the lattice four at a time; each such block and kernel is one task for a thread, and each
writes its own memory, so that the result doesn't depend on the number of threads.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compiled import compiled
from pipeline.config import CrfSettings
from pipeline.refine.lanes import LANES
from pipeline.refine.lattice import filter_gain
from pipeline.refine.permutohedral import Floats, Lattice, build_lattice

_CHUNK = 128
"""Pixels whose energies are turned into marginals together: they stay in the first cache."""
_LN2 = np.float32(np.log(2))
_LOG2E = np.float32(1 / np.log(2))


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One pairwise kernel, symmetrically normalised: weight * D^-1/2 F D^-1/2 with D the filter of ones.

    Attributes:
        lattice: F over n pixels.
        gain_in: float32 [n], D^-1/2.
        gain_out: float32 [n], D^-1/2 times the weight and the filter's own gain.
    """

    lattice: Lattice
    gain_in: Floats
    gain_out: Floats

    @classmethod
    def over(cls, positions: Floats, weight: float, pool: Executor) -> Kernel:
        """The kernel between pixels at float32 [n, d] positions, whose unit is its standard deviation."""
        lattice = build_lattice(positions, pool)
        count, dims = positions.shape
        gain = np.full(count, filter_gain(dims), dtype=np.float32)
        ones, sums = np.ones((count, LANES), dtype=np.float32), np.empty((count, LANES), dtype=np.float32)
        lattice.filter_into(ones, ones[:, 0].copy(), gain, sums)
        inverse = 1 / np.sqrt(sums[:, 0] + np.float32(1e-20))
        return cls(lattice, inverse, inverse * gain * np.float32(weight))


def infer_labels(
    unary: Floats, image: NDArray[np.uint8], settings: CrfSettings, threads: int | None = None
) -> NDArray[np.uint8]:
    """The most probable label of each pixel after `settings.iterations` (one or more) of mean field.

    Args:
        unary: float32 [labels, h, w], energies.
        image: uint8 [h, w, 3].
        settings: kernels, weights and iterations.
        threads: how many work at once; none: one for each processor, at most one for each task.

    Returns:
        uint8 [h, w]; the same bytes with any number of threads.
    """
    labels, height, width = unary.shape
    flat = np.ascontiguousarray(unary.reshape(labels, -1), dtype=np.float32)
    blocks = -(-labels // LANES)
    with ThreadPoolExecutor(threads or min(_processors(), 2 * blocks)) as pool:
        kernels = (
            _bilateral_kernel(image, settings, pool),
            _gaussian_kernel(height, width, settings.gaussian_sxy, settings.gaussian_weight),
        )
        field, first, second = np.zeros((3, blocks, flat.shape[1], LANES), dtype=np.float32)
        for _ in range(settings.iterations):
            _each_band(pool, _marginals, flat, first, second, field)
            _filter(pool, kernels, field, (first, second))
        best = np.empty(flat.shape[1], dtype=np.uint8)
        _each_band(pool, _best_labels, flat, first, second, best)
    return best.reshape(height, width)


def _filter(pool: Executor, kernels: tuple[Kernel, ...], field: Floats, results: tuple[Floats, ...]) -> None:
    # The costly kernel's tasks come first, so that the cheap ones fill the gap at the end.
    tasks = [
        pool.submit(kernel.lattice.filter_into, values, kernel.gain_in, kernel.gain_out, result)
        for kernel, messages in zip(kernels, results, strict=True)
        for values, result in zip(field, messages, strict=True)
    ]
    for task in tasks:
        task.result()


def _each_band(pool: Executor, kernel: Any, unary: Floats, first: Floats, second: Floats, result: Any) -> None:
    bands = 4
    edges = [unary.shape[1] * band // bands for band in range(bands + 1)]
    tasks = [pool.submit(kernel, unary, first, second, result, a, b) for a, b in pairwise(edges)]
    for task in tasks:
        task.result()


def _bilateral_kernel(image: NDArray[np.uint8], settings: CrfSettings, pool: Executor) -> Kernel:
    place = pixel_positions(*image.shape[:2]) / np.float32(settings.bilateral_sxy)
    colour = image.reshape(-1, 3).astype(np.float32) / np.float32(settings.bilateral_srgb)
    return Kernel.over(np.concatenate([place, colour], axis=1), settings.bilateral_weight, pool)


@lru_cache(maxsize=4)
def _gaussian_kernel(height: int, width: int, sxy: float, weight: float) -> Kernel:
    """The same for every picture of a size, so that a clip computes it once."""
    with ThreadPoolExecutor(1) as pool:
        return Kernel.over(pixel_positions(height, width) / np.float32(sxy), weight, pool)


def pixel_positions(height: int, width: int) -> Floats:
    """float32 [h * w, 2], column and row of every pixel."""
    rows, columns = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
    return np.stack([columns, rows], axis=1)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@compiled
def _marginals(unary: Any, first: Any, second: Any, field: Any, start: Any, stop: Any) -> None:
    """Softmax over the labels of first + second - unary, for the pixels from `start` to `stop`."""
    labels = unary.shape[0]
    chunk = np.empty((labels, _CHUNK), np.float32)
    largest = np.empty(_CHUNK, np.float32)
    total = np.empty(_CHUNK, np.float32)
    bits = np.empty(_CHUNK, np.int32)
    for begin in range(start, stop, _CHUNK):
        count = min(_CHUNK, stop - begin)
        largest[:] = np.float32(-np.inf)
        total[:] = np.float32(0)
        for k in range(labels):
            block, lane = k // LANES, k % LANES
            for i in range(count):
                n = begin + i
                chunk[k, i] = first[block, n, lane] + second[block, n, lane] - unary[k, n]
                largest[i] = max(largest[i], chunk[k, i])
        for k in range(labels):
            _exponentiate(chunk[k, :count], largest, bits)
            for i in range(count):
                total[i] += chunk[k, i]
        for k in range(labels):
            block, lane = k // LANES, k % LANES
            for i in range(count):
                field[block, begin + i, lane] = chunk[k, i] / total[i]


@compiled
def _exponentiate(values: Any, largest: Any, bits: Any) -> None:
    """exp(values - largest), none of which is positive: 2^z exp(r) by its series, which fills vector registers."""
    power = bits.view(np.float32)
    for i in range(values.size):
        x = max(values[i] - largest[i], np.float32(-87))
        z = np.floor(x * _LOG2E + np.float32(0.5))
        r = x - z * _LN2
        bits[i] = (np.int32(z) + np.int32(127)) << np.int32(23)
        series = np.float32(1 / 120) + r * (np.float32(1 / 720) + r * np.float32(1 / 5040))
        series = np.float32(0.5) + r * (np.float32(1 / 6) + r * (np.float32(1 / 24) + r * series))
        values[i] = np.float32(1) + r * (np.float32(1) + r * series)
    for i in range(values.size):
        values[i] *= power[i]


@compiled
def _best_labels(unary: Any, first: Any, second: Any, best: Any, start: Any, stop: Any) -> None:
    """The label of the largest first + second - unary, for the pixels from `start` to `stop`."""
    for n in range(start, stop):
        largest = np.float32(-np.inf)
        for k in range(unary.shape[0]):
            block, lane = k // LANES, k % LANES
            value = first[block, n, lane] + second[block, n, lane] - unary[k, n]
            if value > largest:
                largest = value
                best[n] = k
