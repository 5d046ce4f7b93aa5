"""A run in a notebook: frames with their parts, the legend and the verdict, without a script."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from pipeline.geometry import resize_labels
from pipeline.media.inline import jpeg
from pipeline.painting.styles import paint
from pipeline.reporting.facts import InputFacts, RunFacts
from pipeline.reporting.verdict import judge, percent
from pipeline.runs.measures import open_thumbnail
from pipeline.runs.notebook import QUALITY, legend_html, strip_html

_FRAMES = 6
_INPUTS = 4


def run_html(facts: RunFacts) -> str:
    """The verdict on a run, its legend, and some painted frames of each input."""
    verdict = judge(facts)
    said = html.escape(" ".join([verdict.found, verdict.steadiness]))
    doubts = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in verdict.doubts)
    legend = legend_html((part, percent(facts.share(part))) for part in facts.parts)
    strips = [f"<p><b>{html.escape(each.name)}</b></p>{_strip(each)}" for each in facts.inputs[:_INPUTS]]
    more = f"<p>and {len(facts.inputs) - _INPUTS} more</p>" if len(facts.inputs) > _INPUTS else ""
    return f"<p>{said}</p>{legend}{''.join(strips)}{more}<ul>{doubts}</ul>"


def _strip(each: InputFacts) -> str:
    known = sorted(each.measures.thumbnails.items())
    chosen = known[:: max(1, -(-len(known) // _FRAMES))]
    alpha = each.record.settings.render.alpha
    pictures = []
    for index, code in chosen:
        rgb = np.asarray(open_thumbnail(code))
        labels = resize_labels(each.store[index], rgb.shape[:2])
        painted = paint(rgb, labels, each.edited.colors, alpha=alpha)
        pictures.append((f"frame {index}", jpeg(Image.fromarray(painted), QUALITY)))
    return strip_html(pictures)
