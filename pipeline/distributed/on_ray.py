"""Workers on a Ray cluster: a local one, or one that runs already. Only paths and small records go through it.

Nothing is installed on a node and no frame goes into the object store: every node has the same environment and sees the
same files, which a worker checks before its first unit.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.distributed.units import Completion, Died, Pool, Unit
from pipeline.errors import UsageError, WorkersError
from pipeline.files import remove

_PREFIX = "vidparts-ray-"

_STORE_BYTES = 80_000_000
"""Of the object store of a local Ray, near the least that Ray takes: nothing large goes through it."""

_POLL_S = 1.0
"""Seconds between two looks at the cluster, and at signals."""

_CONNECT_S = 10.0
"""Seconds until an address counts as dead."""

_LOST_S = 60.0
"""Seconds without any node after which there is no hope."""


class OnRay(Pool):
    """Tasks on a Ray cluster; a dead worker's or node's unit is handed back, and never repeated by Ray itself."""

    def __init__(self, output: Path, workers: int | None, address: str | None, processors: int, *, gpu: bool) -> None:
        """Connect.

        Args:
            output: the run's directory, which every node sees.
            workers: tasks at a time; None: one a node.
            address: HOST:PORT of the head node; None: a Ray of this machine's own, which ends with this pool.
            processors: of this machine.
            gpu: whether each task takes a GPU.

        Raises:
            UsageError: Ray isn't installed, or the address isn't one.
            WorkersError: there is no Ray at the address.
        """
        super().__init__()
        self._ray = import_ray()
        self._output = str(output.absolute())
        self._running: dict[Any, Unit] = {}
        self._folder: Path | None = None
        if address is None:
            self._folder = _make_folder()
        # Its threads write to whatever is standard output, of nodes and workers whose ends the coordinator deals with.
        self._silence = contextlib.redirect_stdout(_Nowhere())
        self._silence.__enter__()
        try:
            _connect(self._ray, address, processors, self._folder)
            self._most, share = self._divided(workers)
        except BaseException:
            self.close()
            raise
        options = {"num_cpus": share, "num_gpus": int(gpu), "max_retries": 0, "max_calls": 0}
        self._task = self._ray.remote(**options, scheduling_strategy="SPREAD")(_answer)

    def completions(self) -> Iterator[Completion]:
        """Each unit that is done, until none is left.

        Raises:
            WorkersError: no node is left.
        """
        seen = time.monotonic()
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._most:
                unit = self._waiting.popleft()
                self._running[self._task.remote(self._output, unit)] = unit
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)
            for reference in done:
                yield Completion(self._running.pop(reference), self._outcome(reference))
            if done or any(node["Alive"] for node in self._nodes()):
                seen = time.monotonic()
            elif time.monotonic() - seen > _LOST_S:
                raise WorkersError("no node of the Ray cluster is left; start some, then --resume continues")

    def close(self) -> None:
        """Leave the cluster, which ends what runs for a driver that has gone; a local one ends.

        Nothing is cancelled before: Ray aborts the driver where an answer meets its cancellation.
        """
        self._ray.shutdown()
        self._silence.__exit__(None, None, None)
        if self._folder is not None:
            remove(self._folder)

    def _outcome(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return WorkersError(f"a node can't run vidparts ({_last_line(error)}); install the same there as here")
        except self._ray.exceptions.RayError as error:
            return Died(f"by {type(error).__name__}")

    def _nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ray.nodes()
        return found

    def _divided(self, workers: int | None) -> tuple[int, int]:
        """How many tasks run at a time, and the processors of each."""
        counts = [int(node["Resources"].get("CPU", 0)) for node in self._nodes() if node["Alive"]]
        counts = [count for count in counts if count]
        if not counts:
            raise WorkersError("the Ray cluster has no node with a processor; start one by `ray start`")
        wanted = workers or len(counts)
        # The largest share of which so many fit into the nodes.
        for share in range(min(max(counts), math.ceil(sum(counts) / wanted)), 1, -1):
            if sum(count // share for count in counts) >= wanted:
                return wanted, share
        return wanted, 1


def _answer(output: str, unit: Unit) -> Any:
    """Do a unit in a worker of Ray's, and end with the node: a unit may take long, and Ray waits for it."""
    node = os.getppid()
    if "node" not in {thread.name for thread in threading.enumerate()}:
        threading.Thread(target=_end_with, args=(node,), name="node", daemon=True).start()
    from pipeline.distributed.worker import answer

    return answer(output, unit)


def _end_with(node: int) -> None:
    while os.getppid() == node:
        time.sleep(_POLL_S)
    os._exit(1)


def _make_folder() -> Path:
    """A directory for a local Ray; what a coordinator that was killed left of one is removed.

    Ray's sockets lie in it, whose names may have 107 bytes.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _lives(int(owner)):
            remove(left)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _lives(process: int) -> bool:
    if os.name == "nt":
        # There, signal 0 isn't a question.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def import_ray() -> Any:
    """Ray, if it is installed.

    Raises:
        UsageError: it isn't.
    """
    # Read when it is imported: nothing is reported to anyone, and a loopback address stays what it is.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # What listens at an address and isn't Ray is given up after one try of half a minute, not twenty.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "engine 'ray' isn't installed; `pip install 'vidparts[ray]'` installs it, --engine local needs nothing"
        ) from error
    return ray


def _connect(ray: Any, address: str | None, processors: int, folder: Path | None) -> None:
    if address is not None:
        _require_open(address)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            own = {"num_cpus": processors, "object_store_memory": _STORE_BYTES, "_temp_dir": str(folder)}
            ray.init(address="local", **own, **quiet)
        else:
            del quiet["include_dashboard"]
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        place = f"at '{address}'" if address else "of this machine's own"
        raise WorkersError(f"there is no Ray {place} ({_last_line(error)}); check it by `ray status`") from error
    finally:
        # Ray takes SIGTERM for itself; ours says what is kept and ends with code 130.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, handler)


def _require_open(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise WorkersError(
            f"nothing answers at '{address}' ({error}); give HOST:PORT of a Ray cluster's head as `ray status` shows it"
        ) from error


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-1].split()) if lines else type(error).__name__


class _Nowhere(io.TextIOBase):
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)
