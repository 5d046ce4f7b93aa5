"""The options that commands share, and how they become `Settings`."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import (
    Backend,
    ClusteringMethod,
    Device,
    EngineName,
    Facet,
    PaletteName,
    Preset,
    SaliencySource,
    load_settings,
)
from pipeline.progress import Progress, progress_for

Inputs = Annotated[
    list[str], typer.Argument(help="Videos, directories of frames, globs, or a text file of paths.", metavar="INPUT")
]
Images = Annotated[list[str], typer.Argument(help="Pictures, directories of pictures, or globs.", metavar="IMAGE")]
Moved = Annotated[Path | None, typer.Option("--source", help="The input, if it has moved since.")]
Result = Annotated[Path, typer.Argument(help="The directory of a finished input: OUT/<name>.", metavar="RESULT")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where results are written.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, to the same bytes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the run would take, and do nothing.")]
CodebookFile = Annotated[
    Path | None, typer.Option("--codebook", help="Use the parts of this codebook instead of fitting one.")
]


def _method(
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Trade exactness for speed (see `vidparts info`).")] = None,
    model: Annotated[
        str | None, typer.Option(help="Name (see `vidparts info`), or a .safetensors or .pth file.")
    ] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of a local model that doesn't say.")] = None,
    load_size: Annotated[int | None, typer.Option(help="Short side of the processed picture, pixels.")] = None,
    stride: Annotated[int | None, typer.Option(help="Distance of patches, pixels; divides the patch.")] = None,
    layer: Annotated[int | None, typer.Option(help="Block to read, from 0.")] = None,
    facet: Annotated[Facet | None, typer.Option(help="Facet to read.")] = None,
    device: Annotated[Device | None, typer.Option(help="Where the ViT runs.")] = None,
    backend: Annotated[Backend | None, typer.Option(help="Library that runs the ViT.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of k-means.")] = None,
    batch: Annotated[int | None, typer.Option(help="Frames that go through the ViT together.")] = None,
) -> dict[str, Any]:
    return {
        "config": config,
        "preset": preset,
        "model": model,
        "model_heads": heads,
        "features.load_size": load_size,
        "features.stride": stride,
        "features.layer": layer,
        "features.facet": facet,
        "run.device": device,
        "run.backend": backend,
        "run.seed": seed,
        "run.batch": batch,
    }


def _frames(
    every: Annotated[int | None, typer.Option(help="Process every Nth frame.", metavar="N")] = None,
    start: Annotated[float | None, typer.Option(help="Seconds to begin at.")] = None,
    end: Annotated[float | None, typer.Option(help="Seconds to end at.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frame rate of directories of frames.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail before the work where a video is damaged.")] = False,
) -> dict[str, Any]:
    return {
        "input.every": every,
        "input.start": start,
        "input.end": end,
        "input.fps": fps,
        "input.strict": strict or None,
    }


def _clusters(
    clustering: Annotated[ClusteringMethod | None, typer.Option(help="What finds clusters and parts.")] = None,
) -> dict[str, Any]:
    return {"cluster.method": clustering}


def _parts(parts: Annotated[int | None, typer.Option(help="Parts to find.")] = None) -> dict[str, Any]:
    return {"cluster.parts": parts}


def _fit(
    frames: Annotated[int | None, typer.Option("--fit-frames", help="Frames of all inputs to fit on.")] = None,
    saliency: Annotated[SaliencySource | None, typer.Option(help="What tells foreground in a video.")] = None,
) -> dict[str, Any]:
    return {"cluster.frames": frames, "saliency.source": saliency}


def _render(
    alpha: Annotated[float | None, typer.Option(help="Opacity of the colours, 0 to 1.")] = None,
    palette: Annotated[PaletteName | None, typer.Option(help="Colours of the parts.")] = None,
) -> dict[str, Any]:
    return {"render.alpha": alpha, "render.palette": palette}


def _memory(
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Resident memory to stay below, as 4G or 512MiB.")
    ] = None,
) -> dict[str, Any]:
    return {"run.max_memory": max_memory}


def _progress(
    json_progress: Annotated[bool, typer.Option("--json-progress", help="Progress as JSON lines on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log on stderr what is done and why.")] = False,
) -> Progress:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr
    )
    return progress_for(sys.stderr, json_progress)


def _workers(
    engine: Annotated[
        EngineName | None, typer.Option(help="Spread the work: processes here, or a Ray cluster.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Workers; 1 a node or every 4 processors by default.")] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Head of a Ray cluster; one of this machine's own by default.", metavar="HOST:PORT"),
    ] = None,
    shard_frames: Annotated[
        int | None, typer.Option(help="Frames that a worker does at a time, about; 64 to 512.")
    ] = None,
    mixed_devices: Annotated[
        bool, typer.Option("--mixed-devices", help="Take any processors and GPUs; bytes may differ then.")
    ] = False,
) -> dict[str, Any]:
    return {
        "engine": engine,
        "count": workers,
        "address": address,
        "shard_frames": shard_frames,
        "mixed_devices": mixed_devices or None,
    }


Group = Callable[..., dict[str, Any]]
METHOD, FRAMES, CLUSTERS, PARTS, FIT, MEMORY, RENDER = _method, _frames, _clusters, _parts, _fit, _memory, _render
WORKERS = _workers


def settings_from(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of some groups; it gets them as `settings: Settings`, and `progress: Progress`.

    Those of `WORKERS` it gets as `workers`, a dict of what was given. The command declares its own options and the
    keyword arguments it wants, which don't show on the command line.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        wanted = inspect.signature(command, eval_str=True).parameters
        own = [parameter for name, parameter in wanted.items() if name not in {"settings", "progress", "workers"}]
        offered: tuple[Callable[..., Any], ...] = (*groups, _progress)
        shared = {group: inspect.signature(group, eval_str=True).parameters for group in offered}

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            taken = {
                group: group(**{name: values.pop(name) for name in names if name in values})
                for group, names in shared.items()
            }
            progress = taken.pop(_progress)
            if WORKERS in taken:
                values["workers"] = {name: value for name, value in taken.pop(WORKERS).items() if value is not None}
            overrides = {key: value for group in taken.values() for key, value in group.items()}
            if "settings" in wanted:
                values["settings"] = load_settings(overrides.pop("config", None), overrides)
            command(**values, progress=progress)

        parameters = [*own, *(parameter for names in shared.values() for parameter in names.values())]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        wrapper.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
        del wrapper.__wrapped__
        return wrapper

    return decorate
