"""The paper's Table 3: co-segmentation by each facet of some layers, and baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.assignment import normalise
from pipeline.cluster.fit import Descriptors, fit_foreground
from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.errors import ModelError
from pipeline.evaluation.baselines import activation_saliency, threshold_mass
from pipeline.evaluation.datasets.coseg import load_sets
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.protocols.facets import evaluate_facets, facet_method
from pipeline.evaluation.reports import Summary
from pipeline.features.extractor import Extractor
from pipeline.features.models import MODELS
from pipeline.features.resnet import load_resnet
from pipeline.features.vit import Tap
from pipeline.features.weights import resolve_model
from pipeline.geometry import resize_labels
from pipeline.progress import Progress
from pipeline.records import PartMap
from pipeline.refine.grabcut import enlarge_mask
from pipeline.stages.engine import Engine
from pipeline.stages.picture_set import Album, open_album
from pipeline.tasks.coseg import CommonForeground, label_common
from pipeline.tasks.evaluate.request import Request, taps_of, with_notes

Mask = NDArray[np.bool_]
Rgb = NDArray[np.uint8]

SUPERVISED_VIT = "vit_small_patch16_224"


Respond = Callable[[Rgb], NDArray[np.floating]]
"""From a picture uint8 [h, w, 3] to how strongly a baseline responds to each of its positions, [rows, cols]."""


def evaluate_facets_and_baselines(request: Request) -> Summary:
    """Every facet of the layers swept, and the baselines whose weights can be had."""
    sets = load_sets(request.data)
    engine = request.open_engine(features__log_bin=False, features__layer=0, pictures__remove_outliers=False)
    layers = request.swept_layers(engine)
    baselines, missing = open_baselines(engine)
    names = [attention_name(engine), *baselines]
    run = request.open_run(engine, layers=layers, baselines=names)

    def segment(pictures: Sequence[Picture]) -> Mapping[str, Sequence[Mask]]:
        by_method = sweep_facets(pictures, engine, taps_of(layers), request.aside)
        for name, respond in baselines.items():
            by_method[name] = [thresholded(respond(rgb), rgb) for rgb in (picture.read() for picture in pictures)]
        return by_method

    kept = (
        "Baselines keep the strongest positions that hold 60% of attention or activation, each brought to begin at 0."
    )
    return with_notes(run, evaluate_facets(sets, segment, run), engine, [kept, *missing])


def sweep_facets(
    pictures: Sequence[Picture], engine: Engine, taps: Sequence[Tap], progress: Progress
) -> dict[str, list[Mask]]:
    """The common foreground of a set by each tap, and the thresholded attention of the same pass.

    Args:
        pictures: the set.
        engine: model and settings, those of the co-segmentation among them.
        taps: layers and facets.
        progress: receives messages.

    Returns:
        For each method bool [h, w] masks in the pictures' order, at their own sizes.

    Raises:
        InputError: a picture can't be read.
    """
    with ExitStack() as opened:
        albums = {tap: opened.enter_context(open_album(pictures, engine, progress)) for tap in taps}
        attention = list(_describe(pictures, engine, albums))
        by_tap = {facet_method(*tap): _common_masks(album) for tap, album in albums.items()}
    return by_tap | {attention_name(engine): attention}


def attention_name(engine: Engine) -> str:
    """The name of thresholded attention: for DINO's models the paper's, so that its figures are shown beside it."""
    name = engine.extractor.identity.name
    return "DINO ViT attention" if name in MODELS and name.startswith("dino_") else f"attention of {name}"


def _describe(pictures: Sequence[Picture], engine: Engine, albums: Mapping[Tap, Album]) -> Iterator[Mask]:
    """Fill the albums' caches by one pass a picture, and yield each one's thresholded attention."""
    extractor = engine.extractor
    for index, picture in enumerate(pictures):
        rgb = picture.read()
        found = extractor.extract_taps([extractor.preprocess(rgb)], list(albums), saliency=True)
        attention = next(iter(found.values())).saliency
        assert attention is not None
        voting = (extractor.saliency_half([rgb]) if extractor.half_size else attention)[0].cpu().numpy()
        for tap, album in albums.items():
            # A tap's descriptors end here: all of them together are as large as the model's activations.
            grid = normalise(found.pop(tap).descriptors[0])
            album.cache.put((0, index), grid.cpu().numpy(), voting, index)
        yield thresholded(attention[0].cpu().numpy(), rgb)


def thresholded(strength: NDArray[np.floating], rgb: Rgb) -> Mask:
    """Where a picture's strongest positions [rows, cols] are, bool [h, w]."""
    return enlarge_mask(threshold_mass(strength), (rgb.shape[0], rgb.shape[1]))


def _common_masks(album: Album) -> list[Mask]:
    settings = album.engine.settings
    everything = Descriptors(album.cache)
    found = fit_foreground(album.cache, everything, settings.run.seed, settings.cluster, settings.saliency)
    masks: dict[int, Mask] = {}

    def collect(items: Iterator[PartMap]) -> None:
        for item in items:
            masks[item.frame.index] = resize_labels(item.labels, item.frame.size_hw) > 0

    label_common(album, CommonForeground(found, (), 0.0), collect)
    return [masks[index] for index in range(len(album.pictures))]


def open_baselines(engine: Engine) -> tuple[dict[str, Respond], list[str]]:
    """The baselines of Table 3 besides the model's own attention, by name.

    Returns:
        Those whose weights can be had, and a sentence for each of the others.
    """
    openers: dict[str, Callable[[Engine], Respond]] = {
        "supervised ViT attention": _supervised_attention,
        "DINO ResNet-50": lambda engine: _activation("dino", engine),
        "supervised ResNet-50": lambda engine: _activation("supervised", engine),
    }
    found: dict[str, Respond] = {}
    missing = []
    for name, opened in openers.items():
        try:
            found[name] = opened(engine)
        except ModelError as error:
            missing.append(f"Without the baseline {name}: {error}.")
    return found, missing


def _supervised_attention(engine: Engine) -> Respond:
    try:
        model = resolve_model(SUPERVISED_VIT)
    except ModelError as error:
        # The error's advice is about `--model`, which is another model.
        raise ModelError(f"{str(error).partition(';')[0]}; connect to the network once") from error
    patch_px, features = model.identity.patch_px, engine.settings.features
    stride = features.stride if patch_px % features.stride == 0 else patch_px
    read = FeatureSettings(
        load_size=features.load_size,
        enlarge_to=features.enlarge_to,
        stride=stride,
        layer=model.identity.depth - 1,
    )
    measured = engine.extractor
    extractor = Extractor(model, read, SaliencySettings(), measured.device, backend=measured.backend)

    def respond(rgb: Rgb) -> NDArray[np.floating]:
        attention = extractor.extract([extractor.preprocess(rgb)], saliency=True).saliency
        assert attention is not None
        return np.asarray(attention[0].cpu().numpy())

    return respond


def _activation(training: str, engine: Engine) -> Respond:
    resnet = load_resnet(training, engine.settings.features, engine.extractor.device)
    return lambda rgb: activation_saliency(resnet.describe(rgb))
