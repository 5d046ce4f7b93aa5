"""Untrusted directories: links and pipes in them never make a command write elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.errors import OutputError
from pipeline.runs.fit_record import load_fit
from pipeline.tasks.export import export
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that no command may touch."""
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("piped", ["fit.json", "codebook.safetensors"])
def test_a_pipe_in_the_place_of_a_fit_is_no_fit(tmp_path: Path, piped: str) -> None:
    for name in {"fit.json", "codebook.safetensors"} - {piped}:
        (tmp_path / name).write_text(f'{{"codebook_sha256": "{"0" * 64}", "seconds": 1}}')
    os.mkfifo(tmp_path / piped)
    assert load_fit(tmp_path, tmp_path / "codebook.safetensors") is None


@pytest.mark.parametrize(
    "name", [".run/fit/features.cache", ".run/inputs/walk/labels.zarr", ".run/fit", ".run", ".lock"]
)
def test_links_in_an_unfinished_run_are_not_followed(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, victim: Path, name: str
) -> None:
    clip, out = make_clip(tmp_path / "walk.mp4", frames=4), tmp_path / "out"
    target = victim
    if name in (".run", ".run/fit"):
        target = tmp_path / "folder"
        target.mkdir()
        (target / "manifest.json").write_text("{}")
        (target / "features.cache").write_text("precious")
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(target)
    if name not in (".run", ".lock"):
        (out / ".run" / "manifest.json").write_text("{}")
    with pytest.raises(OutputError, match=r"no plain file|can't be written"):
        segment([clip], out, small_settings, resume=True)
    assert victim.read_text() == "precious"
    if target != victim:
        assert (target / "features.cache").read_text() == "precious"
        assert sorted(path.name for path in target.iterdir()) == ["features.cache", "manifest.json"]
    if name != ".lock":
        segment([clip], out, small_settings, overwrite=True)
        assert target.exists()
        assert victim.read_text() == "precious"


def test_links_in_the_place_of_what_grows_are_not_followed(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, victim: Path
) -> None:
    clip, out = make_clip(tmp_path / "walk.mp4", frames=4), tmp_path / "out"
    out.mkdir()
    (out / ".codebook.safetensors.part").symlink_to(victim)
    result = segment([clip], out, small_settings).finished[0].directory
    davis = tmp_path / "davis"
    davis.mkdir()
    (davis / ".00000.png.part").symlink_to(victim)
    export(result, davis, "davis", overwrite=True)
    assert victim.read_text() == "precious"
    assert not (davis / "00000.png").is_symlink()
