import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = """
features: {load_size: 48, stride: 8}
saliency: {threshold: 0.35}
cluster: {parts: 3, sample_interval: 3, restarts: 1, frames: 16}
crf: {iterations: 0}
"""


def peak_bytes(clip: Path, out: Path, model: Path, config: Path) -> int:
    """The largest resident memory of a run of its own."""
    command = ["segment", clip, "-o", out, "--model", model, "--config", config, "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, command)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system doesn't tell a process's peak memory")
def test_memory_does_not_grow_with_the_length_of_the_clip(
    tmp_path: Path, make_clip: Callable[..., Path], tiny_model: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    # 500 more frames of 192 x 256 held anywhere would be 70 MB more.
    short, long = (make_clip(tmp_path / f"{n}.mp4", frames=n, size_hw=(192, 256)) for n in (50, 550))
    before = peak_bytes(short, tmp_path / "short", tiny_model, config)
    after = peak_bytes(long, tmp_path / "long", tiny_model, config)
    assert after < before * 1.1, (before, after)
    assert after - before < 40e6, (before, after)
