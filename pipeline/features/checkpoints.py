"""Weight files: reading them safely, normalising parameter names, inferring the ViT's shape.

DINO, DINOv2, DINOv3 and timm name the same parameters almost alike; here they become what `backbone` names
them. A file is never trusted: it may be damaged, may lie about its shapes, or hold something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.features.layouts import NamesakeError, choose_weights, unchunk
from pipeline.features.pickles import read_pickle
from pipeline.features.vit import ViTConfig
from pipeline.records import Regions

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")

_RENAMED = {
    "register_tokens": "reg_token",
    "storage_tokens": "reg_token",
    ".gamma_1": ".ls1.gamma",
    ".gamma_2": ".ls2.gamma",
}
# Heads, losses and the last norm come after everything that is read here; mask tokens are for training, and
# rotary periods and bias masks are constants that the architecture implies.
_UNUSED = re.compile(
    r"(norm|fc_norm|head|head_drop|mask_token|decoder_\w+|rope_embed|rope|local_cls_norm|dino_head|ibot_head)(\.|$)"
    r"|.*\.bias_mask$|region_(keys|kinds)$"
)
_NEEDED_DIMS = {"cls_token": 3, "patch_embed.proj.weight": 4, "blocks.0.attn.qkv.weight": 2}
_ROTARY_EPS, _PLAIN_EPS = 1e-5, 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a file holds.

    Attributes:
        state: float32 tensors by their own names.
        metadata: what the file says of itself; empty where its format can't.
        source: what to call it in messages.
        notes: which of several models in it was taken, one sentence.
    """

    state: dict[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = "model"
    notes: tuple[str, ...] = ()

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Numbers that the metadata names by `key`, or None.

        Raises:
            ModelError: there is something else under that name.
        """
        text = self.metadata.get(key)
        if text is None:
            return None
        try:
            found = tuple(float(word) for word in re.split(r"[\s,;x\[\]()]+", text) if word)
        except ValueError:
            found = ()
        if not found or not all(map(math.isfinite, found)):
            raise ModelError(
                f"{self.source}: its metadata says {key}={text[:40]!r}, expected numbers; write the file anew"
            )
        return found

    def whole(self, key: str) -> tuple[int, ...] | None:
        """Whole numbers from 0 that the metadata names by `key`, or None.

        Raises:
            ModelError: there is something else under that name.
        """
        found = self.numbers(key)
        if found is None:
            return None
        if any(number != int(number) or not 0 <= number < 2**20 for number in found):
            raise ModelError(
                f"{self.source}: its metadata says {key}={self.metadata[key][:40]!r}, "
                "expected whole numbers; write the file anew"
            )
        return tuple(int(number) for number in found)


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a file of weights without running anything that it holds; the averaged ones where there are several.

    Raises:
        ModelError: it isn't there, can't be read, is damaged, holds no weights, or two tensors of one name.
    """
    source = f"model file '{file}'"
    if file.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{source} ends in '{file.suffix}', expected one of {', '.join(SUFFIXES)}")
    content: Mapping[Any, object]
    metadata: Mapping[str, str] = {}
    try:
        if not file.is_file():
            raise ModelError(f"{source} does not exist; give the path of a .safetensors or .pth file")  # noqa: TRY301
        if file.suffix.lower() == ".safetensors":
            content, metadata = _read_safetensors(file)
        else:
            content = _mapping(read_pickle(file))
        chosen = choose_weights(content)
        state = {name: _plain(tensor) for name, tensor in chosen.state.items()}
    except ModelError:
        raise
    except NamesakeError as error:
        raise ModelError(f"{source} holds {error}; save the one that is wanted alone") from error
    # Whatever a damaged or hostile file makes a reader raise, the user's case is the same.
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"{source} can't be read as weights ({reason}); fetch it again") from error
    if not state:
        raise ModelError(f"{source} holds no weights; give a file with a ViT's state dict")
    return Checkpoint(state, metadata, source, chosen.notes)


def normalise(checkpoint: Checkpoint, heads: int | None = None) -> tuple[dict[str, Tensor], ViTConfig]:
    """A state dict with the names that `Backbone` has, and the shape of the ViT that it belongs to.

    Position embeddings of the class token and of registers are added to these tokens.

    Args:
        checkpoint: what a file holds, or a model's state dict.
        heads: heads of each block's attention, where neither the file nor its shapes say.

    Raises:
        ModelError: it is no ViT that can be run here, or something can't be inferred.
    """
    state = _renamed(checkpoint)
    _join_biases(state)
    for name, dims in _NEEDED_DIMS.items():
        if name not in state or state[name].ndim != dims or not state[name].numel():
            raise ModelError(
                f"{checkpoint.source} has no usable '{name}', so it isn't a ViT in DINO's or timm's naming"
            )
    if "reg_token" in state and state["reg_token"].ndim != 3:
        shape = tuple(state["reg_token"].shape)
        raise ModelError(f"{checkpoint.source}: 'reg_token' has shape {shape}, which no ViT has")
    for name, tensor in state.items():
        if not _is_finite(tensor):
            raise ModelError(f"{checkpoint.source}: '{name}' has values that aren't finite; fetch it again")
    grid_hw = _fold_positions(state, checkpoint)
    return state, _infer(state, checkpoint, grid_hw, heads)


def read_regions(checkpoint: Checkpoint, channels: int) -> Regions | None:
    """What a file says of regions of bodies beside its weights (`region_keys`, `region_kinds`); None where nothing.

    Raises:
        ModelError: it says something that doesn't fit the model.
    """
    keys, kinds = (checkpoint.state.get(name) for name in ("region_keys", "region_kinds"))
    if keys is None or kinds is None:
        return None
    if keys.ndim != 2 or keys.shape[1] != channels or not _is_finite(keys):
        raise ModelError(
            f"{checkpoint.source}: 'region_keys' has shape {tuple(keys.shape)}, expected finite numbers "
            f"(regions, {channels}); fetch it again"
        )
    try:
        return Regions(keys.numpy(), kinds.numpy() > 0)
    except ValueError as error:
        raise ModelError(f"{checkpoint.source}: {error}; fetch it again") from error


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    from safetensors import safe_open

    with safe_open(str(file), framework="pt", device="cpu") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118


def _mapping(content: object) -> Mapping[Any, object]:
    if not isinstance(content, Mapping):
        raise TypeError(f"it holds a {type(content).__name__}, expected a state dict")
    return content


def _plain(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cpu":
        raise ValueError(f"a tensor has no values, only a shape (its device is {tensor.device})")
    # A tensor may claim a huge shape over a small storage, by strides of 0; copying it would fill memory.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor claims shape {tuple(tensor.shape)}, which is more than is stored of it")
    return tensor.detach().to(torch.float32).contiguous()


def _is_finite(tensor: Tensor) -> bool:
    # NumPy's takes a tenth of the time of torch's, which was a fifth of a start.
    return bool(np.isfinite(tensor.detach().float().cpu().numpy()).all())


def _renamed(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors that are used, by this program's names.

    Raises:
        ModelError: two would have one name.
    """
    used = [name for name in checkpoint.state if not _UNUSED.match(name)]
    origins: dict[str, str] = {}
    for old, new in zip(used, map(_rename, unchunk(used)), strict=True):
        if new in origins:
            raise ModelError(
                f"{checkpoint.source} holds two tensors '{new}': '{origins[new]}' and '{old}'; save one alone"
            )
        origins[new] = old
    return {new: checkpoint.state[old] for new, old in origins.items()}


def _rename(name: str) -> str:
    for old, new in _RENAMED.items():
        if name == old or (old.startswith(".") and name.endswith(old)):
            return name.removesuffix(old) + new
    return name


def _join_biases(state: dict[str, Tensor]) -> None:
    """Biases of query and value that are stored apart become one bias; the key's is zero by design."""
    for name in [name for name in state if name.endswith(".attn.q_bias")]:
        stem = name.removesuffix("q_bias")
        query, value = state.pop(name), state.pop(f"{stem}v_bias", None)
        value = torch.zeros_like(query) if value is None else value
        state[f"{stem}qkv.bias"] = torch.cat((query, torch.zeros_like(query), value))


def _fold_positions(state: dict[str, Tensor], checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Keep the patches' positions in `pos_embed`, add the others to their tokens; the trained grid."""
    positions = state.get("pos_embed")
    if positions is None:
        return None
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[2] != state["cls_token"].shape[2]:
        raise ModelError(f"{checkpoint.source}: 'pos_embed' has shape {tuple(positions.shape)}, which no ViT has")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    grid_hw = _trained_grid(positions.shape[1], registers, state, checkpoint)
    extra = positions.shape[1] - grid_hw[0] * grid_hw[1]
    if extra >= 1:
        state["cls_token"] = state["cls_token"] + positions[:, :1]
    if extra > 1:
        state["reg_token"] = state["reg_token"] + positions[:, 1:extra]
    state["pos_embed"] = positions[:, extra:].contiguous()
    return grid_hw


def _trained_grid(length: int, registers: int, state: Mapping[str, Tensor], checkpoint: Checkpoint) -> tuple[int, int]:
    possible_extra = dict.fromkeys((1, 0, 1 + registers))
    size = checkpoint.whole("img_size")
    if size is not None:
        patch_px = state["patch_embed.proj.weight"].shape[-1]
        rows, cols = size[0] // patch_px, size[-1] // patch_px
        if rows * cols and length - rows * cols in possible_extra:
            return rows, cols
        raise ModelError(
            f"{checkpoint.source}: its metadata says img_size={checkpoint.metadata['img_size'][:40]!r}, which "
            f"doesn't fit {length} position embeddings at patch size {patch_px}; write the file anew"
        )
    for extra in possible_extra:
        side = math.isqrt(max(0, length - extra))
        if side and side * side == length - extra:
            return side, side
    raise ModelError(
        f"{checkpoint.source} has {length} position embeddings, which is no square grid; "
        "save it as .safetensors with the trained size in its metadata (img_size, as 'HEIGHTxWIDTH')"
    )


def _infer(
    state: Mapping[str, Tensor], checkpoint: Checkpoint, grid_hw: tuple[int, int] | None, heads: int | None
) -> ViTConfig:
    embed_dim, _, patch_px, patch_width = state["patch_embed.proj.weight"].shape
    said = checkpoint.whole("patch_size")
    if patch_px != patch_width or (said is not None and set(said) != {patch_px}):
        raise ModelError(
            f"{checkpoint.source}: patches of {patch_width}x{patch_px} pixels"
            + (f", its metadata says {said}" if said else "")
            + "; expected square ones that agree with it"
        )
    numbers = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d{1,4})\.", name))}
    if numbers != set(range(len(numbers))):
        raise ModelError(f"{checkpoint.source}: blocks are missing, it has {sorted(numbers)}; fetch it again")
    first_mlp = state.get("blocks.0.mlp.fc1.weight")
    return ViTConfig(
        embed_dim=embed_dim,
        depth=len(numbers),
        heads=_infer_heads(embed_dim, checkpoint, heads),
        patch_px=patch_px,
        grid_hw=grid_hw,
        registers=state["reg_token"].shape[1] if "reg_token" in state else 0,
        mlp_dim=4 * embed_dim if first_mlp is None else first_mlp.shape[0],
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
        norm_eps=_ROTARY_EPS if grid_hw is None else _PLAIN_EPS,
    )


def _infer_heads(embed_dim: int, checkpoint: Checkpoint, heads: int | None) -> int:
    said = checkpoint.whole("num_heads")
    if heads is None and said is not None:
        heads = said[0]
    if heads is None and embed_dim % 64 == 0:
        # Every published ViT of these families has heads of 64 channels.
        heads = embed_dim // 64
    if heads is None:
        raise ModelError(
            f"{checkpoint.source} doesn't say how many heads its {embed_dim} channels are split into; "
            "give the number by --heads"
        )
    if heads < 1 or embed_dim % heads:
        raise ModelError(
            f"{checkpoint.source}: {heads} heads can't share {embed_dim} channels evenly; "
            "give another number by --heads"
        )
    return heads
