"""The codebook: what a fit finds and every later frame is assigned with; one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from pipeline.cluster.clusters import Embedding
from pipeline.config import ClusterSettings, FeatureSettings, SaliencySettings
from pipeline.errors import CodebookError
from pipeline.files import write_file

FORMAT = "vidparts-codebook-1"


class CodebookOrigin(BaseModel):
    """What a codebook belongs to, and how it was fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = FORMAT
    model: str
    """The model's name, or the stem of its file."""
    fingerprint: str
    """SHA-256 over the model's parameters."""
    features: FeatureSettings
    saliency: SaliencySettings
    cluster: ClusterSettings
    seed: int
    frames: int
    """Frames that the fit saw."""
    objectives: tuple[float, ...] = ()
    """Mean squared distance for k = 1, 2, ... of the elbow; without one, for the k that is used."""


_LARGEST = 1e3
"""Means of unit vectors are far below it, and squares of smaller numbers don't overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """Both centroid tables, votes and colours (paper section 4).

    Attributes:
        centroids: float32 [k, channels], clusters of all descriptors.
        part_centroids: float32 [parts, channels], clusters of the foreground descriptors.
        votes: int64 [k], frames that found each cluster salient.
        salient: bool [k], the clusters that are foreground.
        part_colors: uint8 [parts, 3], RGB of the parts 1..K.
        origin: the model and the settings it belongs to.
        embeddings: of clusters and parts, where nearness is judged in a space of their own (spectral clustering).
        shared: float32 [1, channels + 1] or, of several inputs, [1 + inputs, channels + 1]: the saliency that their
            frames share (`place_saliency.fit_shared`); None where it wasn't asked for.
        part_names: what a person calls the parts 1..K, empty for those that nobody has named; () where none is.
    """

    centroids: NDArray[np.float32]
    part_centroids: NDArray[np.float32]
    votes: NDArray[np.int64]
    salient: NDArray[np.bool_]
    part_colors: NDArray[np.uint8]
    origin: CodebookOrigin
    embeddings: tuple[Embedding, Embedding] | None = None
    shared: NDArray[np.float32] | None = None
    part_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the tables fit together."""
        k, channels = self._matrix(self.centroids, "centroids")
        parts, part_channels = self._matrix(self.part_centroids, "part_centroids")
        expected = {"votes": (k,), "salient": (k,), "part_colors": (parts, 3)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: got shape {getattr(self, name).shape}, expected {shape}")
        if channels != part_channels or not 1 <= parts <= 255 or not k:
            raise ValueError(f"tables of shape {self.centroids.shape} and {self.part_centroids.shape} don't fit")
        for embedding, clusters in zip(self.embeddings or (), (k, parts), strict=False):
            if embedding.landmarks.shape[1] != channels or len(embedding.centroids) != clusters:
                raise ValueError(f"an embedding of {embedding.landmarks.shape} doesn't fit {clusters} clusters")
        if self.shared is not None:
            rows, weights = self._matrix(self.shared, "shared")
            if not rows or weights != channels + 1:
                raise ValueError(f"shared: got shape {self.shared.shape}, expected ({rows or 1}, {channels + 1})")
        if len(self.part_names) not in (0, parts):
            raise ValueError(f"{len(self.part_names)} names for {parts} parts")

    def for_others(self) -> Codebook:
        """The codebook for other inputs than those of the fit, which may have the same numbers."""
        return self if self.shared is None else replace(self, shared=self.shared[:1])

    @staticmethod
    def _matrix(table: NDArray[np.float32], name: str) -> tuple[int, int]:
        if table.ndim != 2 or not np.isfinite(table).all():
            raise ValueError(f"{name}: got shape {table.shape}, expected a matrix of finite numbers")
        if table.size and np.abs(table).max() > _LARGEST:
            raise ValueError(f"{name}: got {np.abs(table).max():.3g}, expected means of descriptors of unit length")
        return table.shape[0], table.shape[1]

    @property
    def parts(self) -> int:
        """Number of parts K; their labels are 1..K."""
        return len(self.part_centroids)

    @property
    def background(self) -> NDArray[np.float32]:
        """The centroids that aren't salient, float32 [n, channels]; empty where everything is salient."""
        return self.centroids[~self.salient]


_COMPARABLE = {"precision", "grid"}
"""Settings that change descriptors so little that a codebook stays usable: rounding, fewer patches in the attention."""

_DTYPES: Mapping[str, Any] = {
    "centroids": np.float32,
    "part_centroids": np.float32,
    "votes": np.int64,
    "salient": np.uint8,
    "part_colors": np.uint8,
}
_EMBEDDED = tuple(
    f"{of}_{name}" for of in ("clusters", "parts") for name in ("landmarks", "weights", "embedded", "gamma")
)
"""Tables of the embeddings, float32, where there are any."""

_SHARED = "shared"
_NAMES = "part_names"
_NAMES_TYPE = TypeAdapter(tuple[Annotated[str, Field(max_length=320)], ...])
_SAFETENSORS_NAMES = {np.float32: "F32", np.int64: "I64", np.uint8: "U8"}


def save_codebook(codebook: Codebook, file: Path) -> None:
    """Write a codebook; the file appears whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    write_file(file, _serialised(codebook, codebook.part_names))


def codebook_sha256(codebook: Codebook) -> str:
    """What identifies a codebook: the SHA-256 of its file without names, so that naming a part changes nothing."""
    return hashlib.sha256(_serialised(codebook, ())).hexdigest()


def _serialised(codebook: Codebook, names: tuple[str, ...]) -> bytes:
    from safetensors.numpy import save

    tables = {name: np.ascontiguousarray(getattr(codebook, name), dtype) for name, dtype in _DTYPES.items()}
    for of, embedding in zip(("clusters", "parts"), codebook.embeddings or (), strict=False):
        tables[f"{of}_landmarks"], tables[f"{of}_weights"] = embedding.landmarks, embedding.weights
        tables[f"{of}_embedded"], tables[f"{of}_gamma"] = embedding.centroids, np.array([embedding.gamma], np.float32)
    if codebook.shared is not None:
        tables[_SHARED] = codebook.shared
    # One entry: safetensors writes several in any order.
    origin = codebook.origin.model_dump_json()
    if any(names):
        origin = json.dumps({**json.loads(origin), _NAMES: names}, ensure_ascii=False)
    return bytes(save(tables, metadata={"vidparts": origin}))


def load_codebook(file: Path) -> Codebook:
    """Read a codebook and check it.

    Raises:
        CodebookError: it is missing, isn't a codebook, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not file.is_file():
            raise CodebookError(f"codebook '{file}' doesn't exist; `vidparts fit INPUT... -o FILE` makes one")
        with safe_open(file, framework="numpy") as content:
            metadata = content.metadata() or {}
            embedded = _EMBEDDED if "clusters_landmarks" in content.keys() else ()  # noqa: SIM118 -- not a mapping
            shared = (_SHARED,) if _SHARED in content.keys() else ()  # noqa: SIM118
            for name, dtype in {**_DTYPES, **dict.fromkeys((*embedded, *shared), np.float32)}.items():
                # Before the table is read: safetensors has types that numpy has no name for.
                found = content.get_slice(name).get_dtype()
                if found != _SAFETENSORS_NAMES[dtype]:
                    raise ValueError(f"{name} is {found}, expected {_SAFETENSORS_NAMES[dtype]}")  # noqa: TRY301
            tables = {name: content.get_tensor(name) for name in (*_DTYPES, *shared)}
            more = {name: content.get_tensor(name) for name in embedded}
        embeddings = (_embedding(more, "clusters"), _embedding(more, "parts")) if more else None
        described = from_json(metadata["vidparts"])
        names = _NAMES_TYPE.validate_python(described.pop(_NAMES, ()))
        origin = CodebookOrigin.model_validate(described)
        tables["salient"] = tables["salient"].astype(bool)
        return Codebook(**tables, origin=origin, embeddings=embeddings, part_names=names)
    except (SafetensorError, OSError, KeyError, ValueError, ValidationError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CodebookError(
            f"'{file}' is not a codebook that this version reads ({reason}); fit it again with `vidparts fit`"
        ) from error


def _embedding(tables: Mapping[str, NDArray[np.float32]], of: str) -> Embedding:
    gamma = float(tables[f"{of}_gamma"].reshape(1)[0])
    return Embedding(tables[f"{of}_landmarks"], tables[f"{of}_weights"], tables[f"{of}_embedded"], gamma)


def require_fit(origin: CodebookOrigin, fingerprint: str, features: FeatureSettings, what: str) -> None:
    """Refuse a codebook whose descriptors aren't comparable with those of the current model and settings.

    Args:
        origin: the codebook's.
        fingerprint: of the current model.
        features: the current settings.
        what: the codebook's name in messages.

    Raises:
        CodebookError: names each thing that differs, with both values.
    """
    differences = []
    if origin.fingerprint != fingerprint:
        differences.append(f"model {origin.model} ({origin.fingerprint[:12]}, now {fingerprint[:12]})")
    for name, value in origin.features:
        now = getattr(features, name)
        if value != now and name not in _COMPARABLE:
            differences.append(f"{name.replace('_', '-')} {value} (now {now})")
    if differences:
        raise CodebookError(
            f"codebook '{what}' was fitted with {', '.join(differences)}; "
            "give the same model and settings, or fit it again with `vidparts fit`"
        )
