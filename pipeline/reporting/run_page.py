"""The report of a run over videos: verdict, clips, charts, frames before and after, and why parts became foreground."""

from __future__ import annotations

import html
import io
import math
import shlex
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Settings, bundled_settings, dotted, with_defaults
from pipeline.errors import InputError
from pipeline.geometry import nearest_index
from pipeline.media.inline import data_uri, jpeg, scaled
from pipeline.media.pictures import read_picture
from pipeline.reporting.facts import CORRECTED, InputFacts, RunFacts
from pipeline.reporting.page import compose, header
from pipeline.reporting.verdict import judge, percent
from pipeline.runs.measures import open_thumbnail
from pipeline.runs.record import CLUSTERS

REPORT = "report.html"

_BUDGET = 1_200_000
"""Bytes of the small pictures of all inputs together."""
_POINTS = 60_000
"""Columns of the charts of all inputs together."""
_SIZES = ((480, 82), (400, 78), (320, 75), (256, 72), (200, 68), (160, 62), (128, 56), (96, 50))
"""Long side in pixels and JPEG quality of a small picture: the first with which all inputs fit the budget."""
_STRIP_QUALITY = 72


def run_page(facts: RunFacts) -> bytes:
    """The report of a run as HTML; clips are named relative to OUT.

    Raises:
        InputError: labels are damaged.
    """
    verdict = judge(facts)
    title = (
        facts.inputs[0].name if len(facts.inputs) == 1 else f"{facts.inputs[0].name} and {len(facts.inputs) - 1} more"
    )
    record = facts.inputs[0].record
    kicker = f"vidparts segment · model {record.model.name} · {record.device}"
    sentences = [verdict.found, verdict.steadiness]
    data = {"inputs": _inputs(facts), "fit": _fit(facts)}
    return compose(f"{title}: parts", _body(facts, header(kicker, title, sentences, verdict.doubts)), data)


def _body(facts: RunFacts, head: str) -> str:
    links = ""
    if len(facts.inputs) > 1:
        named = enumerate(facts.inputs)
        links = "".join(f'<a href="#input-{number}">{html.escape(each.name)}</a>' for number, each in named)
        links = f'<nav class="inputs">{links}</nav>'
    again = html.escape(command_again(facts))
    close = '<section><h2>Run it again</h2><p class="note">The same inputs and settings give the same labels.</p>'
    return f'{head}<main>{links}<div id="inputs"></div>{close}<pre>{again}</pre></section></main>'


def _inputs(facts: RunFacts) -> list[dict[str, Any]]:
    shown = [_Pictures(each) for each in facts.inputs]
    # One size for all: the largest with which they fit.
    encoded = next((found for size in _SIZES if (found := _encode(shown, *size)) is not None), None)
    return [_input(number, each, encoded[number] if encoded else [], facts) for number, each in enumerate(facts.inputs)]


class _Pictures:
    """An input's small pictures with their labels."""

    def __init__(self, each: InputFacts) -> None:
        self.pictures = [(index, open_thumbnail(code)) for index, code in sorted(each.measures.thumbnails.items())]
        self.labels = {index: each.store[index] for index, _ in self.pictures}
        self.colors = each.edited.colors


def _encode(shown: Sequence[_Pictures], long_side: int, quality: int) -> list[list[dict[str, Any]]] | None:
    """All inputs' pictures and labels; None as soon as they are more than the page may hold."""
    left, encoded = _BUDGET, []
    for each in shown:
        pairs = []
        for index, picture in each.pictures:
            shot = data_uri(jpeg(scaled(picture, long_side), quality))
            labels = data_uri(label_png(each.labels[index], each.colors, long_side), "image/png")
            pairs.append({"frame": index, "picture": shot, "labels": labels})
            left -= len(shot) + len(labels)
            if left < 0:
                return None
        encoded.append(pairs)
    return encoded


def label_png(labels: NDArray[np.uint8], colors: NDArray[np.uint8], long_side: int) -> bytes:
    """A label map as a small palette PNG whose background is transparent, to lie over a picture.

    Args:
        labels: uint8 [h, w].
        colors: uint8 [K, 3], RGB of the labels 1..K.
        long_side: longest side wanted, pixels; a smaller map stays as it is.
    """
    height, width = labels.shape
    scale = min(1.0, long_side / max(height, width))
    rows = nearest_index(height, max(1, round(height * scale)))
    cols = nearest_index(width, max(1, round(width * scale)))
    image = Image.fromarray(np.ascontiguousarray(labels[rows][:, cols]))
    image.putpalette([0, 0, 0, *colors.ravel().tolist()])
    encoded = io.BytesIO()
    image.save(encoded, "PNG", transparency=0, optimize=True)
    return encoded.getvalue()


def _input(number: int, each: InputFacts, pairs: list[dict[str, Any]], facts: RunFacts) -> dict[str, Any]:
    # Charts of long clips show every Nth frame: areas of that one, and the largest flicker up to the next.
    step = max(1, math.ceil(each.frames * len(facts.inputs) / _POINTS))
    clip = each.clip()
    note = ""
    if each.repainted and (clip is None or clip.name != CORRECTED):
        note = "The clip is as the run painted it; `vidparts report` paints the edits too, where it finds the input."
    return {
        "number": number,
        "name": each.name,
        "frames": each.frames,
        "step": step,
        "seconds": [round(value, 6) for value in each.seconds[::step].tolist()],
        "clip": None if clip is None else urllib.parse.quote(f"{each.name}/{clip.name}"),
        "shift": each.clip_start(),
        "parts": [_legend_row(each, part) for part in each.edited.parts],
        "areas": [
            {"color": _code(part.color), "values": _permyriad(each.shares[::step, part.label])}
            for part in each.edited.parts
        ],
        "flicker": None if each.flicker is None else _permyriad(_largest(each.flicker, step)),
        "pairs": pairs,
        "note": note,
        "source": _source(each),
        "stages": [
            {
                "name": stage.name,
                "seconds": [f"{value:.2f} s" for value in (stage.busy_s, stage.starved_s, stage.blocked_s)],
            }
            for stage in each.record.stages
        ],
    }


def _legend_row(each: InputFacts, part: Any) -> dict[str, str]:
    frames = each.present(part)
    first, last = (f"{frames[0]:,}", f"{frames[-1]:,}") if len(frames) else ("-", "-")
    return {
        "name": part.name,
        "color": _code(part.color),
        "share": percent(each.share(part)),
        "first": first,
        "last": last,
    }


def _largest(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    if step == 1:
        return values
    padded = np.append(values, [np.nan] * (-len(values) % step)).reshape(-1, step)
    return np.where(np.isnan(padded).all(axis=1), np.nan, np.nanmax(np.nan_to_num(padded, nan=-1), axis=1))


def _permyriad(shares: NDArray[np.float64]) -> list[int | None]:
    """Shares in ten-thousandths; None where unknown."""
    return [None if math.isnan(share) else round(1e4 * share) for share in shares.tolist()]


def _source(each: InputFacts) -> str:
    source = each.record.source
    text = f"{source.path}: {source.width}x{source.height} pixels, SHA-256 {source.sha256[:16]}…"
    if each.record.fit_seconds is not None:
        text += f" The fit over all inputs took {each.record.fit_seconds:.1f} s."
    return text


def _fit(facts: RunFacts) -> dict[str, Any] | None:
    book = facts.codebook
    if book is None:
        return None
    origin, strips = book.origin, _strips(facts.output / CLUSTERS, len(book.centroids))
    needed = math.ceil(origin.frames * origin.saliency.votes)
    fitted = facts.inputs[0].record.fit_seconds is not None
    how = "by this run" if fitted else "earlier, and given to this run by --codebook"
    texts = [
        f"The codebook was fitted {how}, on {origin.frames} frames. All descriptors were put into "
        f"{len(book.centroids)} clusters; a frame votes for a cluster whose members are salient in it on average "
        f"(above {origin.saliency.threshold:g}). Clusters with at least {needed} of {origin.frames} votes, in bold, "
        f"are foreground, and their descriptors were divided into {book.parts} parts."
    ]
    if len(origin.objectives) > 1:
        texts.append(
            "Their number is where the curve bends: the first that brings less than "
            f"{100 * (1 - (origin.cluster.elbow or 0)):.1f} % over the one before."
        )
    order = np.argsort(-book.votes, kind="stable").tolist()
    clusters = [
        {
            "number": cluster + 1,
            "votes": int(book.votes[cluster]),
            "salient": bool(book.salient[cluster]),
            "patches": strips[cluster] if strips else None,
        }
        for cluster in order
    ]
    return {
        "texts": texts,
        "curve": [round(value, 6) for value in origin.objectives],
        "used": len(book.centroids),
        "frames": max(1, origin.frames),
        "needed": needed,
        "clusters": clusters,
    }


def _strips(file: Path, count: int) -> list[str] | None:
    """The rows of the clusters' sheet."""
    if not file.is_file() or file.is_symlink():
        return None
    try:
        sheet = read_picture(file)
    except InputError:
        return None
    side = sheet.shape[0] // count
    if side * count != sheet.shape[0] or not 1 <= side <= 128 or sheet.shape[1] > 4096:
        return None
    rows = (Image.fromarray(sheet[row * side : (row + 1) * side]) for row in range(count))
    return [data_uri(jpeg(row, _STRIP_QUALITY)) for row in rows]


_OPTIONS = {
    "preset": "--preset",
    "model": "--model",
    "model_heads": "--heads",
    "features.load_size": "--load-size",
    "features.stride": "--stride",
    "features.layer": "--layer",
    "features.facet": "--facet",
    "run.device": "--device",
    "run.backend": "--backend",
    "run.seed": "--seed",
    "run.batch": "--batch",
    "input.every": "--every",
    "input.start": "--start",
    "input.end": "--end",
    "input.fps": "--fps",
    "cluster.parts": "--parts",
    "cluster.frames": "--fit-frames",
    "saliency.source": "--saliency",
    "render.alpha": "--alpha",
    "render.palette": "--palette",
}


def command_again(facts: RunFacts) -> str:
    """The command that makes the same labels, with the settings that need a file as a comment."""
    record = facts.inputs[0].record
    words = ["vidparts", "segment", *(shlex.quote(each.record.source.path) for each in facts.inputs), "-o", "OUT"]
    rest = []
    for name, value in _changed(record.settings):
        if name in _OPTIONS:
            words += [_OPTIONS[name], shlex.quote(str(value))]
        elif name == "input.strict":
            words += ["--strict"]
        else:
            rest.append(f"{name}: {value}")
    words += ["--save-frames"] if "frames" in record.files else []
    words += ["--codebook", "codebook.safetensors"] if record.fit_seconds is None else []
    command = " ".join(words)
    return "\n".join([command, *(["# --config FILE with", *(f"#   {line}" for line in rest)] if rest else [])])


def _changed(settings: Settings) -> list[tuple[str, Any]]:
    """The settings that differ from the defaults, the preset's and the bundled model's own."""
    given: dict[str, Any] = {"model": settings.model}
    if settings.preset is not None:
        given["preset"] = settings.preset
    own = bundled_settings(settings.preset) if settings.model == "bundled" else []
    expected = dotted(with_defaults(Settings.model_validate(given), *own).model_dump())
    flat = dotted(settings.model_dump())
    explicit = [name for name in ("model", "preset") if flat[name] not in (None, "auto")]
    return [(name, flat[name]) for name in (*explicit, *(key for key in flat if flat[key] != expected[key]))]


def _code(color: Sequence[int]) -> str:
    return "#" + bytes(color).hex()
