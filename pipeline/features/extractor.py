"""From pictures to descriptors and saliency on the ViT's grid (paper section 3).

On the CPU each frame goes through the ViT alone, so that its result doesn't depend on the frames beside it:
in a batch the class token's attention rounds otherwise, and at thousands of tokens a batch is no faster. On a GPU the
last bits of a frame's descriptors depend on the frames that it is computed with. A batch that the GPU's memory doesn't
hold is halved until it does.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.device import upload
from pipeline.errors import DeviceMemoryError, InputError, UsageError
from pipeline.features.backend import choose_backend
from pipeline.features.interleaved_grid import run_interleaved
from pipeline.features.log_bins import BINS, log_bin
from pipeline.features.vit import Backbone, BackboneOutput, Reading, RunBlocks, Tap
from pipeline.features.weights import Model
from pipeline.geometry import grid_size

Picture = NDArray[np.uint8]

_log = logging.getLogger(__name__)

LARGEST_BATCH = 64
"""Frames in a batch at most: beyond that a batch costs latency and gains nothing."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """Descriptors of a batch of pictures.

    Attributes:
        descriptors: float32 [batch, rows, cols, channels].
        cls: float32 [batch, channels], the class token's descriptor, never binned.
        saliency: float32 [batch, rows, cols] in [0, 1], or None where it wasn't asked for.
    """

    descriptors: Tensor
    cls: Tensor
    saliency: Tensor | None


class Extractor:
    """Computes descriptors and saliency with one model, one set of settings, on one device."""

    def __init__(
        self,
        model: Model,
        features: FeatureSettings,
        saliency: SaliencySettings,
        device: torch.device | str = "cpu",
        say: Callable[[str], None] = _log.warning,
        backend: str = "auto",
    ) -> None:
        """Check the settings against the model and bring it to the device.

        Args:
            model: a backbone and what it is.
            features: what the descriptors are.
            saliency: what the saliency is.
            device: where the ViT runs.
            say: told, once, when batches have to be smaller than they should be.
            backend: what computes the ViT's blocks: `openvino`, `torch`, or `auto`.

        Raises:
            UsageError: the model has no such layer, stride or head, or the device no such precision or backend.
            DeviceMemoryError: the device has no room for the model.
        """
        self.device = torch.device(device)
        self.identity, self.settings = model.identity, features
        self.half_size = saliency.half_size
        self.heads = saliency.heads if saliency.heads is not None else model.identity.saliency_heads
        self.tap = Tap(features.layer, features.facet)
        model.backbone.check(Reading((self.tap,), heads=self.heads), features.stride)
        self.backbone = model.backbone if self.device.type == "cpu" else _moved(model.backbone, self.device)
        plain = self.tap == Tap(model.identity.depth - 1, "key") and not features.log_bin
        self.regions = model.regions if plain else None
        """What the model knows of regions of bodies, where its settings give descriptors that these are of."""
        self.one_by_one = self.device.type == "cpu"
        """Whether each picture goes through the ViT alone."""
        self._say = say
        self._fitting_tokens: int | None = None
        self.backend = choose_backend(backend, self.device)
        """What computes the ViT's blocks."""
        self.dtype = _precision(features.precision, self.device, self.backend)
        """What is multiplied."""
        self._run_blocks = self._blocks()
        self._mean = torch.tensor(model.identity.mean, device=self.device)[:, None, None]
        self._std = torch.tensor(model.identity.std, device=self.device)[:, None, None]

    @property
    def channels(self) -> int:
        """Channels of a descriptor."""
        return self.identity.embed_dim * (len(BINS) if self.settings.log_bin else 1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the batches so far, one line each."""
        if self._fitting_tokens is None:
            return ()
        return (
            f"the GPU's memory didn't hold the batches wanted: they were halved, to {self._fitting_tokens} tokens at "
            "most; the last bits of descriptors depend on the batch, so another run can differ in them",
        )

    def grid_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of descriptors of a picture of that processed size."""
        return grid_size(size_hw, self.identity.patch_px, self.settings.stride)

    def preprocess(self, rgb: Picture) -> Picture:
        """Resize uint8 [height, width, 3] to the processed size (Lanczos); the same object if it has it."""
        return resize_lanczos(rgb, self.settings.processed_size(rgb.shape[:2]))

    def extract(self, images: Sequence[Picture], *, saliency: bool = False) -> Extraction:
        """Descriptors, and the saliency of the same pass, of pictures of one size.

        Args:
            images: uint8 [h, w, 3] each, at the processed size.
            saliency: whether to compute it, at the descriptors' stride.

        Raises:
            InputError: the pictures are smaller than a patch.
        """
        return self.extract_taps(images, [self.tap], saliency=saliency)[self.tap]

    def extract_taps(
        self, images: Sequence[Picture], taps: Sequence[Tap], *, saliency: bool = False
    ) -> dict[Tap, Extraction]:
        """Descriptors of several layers and facets from one pass; otherwise as `extract`."""
        reading = Reading(tuple(dict.fromkeys(taps)), saliency, self.heads)
        outputs = list(self._run(images, self.settings.stride, reading))
        grid_hw = outputs[0].grid_hw
        maps = None if not saliency else torch.cat([_present(output.saliency) for output in outputs])
        return {
            tap: self._extraction([output.facets.pop(tap) for output in outputs], maps, grid_hw) for tap in reading.taps
        }

    def saliency_half(self, rgb: Sequence[Picture]) -> Tensor:
        """The saliency that the paper's code uses for co-segmentation and parts, of pictures of one size.

        It is read at the native stride from the original brought to half the processed size, and brought to the
        descriptors' grid by nearest neighbour.

        Args:
            rgb: uint8 [height, width, 3] each, at the source's size.

        Returns:
            float32 [batch, rows, cols].

        Raises:
            InputError: half the processed size is smaller than a patch.
        """
        size_hw = self.settings.processed_size(rgb[0].shape[:2])
        halves = [resize_lanczos(picture, (size_hw[0] // 2, size_hw[1] // 2)) for picture in rgb]
        outputs = self._run(halves, self.identity.patch_px, Reading((), True, self.heads))
        low = torch.cat([_present(output.saliency) for output in outputs])
        rows, cols = self.grid_hw(size_hw)
        from_rows, from_cols = centre_index(low.shape[1], rows), centre_index(low.shape[2], cols)
        return low[:, from_rows.to(low.device)][:, :, from_cols.to(low.device)]

    def batch_for(self, size_hw: tuple[int, int], budget_bytes: int) -> int:
        """How many pictures of that processed size may go through together within a memory budget; at least 1.

        Counted are the results, and the activations of the frames that are computed at once: on the CPU that is
        one, on CUDA all.
        """
        rows, cols = self.grid_hw(size_hw)
        tokens = rows * cols + self.backbone.config.prefix
        result = 4 * tokens * self.channels + 3 * size_hw[0] * size_hw[1]
        live = tokens * self.backbone.config.token_bytes
        on_cpu = self.device.type == "cpu"
        fitting = (budget_bytes - live) // result if on_cpu else budget_bytes // (result + live)
        return int(min(LARGEST_BATCH, max(1, fitting)))

    def _blocks(self) -> RunBlocks | None:
        if self.backend == "torch":
            return None
        from pipeline.features.openvino_backbone import OpenVinoBlocks

        return OpenVinoBlocks(self.backbone, self.identity.fingerprint, self.dtype)

    def _extraction(self, facets: list[Tensor], maps: Tensor | None, grid_hw: tuple[int, int]) -> Extraction:
        tokens = facets[0] if len(facets) == 1 else torch.cat(facets)
        descriptors = tokens[:, 1:].reshape(len(tokens), *grid_hw, -1)
        if self.settings.log_bin:
            descriptors = log_bin(descriptors)
        return Extraction(descriptors, tokens[:, 0], maps)

    @torch.inference_mode()
    def _run(self, images: Sequence[Picture], stride_px: int, reading: Reading) -> Iterator[BackboneOutput]:
        if len({image.shape for image in images}) != 1:
            raise InputError(
                f"pictures of one batch must have one size, got {sorted({image.shape[:2] for image in images})}"
            )
        tokens = math.prod(grid_size(images[0].shape[:2], self.identity.patch_px, stride_px))
        start = 0
        while start < len(images):
            step = self._frames_at_once(len(images), tokens)
            found = self._attempt(images[start : start + step], stride_px, reading)
            if found is None:
                self._take_smaller_batches(min(step, len(images) - start), tokens, images[0])
                continue
            yield found
            start += step

    def _frames_at_once(self, wanted: int, tokens: int) -> int:
        if self.one_by_one:
            return 1
        return wanted if self._fitting_tokens is None else max(1, min(wanted, self._fitting_tokens // tokens))

    def _attempt(self, images: Sequence[Picture], stride_px: int, reading: Reading) -> BackboneOutput | None:
        """One pass; None where the device's memory isn't enough for it."""
        try:
            halved = self.dtype != torch.float32 and self._run_blocks is None
            with torch.autocast(self.device.type, self.dtype, enabled=halved):
                run = run_interleaved if self.settings.grid == "interleaved" else Backbone.__call__
                pixels = self._to_tensor(images)
                found: BackboneOutput = run(self.backbone, pixels, stride_px, reading, self._run_blocks)
        except torch.OutOfMemoryError:
            return None
        return found

    def _take_smaller_batches(self, frames: int, tokens: int, image: Picture) -> None:
        # Only now that the error is gone, and with it its hold on what was computed.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if frames == 1:
            raise DeviceMemoryError(
                f"{self.identity.name} and one picture of {image.shape[1]}x{image.shape[0]} pixels ({tokens} tokens) "
                "don't fit the GPU's free memory; give a larger --stride, a smaller --load-size or --device cpu, "
                "or end what else uses the GPU"
            )
        if self._fitting_tokens is None:
            self._say(f"warning: the GPU's memory doesn't hold {frames} frames: going on with smaller batches")
        self._fitting_tokens = frames // 2 * tokens

    def _to_tensor(self, images: Sequence[Picture]) -> Tensor:
        stacked = upload(images, self.device)
        return (stacked.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std


def _precision(name: str, device: torch.device, backend: str) -> torch.dtype:
    if device.type == "cpu" and name == "float16":
        raise UsageError("precision float16 is for CUDA; give bfloat16 or float32 on the CPU")
    # OpenVINO knows by itself; torch would emulate bfloat16, far slower than float32.
    emulated = name == "bfloat16" and device.type == "cpu" and backend == "torch" and not _multiplies_bfloat16()
    return torch.float32 if emulated else _DTYPES[name]


def _multiplies_bfloat16() -> bool:
    """Whether torch has products in bfloat16 for this processor."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:
        return False


def _moved(backbone: Backbone, device: torch.device) -> Backbone:
    """A copy on the device: moving a module in place would move it for every holder."""
    try:
        return copy.deepcopy(backbone).to(device)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            "the model doesn't fit the GPU's free memory; give a smaller --model or --device cpu, "
            "or end what else uses the GPU"
        ) from error


def resize_lanczos(rgb: Picture, size_hw: tuple[int, int]) -> Picture:
    """Resize uint8 [height, width, 3] by Lanczos, as Pillow does.

    Raises:
        InputError: the size wanted has no pixels.
    """
    if rgb.shape[:2] == size_hw:
        return rgb
    if min(size_hw) < 1:
        raise InputError(
            f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels becomes {size_hw[1]}x{size_hw[0]}; "
            "give larger pictures or a larger --load-size"
        )
    return np.asarray(Image.fromarray(rgb).resize(size_hw[::-1], Image.Resampling.LANCZOS))


def centre_index(length: int, target_length: int) -> Tensor:
    """For each of `target_length` cells the source cell at its centre: Pillow's `nearest`, not torch's.

    The paper's code resizes the saliency by Pillow and everything else by torch. Where a centre falls between
    two cells Pillow's own rounding decides, so Pillow is asked.

    >>> centre_index(2, 5).tolist()
    [0, 0, 1, 1, 1]
    """
    cells = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return torch.from_numpy(np.array(cells.resize((target_length, 1), Image.Resampling.NEAREST))[0]).long()


def _present(saliency: Tensor | None) -> Tensor:
    assert saliency is not None
    return saliency
