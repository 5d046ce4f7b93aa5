"""How well the presets' labels agree with the default's: with its codebook, and with one that they fit themselves.

    python -m benchmarks.presets CLIP... [--model bundled] [--frames 33] [--presets fast draft]

The default has the paper's settings here (short side 224, stride 4, one pass over overlapping patches), whatever the
model brings along, but that every 32nd descriptor joins the fit: the clips are short. Columns: share of equal labels
among the pixels where the default is steady, of all of them and of those of parts alone; with codebooks of their own
parts are matched one to one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.agreement import steady_agreement
from benchmarks.processes import run_program
from benchmarks.speed import first_seconds, paper_settings
from pipeline.config import PRESETS
from pipeline.tasks.video.segment import CODEBOOK

SAMPLE_INTERVAL = 32


def settings_file(model: str, folder: Path, grid: str | None) -> Path:
    """The paper's settings as a config file; with a grid that beats a preset's, or none."""
    values: dict[str, Any] = yaml.safe_load(paper_settings(model, folder).read_text())
    values["cluster"]["sample_interval"] = SAMPLE_INTERVAL
    if grid is not None:
        values["features"]["grid"] = grid
    file = folder / f"{grid or 'preset'}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def measure(clip: Path, model: str, frames: int, presets: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """For every preset (all, parts) with the default's codebook and with its own."""
    common = ["--model", model, "--end", str(first_seconds(clip, frames))]
    exact = ["--config", str(settings_file(model, folder, "overlapping"))]
    quick = ["--config", str(settings_file(model, folder, None))]
    reference = run_program(clip, folder / "default", [*common, *exact]).labels
    codebook = ["--codebook", str(folder / "default" / CODEBOOK)]
    found: dict[str, dict[str, Any]] = {}
    for preset in presets:
        options = [*common, *quick, "--preset", preset]
        given = run_program(clip, folder / f"{preset}-given", [*options, *codebook]).labels
        own = run_program(clip, folder / f"{preset}-own", options).labels
        found[preset] = {"given": steady_agreement(given, reference), "own": steady_agreement(own, reference)}
    return found


def main() -> None:
    """Read the options, measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Measure how well the presets agree with the default.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    options = parser.parse_args()
    table: dict[str, Any] = {}
    print(f"{'clip':<20}{'preset':<8}{'default codebook':>18}{'of parts':>10}{'own codebook':>14}{'of parts':>10}")
    for clip in options.clips:
        with tempfile.TemporaryDirectory(prefix="vidparts-presets-") as folder:
            table[clip.stem] = measure(clip, options.model, options.frames, options.presets, Path(folder))
        for preset, row in table[clip.stem].items():
            (given, given_parts), (own, own_parts) = row["given"], row["own"]
            print(f"{clip.stem:<20}{preset:<8}{given:18.4f}{given_parts:10.4f}{own:14.4f}{own_parts:10.4f}", flush=True)
    print(json.dumps({"benchmark": "presets", "model": options.model, "frames": options.frames, "clips": table}))


if __name__ == "__main__":
    main()
