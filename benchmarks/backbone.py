"""Compare the bundled backbone with untrained baselines: the table of its model card.

    python -m benchmarks.backbone --davis DIR --parts samples --pictures DIR [--rows bundled random "dense SIFT" ...]
    python -m benchmarks.backbone --davis DIR --parts samples --ablate --seeds 0 1 2
    python -m benchmarks.backbone --davis DIR --choose --every 2

DAVIS 2016 with BADJA's joints (`joints/`): J of the foreground, flicker, switches, PCK@0.2 of joints found from the
first annotated frame. Clips with parts: J, NMI, ARI, mIoU, flicker, switches. Pictures (`images/*.jpg`,
`annotations/trimaps/*.png` as in Oxford-IIIT Pet): J of the thresholded saliency of single pictures and of their
co-segmentation; with `annotations/xmls/*.xml`, NMI of four parts with head and rest inside the animals. Rows without
descriptors move points by optical flow (motion) or leave them in place.

`--ablate` switches each part of the chain off in turn; `--seeds` repeats every row, and shows the mean and how far
the seeds are apart; `--choose` picks, for each DAVIS clip, the settings that are best on the other clips, and shows
what they give on it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.assignment import assigner_of
from pipeline.config import load_settings, preset_file
from pipeline.evaluation.datasets.badja import JointClip, JointFrame, load_badja
from pipeline.evaluation.datasets.davis import load_davis
from pipeline.evaluation.datasets.layout import Picture, read_indices
from pipeline.evaluation.datasets.parts import load_part_clips
from pipeline.evaluation.metrics.masks import jaccard
from pipeline.evaluation.metrics.partitions import contingency, partition_scores
from pipeline.evaluation.metrics.points import correct_points
from pipeline.evaluation.metrics.steadiness import SteadinessMeter
from pipeline.evaluation.protocols.keypoints import ALPHA
from pipeline.evaluation.protocols.matching import transfer_points
from pipeline.evaluation.protocols.parts import MEASURES, score_clip
from pipeline.evaluation.protocols.predictors import Variant
from pipeline.features.extractor import Extraction, Extractor, resize_lanczos
from pipeline.features.motion import REACH, own_motion
from pipeline.features.vit import Tap
from pipeline.features.weights import BUNDLED
from pipeline.geometry import grid_size, resize_labels, with_short_side
from pipeline.media.inputs import resolve_inputs
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.progress import Silent
from pipeline.records import PartMap
from pipeline.refine.grabcut import refine_mask
from pipeline.stages.engine import Engine, middle_layer, open_engine
from pipeline.stages.picture_parts import fit_album, refine_with_crf
from pipeline.stages.picture_set import open_album
from pipeline.tasks.coseg import cosegment
from pipeline.tasks.evaluate.points import describer
from pipeline.tasks.evaluate.videos import segment_source
from pipeline.training.model import SmallViT, SmallViTConfig, export_weights

Rgb = NDArray[np.uint8]
Labelled = Iterator[tuple[Rgb, NDArray[np.uint8]]]
Points = NDArray[np.float64]
Carry = Callable[[JointFrame, JointFrame, Points], Points]

FPS = 25.0
ELLIPSE_SHARE = 0.5
"""Axes of the centre ellipse as a share of the picture's sides."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "whole chain": {},
    "each frame's own saliency": {"saliency.shared": False, "saliency.threshold": 0.2, "saliency.neutral": 0.3},
    "without places": {"saliency.places": 0.0},
    "without window": {"temporal.window": 0},
    "without either": {"saliency.places": 0.0, "temporal.window": 0},
    "without key frames": {"keyframes.interval": 1},
    "without motion": {"saliency.source": "attention"},
    "without regions": {"cluster.prior": 0.0},
    "without CRF": {"crf.iterations": 0},
}
"""Settings that switch a part of the chain off."""

CHOICES: dict[str, tuple[float, ...]] = {"saliency.places": (0.0, 0.5, 1.0), "saliency.neutral": (0.28, 0.34, 0.4)}
"""Settings among which `--choose` chooses."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of the table: part segmentation of a clip, point tracking between frames, and single-picture saliency."""

    segment: Callable[[Source], Labelled]
    carry: Carry
    saliency: Callable[[Rgb], NDArray[np.floating]] | None = None
    engine: Engine | None = None


class HandMade(Extractor):
    """Hand-crafted patch descriptors behind the interface of the ViT's extractor."""

    def __init__(self, like: Extractor, describe: Callable[[Rgb, list[tuple[int, int]]], NDArray[np.float32]]) -> None:
        """Copy grid and settings of an extractor; `describe` maps a picture and patch corners to [n, channels]."""
        self.device, self.identity, self.settings = like.device, like.identity, like.settings
        self.half_size, self.heads, self.tap, self.regions = False, None, like.tap, None
        self._describe = describe

    def extract_taps(
        self, images: Sequence[Rgb], taps: Sequence[Tap], *, saliency: bool = False
    ) -> dict[Tap, Extraction]:
        """Describe pictures; all layers and facets get the same descriptors, and there is no class token."""
        patch, stride = self.identity.patch_px, self.settings.stride
        grids = []
        for image in images:
            rows, cols = grid_size((image.shape[0], image.shape[1]), patch, stride)
            corners = [(row * stride, col * stride) for row in range(rows) for col in range(cols)]
            grids.append(torch.from_numpy(self._describe(image, corners)).view(rows, cols, -1))
        descriptors = torch.stack(grids)
        return dict.fromkeys(taps, Extraction(descriptors, descriptors.new_zeros(len(images), 1), None))


def describe_colours(image: Rgb, corners: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Mean and standard deviation of CIELAB colours in each patch, and the patch's position."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 50
    place = np.array(corners, np.float32) / max(image.shape[:2]) * 2 - 0.5
    cells = [lab[row : row + 8, col : col + 8].reshape(-1, 3) for row, col in corners]
    colours = [np.concatenate([cell.mean(0), cell.std(0)]) for cell in cells]
    return np.concatenate([np.array(colours, np.float32), place], axis=1)


def describe_sift(image: Rgb, corners: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Dense upright SIFT, with a window of twice the patch's side."""
    # OpenCV's window is 4 bins of 1.5 times the key-point's size.
    points = [cv2.KeyPoint(col + 3.5, row + 3.5, 16 / 6, 0) for row, col in corners]
    kept, found = cv2.SIFT.create().compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), points)
    if len(kept) != len(corners):
        raise ValueError(f"SIFT described {len(kept)} of {len(corners)} patches")
    return np.asarray(found, np.float32)


def of_engine(engine: Engine, *, attends: bool) -> Contender:
    """The pipeline with an engine's descriptors; `attends`: the model has attention to use as saliency."""
    layer = middle_layer(engine) if attends else 0
    variant = Variant(layer, engine.settings.features.facet, log_bin=True)
    describe = describer(engine, [Tap(layer, variant.facet)])

    def carry(first: JointFrame, frame: JointFrame, points: Points) -> Points:
        return transfer_points(describe(first.picture), describe(frame.picture), variant, points)

    def saliency(rgb: Rgb) -> NDArray[np.floating]:
        found = engine.extractor.extract([engine.extractor.preprocess(rgb)], saliency=True).saliency
        assert found is not None
        return found[0].numpy()

    return Contender(
        lambda source: segment_source(source, engine, Silent()),
        carry,
        saliency if attends else None,
        engine if attends else None,
    )


def of_masks(masks: Callable[[Sequence[Rgb]], Iterator[NDArray[np.bool_]]], carry: Carry) -> Contender:
    """A function that returns one mask per frame, used as a segmentation into one part."""

    def segment(source: Source) -> Labelled:
        frames = [frame.rgb for frame in source.frames()]
        return ((rgb, mask.astype(np.uint8)) for rgb, mask in zip(frames, masks(frames), strict=True))

    return Contender(segment, carry, lambda rgb: next(masks([rgb])).astype(np.float32))


def stay(_first: JointFrame, _frame: JointFrame, points: Points) -> Points:
    """Leave points where they are."""
    return points


def flow_along(first: JointFrame, frame: JointFrame, points: Points) -> Points:
    """Track points by DIS optical flow from each frame to the next, at full resolution."""
    names = sorted(first.picture.path.parent.glob(f"*{first.picture.path.suffix}"))
    between = names[names.index(first.picture.path) : names.index(frame.picture.path) + 1]
    grey = [cv2.imread(str(name), cv2.IMREAD_GRAYSCALE) for name in between]
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for before, after in itertools.pairwise(grey):
        flow = flow_of.calc(before, after, None)
        x, y = points.round().astype(int).T
        points = points + flow[y.clip(0, flow.shape[0] - 1), x.clip(0, flow.shape[1] - 1)]
    return points


def motion_masks(frames: Sequence[Rgb], load_size: int) -> Iterator[NDArray[np.bool_]]:
    """Otsu's threshold on motion relative to the camera."""
    size_hw = with_short_side(frames[0].shape[:2], load_size)
    grey = [cv2.cvtColor(resize_lanczos(rgb, size_hw), cv2.COLOR_RGB2GRAY) for rgb in frames]
    for index, rgb in enumerate(frames):
        first = max(0, index - REACH)
        moving = own_motion(grey[first : index + REACH + 1], index - first)
        yield cv2.resize(otsu(moving).astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0


def cut_masks(frames: Sequence[Rgb], load_size: int) -> Iterator[NDArray[np.bool_]]:
    """Motion masks refined by GrabCut at the processed size."""
    size_hw = with_short_side(frames[0].shape[:2], load_size)
    for rgb, mask in zip(frames, motion_masks(frames, load_size), strict=True):
        small = cv2.resize(mask.astype(np.uint8), size_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0
        cut = refine_mask(small, resize_lanczos(rgb, size_hw))
        yield cv2.resize(cut.astype(np.uint8), rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0


def everything(frames: Sequence[Rgb]) -> Iterator[NDArray[np.bool_]]:
    """Masks that cover each frame."""
    return (np.ones(rgb.shape[:2], np.bool_) for rgb in frames)


def ellipses(frames: Sequence[Rgb]) -> Iterator[NDArray[np.bool_]]:
    """Masks of an ellipse in the middle of each frame."""
    for rgb in frames:
        rows, cols = (np.linspace(-1, 1, side) / ELLIPSE_SHARE for side in rgb.shape[:2])
        yield rows[:, None] ** 2 + cols**2 < 1


def otsu(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Binarise a map by Otsu's threshold."""
    grey = (255 * values / max(float(values.max()), 1e-6)).astype(np.uint8)
    return np.asarray(cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]) > 0


def bundled_engine(parts: int, overrides: Mapping[str, Any]) -> Engine:
    """The bundled backbone with its own settings, some of them changed."""
    settings = load_settings(preset_file(BUNDLED), {"model": BUNDLED, "cluster.parts": parts, **overrides})
    return open_engine(settings, Silent())


def contenders(folder: Path, parts: int, seed: int = 0) -> dict[str, Callable[[], Contender]]:
    """All rows by name; each function loads its model when called."""

    def engine(**overrides: Any) -> Engine:
        values = {name.replace("__", "."): value for name, value in overrides.items()}
        return bundled_engine(parts, {"run.seed": seed, **values})

    def untrained(**overrides: Any) -> Engine:
        torch.manual_seed(0)
        export_weights(SmallViT(SmallViTConfig()), folder / "random.safetensors")
        # The region prior holds only for the bundled weights.
        return engine(model=str(folder / "random.safetensors"), cluster__prior=0.0, **overrides)

    def by_hand(describe: Callable[[Rgb, list[tuple[int, int]]], NDArray[np.float32]]) -> Contender:
        like = engine(saliency__source="motion")
        return of_engine(Engine(HandMade(like.extractor, describe), like.settings), attends=False)

    load_size = engine().settings.features.load_size or 160
    return {
        "bundled": lambda: of_engine(engine(), attends=True),
        "random": lambda: of_engine(untrained(), attends=True),
        "random, motion": lambda: of_engine(untrained(saliency__source="motion"), attends=True),
        "colour and place": lambda: by_hand(describe_colours),
        "dense SIFT": lambda: by_hand(describe_sift),
        "motion": lambda: of_masks(lambda frames: motion_masks(frames, load_size), flow_along),
        "motion, GrabCut": lambda: of_masks(lambda frames: cut_masks(frames, load_size), flow_along),
        "everything": lambda: of_masks(everything, stay),
        "centre ellipse": lambda: of_masks(ellipses, stay),
    }


def ablations(parts: int, seed: int = 0) -> dict[str, Callable[[], Contender]]:
    """The bundled backbone with each part of its chain switched off in turn."""
    return {
        name: lambda values=values: of_engine(bundled_engine(parts, {"run.seed": seed, **values}), attends=True)  # type: ignore[misc]
        for name, values in ABLATIONS.items()
    }


def score_davis(root: Path, contender: Contender, every: int = 1) -> dict[str, float]:
    """J of each sequence without its first and last frame, its mean, mean flicker and switches; of every Nth frame."""
    figures, steadiness = {}, []
    for sequence in load_davis(root, 2016):
        frames = sequence.frames[::every]
        source = DirectorySource(frames[0].parent, sequence.name, FPS, frames)
        meter, scores = SteadinessMeter(), []
        for index, (rgb, labels) in enumerate(contender.segment(source)):
            meter.add(rgb, labels)
            scores.append(jaccard(labels > 0, sequence.read_objects(every * index, 1)[0]))
        figures[f"J {sequence.name}"] = float(np.mean(scores[1:-1]))
        steadiness.append(meter.result())
    mean = float(np.mean(list(figures.values())))
    flicker = 100 * float(np.mean([each.flicker for each in steadiness]))
    switches = float(np.mean([each.switches_per_100_frames for each in steadiness]))
    return {**figures, "J mean": mean, "flicker, %": flicker, "switches": switches}


def choose_without(scores: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[str, float]]:
    """For each clip the choice that is best on the other clips, and its score on the clip.

    Args:
        scores: of each clip, by choice.
    """
    clips = next(iter(scores.values()))
    found = {}
    for clip in clips:
        best = max(scores, key=lambda choice: sum(scores[choice][other] for other in clips if other != clip))
        found[clip] = (best, scores[best][clip])
    return found


def leave_one_out(root: Path, every: int) -> dict[str, float]:
    """J of each DAVIS clip with the settings that the other clips choose; prints which these are."""
    scores: dict[str, dict[str, float]] = {}
    for values in itertools.product(*CHOICES.values()):
        overrides = dict(zip(CHOICES, values, strict=True))
        name = ", ".join(f"{key} {value:g}" for key, value in overrides.items())
        figures = score_davis(root, of_engine(bundled_engine(4, overrides), attends=True), every)
        scores[name] = {key: value for key, value in figures.items() if key.startswith("J ") and key != "J mean"}
        print(
            f"| {name} | " + " | ".join(f"{key} {value:.3f}" for key, value in scores[name].items()) + " |", flush=True
        )
    found = choose_without(scores)
    for clip, (choice, value) in found.items():
        print(f"| {clip} by the others: {choice} | {value:.3f} |", flush=True)
    chosen = {clip: value for clip, (_, value) in found.items()}
    return {**chosen, "J mean": float(np.mean(list(chosen.values())))}


def score_joints(root: Path, contender: Contender) -> dict[str, float]:
    """PCK@0.2 of each clip's joints and the mean over clips."""
    figures = {f"PCK {clip.name}": _pck(clip, contender.carry) for clip in load_badja(root)}
    return {**figures, "PCK mean": float(np.mean(list(figures.values())))}


def _pck(clip: JointClip, carry: Carry) -> float:
    first, *others = clip.frames
    correct = points = 0
    for frame in others:
        both = first.visible & frame.visible
        if both.any():
            found = carry(first, frame, first.points_xy[both])
            radius = ALPHA * math.sqrt(frame.read_area())
            correct += int(correct_points(found, frame.points_xy[both], radius).sum())
            points += int(both.sum())
    return correct / points


def score_parts(root: Path, contender: Contender) -> dict[str, float]:
    """Scores against annotated parts, means over clips."""
    rows, foreground = [], []
    for clip in load_part_clips(root):
        (source,) = resolve_inputs([str(clip.source)], FPS)
        frames = list(contender.segment(source))
        rows.append(score_clip(clip, iter(frames)))
        truth = clip.read_labels()
        foreground.append(np.mean([jaccard(frames[index][1] > 0, truth[index] > 0) for index in truth]))
    names = {"miou": "mIoU", "nmi": "NMI", "ari": "ARI", "flicker": "flicker, %", "true_switches": "switches"}
    figures = {label: MEASURES[name][1] * float(np.mean([row[name] for row in rows])) for name, label in names.items()}
    figures = {name: value / 100 if name in ("mIoU", "NMI", "ARI") else value for name, value in figures.items()}
    return {"parts J": float(np.mean(foreground)), **{f"parts {name}": value for name, value in figures.items()}}


def score_pictures(root: Path, contender: Contender) -> dict[str, float]:
    """J of saliency binarised by Otsu's threshold, and of co-segmentation; NMI of parts with heads.

    The boundary class of the trimaps is ignored.
    """
    if contender.saliency is None:
        return {}
    pictures = [Picture(file.stem, file) for file in sorted((root / "images").glob("*.jpg"))]
    trimaps = [read_indices(root / "annotations" / "trimaps" / f"{picture.name}.png") for picture in pictures]
    scores = []
    for picture, trimap in zip(pictures, trimaps, strict=True):
        rgb = picture.read()
        found = otsu(contender.saliency(rgb)).astype(np.uint8)
        mask = cv2.resize(found, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        scores.append(jaccard(mask, trimap == 1, trimap == 3))
    figures = {"pictures J": float(np.mean(scores))}
    if contender.engine is not None:
        masks = cosegment(pictures, contender.engine)
        common = [jaccard(mask, trimap == 1, trimap == 3) for mask, trimap in zip(masks, trimaps, strict=True)]
        figures["coseg J"] = float(np.mean(common))
        figures |= score_heads(root, pictures, trimaps, contender.engine)
    return figures


def score_heads(
    root: Path, pictures: Sequence[Picture], trimaps: Sequence[NDArray[np.uint8]], engine: Engine
) -> dict[str, float]:
    """NMI of the parts of a set with head and rest, over the animals' pixels that have a part; none without boxes."""
    boxes = root / "annotations" / "xmls"
    heads = [head_of(boxes / f"{one.name}.xml", trimap) for one, trimap in zip(pictures, trimaps, strict=True)]
    if not any(head is not None for head in heads):
        return {}
    table = np.zeros((2, engine.settings.cluster.parts + 1), dtype=np.int64)

    def compare(items: Iterator[PartMap]) -> None:
        for item in items:
            head, animal = heads[item.frame.index], trimaps[item.frame.index] == 1
            labels = resize_labels(item.labels, item.frame.size_hw)
            inside = animal & (labels > 0)
            if head is not None:
                table[:] += contingency(head[inside].astype(np.int64), labels[inside], (2, table.shape[1]))

    with open_album(pictures, engine, Silent()) as album:
        codebook = fit_album(album).codebook
        assigner = assigner_of(codebook, engine.settings.saliency, engine.extractor.device)
        album.label(range(len(pictures)), assigner.energies, refine_with_crf(engine.settings.crf), compare)
    return {"heads NMI": partition_scores(table).nmi}


def head_of(file: Path, like: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The box of an animal's head as a mask; None without one."""
    if not file.is_file():
        return None
    content = file.read_text()
    found = [re.search(rf"<{side}>(\d+)</{side}>", content) for side in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = (int(side[1]) if side else 0 for side in found)
    if not left:
        return None
    mask = np.zeros(like.shape, dtype=np.bool_)
    mask[top - 1 : bottom, left - 1 : right] = True
    return mask


def main() -> None:
    """Parse the options, measure each row, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Compare the bundled backbone with untrained baselines.")
    parser.add_argument("--davis", type=Path, help="DAVIS 2016, with BADJA's joints/")
    parser.add_argument("--parts", type=Path, help="clips with annotated parts, such as samples")
    parser.add_argument("--pictures", type=Path, help="images/ and annotations/trimaps/")
    parser.add_argument("--clip-parts", type=int, default=5, help="parts to find in the clips with parts")
    parser.add_argument("--rows", nargs="+", help="names of the rows to measure; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds to measure each row with")
    parser.add_argument("--every", type=int, default=1, help="take every Nth frame of the DAVIS clips")
    parser.add_argument("--ablate", action="store_true", help="rows without one part of the chain each, instead")
    parser.add_argument("--choose", action="store_true", help="settings of each DAVIS clip by the other clips, instead")
    options = parser.parse_args()
    if options.choose:
        print(json.dumps({"benchmark": "backbone", "left out": leave_one_out(options.davis, options.every)}))
        return
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = ablations if options.ablate else partial(contenders, Path(folder))
        for name in options.rows or rows(4, 0):
            each = [_measured(rows, name, seed, options) for seed in options.seeds]
            results[name] = {key: float(np.mean([figures[key] for figures in each])) for key in each[0]}
            apart = {key: np.ptp([figures[key] for figures in each]) for key in each[0]}
            spread = {key: f" ±{value / 2:.2f}" * (len(each) > 1) for key, value in apart.items()}
            shown = (f"{key} {value:.2f}{spread[key]}" for key, value in results[name].items())
            print(f"| {name} | " + " | ".join(shown) + " |", flush=True)
    print(json.dumps({"benchmark": "backbone", "rows": results}))


def _measured(
    rows: Callable[[int, int], dict[str, Callable[[], Contender]]], name: str, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Figures of one row with one seed."""
    figures: dict[str, float] = {}
    if options.davis:
        contender = rows(4, seed)[name]()
        figures |= score_davis(options.davis, contender, options.every)
        if not options.ablate:
            figures |= score_joints(options.davis, contender)
    if options.parts:
        figures |= score_parts(options.parts, rows(options.clip_parts, seed)[name]())
    if options.pictures:
        figures |= score_pictures(options.pictures, rows(4, seed)[name]())
    return figures


if __name__ == "__main__":
    main()
