"""From a model's name or file to a backbone that is ready to run; the only user of timm and of its hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.features.checkpoints import SUFFIXES, Checkpoint, normalise, read_checkpoint, read_regions
from pipeline.features.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODELS,
    PAPER_HEADS,
    ModelIdentity,
    Triple,
    find_spec,
)
from pipeline.features.vit import Backbone, ViTConfig
from pipeline.files import write_file
from pipeline.records import Regions

AUTO = "auto"
BUNDLED = "bundled"
PAPER_MODEL = "dino_vits8"
BUNDLED_FILE = Path(__file__).resolve().parent / "bundled" / "vidparts_vit.safetensors"

HUB_TIMEOUT_SECONDS = 5.0
"""How long the hub may take to answer before it counts as out of reach."""

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A backbone on the CPU in float32, and what it is.

    Attributes:
        backbone: the network.
        identity: name, fingerprint and preprocessing.
        notice: one line that says which model was taken and why, where the choice wasn't the user's.
        regions: what it knows of regions of bodies, in keys of its last layer; None: nothing.
    """

    backbone: Backbone
    identity: ModelIdentity
    notice: str | None = None
    regions: Regions | None = None


def resolve_model(name: str, heads: int | None = None) -> Model:
    """The model that `--model` means: `auto`, `bundled`, a name of the registry, or a file.

    Args:
        name: `auto` is `dino_vits8` where its weights are cached or can be fetched, else the bundled one.
        heads: heads of a file's ViT, where the file doesn't say.

    Raises:
        ModelError: weights can't be had or don't fit.
        UsageError: there is no such name.
    """
    if name == AUTO:
        return _resolve_auto()
    if name == BUNDLED:
        return load_bundled()
    if name not in MODELS and _looks_like_file(name):
        return load_file(Path(name), heads=heads)
    return load_named(name)


def load_named(name: str) -> Model:
    """A model of the registry, its weights from the hub's cache or, where they aren't there, from the hub.

    Raises:
        ModelError: the weights are neither cached nor within reach.
        UsageError: there is no such name.
    """
    spec = find_spec(name)
    file = cached_weights(name) or fetch_weights(name)
    checkpoint = Checkpoint(_through_timm(spec.timm_name, file), source=f"model '{name}'")
    return _build(name, checkpoint, None, spec.mean, spec.std, spec.saliency_heads)


def load_file(file: Path, heads: int | None = None, name: str | None = None) -> Model:
    """A model from a file of weights in DINO's or timm's naming, under whatever wrappers training put around it.

    The metadata of a safetensors file may say `num_heads`, `patch_size`, `img_size`, `mean`, `std` and
    `saliency_heads`; what it doesn't say is inferred.

    Raises:
        ModelError: the file can't be read, is no ViT, or leaves something open.
    """
    checkpoint = read_checkpoint(file)
    mean = _triple(checkpoint, "mean") or IMAGENET_MEAN
    std = _triple(checkpoint, "std") or IMAGENET_STD
    return _build(name or file.name, checkpoint, heads, mean, std, checkpoint.whole("saliency_heads"))


def load_bundled() -> Model:
    """The small backbone that the package carries; it needs no network.

    Raises:
        ModelError: the installation is damaged.
    """
    return load_file(BUNDLED_FILE, name=BUNDLED)


def save_model(model: Model, file: Path) -> None:
    """Write a model as a safetensors file that says all of itself: `load_file` gives the same model again.

    Raises:
        OutputError: it can't be written.
    """
    from safetensors.torch import save

    identity = model.identity
    heads = identity.saliency_heads or tuple(range(identity.heads))
    numbers = {"num_heads": (identity.heads,), "mean": identity.mean, "std": identity.std, "saliency_heads": heads}
    if identity.grid_hw is not None:
        numbers["img_size"] = tuple(side * identity.patch_px for side in identity.grid_hw)
    metadata = {name: ",".join(map(repr, values)) for name, values in numbers.items()}
    metadata["patch_size"] = str(identity.patch_px)
    state = {name: tensor.contiguous() for name, tensor in model.backbone.state_dict().items()}
    write_file(file, save(state, metadata))


def cached_weights(name: str) -> Path | None:
    """The file of a model's weights in the hub's cache, or None where it isn't there."""
    import huggingface_hub

    for filename in _HUB_FILES:
        file = huggingface_hub.try_to_load_from_cache(_repository(name), filename)
        if isinstance(file, str):
            return Path(file)
    return None


def fetch_weights(name: str) -> Path:
    """Fetch a model's weights from the hub into its cache; fails within seconds where it is out of reach.

    Raises:
        ModelError: with what to do.
    """
    import huggingface_hub

    repository, filename = _repository(name), _HUB_FILES[0]
    try:
        # The download itself retries for half a minute before it gives up; one short question first.
        url = huggingface_hub.hf_hub_url(repository, filename)
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_SECONDS)
        return Path(huggingface_hub.hf_hub_download(repository, filename, etag_timeout=HUB_TIMEOUT_SECONDS))
    # Network, proxy, permission and disk each raise errors of their own, across versions of the hub's client.
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(
            f"the weights of '{name}' are not cached and can't be fetched from the hub ({reason}); connect to "
            f"the network, or fetch {repository}/{filename} elsewhere and give its path by --model"
        ) from error


def _resolve_auto() -> Model:
    cached = cached_weights(PAPER_MODEL) is not None
    try:
        model = load_named(PAPER_MODEL)
        why = "its weights are cached" if cached else "its weights were fetched from the hub"
        return Model(model.backbone, model.identity, f"model: {PAPER_MODEL} ({why})")
    except ModelError as error:
        if not BUNDLED_FILE.is_file():
            raise ModelError(f"{error}; there is no bundled backbone at {BUNDLED_FILE} to use instead") from error
        model = load_bundled()
        return replace(model, notice=f"model: {BUNDLED}, because {error}")


def _looks_like_file(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or "/" in name or os.sep in name or Path(name).exists()


def _repository(name: str) -> str:
    return f"timm/{find_spec(name).timm_name}"


def _through_timm(timm_name: str, file: Path) -> dict[str, Tensor]:
    """The state dict of timm's own model with the weights of a file from its hub.

    Raises:
        ModelError: the file is damaged or belongs to another model.
    """
    import timm

    overlay = {"file": str(file), "custom_load": False}
    try:
        model = timm.create_model(timm_name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(
            f"the weights of {timm_name} at '{file}' can't be used ({reason}); delete the file and fetch it again"
        ) from error
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _triple(checkpoint: Checkpoint, key: str) -> Triple | None:
    found = checkpoint.numbers(key)
    if found is None:
        return None
    if len(found) != 3 or (key == "std" and min(found) <= 0):
        raise ModelError(f"{checkpoint.source}: its metadata says {key}={found}, expected three numbers")
    return found[0], found[1], found[2]


def _build(
    name: str,
    checkpoint: Checkpoint,
    heads: int | None,
    mean: Triple,
    std: Triple,
    saliency_heads: tuple[int, ...] | None,
) -> Model:
    state, config = normalise(checkpoint, heads)
    backbone = _fill(state, config, checkpoint.source)
    from_file = name not in MODELS
    saliency_heads, notes = _choose_heads(config, checkpoint, saliency_heads, from_file=from_file)
    identity = ModelIdentity(
        name=name,
        fingerprint=fingerprint(state),
        patch_px=config.patch_px,
        heads=config.heads,
        embed_dim=config.embed_dim,
        depth=config.depth,
        grid_hw=config.grid_hw,
        mean=mean,
        std=std,
        saliency_heads=saliency_heads,
        notes=(*checkpoint.notes, *notes),
    )
    return Model(backbone, identity, regions=read_regions(checkpoint, config.embed_dim))


def _fill(state: Mapping[str, Tensor], config: ViTConfig, source: str) -> Backbone:
    # On the meta device nothing is allocated or initialised that the state dict brings anyway.
    with torch.device("meta"):
        backbone = Backbone(config)
    try:
        backbone.load_state_dict(state, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ModelError(f"{source} is no ViT that can be run here: {lines[0][:200]}") from error
    return backbone.requires_grad_(False).eval()


def _choose_heads(
    config: ViTConfig, checkpoint: Checkpoint, named: tuple[int, ...] | None, *, from_file: bool
) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Heads that the saliency averages, and the sentence for the run's record."""
    if named is not None:
        if max(named) >= config.heads:
            raise ModelError(f"{checkpoint.source}: saliency heads {named} of {config.heads} heads; write it anew")
        return named, ()
    # A plain ViT of six heads in a file is what the paper names its heads for: DINO's ViT-S, or one like it.
    plain = config.heads == 6 and not config.registers and not config.layer_scale and config.grid_hw is not None
    if from_file and plain:
        listed = ", ".join(map(str, PAPER_HEADS))
        return PAPER_HEADS, (f"saliency averages heads {listed}, the paper's; the model's file names none",)
    return None, ("saliency averages all heads of the last block; the paper names none for this model",)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, over names, shapes and float32 bytes of all parameters, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].to(torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
