"""Shards give the bytes of one process: by local workers, by job arrays, with presets, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from pipeline.config import Settings, with_values
from pipeline.distributed import shards, worker
from pipeline.distributed.plan import WHOLE, load_plan, save_plan
from pipeline.distributed.pools import Workers
from pipeline.errors import Interrupted, OutputError, UsageError, WorkerModelError, WorkersError
from pipeline.files import read_sealed, write_sealed
from pipeline.progress import Silent
from pipeline.runs import record
from pipeline.runs.workspace import Workspace
from pipeline.tasks.segment import segment
from pipeline.tasks.shard import shard
from tests.conftest import Film, write_film

Result = Callable[[Path], dict[str, Any]]


@pytest.fixture(autouse=True)
def forget_open_runs() -> None:
    """In a real job each process opens one run."""
    worker.open_run.cache_clear()


def plan_run(clips: list[Path], out: Path, settings: Settings, **options: Any) -> int:
    planned = segment(clips, out, settings, workers=Workers(shard_frames=16), plan_only=True, **options).planned
    assert planned
    return planned


def in_array(clips: list[Path], out: Path, settings: Settings, jobs: int, **options: Any) -> None:
    """Plan, do every share in this process, and join."""
    units = plan_run(clips, out, settings, **options)
    done = [shard(out, index, jobs) for index in range(jobs)]
    assert sum(each.done for each in done) == units
    assert not list((out / ".run" / "scratch").glob("*"))
    segment(clips, out, settings, resume=True, **options).raise_failures()
    assert not (out / ".run").exists()


def test_local_workers_give_the_bytes_of_one_process(
    tmp_path: Path, clips: list[Path], settings: Settings, whole: dict[str, Any], read_result: Result
) -> None:
    out = tmp_path / "out"
    segment(clips, out, settings, workers=Workers(count=2, shard_frames=32)).raise_failures()
    assert read_result(out) == whole
    assert not (out / ".run").exists()


def test_an_array_of_jobs_gives_the_bytes_of_one_process(
    tmp_path: Path, clips: list[Path], settings: Settings, whole: dict[str, Any], read_result: Result
) -> None:
    out = tmp_path / "out"
    assert plan_run(clips, out, settings) == 4 * 3
    assert [shard(out, index, 5).done for index in (1, 0, 2, 4, 3)] == [3, 3, 2, 2, 2]
    again = shard(out, 0, 5)
    assert (again.units, again.done) == (3, 0)
    assert not list(out.glob(f".run/shards/*/{WHOLE}"))
    segment(clips, out, settings, resume=True).raise_failures()
    assert read_result(out) == whole


@pytest.mark.parametrize("preset", ["fast", "draft"])
@pytest.mark.parametrize("batch", [1, 3])
def test_presets_give_the_bytes_of_one_process(
    tmp_path: Path, clips: list[Path], settings: Settings, preset: str, batch: int, read_result: Result
) -> None:
    chosen = with_values(settings, {"preset": preset, "run.batch": batch})
    segment(clips[:1], tmp_path / "whole", chosen).raise_failures()
    in_array(clips[:1], tmp_path / "out", chosen, jobs=2)
    assert read_result(tmp_path / "out") == read_result(tmp_path / "whole")


@pytest.mark.parametrize(("batch", "interval", "unary"), [(1, 1, None), (3, 1, 3), (1, 8, None), (2, 4, 2)])
def test_windows_in_time_give_the_bytes_of_one_process(
    tmp_path: Path,
    clips: list[Path],
    settings: Settings,
    batch: int,
    interval: int,
    unary: int | None,
    read_result: Result,
) -> None:
    windows = {"saliency.source": "both", "saliency.places": 1.0, "temporal.window": 3, "keyframes.interval": interval}
    chosen = with_values(settings, {**windows, "run.batch": batch, "crf.unary_px": unary})
    segment(clips[:1], tmp_path / "whole", chosen).raise_failures()
    in_array(clips[:1], tmp_path / "out", chosen, jobs=2)
    assert read_result(tmp_path / "out") == read_result(tmp_path / "whole")


def test_every_nth_frame_of_a_span_and_frames_as_pictures_give_the_bytes_of_one_process(
    tmp_path: Path, clips: list[Path], settings: Settings, read_result: Result
) -> None:
    chosen = with_values(settings, {"input.every": 2, "input.start": 0.4})
    segment(clips[2:], tmp_path / "whole", chosen, save_frames=True).raise_failures()
    pictures = tmp_path / "whole" / "open" / "frames"
    in_array([*clips[2:]], tmp_path / "out", chosen, jobs=1, save_frames=True)
    assert read_result(tmp_path / "out") == read_result(tmp_path / "whole")
    segment([pictures], tmp_path / "whole-frames", settings).raise_failures()
    in_array([pictures], tmp_path / "frames", settings, jobs=2)
    assert read_result(tmp_path / "frames") == read_result(tmp_path / "whole-frames")


def test_a_given_codebook_needs_no_fit(
    tmp_path: Path, clips: list[Path], settings: Settings, read_result: Result
) -> None:
    codebook = segment(clips[:1], tmp_path / "one", settings).codebook
    segment(clips[1:2], tmp_path / "whole", settings, codebook=codebook).raise_failures()
    in_array(clips[1:2], tmp_path / "out", settings, jobs=1, codebook=codebook)
    assert read_result(tmp_path / "out") == read_result(tmp_path / "whole")


def damage(clip: Path, target: Path) -> Path:
    data = bytearray(clip.read_bytes())
    middle = len(data) * 6 // 10
    data[middle : middle + 400] = bytes(each ^ 0x5A for each in data[middle : middle + 400])
    target.write_bytes(data)
    return target


def test_inputs_that_cannot_be_cut_are_done_as_one(
    tmp_path: Path, clips: list[Path], settings: Settings, read_result: Result
) -> None:
    timeless = write_film(
        tmp_path / "raw.h264", Film(frames=40, options={"g": "8", "bf": "0"}, time_base=Fraction(1, 25))
    )
    inputs = [clips[2], timeless, damage(clips[2], tmp_path / "damaged.mp4")]
    segment(inputs, tmp_path / "whole", settings).raise_failures()
    out = tmp_path / "out"
    # Three shards of two clips, and the one without times.
    assert plan_run(inputs, out, settings) == 3 + 3 + 1
    shard(out, 0, 1).raise_failures()
    assert [mark.parent.name for mark in out.glob(f".run/shards/*/{WHOLE}")] == ["damaged"]
    segment(inputs, out, settings, resume=True).raise_failures()
    assert read_result(out) == read_result(tmp_path / "whole")
    assert json.loads((out / "damaged" / "run.json").read_text())["source"]["lost_frames"] > 0


def test_where_damage_is_an_error_the_other_inputs_are_finished(
    tmp_path: Path, clips: list[Path], settings: Settings, read_result: Result
) -> None:
    strict = with_values(settings, {"input.strict": True})
    inputs = [clips[0], damage(clips[2], tmp_path / "damaged.mp4")]
    once = segment(inputs, tmp_path / "whole", strict)
    out = tmp_path / "out"
    spread = segment(inputs, out, strict, workers=Workers(count=1, shard_frames=16))
    assert [str(each.error) for each in spread.failures] == [str(each.error) for each in once.failures]
    assert read_result(out / "fixed") == read_result(tmp_path / "whole" / "fixed")


def test_shards_whose_seams_differ_are_not_joined(
    tmp_path: Path, clips: list[Path], settings: Settings, first: dict[str, Any], read_result: Result
) -> None:
    out = tmp_path / "out"
    plan_run(clips[:1], out, settings)
    shard(out, 0, 1)
    files = [out / ".run" / "shards" / "fixed" / start / "shard.json" for start in ("0", "16")]
    left, right = (json.loads(content) for content in filter(None, map(read_sealed, files)))
    assert right["before"] == left["last"]
    write_sealed(files[1], json.dumps({**right, "before": "0" * 64}).encode())
    segment(clips[:1], out, settings, resume=True).raise_failures()
    assert read_result(out) == first


@pytest.mark.parametrize("damaged", ["shard.json", "labels.zarr/zarr.json", "labels.zarr/c/0/0/0"])
def test_damaged_shards_are_not_joined(
    tmp_path: Path, clips: list[Path], settings: Settings, first: dict[str, Any], read_result: Result, damaged: str
) -> None:
    out = tmp_path / "out"
    plan_run(clips[:1], out, settings)
    shard(out, 0, 1)
    file = out / ".run" / "shards" / "fixed" / "32" / damaged
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    segment(clips[:1], out, settings, resume=True).raise_failures()
    assert read_result(out) == first


class StopAfter(Silent):
    """Asks for an end, as SIGTERM does, when a pass has come so far."""

    def __init__(self, name: str, frames: int) -> None:
        super().__init__()
        self.name, self.frames, self.running = name, frames, False

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        self.running = self.name in name

    def advance(self, frames: int = 1, name: str = "") -> None:
        self.frames -= frames * self.running
        if self.running and self.frames <= 0:
            raise Interrupted


def test_a_plain_run_goes_on_with_workers_and_theirs_goes_on_plainly(
    tmp_path: Path, clips: list[Path], settings: Settings, whole: dict[str, Any], read_result: Result
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="--resume"):
        segment(clips, out, settings, progress=StopAfter("vfr", 40))
    with pytest.raises(Interrupted, match="--resume"):
        segment(clips, out, settings, resume=True, workers=Workers(count=1, shard_frames=16),
                progress=StopAfter("shards", 64))  # fmt: skip
    plan = load_plan(Workspace(out))
    assert plan is not None
    # What the plain run has labelled isn't cut again.
    assert plan.inputs[1].cuts[0] == 32
    assert len(list(out.glob(".run/shards/*/*/shard.json"))) >= 4
    segment(clips, out, settings, resume=True).raise_failures()
    assert read_result(out) == whole


def command(clips: list[Path], settings: Settings, folder: Path) -> list[str]:
    config = folder / "settings.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(exclude_unset=True)))
    return [sys.executable, "-m", "pipeline", "segment", *map(str, clips), "--config", str(config)]


def marked(mark: str, beginning: bytes = b"") -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and beginning in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(look: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it didn't come"
        time.sleep(0.02)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("whom", ["a worker", "the coordinator", "the coordinator, politely"])
def test_deaths_lose_nothing_and_leave_nothing(
    tmp_path: Path, clips: list[Path], settings: Settings, first: dict[str, Any], read_result: Result, whom: str
) -> None:
    out, value = tmp_path / "out", uuid4().hex
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VIDPARTS_TEST": value}
    words = [*command(clips[:1], settings, tmp_path), "-o", str(out), "--shard-frames", "16", "--workers", "2"]
    with subprocess.Popen([*words, "--engine", "local"], env=environment, stderr=-1, stdout=-1, text=True) as run:
        wait_for(lambda: list(out.glob(".run/shards/*/*/shard.json")) or run.poll() is not None)
        if whom == "a worker":
            os.kill(marked(value, b"spawn_main")[0], signal.SIGKILL)
        else:
            run.send_signal(signal.SIGTERM if "politely" in whom else signal.SIGKILL)
        _, log = run.communicate()
    wait_for(lambda: not marked(value), seconds=30)
    if whom == "a worker":
        assert run.returncode == 0, log
    else:
        assert run.returncode == (130 if "politely" in whom else -signal.SIGKILL), log
        assert list(out.glob(".run/shards/*/*/shard.json"))
        assert whom == "the coordinator" or not list(out.glob(".run/scratch/*"))
        segment(clips[:1], out, settings, resume=True).raise_failures()
    assert read_result(out) == first
    assert not (out / ".run").exists()


def test_a_worker_that_dies_of_its_unit_ends_the_run_in_one_line(
    tmp_path: Path,
    clips: list[Path],
    settings: Settings,
    first: dict[str, Any],
    read_result: Result,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.distributed import local
    from pipeline.distributed.units import Completion, Died

    class Deadly(local.Inline):
        def completions(self) -> Any:
            for unit in iter(lambda: self._waiting.popleft() if self._waiting else None, None):
                yield Completion(unit, Died("ended with code -9"))

    out = tmp_path / "out"
    monkeypatch.setattr(Workers, "open", lambda self, output, gpu: Deadly(lambda unit: None))
    with pytest.raises(
        WorkersError, match=r"3 workers died one after another while frames \d+ to \d+ of 'fixed'.*code -9"
    ):
        segment(clips[:1], out, settings, workers=Workers())
    monkeypatch.undo()
    segment(clips[:1], out, settings, resume=True).raise_failures()
    assert read_result(out) == first


def test_workers_that_are_not_what_the_run_was_begun_with_refuse(
    tmp_path: Path, clips: list[Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    plan_run(clips[:1], out, settings)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(record, "installed_packages", lambda: {"torch": "1.0"})
        with pytest.raises(WorkersError, match=r"can't take part: .*package torch .* \(now 1\.0\)"):
            shard(out, 0, 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(record, "processor_kind", lambda: "other")
        with pytest.raises(WorkersError, match=r"processor .* \(now other\)"):
            shard(out, 0, 1)
    work = Workspace(out)
    plan = load_plan(work)
    assert plan is not None
    save_plan(work, plan.model_copy(update={"gpu": "H200, driver 1"}), [])
    with pytest.raises(WorkersError, match=r"GPU H200, driver 1 \(now none\)"):
        shard(out, 0, 1)
    save_plan(work, plan.model_copy(update={"gpu": "H200, driver 1", "mixed_devices": True}), [])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(record, "processor_kind", lambda: "other")
        shard(out, 0, 1).raise_failures()


def test_what_a_node_lacks_is_one_line(
    tmp_path: Path, clips: list[Path], settings: Settings, monkeypatch: pytest.MonkeyPatch, read_result: Result
) -> None:
    out, model = tmp_path / "out", tmp_path / "model.safetensors"
    model.write_bytes(Path(settings.model).read_bytes())
    own = with_values(settings, {"model": str(model)})
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(clips[0].read_bytes())
    with pytest.raises(OutputError, match=r"finds no plan in .*--plan"):
        shard(out, 0, 1)
    plan_run([clip], out, own)
    away = tmp_path / "away"
    model.rename(away)
    with pytest.raises(WorkerModelError, match=r"^on .*model\.safetensors"):
        shard(out, 0, 1)
    away.rename(model)
    clip.rename(away)
    with pytest.raises(WorkersError, match=r"doesn't see '.*clip\.mp4'"):
        shard(out, 0, 1)
    away.rename(clip)
    real = shards.publish_first

    def full(partial: Path, path: Path) -> bool:
        if path.name == "32":
            raise OSError(errno.ENOSPC, "no space")
        return real(partial, path)

    with monkeypatch.context() as disk:
        disk.setattr(shards, "publish_first", full)
        with pytest.raises(OutputError, match=r"frames 32 to 43 of 'clip': .*no space left"):
            shard(out, 0, 1).raise_failures()
    assert not list((out / ".run" / "scratch").glob("*"))
    assert shard(out, 0, 1).done == 1
    segment([clip], out, own, resume=True).raise_failures()
    segment([clip], tmp_path / "whole", own).raise_failures()
    assert read_result(out) == read_result(tmp_path / "whole")


@pytest.mark.parametrize(
    ("workers", "named"),
    [
        (Workers(count=0), "--workers is 0"),
        (Workers(shard_frames=0), "--shard-frames is 0"),
        (Workers(address="10.0.0.1:6379"), "--engine ray"),
        (Workers(engine="ray", address="ray://10.0.0.1:6379"), "expected HOST:PORT"),
        (Workers(engine="ray", address="head"), "expected HOST:PORT"),
    ],
)
def test_workers_that_cannot_be_are_refused_before_any_work(tmp_path: Path, workers: Workers, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        segment(["nothing.mp4"], tmp_path / "out", workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'vidparts\[ray\]'"):
        segment(["nothing.mp4"], tmp_path / "out", workers=Workers(engine="ray"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"fixed"', b'"../../elsewhere"'),
        (b'"cuts":[0,16,', b'"cuts":[0,8,16,'),
        (b'"cuts":[0,16,', b'"cuts":[0,16,16,'),
        (b"{", b"["),
    ],
)
def test_a_plan_leads_nowhere_else(
    tmp_path: Path, clips: list[Path], settings: Settings, before: bytes, after: bytes
) -> None:
    out = tmp_path / "out"
    plan_run(clips[:1], out, settings)
    plan = out / ".run" / "plan.json"
    sealed = read_sealed(plan)
    assert sealed is not None
    plan.write_bytes(plan.read_bytes().replace(before, after, 1))
    with pytest.raises(OutputError, match="damaged or of another version"):
        shard(out, 0, 1)
    write_sealed(plan, sealed.replace(before, after, 1))
    with pytest.raises(OutputError, match="damaged or of another version"):
        shard(out, 0, 1)
    with pytest.raises(UsageError, match="--index 4 --of 4"):
        shard(out, 4, 4)
