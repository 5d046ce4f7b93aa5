"""The forecast of `--dry-run` against real runs; times aren't asserted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import Settings, with_defaults
from pipeline.errors import InputError, UsageError
from pipeline.features.extractor import Extractor
from pipeline.forecast.cost import NOTHING, Cost, free_processors, overlapped
from pipeline.forecast.dry_run import estimate
from pipeline.forecast.flops import describe_flops, vote_flops
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(size(entry) for entry in path.iterdir())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Records for each picture in the ViT whether saliency was computed too."""
    found: list[bool] = []
    real = Extractor.extract_taps

    def counted(self: Extractor, images: list, taps: list, *, saliency: bool = False) -> object:
        found.extend([saliency] * len(images))
        return real(self, images, taps, saliency=saliency)

    monkeypatch.setattr(Extractor, "extract_taps", counted)
    return found


def test_frames_grid_and_operations_are_those_of_the_run(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, passes: list[bool]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=20, size_hw=(96, 128))
    settings = with_defaults(small_settings, {"cluster": {"frames": 6}, "saliency": {"half_size": False}})
    found = estimate([clip], settings)
    passes.clear()
    record = segment([clip], tmp_path / "out", settings).finished[0].record
    (walk,) = found.inputs
    assert (walk.frames, walk.source_hw, walk.processed_hw) == (record.source.frames, (96, 128), (48, 64))
    assert walk.grid_hw == (6, 8)
    assert found.channels == 48
    assert walk.described == len(passes) == 20
    assert passes.count(True) == 6
    extractor = open_engine(settings, Silent()).extractor
    voting = vote_flops(extractor, (96, 128), attends=True)
    assert found.flops == 6 * voting + 14 * describe_flops(extractor, (48, 64))
    assert found.cache_bytes == 6 * 6 * 8 * 49 * 4
    assert found.cost.wall_s > 0
    assert found.cost.cpu_s > 0
    assert found.peak_bytes > 2**27


def test_bytes_are_those_of_the_run_where_the_probe_sees_all_frames(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=20)
    codebook = segment([clip], tmp_path / "first", small_settings).codebook
    (found,) = estimate([clip], small_settings, codebook=codebook, save_frames=True).inputs
    (done,) = segment([clip], tmp_path / "out", small_settings, codebook=codebook, save_frames=True).finished
    assert found.picture_bytes == pytest.approx(size(done.directory / "frames"), abs=1)
    assert found.label_bytes == pytest.approx(size(done.directory / "labels.zarr"), abs=1)
    assert found.clip_bytes == pytest.approx(size(done.directory / "overlay.mp4"), abs=2500)
    assert found.fit == NOTHING


def test_a_dry_run_writes_nothing_and_tells_a_program_all_figures(
    tmp_path: Path, make_clip: ClipMaker, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=9)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    words = ["--model", tiny_model, "--load-size", 48, "--stride", 8, "--device", "cpu", "--dry-run", "--json-progress"]
    for command, output in (("segment", "out"), ("fit", "parts.safetensors")):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in (command, clip, broken, "-o", tmp_path / output, *words)])
        assert not left.value.code
        assert sorted(tmp_path.iterdir()) == before
        told = capsys.readouterr()
        (facts,) = [json.loads(line) for line in told.err.splitlines() if '"estimate"' in line]
        assert facts["inputs"][0]["frames"] == 9
        assert "broken.mp4" in facts["failures"][0]
        assert facts["flops"] > 0
        assert facts["peak_bytes"] > 0
        assert facts["written_bytes"].pop("records") > 0
        assert bool(facts["written_bytes"]) == (command == "segment")
        assert "walk: 9 frames of 64x48, processed at 64x48: 8x6 descriptors of 48 channels" in told.out
        assert "TFLOP" in told.out
        assert "nothing was written" in told.out


def test_key_frames_lower_the_operations(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=40)
    every = with_defaults(small_settings, {"cluster": {"frames": 4}})
    some = with_defaults(every, {"keyframes": {"interval": 8}})
    assert estimate([clip], some).flops < 0.8 * estimate([clip], every).flops


def test_with_more_samples_than_key_frames_each_key_frame_counts_once(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, passes: list[bool]
) -> None:
    clip = make_clip(tmp_path / "walk.mp4", frames=40)
    wanted = {"keyframes": {"interval": 8, "lost": 1.0}, "saliency": {"half_size": False}}
    settings = with_defaults(small_settings, wanted)
    assert settings.cluster.frames > 40
    found = estimate([clip], settings)
    passes.clear()
    segment([clip], tmp_path / "out", settings)
    # Frames 0, 8, 16, 24 and 32 in the fit, and the last one, 39, in pass 2.
    assert found.inputs[0].described == len(passes) == 6
    assert found.cache_bytes == 5 * 6 * 8 * 49 * 4


def test_what_would_fail_fails(tmp_path: Path, make_clip: ClipMaker, small_settings: Settings) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    with pytest.raises(InputError, match=r"broken\.mp4"):
        estimate([broken], small_settings)
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    with pytest.raises(UsageError, match="--max-memory"):
        estimate([clip], with_defaults(small_settings, {"run": {"max_memory": 1000}}))


def test_the_longest_stage_or_the_processors_set_the_pace() -> None:
    stages = [Cost(4.0, 4.0), Cost(1.0, 2.0), Cost(2.0, 2.0)]
    assert overlapped(stages, processors=16) == Cost(4.0, 8.0)
    assert overlapped(stages, processors=1) == Cost(8.0, 8.0)
    assert 0 < free_processors(seconds=0.1) <= (os.cpu_count() or 1)
