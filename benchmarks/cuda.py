"""All that is to be measured on a GPU, in one command that ends within some minutes.

    python -m benchmarks.cuda CLIP [--model random] [--minutes 8] [--frames 256] [--presets fast draft] [--out FILE]

The device's peak in matrix products and attention; frames per second of whole runs by the default and every preset, and
their share of what the ViT's operations take at those peaks; the CRF of a frame; k-means by torch and by FAISS, on the
GPU where its build has that; agreement of the labels with those of the CPU, with one codebook; memory and batch. What
the minutes don't suffice for is named and left out; what was measured is printed and written as JSON after each step.

`--device cpu` measures the same on the CPU, for tests and to see what the command does.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.agreement import agreement
from benchmarks.speed import first_seconds, write_random_model
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.config import PRESETS, Settings, load_settings, with_values
from pipeline.features.extractor import Extractor
from pipeline.forecast.flops import describe_flops
from pipeline.geometry import grid_size
from pipeline.media.inputs import resolve_inputs
from pipeline.media.label_store import open_labels
from pipeline.progress import Silent
from pipeline.refine.crf import refine_labels, refine_on_device
from pipeline.runs.record import LABELS
from pipeline.stages.batches import batch_size
from pipeline.stages.engine import open_engine
from pipeline.tasks.segment import SegmentResult, segment

SIDE = 8192
"""Of the square matrices whose product gives the peak; a sixteenth on the CPU."""


@dataclass(slots=True)
class Measured:
    """What was measured so far, and until when there is time."""

    device: torch.device
    until: float
    file: Path | None
    found: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str, needed_s: float, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure one thing if there is time for it, print and keep it."""
        left = self.until - time.monotonic()
        facts = (
            measure() if left > needed_s else {"left out": f"{left:.0f} s are left, and it takes about {needed_s:.0f}"}
        )
        self.found[name] = facts
        print(f"{name}: {', '.join(f'{key} {_short(value)}' for key, value in facts.items())}", flush=True)
        if self.file is not None:
            self.file.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")
        return facts

    def seconds(self, work: Callable[[], object], turns: int = 5) -> float:
        """Seconds of a call, the best of some turns after a warm-up."""
        spent = []
        for _ in range(1 + turns):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            spent.append(time.perf_counter() - start)
        return min(spent[1:])

    def wait(self) -> None:
        """Until the device has done what was queued."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name, memory and versions."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    if device.type != "cuda":
        return {"name": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), **found}
    properties = torch.cuda.get_device_properties(device)
    return {"name": properties.name, "memory GB": properties.total_memory / 1e9, "cuda": torch.version.cuda, **found}


def measure_peaks(run: Measured) -> dict[str, Any]:
    """TFLOP/s of matrix products and attention, in float32 and bfloat16."""
    found: dict[str, Any] = {}
    side = SIDE if run.device.type == "cuda" else SIDE // 16
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.randn(side, side, device=run.device).to(dtype)
        found[f"products {name}"] = 2.0 * side**3 / run.seconds(partial(torch.matmul, matrix, matrix)) / 1e12
        parts = torch.randn(3, 1, 6, side // 2, 64, device=run.device).to(dtype)
        spent = run.seconds(partial(F.scaled_dot_product_attention, *parts))
        found[f"attention {name}"] = 4.0 * (side // 2) ** 2 * 6 * 64 / spent / 1e12
    return found


def measure_crf(run: Measured, settings: Settings, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Milliseconds of a frame's CRF on the device and by the CPU's kernel, and how many labels are equal."""
    grid_hw = grid_size(size_hw, 8, settings.features.stride)
    rng = np.random.default_rng(0)
    energies = rng.normal(size=(1 + settings.cluster.parts, *grid_hw)).astype(np.float32)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 20)).astype(np.float32))
    picture = F.interpolate(coarse, size=size_hw, mode="bicubic")[0].permute(1, 2, 0).clamp(0, 255).byte()
    on_device = torch.from_numpy(energies).to(run.device), picture.to(run.device)
    spent = run.seconds(lambda: refine_on_device(*on_device, settings.crf))
    plain = run.seconds(lambda: refine_labels(energies, picture.numpy(), settings.crf))
    labels = refine_on_device(*on_device, settings.crf).cpu().numpy()
    same = labels == refine_labels(energies, picture.numpy(), settings.crf)
    return {"device ms": 1e3 * spent, "CPU ms": 1e3 * plain, "equal": float(same.mean())}


def measure_kmeans(run: Measured, settings: Settings, points: int = 20_000, k: int = 14) -> dict[str, Any]:
    """Seconds of k-means with the settings' iterations and restarts, by FAISS and by torch."""
    import faiss

    sample = torch.nn.functional.normalize(torch.randn(points, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    start = time.perf_counter()
    fit_kmeans(sample.numpy(), k, 0, settings.cluster)
    found: dict[str, Any] = {"points": points, "FAISS on the CPU s": time.perf_counter() - start}
    moved = sample.to(run.device)
    found["torch s"] = run.seconds(lambda: _lloyd(moved, k, settings.cluster.iterations, settings.cluster.restarts), 1)
    if run.device.type == "cuda" and getattr(faiss, "get_num_gpus", lambda: 0)():
        start = time.perf_counter()
        cluster = settings.cluster
        faiss.Kmeans(384, k, niter=cluster.iterations, nredo=cluster.restarts, gpu=True).train(sample.numpy())
        found["FAISS on the GPU s"] = time.perf_counter() - start
    return found


def _lloyd(points: Tensor, k: int, iterations: int, restarts: int) -> Tensor:
    """Lloyd's iterations on the device, all restarts at once; [restarts, k, channels]."""
    starts = [
        torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:k] for seed in range(restarts)
    ]
    centroids = torch.stack([points[start.to(points.device)] for start in starts])
    for _ in range(iterations):
        nearest = (centroids.square().sum(-1)[:, None] - 2 * points @ centroids.transpose(1, 2)).argmin(-1)
        sums = torch.zeros_like(centroids).index_put_(
            (torch.arange(restarts, device=points.device)[:, None], nearest), points[None], accumulate=True
        )
        counts = F.one_hot(nearest, k).sum(1)
        centroids = torch.where(counts[..., None] > 0, sums / counts.clamp(min=1)[..., None], centroids)
    return centroids


def measure_run(run: Measured, clip: Path, folder: Path, settings: Settings, peaks: dict[str, Any]) -> dict[str, Any]:
    """Frames per second of a whole run in this process, its share of the peak, memory and batch."""
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.device)
    start = time.perf_counter()
    result = segment([clip], folder, settings)
    seconds = time.perf_counter() - start
    (finished,) = result.finished
    frames = finished.record.source.frames
    stages = {stage.name: stage.busy_s for stage in finished.record.stages}
    found = {"frames": frames, "frames/s": frames / seconds, "fit s": finished.record.fit_seconds or 0.0}
    extractor, size_hw = _extractor(settings), _processed(clip, settings)
    described = frames / settings.keyframes.interval
    peak = peaks.get("products bfloat16" if extractor.dtype == torch.bfloat16 else "products float32")
    if peak:
        found["share of the products' peak"] = described * describe_flops(extractor, size_hw) / 1e12 / seconds / peak
    if run.device.type == "cuda":
        found["device memory GB"] = torch.cuda.max_memory_allocated(run.device) / 1e9
    batch = batch_size(extractor, size_hw, settings.run.batch)
    return {**found, "batch": batch, **{f"{name} busy s": busy for name, busy in stages.items()}}


def measure_agreement(clip: Path, folder: Path, settings: Settings) -> dict[str, Any]:
    """Share of labels that are equal on the device and on the CPU, given the device's codebook."""
    theirs = segment([clip], folder / "device", settings)
    on_cpu = with_values(settings, {"run.device": "cpu"})
    ours = segment([clip], folder / "cpu", on_cpu, codebook=theirs.codebook)
    everywhere, steady = agreement(_labels(theirs), _labels(ours))
    return {"frames": len(_labels(ours)), "equal": everywhere, "equal where steady": steady}


def _labels(result: SegmentResult) -> np.ndarray:
    (finished,) = result.finished
    return np.stack([labels for _, _, labels in open_labels(finished.directory / LABELS).frames()])


def _extractor(settings: Settings) -> Extractor:
    return open_engine(settings, Silent()).extractor


def _processed(clip: Path, settings: Settings) -> tuple[int, int]:
    return settings.features.processed_size(resolve_inputs([str(clip)], fps=25)[0].probe().size_hw)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything that there is time for."""
    run = Measured(torch.device(options.device), time.monotonic() + 60 * options.minutes, options.out)
    model = options.model
    if model == "random":
        model = str(folder / "random.safetensors")
        write_random_model(Path(model))
    values = {"model": model, "run.device": options.device}
    plain = load_settings(options.config, values)
    run.step("device", 0, lambda: describe_device(run.device))
    peaks = run.step("peaks, TFLOP/s", 10, lambda: measure_peaks(run))
    run.step("crf", 10, lambda: measure_crf(run, plain, _processed(options.clip, plain)))
    run.step("k-means", 30, lambda: measure_kmeans(run, plain, options.points))
    for name, settings in _variants(options, plain):
        end = with_values(settings, {"input.end": first_seconds(options.clip, options.frames)})
        run.step(name, 45, partial(measure_run, run, options.clip, folder / name, end, peaks))
    few = with_values(plain, {"input.end": first_seconds(options.clip, options.compared)})
    run.step("agreement with the CPU", 60, lambda: measure_agreement(options.clip, folder, few))
    return run.found


def _variants(options: argparse.Namespace, plain: Settings) -> Iterator[tuple[str, Settings]]:
    yield "default", plain
    for preset in options.presets:
        yield preset, with_values(plain, {"preset": preset})


def main() -> None:
    """Parse the options, measure, print the JSON line."""
    parser = argparse.ArgumentParser(description="Measure on a GPU what is open, within some minutes.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="random", help="random, or what vidparts --model takes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--frames", type=int, default=256, help="frames of each whole run")
    parser.add_argument("--compared", type=int, default=12, help="frames that the CPU labels too")
    parser.add_argument("--points", type=int, default=20_000, help="points of k-means")
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--out", type=Path, help="JSON file, written after each step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidparts-cuda-") as folder:
        print(json.dumps(measure(options, Path(folder))))


if __name__ == "__main__":
    main()
