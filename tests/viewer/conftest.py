"""Results to look at, the server that shows them, and the system's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_settings
from pipeline.tasks.segment import segment
from tests.conftest import Film, write_film

# Frames at uneven times, in units of 1/12,800 s: 512 are 1/25 s.
UNEVEN = [0, 512, 1024, 1100, 2560, 3072, 3585, 5120, 5632, 6144, 9000, 9512]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_values: dict[str, Any]) -> Path:
    """A folder with `even.mp4`, `uneven.mp4` of a variable rate, and `out`; the grey of a frame tells its number."""
    folder = tmp_path_factory.mktemp("viewer")
    films = [
        write_film(folder / "even.mp4", Film(frames=40)),
        write_film(folder / "uneven.mp4", Film(frames=len(UNEVEN), pts=UNEVEN)),
    ]
    segment(films, folder / "out", load_settings(overrides=small_values)).raise_failures()
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, OUT, beside its films."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for name in ("even", "uneven"):
        file = tmp_path / "out" / name / "run.json"
        file.write_text(file.read_text().replace(str(finished), str(tmp_path)))
    return tmp_path / "out"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's Chromium; nothing is downloaded."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is a test dependency")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("VIDPARTS_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("there is no Chromium here: apt-get install chromium, or say with VIDPARTS_CHROMIUM where it is")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that fails its test for any message of an error, and for any request that leaves this machine."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if is_foreign(request.url) else None)
    page.problems = problems
    yield page
    context.close()
    assert not problems, problems


def is_foreign(address: str) -> bool:
    return not address.startswith(("http://127.0.0.1:", "file://", "data:", "blob:"))
