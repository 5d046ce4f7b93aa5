"""The CUDA path without CUDA: no synchronisation before the label map, and the CPU's labels."""

from collections import Counter
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.cluster.assignment import PartAssigner
from pipeline.config import Settings, with_values
from pipeline.device import upload
from pipeline.features.extractor import Extractor
from pipeline.features.weights import resolve_model
from pipeline.records import Frame
from pipeline.refine.crf import refine_on_device
from pipeline.stages.batches import prepare
from pipeline.stages.describe import describe
from pipeline.stages.energies import assign
from pipeline.stages.refinement import refine, refine_queued


def scene(number: int) -> np.ndarray:
    y, x = np.mgrid[:48, :72]
    picture = np.stack([60 + 2 * x, 200 - 3 * y, 90 + 0 * x], axis=-1).astype(float)
    picture[(x - 20 - 3 * number) ** 2 + (y - 24) ** 2 < 150] = (220, 60, 40)
    noise = np.random.default_rng(number).normal(size=picture.shape)
    return np.clip(picture + 4 * noise, 0, 255).astype(np.uint8)


def frames(count: int) -> list[Frame]:
    return [Frame(number, 40 * number, Fraction(1, 1000), scene(number)) for number in range(count)]


def opened(settings: Settings, device: str) -> tuple[Extractor, PartAssigner]:
    extractor = Extractor(resolve_model(settings.model), settings.features, settings.saliency, device)
    centroids = torch.nn.functional.normalize(torch.randn(5, 48, generator=torch.Generator().manual_seed(1)), dim=1)
    return extractor, PartAssigner(centroids[:3].to(device), centroids[3:].to(device))


class _Operations(TorchDispatchMode):
    """Counts operations dispatched to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("unary_px", [None, 2])
def test_a_frame_never_waits_for_the_device(
    small_settings: Settings, monkeypatch: pytest.MonkeyPatch, unary_px: int | None
) -> None:
    """On the `meta` device, any access to a value, or to a shape that depends on one, raises."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # `meta` has no such operation.
    settings = with_values(small_settings, {"crf.unary_px": unary_px})
    extractor, assigner = opened(settings, "meta")
    operations = _Operations()
    for feature in describe(prepare(iter(frames(3)), extractor, 2), extractor, None, 0):
        with operations:
            found = assign(feature, assigner.energies, extractor, settings)
            image = upload([found.image], extractor.device)[0]
            labels = refine_on_device(found.energies, image, settings.crf)
        assert (found.energies.shape[1:] == (found.image.shape[0] // 2, found.image.shape[1] // 2)) == (unary_px == 2)
        assert (labels.device.type, labels.dtype, tuple(labels.shape)) == ("meta", torch.uint8, found.image.shape[:2])
    assert not any("_local_scalar" in name or "nonzero" in name or "unique" in name for name in operations.counts)


def test_reading_a_value_on_the_way_would_be_noticed() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(2, device="meta").sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(2, device="meta").cpu().numpy()


def test_labels_that_were_queued_are_those_of_the_processor(small_settings: Settings) -> None:
    extractor, assigner = opened(small_settings, "cpu")
    features = list(describe(prepare(iter(frames(7)), extractor, None), extractor, None, 0))
    here = refine(
        (assign(feature, assigner.energies, extractor, small_settings) for feature in features),
        small_settings.crf,
        extractor.device,
    )
    queued = refine_queued(
        (assign(feature, assigner.energies, extractor, small_settings) for feature in features),
        small_settings.crf,
        extractor.device,
    )
    shares = []
    for number, (one, other) in enumerate(zip(here, queued, strict=True)):
        assert one.frame.index == other.frame.index == number
        shares.append((one.labels == other.labels).mean())
    assert len(shares) == 7
    assert min(shares) > 0.999
    assert len(np.unique(one.labels)) > 1


def test_without_iterations_the_lowest_energy_wins(small_settings: Settings) -> None:
    extractor, assigner = opened(small_settings, "cpu")
    (feature,) = describe(prepare(iter(frames(1)), extractor, None), extractor, None, 0)
    crf = small_settings.crf.model_copy(update={"iterations": 0})
    (one,) = refine(iter([assign(feature, assigner.energies, extractor, small_settings)]), crf, extractor.device)
    (other,) = refine_queued(
        iter([assign(feature, assigner.energies, extractor, small_settings)]), crf, extractor.device
    )
    assert np.array_equal(one.labels, other.labels)
