"""The manifest of a run: all that its results depend on, so that a resumed run can be compared with it.

Everything that a byte of the results can depend on is in the manifest; what may differ between two runs that give the
same bytes isn't compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cluster.codebook import codebook_sha256, load_codebook
from pipeline.config import Settings, dotted
from pipeline.documents import Document
from pipeline.errors import InputError
from pipeline.files import sha256
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.runs.record import RunRecord, Tools
from pipeline.stages.engine import Engine
from pipeline.stages.picture_set import Readable

_FREE = ("run.queue_depth", "run.max_memory")
"""Settings that no byte of labels, codebook or clip depends on; a resumed run may change them."""

_FREE_ON_CPU = ("run.batch",)
"""As above on the CPU, where each frame goes through the ViT alone; on a GPU the batch decides the last bits."""


class InputFacts(Document):
    """One input: the name of its result, and a SHA-256 of its content, None where it can't be read."""

    name: str
    sha256: str | None


class Manifest(Tools):
    """What a run is begun with: the program, the model, the settings and the inputs."""

    model: str
    fingerprint: str
    settings: Settings
    inputs: tuple[InputFacts, ...]
    codebook_sha256: str | None
    """Of the codebook that was given, None where one is fitted."""
    save_frames: bool = False
    task: str = "segment"

    def differences(self, now: Manifest) -> list[str]:
        """Each thing in which another manifest differs, with both values."""
        return _differences(self._facts(), now._facts())

    def differences_from(self, done: RunRecord, given: InputFacts) -> list[str]:
        """Each thing in which a finished result was made differently, with both values."""
        then = {
            **_tool_facts(done),
            **_model_facts(done.model.name, done.model.fingerprint, done.settings, done.device),
            "input": _short(done.source.sha256),
            "codebook": _short(done.codebook_sha256 if done.fit_seconds is None else None),
            "save-frames": "frames" in done.files,
            "task": "segment",
        }
        now = {key: value for key, value in self._facts().items() if not key.startswith(("input ", "number "))}
        return _differences(then, {**now, "input": _short(given.sha256)})

    def _facts(self) -> dict[str, Any]:
        inputs = {f"input {fact.name}": _short(fact.sha256) for fact in self.inputs}
        return {
            **_tool_facts(self),
            **_model_facts(self.model, self.fingerprint, self.settings, self.device),
            "number of inputs": len(self.inputs),
            **inputs,
            "codebook": _short(self.codebook_sha256),
            "save-frames": self.save_frames,
            "task": self.task,
        }


def make_manifest(
    sources: Sequence[Source],
    engine: Engine,
    codebook: Path | None,
    save_frames: bool,
    checksums: Sequence[str | None] | None = None,
) -> Manifest:
    """The manifest of a run that is about to begin; every input is read once, where its checksum isn't given."""
    if checksums is None:
        checksums = [content_sha256(source) for source in sources]
    named = zip(sources, checksums, strict=True)
    inputs = tuple(InputFacts(name=source.name, sha256=checksum) for source, checksum in named)
    given = None if codebook is None else codebook_sha256(load_codebook(codebook).for_others())
    return _manifest(engine, inputs, given, save_frames=save_frames)


def make_picture_manifest(task: str, pictures: Sequence[Readable], engine: Engine, given: str | None) -> Manifest:
    """The manifest of a run over pictures; `given` is the SHA-256 of the clusters that it was given, if any."""
    inputs = tuple(InputFacts(name=picture.name, sha256=_sha256_or_none(picture.path)) for picture in pictures)
    return _manifest(engine, inputs, given, task=task)


def _manifest(engine: Engine, inputs: tuple[InputFacts, ...], given: str | None, **more: Any) -> Manifest:
    return Manifest(
        **Tools.here(engine),
        model=engine.extractor.identity.name,
        fingerprint=engine.fingerprint,
        settings=engine.settings,
        inputs=inputs,
        codebook_sha256=given,
        **more,
    )


def content_sha256(source: Source) -> str | None:
    """SHA-256 of a video's bytes, or of the names and bytes of a directory's pictures; None where it can't be read."""
    try:
        if isinstance(source, DirectorySource):
            listing = [[file.name, _regular_sha256(file)] for file in source.files]
            return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    except (OSError, InputError):
        return None
    return _sha256_or_none(source.path)


def _sha256_or_none(file: Path) -> str | None:
    try:
        return _regular_sha256(file)
    except (OSError, InputError):
        return None


def _regular_sha256(file: Path) -> str:
    # A pipe or a device may never end.
    if not file.is_file():
        raise InputError(f"'{file}' is not a file")
    return sha256(file)


def _tool_facts(run: Tools) -> dict[str, Any]:
    facts = {name: getattr(run, name) for name in Tools.model_fields if name != "packages"}
    # Where torch runs the ViT, OpenVINO's version doesn't matter.
    packages = {name: version for name, version in run.packages.items() if name != "openvino" or run.backend == name}
    return {**facts, **{f"package {name}": version for name, version in packages.items()}}


def _model_facts(name: str, fingerprint: str, settings: Settings, device: str) -> dict[str, Any]:
    return {"model": f"{name} {_short(fingerprint)}", **compared_settings(settings, device)}


def compared_settings(settings: Settings, device: str) -> dict[str, Any]:
    """The settings that results depend on, by dotted name."""
    # The same model may be given by another name or path; what counts is its parameters.
    free = {"model", "run.device", "run.backend", *_FREE, *(_FREE_ON_CPU if device == "cpu" else ())}
    return {key: value for key, value in dotted(settings.model_dump(mode="json")).items() if key not in free}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*then, *now])
    differing = [name for name in names if then.get(name) != now.get(name)]
    # A damaged manifest may say anything, at any length.
    return [f"{name:.40} {then.get(name)!s:.60} (now {now.get(name)!s:.60})" for name in differing]


def _short(checksum: str | None) -> str:
    return "none" if checksum is None else checksum[:12]
