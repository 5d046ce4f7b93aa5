"""A Ray cluster of two nodes on this machine: a worker is killed, a node goes, and no byte is another."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from pipeline.config import Settings
from pipeline.tasks.segment import segment

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
if find_spec("ray") is None:
    pytest.skip("Ray isn't installed: no wheel for this Python, or the extra is left out", allow_module_level=True)

Result = Callable[[Path], dict[str, Any]]


class Cluster:
    """Two nodes with a processor each, whose processes are known by a mark in their environment."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self.mark = f"VIDPARTS_TEST={uuid4().hex}"
        name, value = self.mark.split("=")
        os.environ[name] = value
        try:
            node = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}
            self._cluster = RayCluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
            self._second = self._cluster.add_node(**node)
        finally:
            del os.environ[name]
        self.address = self._cluster.address

    def kill_worker(self) -> None:
        os.kill(wait_for(lambda: processes(self.mark, b"ray::_answer"))[0], signal.SIGKILL)

    def remove_node(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


def processes(mark: str, beginning: bytes = b"") -> list[int]:
    """The processes with a mark in their environment whose command begins so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (folder / "environ").read_bytes()
            if marked and (folder / "cmdline").read_bytes().startswith(beginning):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(look: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it didn't come"
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster()
    try:
        yield nodes
    finally:
        nodes.shutdown()
    wait_for(lambda: not processes(nodes.mark), seconds=30)


@pytest.fixture(scope="session")
def ending() -> Iterator[list[str]]:
    """Marks of processes that end by themselves, which is waited for once all tests are done.

    Ray's own agents try for a minute to tell the head what became of their node.
    """
    marks: list[str] = []
    yield marks
    wait_for(lambda: not any(map(processes, marks)), seconds=150)


@pytest.fixture
def command(clips: list[Path], settings: Settings, tmp_path: Path) -> list[str]:
    """`vidparts segment` on the clips, without `--output`."""
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(exclude_unset=True)))
    return [sys.executable, "-m", "pipeline", "segment", *map(str, clips), "--config", str(config)]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def shards_of(out: Path) -> int:
    return len(list(out.glob(".run/shards/*/*/shard.json")))


def test_a_killed_worker_and_a_lost_node_change_no_byte(
    tmp_path: Path,
    cluster: Cluster,
    command: list[str],
    environment: dict[str, str],
    whole: dict[str, Any],
    read_result: Result,
) -> None:
    out = tmp_path / "out"
    options = [
        "-o",
        str(out),
        "--engine",
        "ray",
        "--address",
        cluster.address,
        "--workers",
        "2",
        "--shard-frames",
        "16",
    ]
    with subprocess.Popen([*command, *options], env=environment, stdout=-1, stderr=-1, text=True) as run:
        wait_for(lambda: shards_of(out) >= 1 or run.poll() is not None)
        cluster.kill_worker()
        wait_for(lambda: shards_of(out) >= 4 or run.poll() is not None)
        cluster.remove_node()
        output, log = run.communicate()
    assert run.returncode == 0, log
    assert read_result(out) == whole
    assert not (out / ".run").exists()
    # Only the command's own answer: nothing that Ray says.
    assert output.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert not [line for line in output.splitlines() if re.search(r"\bray|pid=|INFO", line)], output
    wait_for(lambda: not processes(cluster.mark, b"ray::_answer"), seconds=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_a_coordinator_that_dies_and_resume_goes_on(
    tmp_path: Path,
    clips: list[Path],
    settings: Settings,
    command: list[str],
    environment: dict[str, str],
    whole: dict[str, Any],
    read_result: Result,
    ending: list[str],
    number: signal.Signals,
) -> None:
    out, mark = tmp_path / "out", f"VIDPARTS_TEST={uuid4().hex}"
    marked = {**environment, **dict([mark.split("=")])}
    options = ["-o", str(out), "--shard-frames", "16"]
    with subprocess.Popen([*command, *options, "--engine", "ray"], env=marked, stderr=-1, text=True) as run:
        wait_for(lambda: shards_of(out) >= 2 or run.poll() is not None)
        run.send_signal(number)
        _, log = run.communicate()
    assert run.returncode == (130 if number == signal.SIGTERM else -number), log
    assert number == signal.SIGKILL or "--resume continues" in log
    wait_for(lambda: not processes(mark, b"ray::_answer"), seconds=30)
    ending.append(mark)
    assert shards_of(out) >= 2
    segment(clips, out, settings, resume=True).raise_failures()
    assert read_result(out) == whole


def test_an_address_where_no_cluster_is_and_an_engine_that_is_not_installed_are_one_line(
    tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        nobody = [*command, "-o", str(tmp_path / "out"), "--engine", "ray", "--address", address]
        done = subprocess.run(nobody, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"nothing answers at '{address}'" in done.stderr
    assert not (tmp_path / "out").exists()
