from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from pipeline.config import FeatureSettings
from pipeline.errors import ModelError
from pipeline.features import resnet
from pipeline.features.models import IMAGENET_MEAN, IMAGENET_STD
from pipeline.features.resnet import load_resnet, read_resnet

CPU = torch.device("cpu")


def test_a_file_with_a_classifier_gives_the_last_stage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet50", num_classes=7).eval()
    file = tmp_path / "resnet.pth"
    torch.save({name: each for name, each in network.state_dict().items() if "num_batches" not in name}, file)
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = read_resnet(file, FeatureSettings(load_size=64), CPU).describe(rgb)
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (torch.from_numpy(rgb).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        expected = network.forward_features(pixels[None])[0].permute(1, 2, 0).numpy()
    assert found.shape == (2, 3, 2048)
    assert found.min() >= 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # A picture narrower than one position of the last stage is enlarged to one.
    assert read_resnet(file, FeatureSettings(load_size=40), CPU).describe(rgb[:, :8]).shape[2] == 2048


def test_another_network_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="is no ResNet-50"):
        read_resnet(tiny_model, FeatureSettings(), CPU)
    with pytest.raises(ModelError, match="does not exist"):
        read_resnet(tmp_path / "none.pth", FeatureSettings(), CPU)


def test_weights_out_of_reach_say_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(resnet.urllib.request, "urlopen", unreachable)
    with pytest.raises(ModelError, match=r"dino_resnet50_pretrain\.pth' can't be fetched \(no route") as caught:
        load_resnet("dino", FeatureSettings(), CPU)
    assert str(tmp_path / "checkpoints" / "dino_resnet50_pretrain.pth") in str(caught.value)
