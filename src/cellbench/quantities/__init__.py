"""Numbers with units, as people write them, to plain SI floats: parsed once, at the edge.

Units go through pint with a short list of definitions of our own: its full registry takes a fifth
of a second to build and knows units that only turn typing errors into valid input. pint itself is
imported with the first unit that is parsed.

A quantity is a number and a product of units (``0.5 mA/cm2``, ``2 mA h``, ``5 %``), a C-rate
(``C/5``, ``2C``, ``0.2C``) or a potential with its reference (``4.8 V vs Li+/Li``). ``t`` is the
tonne-force of press gauges. ``5 C`` is refused: it could be a C-rate or coulombs.
"""

from cellbench.quantities.dimensions import DIMENSIONS, Dimension, format_quantity, name_of
from cellbench.quantities.lists import (
    Interval,
    parse_bounds,
    parse_interval,
    parse_list,
    parse_quantities,
    spread,
)
from cellbench.quantities.quantity import (
    ABSOLUTE,
    LITHIUM,
    TERMINALS,
    Quantity,
    Value,
    convert,
    describe,
    parse,
    parse_quantity,
    refuse_bare_celsius,
    refuse_decimal_comma,
    scan,
)
from cellbench.quantities.units import KEYWORDS, PLAIN, Exponents, QuantityError, is_unit, unit_of

__all__ = [
    "ABSOLUTE",
    "DIMENSIONS",
    "KEYWORDS",
    "LITHIUM",
    "PLAIN",
    "TERMINALS",
    "Dimension",
    "Exponents",
    "Interval",
    "Quantity",
    "QuantityError",
    "Value",
    "convert",
    "describe",
    "format_quantity",
    "is_unit",
    "name_of",
    "parse",
    "parse_bounds",
    "parse_interval",
    "parse_list",
    "parse_quantities",
    "parse_quantity",
    "refuse_bare_celsius",
    "refuse_decimal_comma",
    "scan",
    "spread",
    "unit_of",
]
