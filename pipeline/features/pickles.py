"""Pickled files of weights (`torch.save`), read without running anything that they hold.

Beside the tensors, training scripts leave their arguments, configuration and figures. What is on the list here is
read as an empty stand-in: no code of its package runs, and the package needn't be installed. All else is refused.
"""

from __future__ import annotations

import re
import shlex
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import torch

from pipeline.errors import ModelError


class _StandIn:
    """Takes the place of an object that isn't wanted, and keeps nothing of it."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _empty_mapping(*_: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


_BUILTINS = "bool int float complex str bytes tuple list dict set object slice range"
_NUMPY_SCALARS = "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 longdouble str_"
_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_OBJECTS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"builtins.{name}" for name in _BUILTINS.split()),
    *(f"datetime.{name}" for name in ("date", "time", "datetime", "timedelta", "timezone")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS.split()),
    "uuid.UUID",
    "typing.Any",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in _NUMPY_SCALARS.split()),
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata", "Node", "SCMode")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Enum")),
)
_MAPPINGS = (
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "addict.addict.Dict",
    "ml_collections.config_dict.config_dict.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_StandIn, name) for name in _OBJECTS),
    # Their items may be weights.
    *((OrderedDict, name) for name in _MAPPINGS),
    (_empty_mapping, "collections.defaultdict"),
]
_HARMFUL_MODULES = "os posix nt sys subprocess shutil socket runpy importlib pty"
_HARMFUL_BUILTINS = "eval exec compile open getattr setattr __import__"
_HARMFUL = frozenset(f"{_HARMFUL_MODULES} {_HARMFUL_BUILTINS}".split())


def read_pickle(file: Path) -> Any:
    """What a file of weights holds: tensors and plain values, and stand-ins for objects.

    Raises:
        ModelError: it holds objects that aren't on the list, which is named; with a command that takes the weights out.
        Exception: it is damaged; whatever torch raises then.
    """
    _require_plain_archive(file)
    with warnings.catch_warnings():
        # Of an odd pickle torch warns, and then refuses it.
        warnings.simplefilter("ignore")
        try:
            with torch.serialization.safe_globals(_ALLOWED):
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            if found is None:
                raise
            raise _unlisted(file, found[1]) from error


def _unlisted(file: Path, name: str) -> ModelError:
    if name.partition(".")[0] in _HARMFUL:
        return ModelError(
            f"model file '{file}' would run {name}, which no weights need; don't open it, and get it from elsewhere"
        )
    target = file.with_name(f"{file.name.partition('.')[0]}_weights.pth")
    return ModelError(
        f"model file '{file}' holds an object of {name} beside its weights, which isn't loaded, because that could run "
        "any code; if you trust where the file came from, this command saves the weights alone, where the packages "
        f"that it needs are installed: {_extraction(file, target)}"
    )


def _extraction(file: Path, target: Path) -> str:
    code = (
        "import torch; f=lambda c: c if torch.is_tensor(c) else {k: f(v) for k, v in "
        "(c.state_dict() if hasattr(c, 'state_dict') else c).items() if k != 'optimizer' and (torch.is_tensor(v) or "
        "hasattr(v, 'items') or hasattr(v, 'state_dict'))}; "
        f"torch.save(f(torch.load({str(file)!r}, map_location='cpu', weights_only=False)), {str(target)!r})"
    )
    return f"python -c {shlex.quote(code)}"


def _require_plain_archive(file: Path) -> None:
    """Refuse an archive that unpacks to more than it holds: torch writes its own without compression."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > file.stat().st_size:
        raise ValueError(f"its archive claims to unpack to {unpacked:,} bytes, more than the file has")
