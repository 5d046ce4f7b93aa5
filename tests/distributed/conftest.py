"""Clips of four kinds that shards must agree on, and what a run of one process makes of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.tasks.segment import segment
from tests.conftest import Film, write_film

FRAMES = 44
"""Two full chunks of labels, and a part of one."""
FILMS: dict[str, dict[str, Any]] = {
    "fixed.mp4": {"options": {"g": "8", "bf": "2"}, "audio": "aac", "audio_seconds": 1.5},
    "vfr.mp4": {"options": {"g": "8"}, "pts": [number * 512 + number % 3 * 100 for number in range(FRAMES)]},
    "open.mp4": {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3"}},
    "stream.ts": {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}, "time_base": Fraction(1, 25)},
}


def scenes(frames: int) -> Iterator[NDArray[np.uint8]]:
    """A blob of two colours that wanders over noise."""
    random = np.random.default_rng(0)
    noise = random.integers(80, 120, (48, 64, 3), dtype=np.uint8)
    y, x = np.mgrid[:48, :64]
    for number in range(frames):
        picture = np.roll(noise, number // 3, axis=1)
        disc = (x - 12 - number * 0.6) ** 2 + (y - 24 - 6 * np.sin(number / 5)) ** 2 < 14**2
        picture[disc & (y < 24)] = (220, 60, 40)
        picture[disc & (y >= 24)] = (40, 60, 230)
        yield picture


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A clip of fixed rate with sound, one of variable rate, one of open GOPs, and a transport stream."""
    folder = tmp_path_factory.mktemp("clips")
    pictures = list(scenes(FRAMES))
    return [write_film(folder / name, Film(frames=FRAMES, pictures=pictures, **facts)) for name, facts in FILMS.items()]


@pytest.fixture(scope="session")
def settings(tiny_model: Path) -> Settings:
    """Settings with which the clips take seconds."""
    return Settings.model_validate(
        {
            "model": str(tiny_model),
            "features": {"load_size": 48, "stride": 8},
            "saliency": {"threshold": 0.35},
            "cluster": {"parts": 3, "frames": 9, "sample_interval": 3, "restarts": 2},
            "crf": {"iterations": 2},
            "run": {"device": "cpu"},
        }
    )


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, clips: list[Path], settings: Settings) -> dict[str, Any]:
    """What one process makes of the clips."""
    out = tmp_path_factory.mktemp("whole") / "out"
    segment(clips, out, settings).raise_failures()
    return checksums(out)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, clips: list[Path], settings: Settings) -> dict[str, Any]:
    """What one process makes of the first clip alone."""
    out = tmp_path_factory.mktemp("first") / "out"
    segment(clips[:1], out, settings).raise_failures()
    return checksums(out)


def checksums(out: Path) -> dict[str, Any]:
    """SHA-256 of every file of a directory; of run.json the content, without times; the report shows them."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.name == "run.json":
            record = json.loads(path.read_text())
            found[name] = {key: value for key, value in record.items() if key not in {"fit_seconds", "stages"}}
        elif path.is_file() and path.name != "report.html":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture
def read_result() -> Callable[[Path], dict[str, Any]]:
    """A function that gives the checksums of a run's results."""
    return checksums
