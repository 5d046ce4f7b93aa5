"""The legs of `.ci/run`, each in a fresh environment.

    gate     this Python with the newest releases: format, lint, types, import contracts and every test
    3.N      each other Python that pyproject.toml names: the README's two commands, the second with most tests
    readers  this Python with what users read exports with (the extra `readers`): the exports read back
    oldest   the oldest of these Pythons with the oldest releases that pyproject.toml allows: as 3.N

pip installs in 3.N, as the README says; elsewhere uv does, which takes a tenth of the time.

`.ci/run` does all of them, `.ci/run 3.13 oldest` two. A Python that isn't found (by pyenv or on the path) is named at
the end. `.ci/run --record` also writes pipeline/releases.json, if every leg was there and passed. It needs an index of
packages, no compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [each.split()[-1] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
NAMES = [re.match(r"[\w-]+", each)[0] for each in PROJECT["dependencies"]]  # type: ignore[index]

# Left to the gate, because they take long: benchmarks, random damage, kills at random moments, memory limits, estimates
# against whole runs, training, drawing the samples, a cluster of several nodes, pages in a browser. All else opens
# every kind of input, writes every kind of output and runs every command.
ONLY_GATE = (
    "tests/benchmarks",
    "tests/fuzz",
    "tests/samples",
    "tests/training",
    "tests/distributed/test_ray.py",
    "tests/forecast/test_dry_run.py",
    "tests/forecast/test_memory.py",
    "tests/tasks/test_resume.py",
    "tests/viewer/test_browser.py",
)
ONLY_GATE_TESTS = ("tests/distributed/test_shards.py::test_deaths_lose_nothing_and_leave_nothing",)


# As in the README; one test after the other where a worker is free.
PYTEST = ("pytest", "-n", "auto", "--dist", "worksteal")

# What touches the kernels and the ViT's blocks.
PLAIN = (
    "tests/kernels",
    "tests/refine",
    "tests/painting",
    "tests/features/test_vit.py",
    "tests/features/test_extractor.py",
    "tests/tasks/test_segment.py",
)


@dataclass
class Leg:
    """An environment, and what came of it.

    Attributes:
        name: `gate`, `oldest` or a Python's version.
        python: the interpreter; None where there is none.
        outcome: one line for the end.
        releases: of Python and the packages that the program needs, as they were installed.
    """

    name: str
    python: Path | None
    outcome: str = "not on this machine: not proved by this run"
    passed: bool = False
    releases: dict[str, str] = field(default_factory=dict)

    def run(self, checks: Callable[[Environment], None]) -> None:
        """Make the environment, check it, and keep what it was made of."""
        if self.python is None:
            return
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            environment = Environment(Path(folder))
            try:
                environment.step(str(self.python), "-m", "venv", str(environment.folder))
                checks(environment)
                self.releases = environment.releases()
                self.passed = True
                self.outcome = "passed"
            except subprocess.CalledProcessError as error:
                self.outcome = f"FAILED: {' '.join(error.cmd)}"
        self.outcome += f" ({(time.monotonic() - begin) / 60:.1f} min)"


@dataclass(frozen=True)
class Environment:
    """A virtual environment, the folder it lies in and the commands in it."""

    folder: Path

    def step(self, *command: str, cwd: Path = ROOT) -> None:
        """Run a command with the environment's programs first on the path."""
        print(f"\n== {' '.join(command)}", flush=True)
        programs = self.folder / "bin"
        variables = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.folder),
            # pip compiles no bytecode ahead (0, because the option itself is a negation): that takes half a minute, and
            # most of it is never imported; see `tests`.
            "PIP_NO_COMPILE": "0",
        }
        subprocess.run(command, cwd=cwd, env=variables, check=True)

    def uv_install(self, *wanted: str) -> None:
        """Install packages with uv, which is installed first where it isn't there."""
        if not (self.folder / "bin" / "uv").exists():
            self.step("pip", "install", "--quiet", "uv")
        self.step("uv", "pip", "install", "--quiet", *wanted)

    def tests(self, *chosen: str, **variables: str) -> None:
        """Run tests, with what they import compiled to bytecode before.

        Neither pip (here) nor uv does that, and where Python may not write it either (PYTHONDONTWRITEBYTECODE), each of
        the many processes that tests start would compile for five seconds what it imports.
        """
        self.step("env", "-u", "PYTHONDONTWRITEBYTECODE", "pytest", "--collect-only", "--quiet", *chosen)
        self.step("env", *(f"{name}={value}" for name, value in variables.items()), *PYTEST, *chosen)

    def releases(self) -> dict[str, str]:
        """What is installed of Python and of the packages that the program needs."""
        script = f"""
import json, sys
from importlib.metadata import distributions
found = {{each.name.lower().replace("_", "-"): each.version.split("+")[0] for each in distributions()}}
python = {{"Python": "%d.%d" % sys.version_info[:2]}}
print(json.dumps(python | {{name: found[name] for name in {NAMES!r} if name in found}}))
"""
        done = subprocess.run(
            [self.folder / "bin" / "python", "-c", script], check=True, capture_output=True, text=True
        )
        return dict(json.loads(done.stdout))


def gate(environment: Environment) -> None:
    """Everything, on one Python."""
    environment.uv_install("--editable", ".[dev]")
    try:
        environment.uv_install("--editable", ".[densecrf]")
    except subprocess.CalledProcessError:
        print("pydensecrf doesn't build here: only its recorded labels are compared", flush=True)
    environment.step("ruff", "format", "--check", ".")
    environment.step("ruff", "check", ".")
    environment.step("mypy")
    environment.step("lint-imports")
    find_browser()
    # Pages as the tests in a browser have seen them are kept in build/.
    pages = ROOT / "build" / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    environment.tests(VIDPARTS_SCREENSHOTS=str(pages))
    # Once more without compiled code and the ViT's library, so that the plain paths are proved.
    environment.step("env", "VIDPARTS_PLAIN=1", *PYTEST, *PLAIN)


def readers(environment: Environment) -> None:
    """What exports are read with; some of it holds other packages back."""
    environment.uv_install("--editable", ".[dev,readers]")
    environment.tests("tests/tasks/test_export.py", "tests/media/test_exports.py")


def newest(environment: Environment) -> None:
    """The README's two commands, the second with fewer tests."""
    environment.step("pip", "install", "--quiet", ".")
    demo(environment)
    environment.step("pip", "install", "--quiet", "--editable", ".[dev]")
    most_tests(environment)


def oldest(environment: Environment) -> None:
    """The same with the oldest releases allowed."""
    environment.uv_install("--resolution", "lowest-direct", "-r", "pyproject.toml", "--extra", "dev")
    environment.uv_install("--no-deps", "--editable", ".")
    demo(environment)
    most_tests(environment)


def demo(environment: Environment) -> None:
    """The README's first command, its forecast, and the check of its result."""
    with tempfile.TemporaryDirectory() as folder:
        segment = ("vidparts", "segment", str(ROOT / "samples" / "walk.mp4"), "-o", "out")
        environment.step(*segment, "--dry-run", cwd=Path(folder))
        environment.step(*segment, cwd=Path(folder))
        environment.step("vidparts", "verify", "out/walk", cwd=Path(folder))
    environment.step("vidparts", "info")


def find_browser() -> None:
    """Chromium from the system's packages, where it may be installed; without it the tests in a browser are skipped."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))) and shutil.which("apt-get"):
        print("\n== apt-get install chromium", flush=True)
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "chromium"], check=False, stdout=subprocess.DEVNULL)


def most_tests(environment: Environment) -> None:
    """The tests but those that only the gate does."""
    skipped = [f"--ignore={path}" for path in ONLY_GATE] + [f"--deselect={test}" for test in ONLY_GATE_TESTS]
    environment.tests(*skipped)


def find_python(version: str) -> Path | None:
    """An interpreter of that version: this one, pyenv's, or the system's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    found = [Path(sys.executable), *pyenv.glob(f"versions/{version}.*/bin/python")]
    found += [Path(on_path)] if on_path else []
    for candidate in found:
        script = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        # pyenv puts programs on the path that only say which version it lacks.
        done = subprocess.run([candidate, "-c", script], check=False, capture_output=True, text=True)
        if done.stdout.strip() == version:
            return candidate
    return None


def legs() -> list[tuple[Leg, Callable[[Environment], None]]]:
    """Every leg and its checks."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = {version: find_python(version) for version in PYTHONS}
    first = next((version for version in PYTHONS if pythons[version]), here)
    others = [(Leg(version, pythons[version]), newest) for version in PYTHONS if version != here]
    gates = [(Leg("gate", Path(sys.executable)), gate), (Leg("readers", Path(sys.executable)), readers)]
    return [*gates, *others, (Leg("oldest", pythons.get(first)), oldest)]


def record(done: list[Leg], write: bool) -> None:
    """Compare pipeline/releases.json with what was installed, and write it if asked to and every leg passed."""
    sys.path.insert(0, str(ROOT))
    from pipeline.releases import TABLE, order

    table = {}
    for name in ("Python", *NAMES):
        found = sorted({leg.releases[name] for leg in done if name in leg.releases}, key=order)
        if found:
            table[name] = [found[0], found[-1]]
    if table == json.loads(TABLE.read_text(encoding="utf-8")):
        print(f"{TABLE.name} is what was found here")
    elif write and all(leg.passed for leg in done):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(ends)}" for name, ends in table.items())
        TABLE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        print(f"{TABLE.name} is written anew")
    else:
        print(
            f"{TABLE.name} isn't what was found here, which is {json.dumps(table)}; --record writes it, if all is there"
        )


def main() -> None:
    """Run the legs asked for; the exit code is 1 if one failed."""
    every = legs()
    parser = argparse.ArgumentParser(description="Prove what README and pyproject.toml claim.")
    parser.add_argument("legs", nargs="*", help=f"of {', '.join(leg.name for leg, _ in every)}; all of them by default")
    parser.add_argument("--record", action="store_true", help="write pipeline/releases.json if every leg passed")
    asked = parser.parse_args()
    if unknown := set(asked.legs) - {leg.name for leg, _ in every}:
        parser.error(f"no leg {', '.join(sorted(unknown))}; there are {', '.join(leg.name for leg, _ in every)}")
    chosen = [(leg, checks) for leg, checks in every if not asked.legs or leg.name in asked.legs]
    for leg, checks in chosen:
        print(f"\n==== {leg.name}: {leg.python or leg.outcome}", flush=True)
        leg.run(checks)
    print("\n==== summary")
    for leg, _ in chosen:
        print(f"{leg.name:<7} {leg.outcome}")
    if not asked.legs:
        record([leg for leg, _ in chosen], asked.record)
    sys.exit(any(leg.python and not leg.passed for leg, _ in chosen))


if __name__ == "__main__":
    main()
