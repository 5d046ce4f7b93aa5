"""40 fuzz cases, and tests that the sandbox detects each kind of fault."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutations import VALUES, damage_document

ROOT = Path(__file__).resolve().parents[2]
SEEDS = os.environ.get("VIDPARTS_FUZZ_SEEDS", "40")
"""Number of cases, five of each kind; 2000 in the nightly form."""

DEEDS = {
    "traceback": "raise ValueError('x')",
    "exit code 7": "sys.exit(7)",
    "0 lines of error": "sys.exit(3)",
    "noise": "print('oh', file=sys.stderr)",
    "changed": "open('bait/kept.txt', 'a').write('x')",
    "wrote outside": "os.mkdir('/nowhere/at/all')",
    "it called": "os.system('true')",
    "isn't its output": "open('tmp/left', 'w').close()",
    "hang": "[number for number in iter(int, 1)]",
    "crash: signal SIGABRT": "os.abort()",
    "memory": "held = bytearray(b'x') * (200 * 2**20)",
    "was left": "threading.Thread(target=time.sleep, args=(60,)).start()",
    "()": "print('vidparts: error: it is so', file=sys.stderr); sys.exit(3)",
}
"""Faulty commands by the sandbox's expected message; the last one is correct."""

WATCHED = """
import json, os, sys, threading, time
from pathlib import Path
import pipeline.cli
from tests.fuzz import sandbox
sandbox.CPU_SECONDS, sandbox.MEMORY_MIB = 1, 100
pipeline.cli.main = lambda words: exec(words[0])
cases = {}
for number, (sign, deed) in enumerate(json.loads(sys.argv[2]).items()):
    build = lambda play, deed=deed: sandbox.Case([[deed]])
    cases[sign] = sandbox.Running(build, Path(sys.argv[1], str(number)))
found = {}
while cases:
    for sign, case in list(cases.items()):
        if (outcome := case.poll()) is not None:
            del cases[sign]
            found[sign] = str(outcome.wrong)
    time.sleep(0.01)
print(json.dumps(found))
"""


@pytest.mark.timeout(3600)
def test_no_damage_makes_a_command_crash_hang_or_write_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seeds", SEEDS, "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{SEEDS} cases, 0 findings"), done.stdout


def test_the_watch_sees_every_kind_of_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHED, str(tmp_path), json.dumps(DEEDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for sign in DEEDS:
        assert sign in found[sign], (sign, found[sign])
    assert found["()"] == "()"


def test_damage_to_one_document_leaves_no_trace_in_the_next() -> None:
    before = copy.deepcopy(VALUES)
    whole = {"a": [[1], {"b": []}], "c": {"d": [0, [2]]}}
    first, *others = [[damage_document(Random(seed), whole) for seed in range(1000)] for _ in range(3)]
    assert repr(VALUES) == repr(before)
    assert all(repr(other) == repr(first) for other in others)
