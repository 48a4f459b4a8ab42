"""Dimensions by the names that people use, and writing SI values in engineering units."""

from __future__ import annotations

from dataclasses import dataclass

from cellbench.quantities.units import PLAIN, Exponents, unit_of

#: Dimensions that people write in tenths of a unit: 0.5 V, 0.5 MPa, 0.35 mm.
_TENTHS = {
    "voltage",
    "pressure",
    "rate of pressure",
    "current density",
    "length",
    "conductivity",
    "areal capacity",
}


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity that fields ask for: its SI unit, units to print it in, an example."""

    name: str
    si_unit: str
    units: tuple[str, ...]
    example: str

    @property
    def exponents(self) -> Exponents:
        """Its exponents of the base units."""
        return PLAIN if not self.si_unit else unit_of(self.si_unit)[1]


def _dimensions(*rows: tuple[str, str, str, str]) -> dict[str, Dimension]:
    return {name: Dimension(name, si, tuple(units.split()), ex) for name, si, units, ex in rows}


DIMENSIONS = _dimensions(
    ("time", "s", "h min s ms us", "30 min"),
    ("current", "A", "A mA uA nA", "2 mA"),
    ("current density", "A/m2", "mA/cm2 uA/cm2", "0.5 mA/cm2"),
    ("current per length", "A/m", "mA/cm", "1 mA/cm"),
    ("specific current", "A/kg", "mA/g", "180 mA/g"),
    ("C-rate", "crate", "", "C/5"),
    ("rate of current", "A/s", "mA/s uA/s", "1 mA/h"),
    ("voltage", "V", "V mV uV", "0.1 V"),
    ("voltage rate", "V/s", "V/s mV/s uV/s", "0.1 mV/s"),
    ("pressure", "Pa", "MPa kPa Pa", "5 MPa"),
    ("rate of pressure", "Pa/s", "MPa/s kPa/s Pa/s", "0.5 MPa/s"),
    ("force", "N", "kN N", "2 kN"),
    ("rate of force", "N/s", "N/s", "50 N/s"),
    ("length", "m", "m mm um", "10 mm"),
    ("area", "m2", "cm2", "0.785 cm2"),
    ("temperature", "K", "K", "25 degC"),
    ("temperature difference", "K", "K", "0.5 K"),
    ("rate of temperature", "K/s", "K/min", "1 K/min"),
    ("frequency", "Hz", "MHz kHz Hz mHz uHz", "100 mHz"),
    ("charge", "A*s", "Ah mAh uAh", "2 mAh"),
    ("areal capacity", "A*s/m2", "mAh/cm2", "1 mAh/cm2"),
    ("specific capacity", "A*s/kg", "mAh/g", "180 mAh/g"),
    ("loading", "kg/m2", "mg/cm2", "6 mg/cm2"),
    ("mass", "kg", "g mg", "70 mg"),
    ("resistance", "Ohm", "MOhm kOhm Ohm mOhm", "100 Ohm"),
    ("area resistance", "Ohm*m2", "Ohm*cm2", "50 Ohm cm2"),
    ("conductivity", "S/m", "mS/cm", "0.35 mS/cm"),
    ("capacitance", "F", "F mF uF nF pF", "20 nF"),
    ("power", "W", "W mW uW", "2 mW"),
    ("energy", "J", "J mJ", "3 J"),
    ("fraction", "", "%", "5 %"),
    ("number", "", "", "3"),
)


def name_of(exponents: Exponents) -> str:
    """What people call a dimension, e.g. ``current density``; else its base units."""
    for each in DIMENSIONS.values():
        if each.exponents == exponents:
            return "a bare number" if each.exponents == PLAIN else each.name
    symbols = ("m", "kg", "s", "A", "K", "C-rate")
    parts = [f"{s}^{e:g}" for s, e in zip(symbols, exponents, strict=True) if e]
    return " ".join(parts)


def format_quantity(value: float, dimension_name: str) -> str:
    """Write an SI value as people would: engineering units, four significant digits."""
    if dimension_name == "temperature":
        return f"{value - 273.15:.4g} °C"
    if dimension_name == "C-rate":
        return f"{value:.4g}C"
    units = DIMENSIONS[dimension_name].units
    if not units:
        return f"{value:.4g}"
    least = 0.0999 if dimension_name in _TENTHS else 0.9999
    chosen = next((u for u in units if abs(value) >= least * unit_of(u)[0]), units[-1])
    if value == 0:
        si_unit = DIMENSIONS[dimension_name].si_unit
        chosen = si_unit if si_unit in units else units[0]
    if dimension_name == "time" and chosen != units[0] and 0.9999 <= abs(value) < 120:
        chosen = "s"
    if dimension_name == "time" and chosen == "h" and abs(value) < 7200:
        chosen = "min"
    return f"{value / unit_of(chosen)[0]:.4g} {chosen}"
