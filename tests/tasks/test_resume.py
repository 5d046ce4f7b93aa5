"""Resuming after SIGKILL, interrupts and full disks: equal bytes, and no work repeated."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import PRESETS, Settings, with_defaults, with_values
from pipeline.errors import InputError, Interrupted, OutputError, UsageError
from pipeline.progress import Silent
from pipeline.runs.manifest import Manifest
from pipeline.runs.workspace import locked
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]
Run = Callable[..., "Child"]
Whole = tuple[Mapping[str, Any], float, int]
"""A result, its time in seconds, and its number of disk operations."""

RUNNER = """
import gc, json, os, resource, shutil, signal, sys
import pipeline.__main__, pipeline.tasks.segment, pipeline.features.extractor, pipeline.cli
import av, faiss, numpy, zarr
from pipeline.config import CrfSettings
from pipeline.kernels import infer_labels

infer_labels(numpy.zeros((2, 8, 8), numpy.float32), numpy.zeros((8, 8, 3), numpy.uint8), CrfSettings(iterations=1))

def steps(deadly):
    count = 0
    def counted(real):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    for name in ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "truncate"):
        setattr(os, name, counted(getattr(os, name)))
    return lambda: count

# A child that collects garbage would copy all that is here.
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        shutil.disk_usage = lambda _: shutil._ntuple_diskusage(2**40, 0, 2**40)
        if order["limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
        counted = steps(order["die_at_step"])
        sys.argv[1:] = order["arguments"]
        try:
            pipeline.__main__.program()
        finally:
            os.write(1, f"\\nsteps={counted()}\\n".encode())
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Child:
    """A run in a forked process, with all imports done and the kernels compiled."""

    def __init__(self, runner: subprocess.Popen, log: Path) -> None:
        self._runner, self._log = runner, log
        self.pid = int(runner.stdout.readline())
        self._code: int | None = None

    def wait(self) -> int:
        if self._code is None:
            self._code = int(self._runner.stdout.readline())
        return self._code

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def steps(self) -> int:
        return int(self.log.rsplit("steps=", 1)[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Start a command: `run("segment", ..., die_at_step=0, limit=0)`; one at a time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUNNER]
    log = tmp_path_factory.mktemp("log") / "log"
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as runner:

        def start(*arguments: object, die_at_step: int = 0, limit: int = 0) -> Child:
            words = [str(argument) for argument in arguments]
            order = {"arguments": words, "die_at_step": die_at_step, "limit": limit, "log": str(log)}
            runner.stdin.write(json.dumps(order) + "\n")
            runner.stdin.flush()
            return Child(runner, log)

        yield start
        runner.stdin.close()


def contents(out: Path) -> Mapping[str, Any]:
    """All files of a directory as bytes; of run.json without times, and without the report, which shows them."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.name == "run.json":
            record = json.loads(path.read_text())
            found[str(path.relative_to(out))] = {
                key: value for key, value in record.items() if key not in {"fit_seconds", "stages"}
            }
        elif path.is_file() and path.name != "report.html":
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, make_clip: ClipMaker, tiny_model: Path) -> list[object]:
    """A clip and a directory of frames, with options for a run of a second: torch has no graph to compile."""
    folder = tmp_path_factory.mktemp("work")
    clip = make_clip(folder / "walk.mp4", frames=35, size_hw=(64, 80))
    (folder / "frames").mkdir()
    for number in range(17):
        picture = np.full((48, 64, 3), 90, np.uint8)
        picture[10:30, number : number + 20] = (200, 50, 5 * number)
        Image.fromarray(picture).save(folder / "frames" / f"f{number}.png")
    config = folder / "small.yaml"
    config.write_text(
        "cluster: {sample_interval: 3, restarts: 2, frames: 9, parts: 3}\n"
        "saliency: {threshold: 0.35}\n"
        "crf: {iterations: 1}\n"
        "run: {backend: torch}\n"
    )
    options = ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--device", "cpu", "--config", config]
    return ["segment", clip, folder / "frames", "--save-frames", *options]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, run: Run, work: list[object]) -> Whole:
    """Output, time and number of disk operations of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    # The first run also fills caches, which are on the disk.
    for out in (folder / "first", folder / "out"):
        started = time.monotonic()
        child = run(*work, "-o", out)
        assert child.wait() == 0, child.log
    return contents(out), time.monotonic() - started, child.steps


def test_kills_at_random_moments_change_no_byte(tmp_path: Path, run: Run, work: list[object], whole: Whole) -> None:
    expected, seconds, _ = whole
    chance = random.Random(20)
    kills = rounds = 0
    while kills < 12:
        rounds += 1
        out = tmp_path / f"out{rounds}"
        code = -signal.SIGKILL
        while code:
            child = run(*work, "-o", out, "--resume")
            if kills < 12:
                child.kill_after(chance.uniform(0.0, 0.5 * seconds))
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.log
            kills += code != 0
        assert contents(out) == expected
        assert not (out / ".run").exists()


def test_kills_at_random_steps_on_the_disk_change_no_byte(
    tmp_path: Path, run: Run, work: list[object], whole: Whole
) -> None:
    expected, _, steps = whole
    chance = random.Random(3)
    # The last operations finish the run; random times seldom hit them.
    moments = [*chance.sample(range(1, steps + 1), 3), *chance.sample(range(steps - 30, steps + 1), 3)]
    for number, moment in enumerate(moments):
        out = tmp_path / f"out{number}"
        assert run(*work, "-o", out, die_at_step=moment).wait() == -signal.SIGKILL, moment
        again = run(*work, "-o", out, "--resume")
        assert again.wait() == 0, (moment, again.log)
        assert contents(out) == expected, moment


class StopAfter(Silent):
    """Interrupts a run from inside after some frames of a pass."""

    def __init__(self, name: str, frames: int) -> None:
        super().__init__()
        self._at, self._frames, self._now = name, frames, ""

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        self._now = name
        self.advance(0)

    def advance(self, frames: int = 1, name: str = "") -> None:
        if self._now == self._at:
            self._frames -= frames
            if self._frames <= 0:
                raise Interrupted


@pytest.fixture
def settings(small_settings: Settings) -> Settings:
    return with_defaults(small_settings, {"cluster": {"frames": 4}})


def test_an_interrupt_keeps_what_is_finished_and_resume_computes_only_the_rest(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, described: list[int]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=21)
    segment([clip], tmp_path / "whole", settings)
    for number, moment in enumerate([("fit", 2), ("fit", 4), ("walk", 3), ("walk", 16), ("walk", 21)]):
        out = tmp_path / f"out{number}"
        described.clear()
        with pytest.raises(Interrupted, match="the same command with --resume continues"):
            segment([clip], out, settings, progress=StopAfter(*moment))
        before = sum(described)
        segment([clip], out, settings, resume=True).raise_failures()
        assert contents(out) == contents(tmp_path / "whole")
        # Only frames between the ViT and the label store are lost: three queues of two, and five in stages.
        assert 21 <= sum(described) <= 21 + 11, (moment, before)


def test_batches_are_those_of_a_run_that_was_not_interrupted(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, described: list[int]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=21)
    by_five = with_defaults(settings, {"run": {"batch": 5}})
    segment([clip], tmp_path / "whole", by_five)
    usual = list(described)
    described.clear()
    with pytest.raises(Interrupted):
        segment([clip], tmp_path / "out", by_five, progress=StopAfter("walk", 13))
    described.clear()
    segment([clip], tmp_path / "out", by_five, resume=True)
    assert described == usual[-len(described) :]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("batch", "moments"), [(1, [("walk", 17), ("walk", 30)]), (3, [("walk", 17), ("fit", 2)])])
def test_presets_resume_to_the_same_bytes(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, preset: str, batch: int, moments: list[tuple[str, int]]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=35)
    chosen = with_values(settings, {"preset": preset, "run.batch": batch, "crf.iterations": 1})
    segment([clip], tmp_path / "whole", chosen)
    for number, moment in enumerate(moments):
        out = tmp_path / f"out{number}"
        with pytest.raises(Interrupted, match="the same command with --resume continues"):
            segment([clip], out, chosen, progress=StopAfter(*moment))
        segment([clip], out, chosen, resume=True).raise_failures()
        assert contents(out) == contents(tmp_path / "whole"), moment


@pytest.mark.parametrize(
    "values",
    [
        {"saliency.source": "both", "saliency.places": 1.0, "temporal.window": 3},
        {"saliency.places": 1.0, "run.batch": 4},
        {"temporal.window": 2, "keyframes.interval": 5, "saliency.source": "motion", "saliency.places": 0.5},
        {"temporal.window": 2, "keyframes.interval": 2, "crf.unary_px": 2},
    ],
)
def test_windows_in_time_resume_to_the_same_bytes(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, values: dict[str, Any]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=35)
    chosen = with_values(settings, {**values, "crf.iterations": 1})
    segment([clip], tmp_path / "whole", chosen)
    for frames in (1, 15, 17, 33):
        out = tmp_path / f"out{frames}"
        with pytest.raises(Interrupted):
            segment([clip], out, chosen, progress=StopAfter("walk", frames))
        segment([clip], out, chosen, resume=True).raise_failures()
        assert contents(out) == contents(tmp_path / "whole"), frames


def test_an_interrupt_before_anything_is_finished_leaves_nothing(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    with pytest.raises(Interrupted, match=r"^$"):
        segment([clip], tmp_path / "out", settings, progress=StopAfter("fit", 0))
    assert not (tmp_path / "out").exists()


def interrupted(clip: Path, out: Path, settings: Settings, **options: Any) -> None:
    with pytest.raises(Interrupted, match="--resume"):
        segment([clip], out, settings, progress=StopAfter(clip.stem, 17), **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cluster": {"parts": 2}}, r"cluster\.parts 3 \(now 2\)"),
        ({"run": {"seed": 5}}, r"run\.seed 0 \(now 5\)"),
        ({"features": {"stride": 4}}, r"features\.stride 8 \(now 4\)"),
        ({"render": {"alpha": 0.5}, "crf": {"iterations": 3}}, r"crf\.iterations 10 \(now 3\), render\.alpha"),
    ],
)
def test_resume_with_other_settings_is_refused(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, change: dict[str, Any], named: str
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    interrupted(clip, tmp_path / "out", settings)
    before = contents(tmp_path / "out")
    other = Settings.model_validate(_merged(settings.model_dump(), change))
    with pytest.raises(UsageError, match=named):
        segment([clip], tmp_path / "out", other, resume=True)
    assert contents(tmp_path / "out") == before


def _merged(values: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {**value, **change.get(key, {})} if isinstance(value, dict) else value for key, value in values.items()
    }


def test_resume_with_other_inputs_is_refused(tmp_path: Path, make_clip: ClipMaker, settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    out = tmp_path / "out"
    interrupted(clip, out, settings)
    before = contents(out)
    other = make_clip(tmp_path / "other.mp4", frames=18)
    with pytest.raises(UsageError, match=r"number of inputs 1 \(now 2\), input other None"):
        segment([clip, other], out, settings, resume=True)
    with pytest.raises(UsageError, match=r"save-frames False \(now True\)"):
        segment([clip], out, settings, resume=True, save_frames=True)
    content = bytearray(clip.read_bytes())
    content[len(content) // 2] ^= 1
    clip.write_bytes(content)
    with pytest.raises(UsageError, match=r"input walk [0-9a-f]{12} \(now [0-9a-f]{12}\)"):
        segment([clip], out, settings, resume=True)
    assert contents(out) == before


def test_an_unfinished_run_is_not_touched_unasked(tmp_path: Path, make_clip: ClipMaker, settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    out = tmp_path / "out"
    interrupted(clip, out, settings)
    before = contents(out)
    with pytest.raises(OutputError, match=r"unfinished run; --resume continues it, --overwrite starts again"):
        segment([clip], out, settings)
    assert contents(out) == before
    segment([clip], out, settings, overwrite=True).raise_failures()
    assert contents(out) == contents(_whole(tmp_path, clip, settings))


def _whole(tmp_path: Path, clip: Path, settings: Settings) -> Path:
    segment([clip], tmp_path / "whole", settings).raise_failures()
    return tmp_path / "whole"


def test_an_interrupted_replacement_is_finished_and_the_old_result_stands_until_then(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    out = tmp_path / "out"
    segment([clip], out, with_defaults(settings, {"render": {"alpha": 0.2}}))
    before = contents(out / "walk")
    interrupted(clip, out, settings, overwrite=True)
    assert contents(out / "walk") == before
    segment([clip], out, settings, resume=True).raise_failures()
    assert contents(out) == contents(_whole(tmp_path, clip, settings))


def test_resume_of_a_finished_run_does_nothing(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    out = tmp_path / "out"
    first = segment([clip], out, settings, resume=True)
    assert "beginning a new one" in capsys.readouterr().err
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = segment([clip], out, settings, resume=True)
    assert again == first
    assert "nothing to resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps
    with pytest.raises(UsageError, match=r"finished, and was made with .*run\.seed 0 \(now 9\)"):
        segment([clip], out, with_defaults(settings, {"run": {"seed": 9}}), resume=True)
    other = make_clip(tmp_path / "other.mp4", frames=5)
    with pytest.raises(OutputError, match="exists"):
        segment([clip, other], out, settings, resume=True)


def test_resume_goes_on_with_another_batch_and_queue_depth_to_the_same_bytes(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=21)
    interrupted(clip, tmp_path / "out", settings)
    other = with_defaults(settings, {"run": {"batch": 5, "queue_depth": 1, "max_memory": 2**40}})
    segment([clip], tmp_path / "out", other, resume=True).raise_failures()
    assert contents(tmp_path / "out") == contents(_whole(tmp_path, clip, settings))
    assert segment([clip], tmp_path / "out", other, resume=True).finished


def test_what_a_batch_can_change_on_a_gpu_is_refused_there(settings: Settings) -> None:
    def plan(device: str, **run: int) -> Manifest:
        given = with_defaults(settings, {"run": run})
        facts = {"packages": {}, "model": "m", "fingerprint": "f", "inputs": (), "codebook_sha256": None}
        facts |= {"backend": "torch", "processor": "p"}
        return Manifest(**facts, save_frames=False, device=device, settings=given)

    assert plan("cpu", batch=2).differences(plan("cpu", batch=8, queue_depth=9, max_memory=2**40)) == []
    assert plan("cuda", batch=2).differences(plan("cuda", batch=8, queue_depth=9)) == ["run.batch 2 (now 8)"]


def test_resume_tells_again_which_input_failed_and_does_nothing(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make_clip(tmp_path / "walk.mp4", frames=5), tmp_path / "out"
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    first = segment([clip, broken], out, settings)
    with pytest.raises(InputError, match=r"broken: .*1 other inputs are finished") as told:
        first.raise_failures()
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = segment([clip, broken], out, settings, resume=True)
    assert again.finished == first.finished
    with pytest.raises(InputError, match=re.escape(str(told.value))):
        again.raise_failures()
    assert "nothing to resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps
    with pytest.raises(OutputError, match="walk' exists"):
        segment([clip, broken], out, settings)
    with pytest.raises(UsageError, match=r"run\.seed 0 \(now 7\)"):
        segment([clip, broken], out, with_defaults(settings, {"run": {"seed": 7}}), resume=True)
    make_clip(broken, frames=5)
    segment([clip, broken], out, settings, overwrite=True).raise_failures()
    assert not (out / ".run").exists()


def test_a_codebook_that_was_given_belongs_to_the_run(tmp_path: Path, make_clip: ClipMaker, settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=18)
    codebook = segment([clip], tmp_path / "one", settings).codebook
    interrupted(clip, tmp_path / "out", settings, codebook=codebook)
    with pytest.raises(UsageError, match=r"codebook [0-9a-f]{12} \(now none\)"):
        segment([clip], tmp_path / "out", settings, resume=True)
    segment([clip], tmp_path / "out", settings, codebook=codebook, resume=True).raise_failures()
    segment([clip], tmp_path / "whole", settings, codebook=codebook).raise_failures()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_second_run_into_the_same_directory_is_refused_while_the_first_lives(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    out = tmp_path / "out"
    with locked(out), pytest.raises(OutputError, match=rf"another run \(process {os.getpid()}\)"):
        segment([clip], out, settings, overwrite=True)
    assert not out.exists()
    out.mkdir()
    (out / ".lock").write_text("1\n")
    segment([clip], out, settings).raise_failures()
    assert not (out / ".lock").exists()


def test_a_lock_dies_with_its_owner(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from pipeline.runs.workspace import locked
with locked(Path({str(tmp_path / "out")!r})):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"process {owner.pid}"), locked(tmp_path / "out"):
            pass
        owner.kill()
        owner.wait()
    with locked(tmp_path / "out"):
        pass


def test_a_disk_without_room_is_refused_before_any_work(
    tmp_path: Path, make_clip: ClipMaker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=30)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**20, 2**20 - 5000, 5000))
    with pytest.raises(OutputError, match=r"has 0\.00 MiB free, and the run takes about .* MiB \(labels"):
        segment([clip], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [1000, 30_000])
def test_a_file_that_may_not_grow_ends_the_run_with_4_and_loses_nothing(
    tmp_path: Path, run: Run, work: list[object], whole: Whole, limit: int
) -> None:
    out = tmp_path / "out"
    child = run(*work, "-o", out, limit=limit)
    assert child.wait() == 4, child.log
    assert "Traceback" not in child.log
    again = run(*work, "-o", out, "--resume")
    assert again.wait() == 0, again.log
    assert contents(out) == whole[0]


@pytest.mark.parametrize("kib", [40, 100, 130, 300, 480])
def test_a_full_disk_ends_the_run_with_4_and_loses_nothing(
    tmp_path: Path,
    run: Run,
    work: list[object],
    whole: Whole,
    kib: int,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    try:
        child = run(*work, "-o", disk / "out")
        assert child.wait() == 4, child.log
        assert "Traceback" not in child.log
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again = run(*work, "-o", disk / "out", "--resume")
        assert again.wait() == 0, again.log
        assert contents(disk / "out") == whole[0]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_twenty_runs_side_by_side_give_what_one_gives(tmp_path: Path, make_clip: ClipMaker, settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    outs = [tmp_path / f"out{number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda out: segment([clip], out, settings).raise_failures(), outs))
    expected = contents(_whole(tmp_path, clip, settings))
    assert all(contents(out) == expected for out in outs)


def test_labels_do_not_depend_on_the_number_of_threads(
    tmp_path: Path, run: Run, work: list[object], make_clip: ClipMaker
) -> None:
    clip, out = make_clip(tmp_path / "walk.mp4", frames=6, size_hw=(64, 80)), tmp_path / "two"
    command = ["segment", clip, *work[4:], "--backend", "openvino"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    words = [sys.executable, "-m", "pipeline", *map(str, command), "-o", out]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    one = run(*command, "-o", tmp_path / "one")
    assert one.wait() == 0, one.log
    assert contents(out) == contents(tmp_path / "one")
