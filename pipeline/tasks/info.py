"""Versions, devices, models and presets of this installation, for a bug report; a model for another machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pipeline.config import PRESETS, preset_file
from pipeline.errors import UsageError
from pipeline.releases import releases, untested
from pipeline.runs.outputs import require_free
from pipeline.version import __version__


def info() -> str:
    """Versions, devices, models and presets, one a line."""
    found = releases()
    lines = [
        f"vidparts {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"packages: {', '.join(f'{each.name} {each.installed}' for each in found[1:])}",
        f"tested with: {', '.join(f'{each.name} {each.oldest} to {each.newest}' for each in found)}",
        *(line for line in [untested()] if line),
        f"devices: {', '.join(_devices())}",
        "models (--model; a .safetensors or .pth file in DINO's or timm's naming works too):",
        *_models(),
        "presets (--preset):",
        *_presets(),
    ]
    return "\n".join(lines)


def fetch(name: str, file: Path, *, overwrite: bool = False) -> str:
    """Write a model of the registry to a file that `--model` takes on a machine without network; say what it is.

    Args:
        name: of the registry; its weights come from the hub's cache, or from the hub.
        file: a .safetensors file.
        overwrite: replace it where it exists.

    Raises:
        UsageError: there is no such name, or the file is of another kind.
        ModelError: the weights can't be had.
        OutputError: the file exists or can't be written.
    """
    from pipeline.features.weights import load_named, save_model

    if file.suffix != ".safetensors":
        raise UsageError(f"'{file}' doesn't end with .safetensors; give a name that does by --output")
    require_free([file], overwrite)
    model = load_named(name)
    save_model(model, file)
    return f"{file}: {name}, fingerprint {model.identity.fingerprint[:12]}; use it by --model {file}"


def _devices() -> list[str]:
    import torch

    found = [f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"]
    if torch.cuda.is_available():
        found += [f"cuda ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return found


def _models() -> list[str]:
    from pipeline.features.models import MODELS
    from pipeline.features.weights import BUNDLED, BUNDLED_FILE, cached_weights

    lines = [f"  {name:<24} {'cached' if cached_weights(name) else 'from the hub'}" for name in MODELS]
    return [*lines, f"  {BUNDLED:<24} {'in the package' if BUNDLED_FILE.is_file() else 'missing'}"]


def _presets() -> list[str]:
    """Each preset with the first line of its file."""
    first = {name: preset_file(name).read_text(encoding="utf-8").splitlines()[0] for name in PRESETS}
    return [f"  {name:<24} {line.removeprefix('# ')}" for name, line in first.items()]
