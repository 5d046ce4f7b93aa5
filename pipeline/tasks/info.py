"""Versions, devices, models and presets of this installation, for a bug report."""

from __future__ import annotations

import os
import platform

from pipeline.config import PRESETS, preset_file
from pipeline.releases import releases, untested
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
