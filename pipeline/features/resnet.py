"""ResNet-50 as a baseline: what it answers at each position of its last stage (paper, Table 3).

Its weights are fetched as their authors publish them, into torch's own cache; the architecture is timm's.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import FeatureSettings
from pipeline.errors import ModelError
from pipeline.features.checkpoints import read_checkpoint
from pipeline.features.extractor import resize_lanczos
from pipeline.features.models import IMAGENET_MEAN, IMAGENET_STD
from pipeline.features.weights import HUB_TIMEOUT_SECONDS

SMALLEST_PX = 32
"""The last stage has one position for so many pixels."""

WEIGHTS: Mapping[str, str] = {
    "dino": "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
    "supervised": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
"""DINO's ResNet-50, and torchvision's first weights for ImageNet, by how they were trained."""


@dataclass(frozen=True, slots=True, eq=False)
class ResNet:
    """A ResNet-50 without its classifier, on one device.

    Attributes:
        network: maps float32 [batch, 3, height, width] to [batch, 2048, height / 32, width / 32].
        settings: say the processed size.
    """

    network: nn.Module
    settings: FeatureSettings

    @torch.inference_mode()
    def describe(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of the last stage, after its rectifier: float32 [rows, cols, 2048].

        Args:
            rgb: uint8 [height, width, 3].
        """
        height, width = self.settings.processed_size(rgb.shape[:2])
        image = resize_lanczos(rgb, (max(height, SMALLEST_PX), max(width, SMALLEST_PX)))
        device = next(self.network.parameters()).device
        mean, std = (torch.tensor(each, device=device)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1).float() / 255
        features: Tensor = self.network(((pixels - mean) / std)[None])[0]
        return np.asarray(features.permute(1, 2, 0).cpu().numpy(), dtype=np.float32)


def load_resnet(training: str, settings: FeatureSettings, device: torch.device) -> ResNet:
    """A ResNet-50 by how it was trained.

    Args:
        training: a key of `WEIGHTS`.
        settings: say the processed size.
        device: where it runs.

    Raises:
        ModelError: the weights are neither cached nor within reach, or don't fit.
    """
    return read_resnet(_weights_file(WEIGHTS[training]), settings, device)


def read_resnet(file: Path, settings: FeatureSettings, device: torch.device) -> ResNet:
    """A ResNet-50 from a file of weights with torchvision's names; a classifier in it is left out.

    Raises:
        ModelError: the file can't be read, or isn't a ResNet-50.
    """
    import timm

    network: nn.Module = timm.create_model("resnet50", num_classes=0, global_pool="")
    state = {name: each for name, each in read_checkpoint(file).state.items() if not name.startswith("fc.")}
    # Old files don't count their batches, and nothing here reads the count.
    counts = {name: each for name, each in network.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counts, **state})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:160] if "\n" in str(error) else str(error)[:160]
        raise ModelError(f"'{file}' is no ResNet-50 ({reason}); fetch its weights again") from error
    return ResNet(network.eval().requires_grad_(False).to(device), settings)


def _weights_file(url: str) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if file.is_file():
        return file
    try:
        # The download itself may wait for minutes; one short question first.
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS).close()
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=False)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"'{url}' can't be fetched ({error}); fetch it elsewhere and put it at '{file}'") from error
    return file
