import json
import re
import subprocess
import sys
import tomllib
import traceback
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pipeline.cli
from pipeline import __main__, __version__, releases
from pipeline.errors import InputError
from pipeline.releases import TABLE, order, untested

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTED = json.loads(TABLE.read_text(encoding="utf-8"))


def requirements() -> list[Requirement]:
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def test_every_dependency_was_tested_from_its_lower_bound_on() -> None:
    assert {each.name for each in requirements()} == set(TESTED) - {"Python"}
    for each in requirements():
        oldest, newest = TESTED[each.name]
        (lower,) = [part.version for part in each.specifier if part.operator == ">="]
        assert order(oldest) == order(lower), each
        assert each.specifier.contains(newest), each


def test_what_keeps_to_major_releases_is_bounded_at_the_next() -> None:
    for each in requirements():
        major = order(TESTED[each.name][1])[0]
        upper = [part.version for part in each.specifier if part.operator == "<"]
        assert upper in ([], [str(major + 1)]), each
    assert any("<20" in str(each.specifier) for each in requirements() if each.name == "av")


def test_readme_and_classifiers_name_the_pythons_tested() -> None:
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert [named[0], named[-1]] == TESTED["Python"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"with Python {', '.join(named[:-1])} or {named[-1]}, from a checkout" in readme
    assert PROJECT["requires-python"] == f">={named[0]}"


def installed(monkeypatch: pytest.MonkeyPatch, av: str) -> None:
    """Pretends that PyAV has the given release, and all else the newest tested one."""
    monkeypatch.setattr(releases, "version", lambda name: av if name == "av" else TESTED[name][1])


def test_a_release_is_tested_between_the_oldest_and_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    oldest, newest = TESTED["av"]
    for release in (oldest, "18.1.0", newest, f"{newest}+local"):
        installed(monkeypatch, release)
        assert untested() == ""
    for release in ("17.1.0", "19.99.0", "20.0.0rc1"):
        installed(monkeypatch, release)
        expected = f"vidparts {__version__} wasn't tested with av {release} (tested: {oldest} to {newest})"
        assert untested() == expected


@pytest.mark.parametrize(("release", "said"), [("18.1.0", False), ("99.0", True)])
def test_a_fault_ends_with_the_releases_that_were_not_tested(
    monkeypatch: pytest.MonkeyPatch, release: str, said: bool
) -> None:
    def fail() -> None:
        raise TypeError("open() got an unexpected keyword argument")

    installed(monkeypatch, release)
    monkeypatch.setattr(pipeline.cli, "main", fail)
    with pytest.raises(TypeError) as caught:
        __main__.main()
    last = traceback.format_exception(caught.value)[-1].strip()
    assert last.startswith("vidparts " if said else "TypeError: ")
    assert ("av 99.0" in last) == said


def test_an_error_of_our_own_stays_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(monkeypatch, "99.0")
    monkeypatch.setattr("sys.argv", ["vidparts", "segment", "nowhere.mp4", "-o", "out"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == InputError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("module", ["pipeline.media.video_source", "tests.media.test_video"])
@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecated_call_of_ours_is_an_error(module: str, category: type[Warning]) -> None:
    call = compile("warnings.warn('will go away', category)", module, "exec")
    with pytest.raises(category, match="will go away"):
        exec(call, {"__name__": module, "warnings": warnings, "category": category})


@pytest.mark.parametrize("code", [0, 3])
def test_the_program_ends_with_its_code_behind_what_others_do_at_its_end(code: int) -> None:
    script = f"""
import atexit, sys
from pipeline import __main__, cli

def main():
    atexit.register(print, "the last line")
    print("output")
    sys.exit({code})

cli.main = main
__main__.program()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (code, ["output", "the last line"])


def test_a_fault_of_the_program_shows_where_it_was() -> None:
    script = "from pipeline import __main__, cli; cli.main = lambda: 1 / 0; __main__.program()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
