"""Speed of the paper's method, the default and all presets, against the machine's limit.

    python -m benchmarks.speed CLIP [--model random] [--frames 64] [--paper-frames 2] [--presets fast draft]
                                    [--strides 8 4 --load-sizes 160 224 --lengths 16 64]

Whole processes are measured: imports, loading the model, fit, CRF, label store and overlay. `random`, the default
model, is DINO's ViT-S/8 with seeded random weights: speed doesn't depend on their values. Labels do, so agreement means
something only for a trained model such as `bundled`. All runs use the paper's settings instead of the model's own.

The paper's method is slow, so only `--paper-frames` frames go through it: the cost of its extraction and CRF per frame
is constant, and its k-means is a small share. Its row is what these frames take beyond a run of one frame, without the
start of a process; its share is of the default's limit, so that a slow twin would show.

Columns: frames per second and the speed-up over the paper; CPU seconds per frame and the speed-up in them; the limit
(see `limit`) in frames per second, measured before and after the run and averaged, since clock rates vary; the share
of the limit that is reached in wall time (`ViT only`: with a limit without the CRF) and in CPU time, which other load
disturbs less; peak memory; agreement with the default's labels.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from benchmarks.agreement import agreement
from benchmarks.limit import Limit, measure_limit
from benchmarks.processes import ProcessRun, run_paper, run_program
from pipeline.config import PRESETS, load_settings, with_values
from pipeline.features.vit import Backbone, ViTConfig
from pipeline.features.weights import resolve_model
from pipeline.kernels import host_cpu
from pipeline.media.inputs import resolve_inputs

VECTOR_UNITS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "Neon"}
"""Flags of Linux, the widest registers first; whether units are as wide as registers shows in the rates alone."""
PRODUCTS = {"amx_bf16": "AMX bfloat16", "avx512_bf16": "AVX-512 bfloat16", "bf16": "Arm bfloat16"}

VITS8 = ViTConfig(384, 12, 6, 8, (28, 28), 0, 1536, qkv_bias=True, layer_scale=False, norm_eps=1e-6)


def write_random_model(file: Path) -> None:
    """Write a ViT-S/8 with seeded random weights, small enough that activations don't grow."""
    generator, backbone = torch.Generator().manual_seed(0), Backbone(VITS8)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.05 + float("norm" in name and "weight" in name)
        for name, tensor in backbone.state_dict().items()
    }
    metadata = {"num_heads": str(VITS8.heads), "patch_size": "8", "img_size": "224", "saliency_heads": "0,2,4,5"}
    save_file(state, file, metadata=metadata)


def paper_settings(model: str, folder: Path, *, exact: bool) -> Path:
    """Write the paper's settings as a config file that overrides the model's; `exact` also overrides presets' grid."""
    values = load_settings().model_dump(mode="json")
    wanted: dict[str, Any] = {section: values[section] for section in ("saliency", "cluster")}
    wanted["saliency"].pop("heads")
    depth = resolve_model(model).identity.depth
    wanted["features"] = {"load_size": 224, "stride": 4, "layer": depth - 1}
    if exact:
        wanted["features"]["grid"] = values["features"]["grid"]
    file = folder / f"{'exact' if exact else 'paper'}.yaml"
    file.write_text(yaml.safe_dump(wanted))
    return file


def first_seconds(clip: Path, frames: int) -> float:
    """Time in seconds, from the first frame, at which a clip must end to have that many frames."""
    found = []
    for index, frame in enumerate(resolve_inputs([str(clip)], fps=25)[0].frames(wanted=_Upto(frames))):
        found.append(frame.pts)
        if index == frames:
            break
    info = resolve_inputs([str(clip)], fps=25)[0].probe()
    if len(found) <= frames:
        raise SystemExit(f"'{clip}' has {len(found)} frames, expected at least {frames + 1}; give a smaller --frames")
    return float((found[-2] + 0.5 * (found[-1] - found[-2]) - found[0]) * info.time_base)


class _Upto:
    """Frame indices up to and including `last`."""

    def __init__(self, last: int) -> None:
        self._last = last

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index <= self._last


def machine() -> str:
    """The processor's name, its microarchitecture as LLVM has it, and the widest vector units that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = told.get("flags", told.get("Features", "")).split()
    units = next((name for flag, name in VECTOR_UNITS.items() if flag in flags), "vector units unknown")
    products = [name for flag, name in PRODUCTS.items() if flag in flags]
    return ", ".join([told.get("model name", platform.machine()), host_cpu(), units, *products])


def table(runs: dict[str, ProcessRun], limits: dict[str, Limit]) -> list[dict[str, Any]]:
    """Rows of the table, one per run."""
    paper, default = runs["paper"], runs["default"]
    rows = []
    for name, run in runs.items():
        row: dict[str, Any] = {"name": name, "frames": run.frames, "fps": run.rate, "ratio": run.rate / paper.rate}
        if name in limits:
            limit = limits[name]
            row |= {
                "limit_fps": 1 / limit.frame_s,
                "share": run.rate * limit.frame_s,
                "vit_share": run.rate * limit.vit_s,
            }
            cores = torch.get_num_threads()
            row["processor_share"] = cores * limit.frame_s * run.frames / run.processor_s
        cheaper = paper.processor_s / paper.frames / (run.processor_s / run.frames)
        same = agreement(run.labels, default.labels) if run.frames == default.frames else (None, None)
        rows.append(
            {
                **row,
                "processor_s": run.processor_s,
                "processor_ratio": cheaper,
                "peak_mb": run.peak_mb,
                "agreement": same[0],
                "steady_agreement": same[1],
            }
        )
    return rows


def show_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows."""
    print(
        f"{'':<9}{'frames':>7}{'frames/s':>10}{'x paper':>9}{'cpu s each':>12}{'x paper':>9}{'limit/s':>9}{'share':>7}"
        f"{'ViT only':>10}{'of cpu s':>10}{'peak MB':>9}{'agrees':>8}{'where steady':>14}"
    )
    for row in rows:
        limit = f"{row['limit_fps']:9.3f}{row['share']:7.0%}{row['vit_share']:10.0%}" if "share" in row else " " * 26
        limit += f"{row['processor_share']:10.0%}" if "share" in row else " " * 10
        same = [f"{row[key]:.4f}" if row[key] is not None else "-" for key in ("agreement", "steady_agreement")]
        each = row["processor_s"] / row["frames"]
        head = f"{row['name']:<9}{row['frames']:7d}{row['fps']:10.3f}{row['ratio']:9.1f}{each:12.2f}"
        print(f"{head}{row['processor_ratio']:9.1f}{limit}{row['peak_mb']:9.0f}{same[0]:>8}{same[1]:>14}")


def show_limits(limits: dict[str, Limit]) -> None:
    """Print the operations and rates of each limit."""
    print("\nlimit      products GFLOP at GFLOP/s   attention GFLOP at GFLOP/s   CRF s   a frame s")
    for name, limit in limits.items():
        print(
            f"{name:<11}{limit.product_gflop:14.1f}{limit.product_rate:11.0f}{limit.attention_gflop:18.1f}"
            f"{limit.attention_rate:11.0f}{limit.crf_s:8.3f}{limit.frame_s:12.3f}"
        )


def show_stages(runs: dict[str, ProcessRun]) -> None:
    """Print each stage's timings and the mean fill of its input queue; a full queue means that the stage is slow."""
    for name, run in runs.items():
        if run.stages:
            print(f"\n{name}: {run.seconds:.1f} s, of which the fit {run.fit_s:.1f} s")
        for stage in run.stages:
            print(stage.line() + ("" if stage.fill is None else f"{stage.fill:8.2f} waiting"))


def measure_grid(clip: Path, folder: Path, options: Sequence[str], choices: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the default at several strides, load sizes and clip lengths."""
    rows = []
    print(f"\n{'stride':>6}{'load size':>11}{'frames':>8}{'seconds':>9}{'s a frame':>11}{'peak MB':>9}")
    for stride, load_size, length in product(choices.strides, choices.load_sizes, choices.lengths):
        more = ["--stride", str(stride), "--load-size", str(load_size), "--end", str(first_seconds(clip, length))]
        run = run_program(clip, folder / f"{stride}-{load_size}-{length}", [*options, *more])
        row = {"stride": stride, "load_size": load_size, "frames": run.frames, "seconds": run.seconds}
        rows.append({**row, "peak_mb": run.peak_mb})
        each = run.seconds / run.frames
        print(f"{stride:6d}{load_size:11d}{run.frames:8d}{run.seconds:9.1f}{each:11.3f}{run.peak_mb:9.0f}", flush=True)
    return rows


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure and print what the options ask for, and return it for the JSON line."""
    model = options.model
    if model == "random":
        model = str(folder / "random.safetensors")
        write_random_model(Path(model))
    exact, quick = (paper_settings(model, folder, exact=exact) for exact in (True, False))
    common = ["--model", model, "--config", str(exact)]
    found: dict[str, Any] = {"benchmark": "speed", "model": options.model, "threads": torch.get_num_threads()}
    found["machine"] = f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(found["machine"])
    if options.frames:
        end = ["--end", str(first_seconds(options.clip, options.frames))]
        run_program(options.clip, folder / "warm", [*common, "--end", str(first_seconds(options.clip, 1))])
        short, longer = (run_paper(options.clip, folder, common, frames) for frames in (1, 1 + options.paper_frames))
        runs = {"paper": longer.beyond(short)}
        limits = {}
        for name in ("default", *options.presets):
            file = exact if name == "default" else quick
            preset = [] if name == "default" else ["--preset", name]
            before = _limit(options, model, file, name)
            runs[name] = run_program(
                options.clip, folder / name, ["--model", model, "--config", str(file), *preset, *end]
            )
            limits[name] = before.between(_limit(options, model, file, name))
        rows = table(runs, {"paper": limits["default"], **limits})
        show_table(rows)
        show_limits(limits)
        show_stages(runs)
        found |= {"rows": rows, "limits": {name: asdict(limit) for name, limit in limits.items()}}
        found["stages"] = {name: [stage.model_dump() for stage in run.stages] for name, run in runs.items()}
    if options.lengths:
        found["grid"] = measure_grid(options.clip, folder, common, options)
    return found


def _limit(options: argparse.Namespace, model: str, config: Path, name: str) -> Limit:
    shape = resolve_model(model).backbone.config
    size_hw = resolve_inputs([str(options.clip)], fps=25)[0].probe().size_hw
    settings = with_values(load_settings(config), {"preset": None if name == "default" else name})
    return measure_limit(shape, settings, settings.features.processed_size(size_hw), options.frames)


def main() -> None:
    """Parse the options, measure, print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description="Compare the program's speed with the paper's method.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="random", help="random, or what vidparts --model takes")
    parser.add_argument("--frames", type=int, default=64, help="0 skips all tables but the one of --lengths")
    parser.add_argument("--paper-frames", type=int, default=2)
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--strides", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--load-sizes", type=int, nargs="+", default=[160, 224])
    parser.add_argument("--lengths", type=int, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidparts-speed-") as folder:
        found = measure(options, Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
