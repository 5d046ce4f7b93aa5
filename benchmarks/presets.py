"""Agreement of the presets' labels with the default's, with its codebook and their own.

    python -m benchmarks.presets CLIP... [--model bundled] [--frames 33] [--presets fast draft] [--seeds 2] [--own]

The default here is the paper's settings (short side 224, stride 4, one pass over overlapping patches), except that
every 32nd descriptor is used for the fit, since the clips are short. With `--own` it is the model's own settings.

Columns: share of equal labels among pixels where the default is steady in time (see `agreement`), for all of them and
for those of parts only. With codebooks of their own, parts are matched one to one. A codebook depends on the seed of
its k-means: rows `seed N` repeat the default with other seeds, and the last columns are for pixels where all seeds
agree. The last line is JSON.
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
    """Write the paper's settings as a config file, with a smaller sample interval of the fit."""
    file = paper_settings(model, folder, exact=exact)
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    values["cluster"]["sample_interval"] = SAMPLE_INTERVAL
    file.write_text(yaml.safe_dump(values))
    return file


def measure(clip: Path, choices: argparse.Namespace, folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Agreement (all pixels, parts) by row and column: default's codebook, own, own where the seeds agree."""
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
    """Parse the options, measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Measure agreement of the presets' labels with the default's.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds to repeat the default with")
    parser.add_argument("--own", action="store_true", help="use the model's own settings")
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
