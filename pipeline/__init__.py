"""vidparts: finds the parts of the objects in a video, without training or annotation, and paints them.

    segment(inputs, output)           parts of videos, painted            pipeline.tasks.segment
    fit(inputs, output)               the parts that inputs share         pipeline.tasks.fit
    render(result, output)            a finished result in another style  pipeline.tasks.render
    export(result, output, format)    label maps for other tools          pipeline.tasks.export
    open_extractor(settings)          dense descriptors of pictures       pipeline.tasks.features
    load_codebook, save_codebook      the parts as a file                 pipeline.cluster.codebook
    Settings, load_settings           all settings, typed                 pipeline.config

Names are imported when they are first used, so that `import pipeline` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "segment": "pipeline.tasks.segment",
    "SegmentResult": "pipeline.tasks.segment",
    "fit": "pipeline.tasks.fit",
    "render": "pipeline.tasks.render",
    "export": "pipeline.tasks.export",
    "open_extractor": "pipeline.tasks.features",
    "Extractor": "pipeline.features.extractor",
    "Codebook": "pipeline.cluster.codebook",
    "load_codebook": "pipeline.cluster.codebook",
    "save_codebook": "pipeline.cluster.codebook",
    "Settings": "pipeline.config",
    "load_settings": "pipeline.config",
    "VidpartsError": "pipeline.errors",
}

if TYPE_CHECKING:
    from pipeline.cluster.codebook import Codebook, load_codebook, save_codebook
    from pipeline.config import Settings, load_settings
    from pipeline.errors import VidpartsError
    from pipeline.features.extractor import Extractor
    from pipeline.tasks.export import export
    from pipeline.tasks.features import open_extractor
    from pipeline.tasks.fit import fit
    from pipeline.tasks.render import render
    from pipeline.tasks.segment import SegmentResult, segment

__all__ = [
    "Codebook",
    "Extractor",
    "SegmentResult",
    "Settings",
    "VidpartsError",
    "export",
    "fit",
    "load_codebook",
    "load_settings",
    "open_extractor",
    "render",
    "save_codebook",
    "segment",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
