"""An evaluation as the user asks for it, and the run that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.evaluation.datasets.davis import Year
from pipeline.evaluation.reports import Run, Summary
from pipeline.features.vit import FACETS, Tap
from pipeline.progress import Progress, Silent
from pipeline.stages.engine import Engine, middle_layer, open_engine
from pipeline.version import __version__

INDIFFERENT = ("model", "render", "input")
"""Settings that no figure depends on: the model counts by its fingerprint, and all frames of a video are taken."""


@dataclass(frozen=True, slots=True)
class Request:
    """An evaluation as it is asked for; see `evaluate` for what the fields mean."""

    name: str
    data: Path
    output: Path
    settings: Settings
    progress: Progress
    limit: int | None = None
    protocol: Literal["paper", "standard"] = "paper"
    method: Literal["ours", "dff"] = "ours"
    year: Year = 2016
    layers: tuple[int, ...] | None = None
    overwrite: bool = False

    @property
    def aside(self) -> Progress:
        """Progress for passes within an item: messages pass through, the bar shows items only."""
        return Aside(self.progress)

    def open_engine(self, **values: object) -> Engine:
        """The model with the request's settings.

        Args:
            values: settings that the protocol fixes, by name with `__` for the dot. Where it reads layers of its own,
                `features__layer` is one that every model has.

        Raises:
            ModelError: the model can't be loaded.
        """
        fixed = {name.replace("__", "."): value for name, value in values.items()}
        return open_engine(with_values(self.settings, fixed), self.progress)

    def open_run(self, engine: Engine, **more: object) -> Run:
        """The run; earlier results are continued only where all that they depend on is the same.

        Args:
            engine: model and settings.
            more: what else the results depend on, by name.
        """
        settings: dict[str, Any] = engine.settings.model_dump(mode="json", exclude=set(INDIFFERENT))
        settings["run"] = {"seed": engine.settings.run.seed}
        settings |= {
            "benchmark": self.name,
            "data": str(self.data.resolve()),
            "model": {"name": engine.extractor.identity.name, "fingerprint": engine.fingerprint},
            "program": f"vidparts {__version__}",
        }
        return Run(self.output, {**settings, **more}, self.progress, self.limit, self.overwrite)

    def swept_layers(self, engine: Engine) -> tuple[int, ...]:
        """The layers to sweep: those asked for, else three quarters of the depth and the last one.

        Raises:
            UsageError: the model has no such layer.
        """
        depth = engine.extractor.backbone.config.depth
        layers = self.layers or (middle_layer(engine), depth - 1)
        for layer in layers:
            if not 0 <= layer < depth:
                raise UsageError(f"layer {layer} is to be swept; the model has layers 0 to {depth - 1}")
        return tuple(dict.fromkeys(layers))


class Aside(Silent):
    """Shows nothing of its passes, but hands messages on."""

    def __init__(self, progress: Progress) -> None:
        """Hand messages to `progress`."""
        self._progress = progress

    def say(self, message: str) -> None:
        """Hand the line on."""
        self._progress.say(message)


def taps_of(layers: Sequence[int]) -> tuple[Tap, ...]:
    """All facets of some layers."""
    return tuple(Tap(layer, facet) for layer in layers for facet in FACETS)


def with_notes(run: Run, summary: Summary, engine: Engine, notes: Sequence[str] = ()) -> Summary:
    """The same summary, written again with what measured the figures, and with other notes."""
    features = engine.settings.features
    name, size, least = engine.extractor.identity.name, features.load_size, features.enlarge_to
    short = f"{least} to {size}" if least is not None and size is not None and least < size else str(size)
    loaded = "at its own size" if size is None else f"short side {short} pixels"
    model = f"Model {name} ({engine.fingerprint[:12]}), {loaded}, stride {features.stride}."
    return run.write_summary(replace(summary, notes=(*summary.notes, *notes, model)))
