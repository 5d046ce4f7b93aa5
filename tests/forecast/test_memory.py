import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Settings, with_defaults
from pipeline.errors import UsageError
from pipeline.forecast import memory
from pipeline.forecast.memory import Capacity, size_run
from pipeline.forecast.workload import count_work
from pipeline.media.inputs import resolve_inputs
from pipeline.progress import Silent
from pipeline.stages.engine import Engine, open_engine
from pipeline.tasks.segment import segment

CONFIG = """
features: {load_size: 48, stride: 8}
saliency: {threshold: 0.35}
cluster: {parts: 3, sample_interval: 3, restarts: 1, frames: 16}
crf: {iterations: 0}
"""


def command(clip: Path, out: Path, model: Path, config: Path, *options: str) -> list[str]:
    words = ["segment", clip, "-o", out, "--model", model, "--config", config, "--device", "cpu", *options]
    return [sys.executable, "-m", "pipeline", *map(str, words)]


# A forked process's peak includes its parent's memory, so the parent must be small.
LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_bytes(clip: Path, out: Path, model: Path, config: Path, *options: str) -> int:
    """Peak resident memory of a run in a process of its own."""
    run = command(clip, out, model, config, *options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *run], check=True, stdout=subprocess.PIPE, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system doesn't tell a process's peak memory")
def test_memory_does_not_grow_with_the_length_of_the_clip(
    tmp_path: Path, make_clip: Callable[..., Path], tiny_model: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    # 250 more frames of 192 x 256 kept in memory would add 37 MB; from run to run it varies by less than 10 MB.
    short, long = (make_clip(tmp_path / f"{n}.mp4", frames=n, size_hw=(192, 256)) for n in (50, 300))
    before = peak_bytes(short, tmp_path / "short", tiny_model, config)
    after = peak_bytes(long, tmp_path / "long", tiny_model, config)
    assert after < before * 1.1, (before, after)
    assert after - before < 20e6, (before, after)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system doesn't tell a process's peak memory")
def test_a_run_stays_below_the_smallest_limit_that_it_accepts(
    tmp_path: Path, make_clip: Callable[..., Path], tiny_model: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    clip = make_clip(tmp_path / "large.mp4", frames=24, size_hw=(720, 1280))
    refused = subprocess.run(
        command(clip, tmp_path / "out", tiny_model, config, "--max-memory", "64M", "--batch", "4"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    needed = int(re.findall(r"takes about (\d+) MiB", refused.stderr)[0])
    # The interpreter's own memory varies by some pages.
    limit = needed + 8
    peak = peak_bytes(clip, tmp_path / "out", tiny_model, config, "--max-memory", f"{limit}MiB", "--batch", "4")
    assert 0.6 * limit < peak / 2**20 < limit


@pytest.fixture
def program_of_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own memory, which depends on earlier tests, counts as 0."""
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)


def sized_down(engine: Engine, clip: Path) -> list[Capacity]:
    """Batch and queue sizes of a run under decreasing limits, until it is refused."""
    limit, found = 2**34, []
    while True:
        given = with_defaults(engine.settings, {"run": {"max_memory": limit}})
        try:
            limited = replace(engine, settings=given)
            found.append(size_run(count_work(resolve_inputs([str(clip)], 25), limited, fits=True), limited))
        except UsageError:
            return found
        limit = found[-1].peak_bytes - 1


@pytest.mark.usefixtures("program_of_no_size")
def test_less_memory_means_a_smaller_cache_then_shorter_queues_then_smaller_batches(
    tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=150, size_hw=(240, 320))
    engine = open_engine(with_defaults(small_settings, {"run": {"batch": 8, "queue_depth": 4}}), Silent())
    found = sized_down(engine, clip)
    assert all(capacity.peak_bytes <= capacity.limit_bytes for capacity in found)
    runs = [(capacity.settings.run.queue_depth, capacity.settings.run.batch) for capacity in found]
    assert list(dict.fromkeys(runs)) == [(4, 8), (2, 8), (1, 8), (1, 4), (1, 2), (1, 1)]
    assert found[0].cache_bytes == 64 * 6 * 8 * 49 * 4


@pytest.mark.usefixtures("program_of_no_size")
def test_no_byte_depends_on_the_limit(tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=75, size_hw=(120, 160))
    wanted = with_defaults(small_settings, {"run": {"batch": 8, "queue_depth": 4}, "cluster": {"frames": 6}})
    sizes = sized_down(open_engine(wanted, Silent()), clip)
    assert (sizes[-1].settings.run.queue_depth, sizes[-1].settings.run.batch) == (1, 1)
    smallest = sizes[-1].limit_bytes
    scarce = with_defaults(wanted, {"run": {"max_memory": smallest}})
    one, two = (segment([clip], tmp_path / str(number), each) for number, each in enumerate((wanted, scarce)))
    assert one.finished[0].record.files == two.finished[0].record.files
    assert one.codebook.read_bytes() == two.codebook.read_bytes()
