"""Fixtures for evaluation tests: runs without progress display, picture files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.evaluation.reports import Run


class Counted:
    """A progress display that counts items."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        self.total += total or 0

    def advance(self, frames: int = 1, name: str = "") -> None:
        self.done += frames

    def finish(self) -> None:
        assert self.done == self.total


MakeRun = Callable[..., Run]
WritePicture = Callable[[Path, NDArray[np.generic]], Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A `Run` into a new folder; takes the same options."""

    def make(**options: object) -> Run:
        return Run(**{"output": tmp_path / "out", "settings": {"seed": 0}, "progress": Counted(), **options})

    return make


@pytest.fixture
def write_picture() -> WritePicture:
    """Write an array as a picture and create its folder; 2-D arrays are grey, 3-D ones RGB."""

    def write(file: Path, pixels: NDArray[np.generic]) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file)
        return file

    return write
