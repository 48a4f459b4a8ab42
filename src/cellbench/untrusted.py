"""What comes from other programs: models that take what they name and nothing else, plain text."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Takes its fields in their own types, and no field besides."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def printable(text: str) -> str:
    """Return a text that can be shown as it is; for `pydantic.AfterValidator`.

    Raises:
        ValueError: Something in it cannot be printed: a line's end, or what turns the text around.
    """
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text
