"""Records that are written as JSON, and what is wrong with one that can't be read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class Document(BaseModel):
    """A record as it stands in a file: an unknown key is an error, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def reason(error: Exception) -> str:
    """What is wrong with a file's content, in one line.

    >>> reason(ValueError("it is\\nempty"))
    'it is empty'
    """
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    first = error.errors(include_url=False, include_input=False)[0]
    where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
