"""Where caches go when nothing beside the sources and no home directory can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.caches import cache_folder

ROOT = Path(__file__).resolve().parents[1]

CONTAINER = """
import numba, numpy as np
njit = numba.njit
def as_numba_does_where_it_can_write_nowhere(*arguments, cache=False, **options):
    if cache and not numba.config.CACHE_DIR:
        raise RuntimeError("cannot cache function: no locator available")
    return njit(*arguments, cache=cache, **options)
numba.njit = as_numba_does_where_it_can_write_nowhere
from pipeline.kernels.blending import blend_into
rgb, labels = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8)
blend_into(rgb, labels, np.full((256, 3), 200, np.int32), 128, rgb.copy())
print(sum(blend_into.stats.cache_hits.values()), sum(blend_into.stats.cache_misses.values()))
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Temporary files and the cache directory below a folder of the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_the_users_cache_directory_comes_first(fresh: Path) -> None:
    assert cache_folder("graphs") == fresh / "cache" / "vidparts" / "graphs"
    assert (fresh / "cache" / "vidparts" / "graphs").is_dir()


def test_without_one_a_private_temporary_folder_is_used(fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fresh / "cache").write_text("no directory")
    caplog.set_level("INFO")
    found = cache_folder("graphs")
    assert found == fresh / "tmp" / f"vidparts-{os.getuid()}" / "graphs"
    assert found.stat().st_mode & 0o077 == 0
    assert cache_folder("graphs") == found
    assert caplog.text.count("are cached in") == 1


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_what_others_could_have_written_is_not_used(fresh: Path, trap: str) -> None:
    (fresh / "cache").write_text("no directory")
    home = fresh / "tmp" / f"vidparts-{os.getuid()}"
    if trap == "link":
        (fresh / "elsewhere").mkdir()
        home.symlink_to(fresh / "elsewhere")
    else:
        home.mkdir()
        home.chmod(0o777)
    assert cache_folder("graphs") is None


def test_where_numba_can_write_nowhere_kernels_are_compiled_once_all_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CONTAINER], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(done.stdout.split())
    assert found == [["0", "1"], ["1", "0"]]
    assert any((tmp_path / "cache" / "vidparts" / "kernels").rglob("*.nbi"))
