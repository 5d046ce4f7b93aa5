import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    shlex.split(part, comments=True)
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    for part in line.split("&&")
    if part.strip()
]


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "vidparts"], ids=" ".join)
def test_every_command_shown_is_one_that_is_understood(words: list[str]) -> None:
    group = get_command(app)
    command = group.commands[words[1]]  # type: ignore[attr-defined]
    command.make_context(words[1], words[2:], resilient_parsing=False)


def test_the_first_command_works(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (words,) = [words for words in COMMANDS if "samples/walk.mp4" in words]
    run([sys.executable, "-m", "pipeline", *words[1:], "--every", "25"], tmp_path)
    names = re.findall(r"`out/([\w./]+)`", README)
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "out" / name).exists(), name


def test_the_python_example_works(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (example,) = [text for language, text in BLOCKS if language == "python"]
    run([sys.executable, "-c", example], tmp_path)
    assert (tmp_path / "outline.mp4").is_file()


def test_the_tree_has_a_line_for_every_module() -> None:
    (tree,) = [text for language, text in BLOCKS if language == "text" and text.startswith("pipeline/")]
    shown: list[str] = []
    folders: list[tuple[int, str]] = []
    for line in tree.splitlines():
        depth, (name, *text) = len(line) - len(line.lstrip()), line.split()
        folders = [entry for entry in folders if entry[0] < depth]
        path = (folders[-1][1] if folders else "") + name
        if name.endswith("/"):
            folders.append((depth, path))
        else:
            shown.append(path)
        assert text or path == "pipeline/", f"{path} has no description"
    modules = [file.relative_to(ROOT).as_posix() for file in (ROOT / "pipeline").rglob("*.py")]
    assert sorted(shown) == sorted(name for name in modules if not name.endswith(("__init__.py", "__main__.py")))


def test_exit_codes_are_those_of_the_errors() -> None:
    from pipeline import errors

    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", README, flags=re.MULTILINE))
    kinds = (errors.UsageError, errors.InputError, errors.OutputError, errors.ModelError)
    assert {str(kind.exit_code) for kind in kinds} | {"0", str(errors.EXIT_INTERRUPTED)} == set(table)


def test_the_tests_of_odd_inputs_exist() -> None:
    rows = (ROOT / "tests" / "INPUTS.md").read_text(encoding="utf-8").splitlines()[7:]
    assert len(rows) > 30
    for row in rows:
        file = None
        for path, name in re.findall(r"(?:([\w/]+\.py) )?`(test_\w+)`", row.rsplit("|", 2)[1]):
            file = ROOT / "tests" / path if path else file
            assert file is not None, row
            assert f"\ndef {name}(" in file.read_text(encoding="utf-8"), (file, name)
        assert file is not None, row


def test_the_changelog_names_this_version() -> None:
    from pipeline import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
