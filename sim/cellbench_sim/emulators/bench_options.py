"""What an emulated instrument takes from a bench file: quantities as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellbench.quantities import parse


def quantity(options: Mapping[str, Any], key: str, dimension: str, default: float) -> float:
    """Return an option in SI units, ``default`` where the bench file does not say.

    Raises:
        QuantityError: What the bench file says is not a quantity of ``dimension``.
    """
    return parse(str(options[key]), dimension) if key in options else default
