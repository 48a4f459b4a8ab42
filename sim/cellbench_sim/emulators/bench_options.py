"""What an emulated instrument takes from a bench file: quantities as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from cellbench.quantities import parse


class BenchOptions:
    """The options of one instrument in a bench file; ``host timeout`` is ``host_timeout``.

    Args:
        options: As they stand in the file; what nobody asks for is nobody's business here.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {key.replace(" ", "_").lower(): value for key, value in options.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._options

    def text(self, key: str, default: str) -> str:
        """Return an option as a text."""
        return str(self._options.get(key, default))

    def number(self, key: str, default: int) -> int:
        """Return an option as a whole number."""
        return int(self._options.get(key, default))

    def flag(self, key: str) -> bool:
        """Return whether an option is on."""
        return self._options.get(key, False) in {True, "true", "yes", "on"}

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return an option that has parts of its own; their names as those of options."""
        parts = self._options.get(key, {})
        return {name.replace(" ", "_"): value for name, value in parts.items()}

    def quantity(self, key: str, dimension: str, default: float) -> float:
        """Return an option in SI units, ``default`` where the bench file does not say.

        Raises:
            QuantityError: What the bench file says is not a quantity of ``dimension``.
        """
        return parse(self.text(key, ""), dimension) if key in self else default

    @property
    def unit(self) -> int:
        """Address on a bus, or Modbus unit: 1 where the bench file does not say."""
        return self.number("unit", self.number("address", 1))

    @property
    def compression(self) -> Literal[1, -1]:
        """Sign of compression, which ``compression`` says to be positive (so by default) or not."""
        return -1 if self.text("compression", "positive") == "negative" else 1
