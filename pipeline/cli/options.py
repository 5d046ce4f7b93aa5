"""The options that commands share, and how they become `Settings`."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Option:
    """An option that several commands have; its value is None where it isn't given."""

    kind: Any
    flag: str
    help: str
    metavar: str | None = None

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter of a command, of the flag's name."""
        name = self.flag.removeprefix("--").replace("-", "_")
        shown = typer.Option(None, self.flag, help=self.help, metavar=self.metavar)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=shown, annotation=self.kind | None)


Group = Mapping[str, Option]
"""Options by the names of what they give: settings as `load_settings` takes them, or the fields of `Workers`."""

METHOD: Group = {
    "config": Option(Path, "--config", "YAML file of settings."),
    "preset": Option(Preset, "--preset", "Trade exactness for speed (see `vidparts info`)."),
    "model": Option(str, "--model", "Name (see `vidparts info`), or a .safetensors or .pth file."),
    "model_heads": Option(int, "--heads", "Attention heads of a local model that doesn't say."),
    "features.load_size": Option(int, "--load-size", "Short side of the processed picture, pixels."),
    "features.stride": Option(int, "--stride", "Distance of patches, pixels; divides the patch."),
    "features.layer": Option(int, "--layer", "Block to read, from 0."),
    "features.facet": Option(Facet, "--facet", "Facet to read."),
    "run.device": Option(Device, "--device", "Where the ViT runs."),
    "run.backend": Option(Backend, "--backend", "Library that runs the ViT."),
    "run.seed": Option(int, "--seed", "Seed of k-means."),
    "run.batch": Option(int, "--batch", "Frames that go through the ViT together."),
}
FRAMES: Group = {
    "input.every": Option(int, "--every", "Process every Nth frame.", "N"),
    "input.start": Option(float, "--start", "Seconds to begin at."),
    "input.end": Option(float, "--end", "Seconds to end at."),
    "input.fps": Option(float, "--fps", "Frame rate of directories of frames."),
    "input.strict": Option(bool, "--strict", "Fail before the work where a video is damaged."),
}
CLUSTERS: Group = {"cluster.method": Option(ClusteringMethod, "--clustering", "What finds clusters and parts.")}
PARTS: Group = {"cluster.parts": Option(int, "--parts", "Parts to find.")}
FIT: Group = {
    "cluster.frames": Option(int, "--fit-frames", "Frames of all inputs to fit on."),
    "saliency.source": Option(SaliencySource, "--saliency", "What tells foreground in a video."),
}
MEMORY: Group = {"run.max_memory": Option(str, "--max-memory", "Resident memory to stay below, as 4G or 512MiB.")}
RENDER: Group = {
    "render.alpha": Option(float, "--alpha", "Opacity of the colours, 0 to 1."),
    "render.palette": Option(PaletteName, "--palette", "Colours of the parts."),
}
WORKERS: Group = {
    "engine": Option(EngineName, "--engine", "Spread the work: processes here, or a Ray cluster."),
    "count": Option(int, "--workers", "Workers; 1 a node or every 4 processors by default."),
    "address": Option(str, "--address", "Head of a Ray cluster; one of this machine's own by default.", "HOST:PORT"),
    "shard_frames": Option(int, "--shard-frames", "Frames that a worker does at a time, about; 64 to 512."),
    "mixed_devices": Option(bool, "--mixed-devices", "Take any processors and GPUs; bytes may differ then."),
}


def _progress(
    json_progress: Annotated[bool, typer.Option("--json-progress", help="Progress as JSON lines on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log on stderr what is done and why.")] = False,
) -> Progress:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr
    )
    return progress_for(sys.stderr, json_progress)


def settings_from(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of some groups; it gets them as `settings: Settings`, and `progress: Progress`.

    Those of `WORKERS` it gets as `workers`, a dict of what was given. The command declares its own options and the
    keyword arguments it wants, which don't show on the command line.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        wanted = inspect.signature(command, eval_str=True).parameters
        own = [parameter for name, parameter in wanted.items() if name not in {"settings", "progress", "workers"}]
        shown = inspect.signature(_progress, eval_str=True).parameters

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            progress = _progress(**{name: values.pop(name) for name in shown})
            overrides: dict[str, Any] = {}
            for group in groups:
                given = {key: values.pop(option.parameter.name) for key, option in group.items()}
                if group is WORKERS:
                    values["workers"] = {name: value for name, value in given.items() if value is not None}
                else:
                    overrides |= given
            if "settings" in wanted:
                values["settings"] = load_settings(overrides.pop("config", None), overrides)
            command(**values, progress=progress)

        parameters = [*own, *(option.parameter for group in groups for option in group.values()), *shown.values()]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        wrapper.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
        del wrapper.__wrapped__
        return wrapper

    return decorate
