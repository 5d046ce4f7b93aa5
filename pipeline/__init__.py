"""vidparts: finds the parts of the objects in a video, without training or annotation, and paints them.

    segment(inputs, output)           parts of videos, painted            pipeline.tasks.segment
    shard(output, index, of)          a share of a planned run            pipeline.tasks.shard
    Workers                           what a run is spread over           pipeline.distributed.pools
    fit(inputs, output)               the parts that inputs share         pipeline.tasks.fit
    render(result, output)            a finished result in another style  pipeline.tasks.render
    edit(result, change)              parts named, merged, hidden         pipeline.tasks.edit
    report(output)                    a page that says what was found     pipeline.tasks.report
    export(result, output, format)    label maps for other tools          pipeline.tasks.export
    coseg(images, output)             the common object of pictures       pipeline.tasks.coseg
    parts(images, output)             the parts that pictures share       pipeline.tasks.parts
    match(a, b, output)               points that correspond              pipeline.tasks.match
    pca(inputs, output)               principal components, painted       pipeline.tasks.pca
    similarity(a, b, output)          one point's similarity, painted     pipeline.tasks.similarity
    layers(inputs, output)            what each layer and facet shows     pipeline.tasks.layers
    saliency(inputs, output)          saliency, painted                   pipeline.tasks.saliency
    evaluate(name, data, output)      figures on public benchmarks        pipeline.tasks.evaluate
    open_extractor(settings)          dense descriptors of pictures       pipeline.tasks.features
    load_codebook, save_codebook      the parts as a file                 pipeline.cluster.codebook
    Settings, load_settings           all settings, typed                 pipeline.config

Names are imported when they are first used, so that `import pipeline` costs next to nothing.

>>> import tempfile
>>> from pathlib import Path
>>> from pipeline import fit, load_codebook, load_settings, open_extractor, render, segment
>>> settings = load_settings(overrides={"model": "bundled", "cluster.parts": 3, "input.every": 40})
>>> folder = tempfile.TemporaryDirectory()
>>> out = Path(folder.name)
>>> result = segment(["samples/walk.mp4"], out / "walk", settings)
>>> [(each.name, each.record.source.frames) for each in result.finished]
[('walk', 4)]
>>> render(result.finished[0].directory, out / "outline.mp4", style="outline").frames
4
>>> load_codebook(result.codebook).part_centroids.shape
(3, 192)
>>> fit(["samples/walk.mp4"], out / "parts.safetensors", settings).parts
3
>>> extractor = open_extractor(settings)
>>> import numpy as np
>>> picture = extractor.preprocess(np.zeros((270, 480, 3), dtype=np.uint8))
>>> extractor.extract([picture], saliency=True).descriptors.shape
torch.Size([1, 47, 84, 192])
>>> folder.cleanup()
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from pipeline.version import __version__

# Libraries read these when they are loaded. Threads that wait for work sleep: by default those of OpenMP (torch, FAISS)
# and OpenBLAS (NumPy, SciPy) spin, and take the processors from OpenVINO and the other stages.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_HOMES = {
    "segment": "pipeline.tasks.segment",
    "SegmentResult": "pipeline.tasks.segment",
    "shard": "pipeline.tasks.shard",
    "ShardResult": "pipeline.tasks.shard",
    "Workers": "pipeline.distributed.pools",
    "fit": "pipeline.tasks.fit",
    "render": "pipeline.tasks.render",
    "edit": "pipeline.tasks.edit",
    "Change": "pipeline.runs.edits",
    "report": "pipeline.tasks.report",
    "export": "pipeline.tasks.export",
    "coseg": "pipeline.tasks.coseg",
    "CosegResult": "pipeline.tasks.coseg",
    "parts": "pipeline.tasks.parts",
    "PartsResult": "pipeline.tasks.parts",
    "codebook_around": "pipeline.tasks.parts",
    "match": "pipeline.tasks.match",
    "MatchResult": "pipeline.tasks.match",
    "PointPair": "pipeline.tasks.match",
    "pca": "pipeline.tasks.pca",
    "similarity": "pipeline.tasks.similarity",
    "layers": "pipeline.tasks.layers",
    "saliency": "pipeline.tasks.saliency",
    "Outcome": "pipeline.runs.outputs",
    "evaluate": "pipeline.tasks.evaluate",
    "Summary": "pipeline.evaluation.reports",
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
    from pipeline.distributed.pools import Workers
    from pipeline.errors import VidpartsError
    from pipeline.evaluation.reports import Summary
    from pipeline.features.extractor import Extractor
    from pipeline.runs.edits import Change
    from pipeline.runs.outputs import Outcome
    from pipeline.tasks.coseg import CosegResult, coseg
    from pipeline.tasks.edit import edit
    from pipeline.tasks.evaluate import evaluate
    from pipeline.tasks.export import export
    from pipeline.tasks.features import open_extractor
    from pipeline.tasks.fit import fit
    from pipeline.tasks.layers import layers
    from pipeline.tasks.match import MatchResult, PointPair, match
    from pipeline.tasks.parts import PartsResult, codebook_around, parts
    from pipeline.tasks.pca import pca
    from pipeline.tasks.render import render
    from pipeline.tasks.report import report
    from pipeline.tasks.saliency import saliency
    from pipeline.tasks.segment import SegmentResult, segment
    from pipeline.tasks.shard import ShardResult, shard
    from pipeline.tasks.similarity import similarity

__all__ = [
    "Change",
    "Codebook",
    "CosegResult",
    "Extractor",
    "MatchResult",
    "Outcome",
    "PartsResult",
    "PointPair",
    "SegmentResult",
    "Settings",
    "ShardResult",
    "Summary",
    "VidpartsError",
    "Workers",
    "__version__",
    "codebook_around",
    "coseg",
    "edit",
    "evaluate",
    "export",
    "fit",
    "layers",
    "load_codebook",
    "load_settings",
    "match",
    "open_extractor",
    "parts",
    "pca",
    "render",
    "report",
    "saliency",
    "save_codebook",
    "segment",
    "shard",
    "similarity",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
