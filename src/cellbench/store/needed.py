"""Libraries that few commands need: imported late, and missed in plain words."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cellbench.errors import InputError


def needed(module: str) -> Any:
    """A module of the extra "data".

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(
            f'{name} is needed for this and is not here: pip install "cellbench[data]"'
        ) from error
