"""The engine: a loaded model, its extractor, and complete settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.cluster.codebook import Codebook, require_fit
from pipeline.config import Preset, Settings, bundled_settings, with_defaults, with_values
from pipeline.device import choose_device
from pipeline.errors import CodebookError, UsageError
from pipeline.features.extractor import Extractor
from pipeline.features.models import MODELS, ModelIdentity
from pipeline.features.weights import BUNDLED, resolve_model
from pipeline.progress import Progress


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model and the settings that it runs with.

    Attributes:
        extractor: describes pictures.
        settings: the user's, completed by the model's and the codebook's own.
    """

    extractor: Extractor
    settings: Settings

    @property
    def on_cpu(self) -> bool:
        """Whether the ViT runs on the CPU, where no result depends on the batch."""
        return self.extractor.device.type == "cpu"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model's parameters."""
        return self.extractor.identity.fingerprint


def open_engine(settings: Settings, progress: Progress, codebook: Codebook | None = None, name: str = "") -> Engine:
    """Load the model, and complete the settings that weren't given.

    Args:
        settings: what the user gave.
        progress: is told which model `auto` stands for, and why.
        codebook: parts to use; its model and descriptor settings are the defaults then.
        name: the codebook's name in messages.

    Raises:
        ModelError: the model can't be loaded.
        CodebookError: the codebook belongs to another model or to other settings.
        UsageError: a prior is asked for, but the model knows no regions of these descriptors.
    """
    device = choose_device(settings.run.device)
    own = _codebook_defaults(codebook)
    model = resolve_model(with_defaults(settings, own).model, heads=settings.model_heads)
    if model.notice:
        progress.say(model.notice)
    filled = with_defaults(settings, *_model_defaults(model.identity, settings.preset), own)
    extractor = Extractor(model, filled.features, filled.saliency, device, progress.say, settings.run.backend)
    if codebook is not None:
        require_fit(codebook.origin, model.identity.fingerprint, filled.features, name)
        if filled.saliency.shared and codebook.shared is None:
            raise CodebookError(
                f"codebook '{name}' was fitted without shared saliency, but saliency.shared is true; "
                "set it to false, or fit the codebook again with `vidparts fit`"
            )
    elif filled.cluster.prior and extractor.regions is None:
        filled = _without_prior(filled, settings)
    return Engine(extractor, filled)


def _model_defaults(identity: ModelIdentity, preset: Preset | None) -> list[dict[str, Any]]:
    """Settings of a model: its last layer, and, for the bundled backbone, those of its files.

    The paper's constants are for DINO's ViT-S, whose last layer is 11.
    """
    last: dict[str, Any] = {"features": {"layer": identity.depth - 1}}
    return [last, *bundled_settings(preset)] if identity.name == BUNDLED else [last]


def _without_prior(settings: Settings, given: Settings) -> Settings:
    """Settings without a prior, where no regions are known; a prior that the user asked for is an error."""
    if given.cluster.prior:
        raise UsageError(
            f"cluster.prior is {given.cluster.prior:g}, but no regions are known of these descriptors; the bundled "
            "backbone knows some of the plain keys of its last layer: use these, or leave the prior at 0"
        )
    return with_values(settings, {"cluster.prior": 0.0})


def _codebook_defaults(codebook: Codebook | None) -> dict[str, Any]:
    if codebook is None:
        return {}
    origin = codebook.origin
    known = {"model": origin.model} if origin.model in {*MODELS, BUNDLED} else {}
    return {
        **known,
        "features": origin.features.model_dump(),
        "saliency": origin.saliency.model_dump(),
        "cluster": {**origin.cluster.model_dump(), "parts": codebook.parts},
    }


LAYER_SHARE = 0.75
"""Default layer of correspondences as a share of the depth: 9 of the paper's 12, where position still shows."""


def middle_layer(engine: Engine) -> int:
    """The layer at three quarters of the model's depth."""
    return int(engine.extractor.backbone.config.depth * LAYER_SHARE)


def description_of(engine: Engine) -> dict[str, Any]:
    """Model and descriptor settings, for the JSON file of a result."""
    features, identity = engine.settings.features, engine.extractor.identity
    return {"model": identity.name, "fingerprint": identity.fingerprint, "features": features.model_dump()}
