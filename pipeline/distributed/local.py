"""Workers as processes of this machine, and work in this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.distributed.units import Completion, Died, Pool, Unit, Value


class Inline(Pool):
    """Work in this process, one unit after another."""

    def __init__(self, work: Callable[[Unit], Value]) -> None:
        """Say what does a unit."""
        super().__init__()
        self._work = work

    def completions(self) -> Iterator[Completion]:
        """Each unit, done now."""
        while self._waiting:
            unit = self._waiting.popleft()
            outcome: Value | Exception
            try:
                outcome = self._work(unit)
            except Exception as error:  # noqa: BLE001 -- whoever takes it raises it, or says it
                outcome = error
            yield Completion(unit, outcome)

    def close(self) -> None:
        """Nothing runs."""


class Processes(Pool):
    """Processes of this machine, which share its processors; one that dies is replaced.

    They are spawned: a script that starts them needs `if __name__ == "__main__":`, as Python's documentation says.
    """

    def __init__(self, output: Path, workers: int, processors: int) -> None:
        """Start nothing yet; at most `workers` processes will share the machine's `processors`."""
        super().__init__()
        self._output = str(output.absolute())
        self._most = workers
        self._threads = max(1, processors // workers)
        self._workers: list[_Worker] = []

    def completions(self) -> Iterator[Completion]:
        """Each unit that is done, until none is left."""
        while self._waiting or any(worker.unit for worker in self._workers):
            self._hand_out()
            busy = {worker.pipe: worker for worker in self._workers if worker.unit}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                unit, worker.unit = worker.unit, None
                assert unit is not None
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    self._workers.remove(worker)
                    outcome = Died(f"ended with code {worker.process.exitcode}")
                yield Completion(unit, outcome)

    def close(self) -> None:
        """End all processes; what one of them was writing aside is removed with the run."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._workers if worker.unit is None), None)
            if free is None:
                if len(self._workers) == self._most:
                    return
                free = _Worker(self._output, self._threads)
                self._workers.append(free)
            free.unit = self._waiting.popleft()
            # A process that has died is noticed where its answer is awaited.
            with suppress(OSError):
                free.pipe.send(free.unit)


class _Worker:
    """A process, our end of its pipe, and the unit it is at."""

    def __init__(self, output: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.unit: Unit | None = None
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, output), daemon=True)
        with _threads_set(threads):
            self.process.start()
        theirs.close()


@contextmanager
def _threads_set(count: int) -> Iterator[None]:
    """A process that starts now gives its libraries so many threads: they read it once, when they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count if before is None else min(count, int(before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _serve(pipe: Connection, output: str) -> None:
    """Do units until the pipe ends; end at once with the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Descriptor 1 is the answer of the command, which the coordinator gives.
    os.dup2(2, 1)
    from pipeline.distributed.worker import answer

    with suppress(EOFError):
        while True:
            pipe.send(answer(output, pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
