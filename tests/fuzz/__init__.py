"""Fuzzing: malformed input for the real commands, each case in a sandboxed process.

Containers, codebooks, label stores, run records, settings, weights and pictures are mutated. `python -m tests.fuzz
--seeds 2000` is the nightly form; `--seed N` repeats one case.
"""
