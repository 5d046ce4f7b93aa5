"""Fuzz the commands from the command line: `python -m tests.fuzz --seeds N`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def _arguments() -> argparse.Namespace:
    from tests.fuzz.cases import KINDS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="cases to do (200)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one's seed (0)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="one case alone; its files are kept with --keep")
    parser.add_argument("--kind", choices=KINDS, help="seeds of one kind only")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at a time (2)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the files of cases that went wrong there")
    return parser.parse_args()


def main() -> int:
    """Run; the last line is a summary, the exit code is 1 if there are findings."""
    from tests.fuzz.run import Report, fuzz

    asked = _arguments()
    first, count = (asked.first, asked.seeds) if asked.seed is None else (asked.seed, 1)
    report = Report(sys.stdout)
    with tempfile.TemporaryDirectory(prefix="vidparts-fuzz-") as folder:
        fuzz(first, count, asked.kind if asked.seed is None else None, asked.jobs, Path(folder), asked.keep, report)
    print(report.summary())
    return 1 if report.findings else 0


if __name__ == "__main__":
    if not os.environ.items() >= _ONE_THREAD.items():
        # Libraries read these at import; threads of a pool don't survive fork.
        environment = {**os.environ, **_ONE_THREAD, "HF_HUB_OFFLINE": "1"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]], environment)
    sys.exit(main())
