from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.errors import ModelError
from pipeline.evaluation.baselines import threshold_mass
from pipeline.evaluation.datasets.layout import Picture
from pipeline.features.resnet import ResNet
from pipeline.features.vit import Tap
from pipeline.features.weights import load_file
from pipeline.progress import Silent
from pipeline.refine.grabcut import enlarge_mask
from pipeline.stages.engine import open_engine
from pipeline.tasks.coseg import cosegment
from pipeline.tasks.evaluate import facets
from pipeline.tasks.evaluate.facets import open_baselines, sweep_facets, thresholded


@pytest.fixture
def pictures(parity_dir: Path, tmp_path: Path) -> list[Picture]:
    """Two pictures of different sizes, landscape and portrait."""
    found = []
    for name in ("cat", "cup"):
        with Image.open(parity_dir / f"{name}.png") as image:
            image.convert("RGB").resize((80, 64) if name == "cat" else (56, 72)).save(tmp_path / f"{name}.png")
        found.append(Picture(name, tmp_path / f"{name}.png"))
    return found


@pytest.mark.parametrize("half_size", [True, False])
def test_the_sweep_finds_what_each_facet_alone_finds(
    pictures: list[Picture], small_settings: Settings, half_size: bool
) -> None:
    settings = with_values(small_settings, {"saliency.half_size": half_size, "cluster.max_clusters": 5})
    taps = [Tap(4, "key"), Tap(11, "query"), Tap(11, "token")]
    found = sweep_facets(pictures, open_engine(settings, Silent()), taps, Silent())
    assert list(found) == ["key of layer 4", "query", "token", "attention of vit.safetensors"]
    for tap, masks in zip(taps, found.values(), strict=False):
        alone = with_values(settings, {"features.layer": tap.layer, "features.facet": tap.facet})
        expected = cosegment(pictures, open_engine(alone, Silent()))
        assert [mask.shape for mask in masks] == [(64, 80), (72, 56)]
        assert all(np.array_equal(*pair) for pair in zip(masks, expected, strict=True))


def test_attention_is_thresholded_at_the_descriptors_stride(pictures: list[Picture], small_settings: Settings) -> None:
    engine = open_engine(small_settings, Silent())
    found = sweep_facets(pictures, engine, [Tap(3, "key")], Silent())["attention of vit.safetensors"]
    image = engine.extractor.preprocess(pictures[0].read())
    saliency = engine.extractor.extract([image], saliency=True).saliency
    assert saliency is not None
    assert np.array_equal(found[0], enlarge_mask(threshold_mass(saliency[0].numpy()), (64, 80)))


def test_baselines_whose_weights_are_missing_become_notes(
    small_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, *_: object) -> None:
        raise ModelError(f"no {name} here; give it by --model" if name.startswith("vit") else f"no {name} here")

    monkeypatch.setattr(facets, "resolve_model", missing)
    monkeypatch.setattr(facets, "load_resnet", missing)
    found, notes = open_baselines(open_engine(small_settings, Silent()))
    assert found == {}
    assert notes == [
        "Without the baseline supervised ViT attention: no vit_small_patch16_224 here; connect to the network once.",
        "Without the baseline DINO ResNet-50: no dino here.",
        "Without the baseline supervised ResNet-50: no supervised here.",
    ]


def test_baselines_find_what_they_answer_to(
    small_settings: Settings, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brightness(pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 8) + 3

    network = torch.nn.Conv2d(3, 3, 1)
    monkeypatch.setattr(network, "forward", brightness)
    monkeypatch.setattr(facets, "resolve_model", lambda name: load_file(tiny_model))
    monkeypatch.setattr(facets, "load_resnet", lambda name, features, device: ResNet(network, features))
    found, notes = open_baselines(open_engine(small_settings, Silent()))
    assert list(found) == ["supervised ViT attention", "DINO ResNet-50", "supervised ResNet-50"]
    assert notes == []
    rgb = np.zeros((96, 96, 3), np.uint8)
    rgb[32:64, 48:80] = 255
    assert thresholded(found["supervised ViT attention"](rgb), rgb).shape == (96, 96)
    # Four cells are bright; three of them have 60 % of the sum.
    kept = thresholded(found["DINO ResNet-50"](rgb), rgb)
    assert kept.sum() == kept[32:64, 48:80].sum() == 3 * 16 * 16
