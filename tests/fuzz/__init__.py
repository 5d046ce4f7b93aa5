"""Hostile input on purpose: containers, codebooks, stores, records, settings, weights and pictures are damaged and
given to the real commands, each in a process of its own with limits.

`python -m tests.fuzz --seeds 2000` is the nightly form; `--seed N` does one of them again.
"""
