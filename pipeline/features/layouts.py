"""Which tensors of a checkpoint are the model's, under the wrappers of training scripts.

    {teacher: {backbone.*}, student: {module.backbone.*}, optimizer, args}    DINO
    {model: {teacher.backbone.*, student.backbone.*}, iteration}              DINOv2
    {state_dict, state_dict_ema, args}                                        timm
    {state_dict: {model.*}, hyper_parameters, callbacks}                      Lightning
    {model: {*, decoder_*}, optimizer, scaler, args}                          MAE
    module.*, _orig_mod.*, model._orig_mod.*                                  DDP, torch.compile

Every tensor has a path through the wrappers. A ViT is found by its patch embedding: what stands before is its root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

# What wraps a module wherever it stands: DDP, torch.compile, FSDP and activation checkpoints.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
_PREFIXES = frozenset({"model", "net", "network", "backbone", "encoder", "state_dict", "model_state_dict", "teacher"})
_AVERAGED = re.compile(r"(^|_)(teacher|ema|momentum|average|averaged|avg|swa|target|shadow)(_|$)")
_TRAINED = re.compile(r"(^|_)(student|online|current)(_|$)|^base_encoder$")
# Its momentum would be taken for averaged weights.
_OPTIMIZER = re.compile(r"optimi[sz]er|optim|opt$|opt_|lr_scheduler|scheduler|scaler|amp")
_ROOT = ("patch_embed", "proj", "weight")
_TOKENS = ("cls_token", "reg_token", "register_tokens", "storage_tokens")
_VIT = frozenset({"pos_embed", "patch_embed", "blocks", *_TOKENS})
_MAX_DEPTH = 16
_CHUNKED = re.compile(r"blocks\.(\d{1,4})\.(\d{1,4})\.(.+)")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor of a checkpoint.

    Attributes:
        path: its path without what wraps modules.
        full: its whole name, for messages.
        tensor: the tensor.
    """

    path: tuple[str, ...]
    full: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model's tensors in a checkpoint.

    Attributes:
        state: tensors by the model's own names.
        notes: one sentence that says which of several models was taken.
    """

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


class NamesakeError(ValueError):
    """Two tensors have one name; says both in full."""


def choose_weights(content: Mapping[Any, object]) -> Chosen:
    """The tensors of a checkpoint's model; the teacher's or the averaged ones where there are several.

    Args:
        content: mappings in one another, as files of weights hold them; what isn't a tensor of floats is passed over.

    Raises:
        NamesakeError: two tensors would get one name.
    """
    entries = list(_entries(content, (), set()))
    roots = dict.fromkeys(entry.path[:-3] for entry in entries if entry.path[-3:] == _ROOT)
    ranks = [_rank(root) for root in roots] or [_rank(entry.path) for entry in entries]
    best = min(ranks, default=0)
    chosen = [root for root in roots if _rank(root) == best]
    stripped = _PREFIXES.union(*roots)
    state: dict[str, _Entry] = {}
    for entry in entries:
        name = _strip(entry.path, stripped)
        if _rank(entry.path) == best and _belongs(entry.path, name, chosen):
            _add(state, ".".join(name), entry)
    left = [".".join(root) for root in roots if root not in chosen]
    notes = (f"weights are those of '{'.'.join(chosen[0])}'; '{left[0]}' in the same file is left out",) if left else ()
    return Chosen({name: entry.tensor for name, entry in state.items()}, notes)


def unchunk(names: Sequence[str]) -> list[str]:
    """Names of blocks without the chunks that DINOv2 shards them by: `blocks.1.7.` is `blocks.7.`.

    Other programs count the blocks of each chunk from 0; then they are numbered on from chunk to chunk.
    """
    found = [_CHUNKED.match(name) for name in names]
    places = sorted({(int(each[1]), int(each[2])) for each in found if each})
    number = {place: place[1] for place in places}
    if len(set(number.values())) < len(places):
        number = {place: at for at, place in enumerate(places)}
    return [
        f"blocks.{number[int(each[1]), int(each[2])]}.{each[3]}" if each else name
        for each, name in zip(found, names, strict=True)
    ]


def _add(state: dict[str, _Entry], name: str, entry: _Entry) -> None:
    known = state.setdefault(name, entry)
    if known is not entry and not _is_same(known.tensor, entry.tensor):
        raise NamesakeError(f"two tensors '{name}': '{known.full[:200]}' and '{entry.full[:200]}'")


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two names are of one tensor: a module that is an attribute of two others is stored under both."""
    same = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    return same and one.device == other.device and one.data_ptr() == other.data_ptr()


def _entries(content: Mapping[Any, object], above: tuple[str, ...], seen: set[int]) -> Iterator[_Entry]:
    # A mapping that stands in two places is one; one that holds itself has no end.
    if id(content) in seen or len(above) > _MAX_DEPTH:
        return
    seen.add(id(content))
    for key, value in content.items():
        here = (*above, str(key))
        if isinstance(value, Mapping):
            if _OPTIMIZER.match(str(key)):
                continue
            yield from _entries(value, here, seen)
        elif _is_weight(value):
            full = ".".join(here)
            yield _Entry(tuple(part for part in full.split(".") if part not in _WRAPPERS), full, value)


def _is_weight(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _rank(path: tuple[str, ...]) -> int:
    """0 for averaged weights, 1 for weights of which nothing is said, 2 for a student's beside them."""
    inside = next((at for at, part in enumerate(path) if part in _VIT), len(path))
    words = [part.lower() for part in path[:inside]]
    if any(map(_AVERAGED.search, words)):
        return 0
    return 2 if any(map(_TRAINED.search, words)) else 1


def _strip(path: tuple[str, ...], prefixes: frozenset[str]) -> tuple[str, ...]:
    start = next((at for at, part in enumerate(path[:-1]) if part not in prefixes), len(path) - 1)
    return path[start:]


def _belongs(path: tuple[str, ...], name: tuple[str, ...], roots: list[tuple[str, ...]]) -> bool:
    return not roots or name[0] in _VIT or any(path[: len(root)] == root for root in roots)
