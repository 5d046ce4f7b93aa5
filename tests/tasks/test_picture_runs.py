"""Runs over sets of pictures: interrupted, resumed, bounded, estimated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.features.extractor import Extractor
from pipeline.media.inputs import Picture, resolve_pictures
from pipeline.progress import Silent
from pipeline.runs import picture_files
from pipeline.runs.picture_workspace import PictureWorkspace
from pipeline.stages import picture_set
from pipeline.stages.engine import open_engine
from pipeline.stages.picture_set import fit_indices
from pipeline.tasks.coseg import coseg, estimate_coseg
from pipeline.tasks.parts import estimate_parts, parts

Job = Callable[..., object]
JOBS: dict[str, Job] = {"parts": parts, "coseg": coseg}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen pictures of a disc, one of which is broken."""
    folder = tmp_path_factory.mktemp("pictures") / "album"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = (48, 64) if number % 3 else (64, 48)
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (14 + number % 4) ** 2
        picture = np.where(disc[..., None], (220, 120 + 9 * number, 60), (40, 60, 70)) + rng.normal(
            size=(height, width, 3)
        )
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "05.png").write_bytes((folder / "04.png").read_bytes()[:60])
    return folder


@pytest.fixture
def album(tmp_path: Path, pictures: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(pictures, tmp_path / "album"))


@pytest.fixture
def settings(small_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Pages of four pictures; crops, outliers and shared saliency need all that is kept."""
    monkeypatch.setattr(picture_files, "PAGE", 4)
    wanted = ("pictures.crop_augmentations", "pictures.remove_outliers", "saliency.shared", "saliency.places")
    return with_values(small_settings, dict.fromkeys(wanted, 1))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the times in run.json."""
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    record = json.loads(found.pop("run.json"))
    record["stages"], record["clusters"]["fit_seconds"] = [], None
    return {**found, "run.json": json.dumps(record).encode()}


@pytest.fixture(scope="module")
def wholes() -> dict[str, dict[str, bytes]]:
    """What runs that nothing interrupts make of the pictures, as far as it is known."""
    return {}


@pytest.fixture
def whole(
    tmp_path: Path, pictures: Path, settings: Settings, wholes: dict[str, dict[str, bytes]]
) -> Callable[[str], dict[str, bytes]]:
    """A function that gives what a run makes of the pictures that nothing interrupts."""

    def run(name: str) -> dict[str, bytes]:
        if name not in wholes:
            JOBS[name]([pictures], tmp_path / "whole", settings)
            wholes[name] = contents(tmp_path / "whole")
        return wholes[name]

    return run


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("at", [2, 7, 13, 18, 22])
def test_an_interrupted_run_is_continued_to_the_same_results(
    tmp_path: Path,
    pictures: Path,
    settings: Settings,
    whole: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    at: int,
) -> None:
    expected = whole(name)
    reads, read = 0, Picture.read

    def interrupted(self: Picture) -> np.ndarray:
        nonlocal reads
        reads += 1
        if reads == at:
            raise KeyboardInterrupt
        return read(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Picture, "read", interrupted)
        JOBS[name]([pictures], tmp_path / "out", settings)
    if (tmp_path / "out" / ".run").exists():
        with pytest.raises(OutputError, match="holds an unfinished run"):
            JOBS[name]([pictures], tmp_path / "out", settings)
    else:
        # Before the first picture was described there is nothing to keep.
        assert at < 13
    result = JOBS[name]([pictures], tmp_path / "out", settings, resume=True)
    assert contents(tmp_path / "out") == expected
    with pytest.raises(InputError, match=r"05: .*\(11 other pictures are finished\)"):
        result.raise_failures()


@pytest.mark.parametrize("name", JOBS)
def test_a_resumed_run_describes_no_picture_twice(
    tmp_path: Path, album: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    counts = {"extract": 0}
    real, write = Extractor.extract, picture_files.AlbumFiles.write

    def extract(self: Extractor, images: list, **options: object) -> object:
        counts["extract"] += len(images)
        return real(self, images, **options)

    def interrupted(self: picture_files.AlbumFiles, items: object) -> None:
        def some() -> object:
            for number, item in enumerate(items):
                if number == 6:
                    raise KeyboardInterrupt
                yield item

        write(self, some())

    plain = with_values(settings, {"pictures.crop_augmentations": 0})
    monkeypatch.setattr(Extractor, "extract", extract)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="--resume continues"):
        patch.setattr(picture_files.AlbumFiles, "write", interrupted)
        JOBS[name]([album], tmp_path / "out", plain)
    assert counts["extract"] == 11
    assert len(PictureWorkspace(tmp_path / "out").pages()) == 1
    result = JOBS[name]([album], tmp_path / "out", plain, resume=True)
    assert counts["extract"] == 11
    assert len(result.record.pictures) == 11
    assert not (tmp_path / "out" / ".run").exists()


@pytest.mark.parametrize("name", JOBS)
def test_a_finished_run_is_not_done_again_and_other_settings_are_refused(
    tmp_path: Path, album: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / "out"
    first = JOBS[name]([album], out, settings)
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "extract", lambda *_, **__: pytest.fail("a picture was described"))
        again = JOBS[name]([album], out, with_values(settings, {"run.queue_depth": 1}), resume=True)
        assert again.record == first.record
        assert [failure.name for failure in again.failures] == ["05"]
        with pytest.raises(UsageError, match="was made with other settings"):
            JOBS[name]([album], out, with_values(settings, {"run.seed": 3}), resume=True)
        other = {"parts": "coseg", "coseg": "parts"}[name]
        with pytest.raises(UsageError, match="was made with other task"):
            JOBS[other]([album], out, settings, resume=True)
    assert contents(out) == before
    with pytest.raises(OutputError, match="isn't empty"):
        JOBS[name]([album], out, settings)


def test_an_unfinished_run_of_other_pictures_is_refused(
    tmp_path: Path, album: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(picture_files.AlbumFiles, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        parts([album], tmp_path / "out", settings)
    (album / "03.png").write_bytes((album / "04.png").read_bytes())
    with pytest.raises(UsageError, match=r"was begun with input 03 .*\(now"):
        parts([album], tmp_path / "out", settings, resume=True)
    parts([album], tmp_path / "out", settings, overwrite=True)
    assert not (tmp_path / "out" / ".run").exists()


def test_a_killed_process_loses_no_finished_page(
    tmp_path: Path, pictures: Path, settings: Settings, whole: Callable[[str], dict[str, bytes]]
) -> None:
    code = """
import os, signal, sys
from pipeline.cli import main
from pipeline.runs import picture_files
picture_files.PAGE = 4
real = picture_files.AlbumFiles._finish_page
def finish(self):
    real(self)
    os.kill(os.getpid(), signal.SIGKILL)
picture_files.AlbumFiles._finish_page = finish
main(sys.argv[1:])
"""
    file = tmp_path / "settings.yaml"
    file.write_text(settings.model_dump_json(exclude_unset=True))
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, "parts", str(pictures), "-o", str(out), "--config", str(file), "--resume"]
    for pages in (1, 2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ))
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(PictureWorkspace(out).pages()) == pages
    parts([pictures], out, settings, resume=True)
    assert contents(out) == whole("parts")


def test_the_fit_of_a_large_set_is_spread_and_bounded_by_its_room(
    album: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = resolve_pictures([str(album)])
    plain = with_values(settings, {"pictures.crop_augmentations": 0})
    assert fit_indices(pictures, open_engine(plain, Silent())) == list(range(12))
    # Room for three pictures of 6x8 positions, 48 channels and their saliency.
    monkeypatch.setattr(picture_set, "CACHE_BYTES", 3 * 4 * 6 * 8 * 49)
    assert fit_indices(pictures, open_engine(plain, Silent())) == [2, 6, 10]
    assert fit_indices(pictures, open_engine(settings, Silent())) == [6]
    assert len(fit_indices(pictures, open_engine(with_values(plain, {"pictures.fit": 5}), Silent()))) == 5


@pytest.mark.parametrize(("name", "estimate"), [("parts", estimate_parts), ("coseg", estimate_coseg)])
def test_a_dry_run_counts_pictures_and_bytes_and_writes_nothing(
    tmp_path: Path, album: Path, settings: Settings, name: str, estimate: Callable[..., object]
) -> None:
    found = estimate([album], settings)
    assert (found.pictures, found.fitted) == (11, 11)
    assert len(found.failures) == 1
    assert not list(tmp_path.glob("out*"))
    JOBS[name]([album], tmp_path / "out", settings)
    written = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert found.file_bytes == pytest.approx(written, rel=0.35)
    assert found.cost.wall_s > 0
    assert "11 pictures, processed at" in found.summary()
    with pytest.raises(UsageError, match="give more by --max-memory"):
        estimate([album], with_values(settings, {"run.max_memory": "64M"}))
    with pytest.raises(UsageError, match="give more by --max-memory"):
        JOBS[name]([album], tmp_path / "other", with_values(settings, {"run.max_memory": "64M"}))


def test_a_torn_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    work = PictureWorkspace(tmp_path)
    for folder in (work.files, work.arrays):
        folder.mkdir(parents=True)
    work.add_page((), ())
    journal = work.folder / "pages.jsonl"
    journal.write_text(journal.read_text() + '{"rows": [')
    assert len(work.pages()) == 1
    work.add_page((), ())
    assert len(work.pages()) == len(journal.read_text().splitlines()) == 2
