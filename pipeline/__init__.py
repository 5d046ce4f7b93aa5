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
torch.Size([1, 33, 60, 192])
>>> folder.cleanup()
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# Libraries read these when they are loaded. Threads that wait for work sleep: by default those of OpenMP (torch, FAISS)
# and OpenBLAS (NumPy, SciPy) spin, and take the processors from OpenVINO and the other stages.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_NAMES = {
    "pipeline.tasks.segment": ("segment", "SegmentResult"),
    "pipeline.tasks.shard": ("shard", "ShardResult"),
    "pipeline.distributed.pools": ("Workers",),
    "pipeline.tasks.fit": ("fit",),
    "pipeline.tasks.render": ("render",),
    "pipeline.tasks.edit": ("edit",),
    "pipeline.runs.edits": ("Change",),
    "pipeline.tasks.report": ("report",),
    "pipeline.tasks.export": ("export",),
    "pipeline.tasks.coseg": ("coseg", "CosegResult"),
    "pipeline.tasks.parts": ("parts", "PartsResult", "codebook_around"),
    "pipeline.tasks.match": ("match", "MatchResult", "PointPair"),
    "pipeline.tasks.pca": ("pca",),
    "pipeline.tasks.similarity": ("similarity",),
    "pipeline.tasks.layers": ("layers",),
    "pipeline.tasks.saliency": ("saliency",),
    "pipeline.runs.outputs": ("Outcome",),
    "pipeline.tasks.evaluate": ("evaluate",),
    "pipeline.evaluation.reports": ("Summary",),
    "pipeline.tasks.features": ("open_extractor",),
    "pipeline.features.extractor": ("Extractor",),
    "pipeline.cluster.codebook": ("Codebook", "load_codebook", "save_codebook"),
    "pipeline.config": ("Settings", "load_settings"),
    "pipeline.errors": ("VidpartsError",),
    "pipeline.version": ("__version__",),
}
"""What each module gives; type checkers read the imports below."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

if TYPE_CHECKING:
    from pipeline.cluster.codebook import Codebook as Codebook
    from pipeline.cluster.codebook import load_codebook as load_codebook
    from pipeline.cluster.codebook import save_codebook as save_codebook
    from pipeline.config import Settings as Settings
    from pipeline.config import load_settings as load_settings
    from pipeline.distributed.pools import Workers as Workers
    from pipeline.errors import VidpartsError as VidpartsError
    from pipeline.evaluation.reports import Summary as Summary
    from pipeline.features.extractor import Extractor as Extractor
    from pipeline.runs.edits import Change as Change
    from pipeline.runs.outputs import Outcome as Outcome
    from pipeline.tasks.coseg import CosegResult as CosegResult
    from pipeline.tasks.coseg import coseg as coseg
    from pipeline.tasks.edit import edit as edit
    from pipeline.tasks.evaluate import evaluate as evaluate
    from pipeline.tasks.export import export as export
    from pipeline.tasks.features import open_extractor as open_extractor
    from pipeline.tasks.fit import fit as fit
    from pipeline.tasks.layers import layers as layers
    from pipeline.tasks.match import MatchResult as MatchResult
    from pipeline.tasks.match import PointPair as PointPair
    from pipeline.tasks.match import match as match
    from pipeline.tasks.parts import PartsResult as PartsResult
    from pipeline.tasks.parts import codebook_around as codebook_around
    from pipeline.tasks.parts import parts as parts
    from pipeline.tasks.pca import pca as pca
    from pipeline.tasks.render import render as render
    from pipeline.tasks.report import report as report
    from pipeline.tasks.saliency import saliency as saliency
    from pipeline.tasks.segment import SegmentResult as SegmentResult
    from pipeline.tasks.segment import segment as segment
    from pipeline.tasks.shard import ShardResult as ShardResult
    from pipeline.tasks.shard import shard as shard
    from pipeline.tasks.similarity import similarity as similarity
    from pipeline.version import __version__ as __version__

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
