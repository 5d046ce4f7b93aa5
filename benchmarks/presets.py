"""How well the presets' labels agree with the default's: with its codebook, and with one that they fit themselves.

    python -m benchmarks.presets CLIP... [--model bundled] [--frames 33] [--presets fast draft] [--seeds 2] [--own]

The default has the paper's settings here (short side 224, stride 4, one pass over overlapping patches), whatever the
model brings along, but that every 32nd descriptor joins the fit: the clips are short. With `--own` it has the settings
that the model brings along.

Columns: share of equal labels among the pixels where the default is steady in time, of all of them and of those of
parts alone; with codebooks of their own parts are matched one to one. A codebook moves with the seed of its k-means
already: the rows `seed N` are the default again with another one, and the last columns are of the pixels that all of
these agree on. The last line is JSON.
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
from pipeline.runs.record import CODEBOOK

SAMPLE_INTERVAL = 32


def settings_file(model: str, folder: Path, *, exact: bool) -> Path:
    """The paper's settings as a config file, with a smaller interval of what joins the fit."""
    file = paper_settings(model, folder, exact=exact)
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    values["cluster"]["sample_interval"] = SAMPLE_INTERVAL
    file.write_text(yaml.safe_dump(values))
    return file


def measure(clip: Path, choices: argparse.Namespace, folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """For every preset (all, parts) with the default's codebook, with its own, and that where other seeds agree."""
    common = ["--model", choices.model, "--end", str(first_seconds(clip, choices.frames))]
    exact, quick = (
        [] if choices.own else ["--config", str(settings_file(choices.model, folder, exact=exact))]
        for exact in (True, False)
    )
    reference = run_program(clip, folder / "default", [*common, *exact]).labels
    reseeded = {
        f"seed {seed}": run_program(clip, folder / f"seed-{seed}", [*common, *exact, "--seed", str(seed)]).labels
        for seed in range(1, 1 + choices.seeds)
    }
    others = list(reseeded.values())
    found = {name: {"own": steady_agreement(labels, reference)} for name, labels in reseeded.items()}
    codebook = ["--codebook", str(folder / "default" / CODEBOOK)]
    for preset in choices.presets:
        options = [*common, *quick, "--preset", preset]
        given = run_program(clip, folder / f"{preset}-given", [*options, *codebook]).labels
        own = run_program(clip, folder / f"{preset}-own", options).labels
        found[preset] = {
            "given": steady_agreement(given, reference),
            "own": steady_agreement(own, reference),
            "agreed": steady_agreement(own, reference, others),
        }
    return found


def main() -> None:
    """Read the options, measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Measure how well the presets agree with the default.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=2, help="other seeds that the default is repeated with")
    parser.add_argument("--own", action="store_true", help="the settings that the model brings along")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    options = parser.parse_args()
    table: dict[str, Any] = {}
    headings = ("default codebook", "own codebook", "where seeds agree")
    print(f"{'clip':<32}{'':<8}" + "".join(f"{heading:>20}{'of parts':>10}" for heading in headings))
    for clip in options.clips:
        with tempfile.TemporaryDirectory(prefix="vidparts-presets-") as folder:
            found = measure(clip, options, Path(folder))
        table[clip.stem] = found
        for name, row in found.items():
            pairs = [row.get(key) for key in ("given", "own", "agreed")]
            cells = [f"{pair[0]:20.4f}{pair[1]:10.4f}" if pair else " " * 30 for pair in pairs]
            print(f"{clip.stem:<32}{name:<8}{''.join(cells)}", flush=True)
    print(json.dumps({"benchmark": "presets", "model": options.model, "frames": options.frames, "clips": table}))


if __name__ == "__main__":
    main()
