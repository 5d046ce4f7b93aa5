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
    where = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
    return f"{where}: {message(error)}" if where else message(error)


def message(error: ValidationError) -> str:
    """What is wrong, without where."""
    return error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
