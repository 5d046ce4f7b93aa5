"""Which workers a run has: the user's choice, and the pool that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import EngineName
from pipeline.distributed.local import Processes
from pipeline.distributed.on_ray import OnRay, import_ray
from pipeline.distributed.units import Pool
from pipeline.errors import UsageError
from pipeline.graph import processors
from pipeline.runs.cutting import usual_length

_PROCESSORS_EACH = 4
"""Processors of a local worker by default: with more, one thread that paints or decodes is what they wait for."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What a run is spread over.

    Attributes:
        engine: processes of this machine, or tasks on a Ray cluster.
        count: units at a time; None: one for every four processors of this machine, or one a node.
        address: HOST:PORT of the Ray cluster's head; None: a Ray of this machine's own.
        shard_frames: about how many frames a unit has; None: by the number of frames and workers.
        mixed_devices: take workers with other processors and GPUs; bytes may differ then.
    """

    engine: EngineName = "local"
    count: int | None = None
    address: str | None = None
    shard_frames: int | None = None
    mixed_devices: bool = False

    def require(self) -> None:
        """Refuse what can't be, before any work is done.

        Raises:
            UsageError: Ray isn't installed, or an option belongs to the other engine or isn't possible.
        """
        for name, value in (("--workers", self.count), ("--shard-frames", self.shard_frames)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; expected at least 1")
        if self.engine == "local" and self.address is not None:
            raise UsageError("--address is of a Ray cluster; give --engine ray with it")
        if self.address is not None and ("://" in self.address or not self.address.rpartition(":")[2].isdecimal()):
            raise UsageError(
                f"--address is '{self.address}'; expected HOST:PORT of the cluster's head, as 10.0.0.1:6379"
            )
        if self.engine == "ray":
            import_ray()

    def on_this_machine(self) -> int:
        """How many workers run on this machine, as far as is known here."""
        return self.count or max(1, processors() // _PROCESSORS_EACH) if self.engine == "local" else 1

    def shard_length(self, frames: int) -> int:
        """About how many of so many frames a unit has."""
        return self.shard_frames or usual_length(frames, self.count or self.on_this_machine())

    def open(self, output: Path, *, gpu: bool) -> Pool:
        """The pool.

        Raises:
            WorkersError: there is no Ray at the address.
        """
        if self.engine == "ray":
            return OnRay(output, self.count, self.address, processors(), gpu=gpu)
        return Processes(output, self.on_this_machine(), processors())
