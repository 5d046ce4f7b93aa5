"""What Windows and macOS don't have: everything imports and a run is done with those names taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Libraries may use what is there: they know their systems. What is tested is this program.
PROGRAM = """
import importlib, importlib.abc, importlib.util, os, pkgutil, sys, time

import av, cv2, faiss, numba, PIL.Image, pydantic, scipy.ndimage, sklearn.cluster, timm, torch, tqdm, typer, zarr
import huggingface_hub, platformdirs, safetensors.torch, yaml

MODULES = {modules!r}

class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ImportError(f"{{name}} isn't there on this system")

for name in [name for name in sys.modules if name in MODULES or name.partition(".")[0] == "filelock"]:
    del sys.modules[name]
sys.meta_path.insert(0, Without())
for module, name in {names!r}:
    if hasattr(sys.modules[module], name):
        delattr(sys.modules[module], name)
if hasattr(os, "process_cpu_count"):
    # Python 3.13 and newer define it by sched_getaffinity where that exists, and as this elsewhere.
    os.process_cpu_count = os.cpu_count

import pipeline
for found in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
from pipeline.cli import main
main(sys.argv[1:])
"""

WINDOWS = (
    ("fcntl", "resource", "pwd", "grp", "termios"),
    (
        *(
            ("os", name)
            for name in ("register_at_fork", "sched_getaffinity", "sysconf", "O_NOFOLLOW", "getuid", "fork")
        ),
        ("time", "CLOCK_BOOTTIME"),
        ("time", "clock_gettime"),
        ("signal", "SIGXFSZ"),
    ),
)
MACOS = ((), (("os", "sched_getaffinity"), ("time", "CLOCK_BOOTTIME")))


@pytest.mark.parametrize(("modules", "names"), [WINDOWS, MACOS], ids=["windows", "macos"])
def test_the_demonstration_runs_without_what_only_linux_has(
    tmp_path: Path, tiny_model: Path, modules: tuple[str, ...], names: tuple[tuple[str, str], ...]
) -> None:
    program = PROGRAM.format(modules=set(modules), names=names)
    out = tmp_path / "out"
    arguments = ["segment", ROOT / "samples" / "walk.mp4", "-o", out, "--model", tiny_model, "--load-size", 64]
    command = [sys.executable, "-c", program, *map(str, arguments), "--every", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in out.iterdir()) == [
        "clusters.jpg",
        "codebook.safetensors",
        "report.html",
        "walk",
    ]
    assert (out / "walk" / "overlay.mp4").is_file()
