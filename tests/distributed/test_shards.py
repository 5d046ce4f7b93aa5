"""Shards give the bytes of one process: by local workers, by job arrays, after deaths and interrupts, with presets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings, with_values
from pipeline.distributed import worker
from pipeline.distributed.pools import Workers
from pipeline.tasks.segment import segment
from pipeline.tasks.shard import shard

Result = Callable[[Path], dict[str, Any]]


@pytest.fixture(autouse=True)
def forget_open_runs() -> None:
    worker.open_run.cache_clear()


def in_array(clips: list[Path], out: Path, settings: Settings, jobs: int, **options: Any) -> None:
    """Plan, do every share in this process, and join."""
    planned = segment(clips, out, settings, workers=Workers(shard_frames=16), plan_only=True, **options)
    assert planned.planned
    for index in range(jobs):
        shard(out, index, jobs).raise_failures()
    segment(clips, out, settings, resume=True, **options).raise_failures()


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
    in_array(clips, tmp_path / "out", settings, jobs=3)
    assert read_result(tmp_path / "out") == whole


@pytest.mark.parametrize("preset", ["fast", "draft"])
def test_presets_give_the_bytes_of_one_process(
    tmp_path: Path, clips: list[Path], settings: Settings, preset: str, read_result: Result
) -> None:
    chosen = with_values(settings, {"preset": preset, "run.batch": 2})
    segment(clips[:1], tmp_path / "whole", chosen).raise_failures()
    in_array(clips[:1], tmp_path / "out", chosen, jobs=2)
    assert read_result(tmp_path / "out") == read_result(tmp_path / "whole")
