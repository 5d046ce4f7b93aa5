"""The plan of a distributed run (OUT/.run/plan.json): its inputs, where they are cut, and what workers must be."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from pipeline.config import Settings, with_values
from pipeline.device import device_kind
from pipeline.distributed.units import Finish, InputPath, Shard
from pipeline.documents import Document
from pipeline.errors import InputError, OutputError
from pipeline.files import read_sealed, write_file, write_sealed
from pipeline.media.inputs import open_source, safe_name
from pipeline.media.label_store import CHUNK_FRAMES
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.runs.cutting import cut_places
from pipeline.runs.streaming import Streaming
from pipeline.runs.workspace import Workspace

WHOLE = "whole"
"""The mark beside an input's shards that it can't be cut."""

Place = Annotated[int, Field(ge=0, lt=2**40)]


class PlannedInput(Document):
    """An input, and where it is cut: from each place to the next is a shard; without places it is done as one."""

    name: str
    path: Annotated[str, Field(min_length=1, max_length=32768)]
    pictures: tuple[str, ...] | None
    cuts: tuple[Place, ...]

    @field_validator("name")
    @classmethod
    def _safe(cls, name: str) -> str:
        # It becomes the name of directories.
        if safe_name(name) != name:
            raise ValueError("it is no name of a directory")
        return name

    @field_validator("cuts")
    @classmethod
    def _joinable(cls, cuts: tuple[int, ...]) -> tuple[int, ...]:
        if len(cuts) == 1 or any(cut % CHUNK_FRAMES for cut in cuts[:-1]) or any(b <= a for a, b in pairwise(cuts)):
            raise ValueError("they don't lie between chunks of labels, in order")
        return cuts


class Plan(Document):
    """How a run is divided; the manifest beside it says what the run is."""

    salt: str
    """Random: no two runs have the same plan."""
    inputs: tuple[PlannedInput, ...]
    sized: Settings
    """Complete settings, with the batch and the queues that fit a worker."""
    gpu: str
    """Name and driver of the coordinator's GPU; empty where there is none at work."""
    mixed_devices: bool
    warnings: tuple[str, ...]
    fit_seconds: float | None

    @property
    def token(self) -> str:
        """What tells this plan from all others."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def sources(self) -> tuple[Source, ...]:
        """The inputs, opened as they are here."""
        return tuple(open_input(self.input_path(number)) for number in range(len(self.inputs)))

    def input_path(self, number: int) -> InputPath:
        """Where an input is."""
        given = self.inputs[number]
        return InputPath(given.name, given.path, self.sized.input.fps, given.pictures)

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names."""
        return tuple(each.name for each in self.inputs)

    def shards(self, work: Workspace, number: int) -> list[Shard]:
        """The shards of an input; none where it isn't cut."""
        given = self.inputs[number]
        if (work.shards(given.name) / WHOLE).exists():
            return []
        token = self.token
        return [Shard(number, start, stop, token) for start, stop in pairwise(given.cuts)]

    def missing(self, work: Workspace, number: int) -> list[Shard]:
        """Those of its shards that aren't there yet."""
        name = self.inputs[number].name
        return [shard for shard in self.shards(work, number) if not shard_folder(work, name, shard.start).is_dir()]

    def finish(self, number: int) -> Finish:
        """The unit that makes an input's result."""
        return Finish(number, self.token)


def shard_folder(work: Workspace, name: str, start: int) -> Path:
    """Where the shard of an input from a frame on is."""
    return work.shards(name) / str(start)


def path_of(source: Source, fps: float) -> InputPath:
    """Where an input is, for a worker elsewhere."""
    given = source.given if isinstance(source, DirectorySource) else None
    pictures = None if given is None else tuple(str(file.absolute()) for file in given)
    return InputPath(source.name, str(source.path.absolute()), fps, pictures)


def open_input(given: InputPath) -> Source:
    """The input at a path."""
    pictures = None if given.pictures is None else [Path(file) for file in given.pictures]
    return open_source(Path(given.path), given.name, given.fps, pictures)


def make_plan(
    streaming: Streaming,
    sources: Sequence[Source],
    lost: set[str],
    sized: Settings,
    shard_frames: int,
    *,
    mixed_devices: bool,
) -> Plan:
    """Cut the inputs of a run whose codebook is there.

    Args:
        streaming: the run.
        sources: its inputs.
        lost: names of those that can't be done.
        sized: the settings with which a worker works.
        shard_frames: about how many frames a shard has.
        mixed_devices: whether workers with other processors and GPUs may take part.
    """
    fps = streaming.engine.settings.input.fps
    planned = []
    for source in sources:
        given = path_of(source, fps)
        cuts = () if source.name in lost else _cuts(streaming, source, shard_frames)
        planned.append(PlannedInput(name=given.name, path=given.path, pictures=given.pictures, cuts=cuts))
    return Plan(
        salt=secrets.token_hex(8),
        inputs=tuple(planned),
        sized=_with_absolute_model(sized),
        gpu=device_kind(streaming.engine.extractor.device),
        mixed_devices=mixed_devices,
        warnings=streaming.fitted.warnings,
        fit_seconds=streaming.fitted.seconds,
    )


def _with_absolute_model(settings: Settings) -> Settings:
    # A worker may stand in another directory.
    file = Path(settings.model)
    return with_values(settings, {"model": str(file.absolute())}) if file.is_file() else settings


def _cuts(streaming: Streaming, source: Source, shard_frames: int) -> tuple[int, ...]:
    try:
        writer = streaming.label_writer(source, streaming.work.partial(source.name))
        # What an interrupted run has labelled stays.
        return cut_places(source, streaming.engine, writer.size_hw, shard_frames, writer.resume())
    except InputError:
        return ()


def save_plan(work: Workspace, plan: Plan, sources: Sequence[Source]) -> None:
    """Write the plan, and what was found out about the inputs, so that no worker must again.

    Raises:
        OutputError: it can't be written.
    """
    for source in sources:
        index = None
        with suppress(InputError):
            index = source.save_index()
        if index is not None:
            write_file(work.packets(source.name), index)
    write_sealed(work.plan, plan.model_dump_json().encode())


def load_plan(work: Workspace) -> Plan | None:
    """The plan of an unfinished run; None where it has none.

    Raises:
        OutputError: it can't be read.
    """
    if not work.plan.is_file():
        return None
    try:
        return Plan.model_validate_json(read_sealed(work.plan) or b"")
    except ValidationError as error:
        raise OutputError(f"'{work.plan}' is damaged or of another version; start again with --overwrite") from error
