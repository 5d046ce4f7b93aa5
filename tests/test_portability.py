"""What Windows and macOS don't have: everything imports and a run is done with those names taken away."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Libraries may use what is there: they know their systems. What is tested is this program.
PROGRAM = """
import importlib, importlib.abc, importlib.util, json, os, pkgutil, sys, time

import av, cv2, faiss, numba, PIL.Image, pydantic, scipy.ndimage, sklearn.cluster, timm, torch, tqdm, typer, zarr
import huggingface_hub, platformdirs, safetensors.torch, yaml

class Without(importlib.abc.MetaPathFinder):
    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name in self.modules:
            raise ImportError(f"{name} isn't there on this system")

def run(modules, names, arguments):
    for name in [name for name in sys.modules if name in modules or name.partition(".")[0] == "filelock"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Without(modules))
    for module, name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
    if hasattr(os, "process_cpu_count"):
        # Python 3.13 and newer define it by sched_getaffinity where that exists, and as this elsewhere.
        os.process_cpu_count = os.cpu_count
    import pipeline
    for found in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    sys.argv[1:] = arguments
    from pipeline.__main__ import program
    program()

# Nothing of this program is imported yet, and no library has begun a thread.
for system, *absent in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        run(*absent)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(f"as on {system}: code {code}")
os._exit(0)
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
SYSTEMS = {"windows": WINDOWS, "macos": MACOS}


def test_the_demonstration_runs_without_what_only_linux_has(tmp_path: Path, tiny_model: Path) -> None:
    model = ["--model", tiny_model, "--load-size", 64, "--every", 30]
    runs = []
    for system, absent in SYSTEMS.items():
        words = ["segment", ROOT / "samples" / "walk.mp4", "-o", tmp_path / system, *model]
        runs.append((system, *absent, [str(word) for word in words]))
    command = [sys.executable, "-c", PROGRAM, json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    for system in SYSTEMS:
        assert sorted(path.name for path in (tmp_path / system).iterdir()) == [
            "clusters.jpg",
            "codebook.safetensors",
            "report.html",
            "walk",
        ]
        assert (tmp_path / system / "walk" / "overlay.mp4").is_file()
