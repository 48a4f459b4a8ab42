"""Capacity per cycle: charge and discharge, per gram and per area, energy and mean voltage.

Specific values refer to the active material alone, as its loading on the card says; areal ones to
the working electrode. Energy is the integral of voltage over charge, the mean voltage their ratio
(Linden's Handbook of Batteries, 4th ed., McGraw-Hill 2011, ch. 1).
"""

from collections.abc import Mapping
from typing import Any

from cellbench.analysis import reported
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles, rate_C, rate_text
from cellbench.analysis.dataset import Dataset, Result

#: A charge that came this near to the least of the first few has reached its cut-off.
_REACHED_WITHIN_V = 0.005
_FIRST_CHARGES = 3


def analyse(dataset: Dataset) -> Result:
    """One row per cycle, and the largest discharge.

    Raises:
        ValueError: if no charge passed.
    """
    rows = [_row(dataset, cycle) for cycle in cycles(dataset)]
    return {
        "cycles": len(rows),
        "discharge_max_mAh_g": reported.largest(row["discharge_mAh_g"] for row in rows),
        "discharge_max_mAh_cm2": reported.largest(row["discharge_mAh_cm2"] for row in rows),
        "first": rows[0],
        "last": _last_complete(rows),
        "charge_fails_from_cycle": _fails_from(rows),
        "active_mass_mg": reported.scaled(dataset.geometry.active_mass_kg, 1e6),
        "area_cm2": reported.scaled(dataset.geometry.area_m2, 1e4),
        "rows": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """First and last cycle in lines for people."""
    lines = [_line("first cycle", result["first"])]
    if result["cycles"] > 1:
        lines.append(_line(f"cycle {result['last']['cycle']}", result["last"]))
    failed = result["charge_fails_from_cycle"]
    if failed is not None:
        lines.append(f"leaking       no charge reaches its potential from cycle {failed} on")
    return lines


def capacity_columns(dataset: Dataset, charge_C: float | None, name: str) -> Result:
    """A charge per area, per gram (None without a loading) and plain, named as in a result."""
    areal = specific = None
    if charge_C is not None:
        areal = charge_C / dataset.geometry.area_m2
        mass_kg = dataset.geometry.active_mass_kg
        specific = charge_C / mass_kg / 3600 if mass_kg else None
    return {
        f"{name}_mAh_cm2": reported.milliampere_hour_per_cm2(areal),
        f"{name}_mAh_g": reported.number(specific),
        f"{name}_mAh": reported.scaled(charge_C, 1 / 3.6),
    }


def capacity_text(row: Mapping[str, Any], name: str) -> str:
    """A capacity in words, per gram where the loading is known."""
    if row.get(f"{name}_mAh_g") is not None:
        return f"{row[f'{name}_mAh_g']:.4g} mAh/g"
    if row.get(f"{name}_mAh_cm2") is not None:
        return f"{row[f'{name}_mAh_cm2']:.4g} mAh/cm2"
    return "none"


def _row(dataset: Dataset, cycle: Cycle) -> Result:
    charge, discharge = cycle.charge, cycle.discharge
    half = cycle.first or cycle.second
    driven_A = discharge.set_A if discharge else half.set_A if half else None
    return {
        "cycle": cycle.number,
        "start_s": reported.number(half.start_s if half else None),
        "rate_C": reported.number(rate_C(dataset, driven_A)),
        "current_density_mA_cm2": reported.milliampere_per_cm2(
            None if driven_A is None else driven_A / dataset.geometry.area_m2
        ),
        **capacity_columns(dataset, charge.capacity_C if charge else None, "charge"),
        **capacity_columns(dataset, discharge.capacity_C if discharge else None, "discharge"),
        "coulombic_efficiency_percent": efficiency_percent(cycle),
        "energy_efficiency_percent": _ratio_percent(
            discharge.energy_J if discharge else None, charge.energy_J if charge else None
        ),
        **_energies(dataset, charge, discharge),
        "ended_charge": charge.ending if charge else None,
        "ended_discharge": discharge.ending if discharge else None,
    }


def efficiency_percent(cycle: Cycle) -> float | None:
    """What came back of what was passed first: second half-cycle over first, in percent."""
    if cycle.first is None or cycle.second is None:
        return None
    return _ratio_percent(cycle.second.capacity_C, cycle.first.capacity_C)


def _ratio_percent(value: float | None, reference: float | None) -> float | None:
    if value is None or not reference:
        return None
    return reported.percent(value / reference)


def _energies(
    dataset: Dataset, charge: HalfCycle | None, discharge: HalfCycle | None
) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for name, half in (("charge", charge), ("discharge", discharge)):
        energy_J = half.energy_J if half else None
        capacity_C = half.capacity_C if half else 0.0
        mean_V = energy_J / capacity_C if energy_J is not None and capacity_C else None
        values[f"{name}_mWh"] = reported.scaled(energy_J, 1 / 3.6)
        values[f"{name}_mean_V"] = reported.number(mean_V)
        values[f"{name}_end_potential_V"] = _extreme(dataset, half)
    return values


def _extreme(dataset: Dataset, half: HalfCycle | None) -> float | None:
    """The potential that a half-cycle reached at its end."""
    if half is None or not len(half.voltage_V):
        return None
    values = half.voltage_V
    reached = values.max() if half.direction == "charge" else values.min()
    return reported.number(dataset.geometry.potential_V(float(reached)))


def _last_complete(rows: list[Result]) -> Result:
    complete = [row for row in rows if row["coulombic_efficiency_percent"] is not None]
    return (complete or rows)[-1]


def _fails_from(rows: list[Result]) -> int | None:
    """The first cycle from which on no charge reaches the potential that the first ones reached.

    So ends the life of a cell that leaks: its charge passes, and its voltage stays behind. A charge
    that no discharge has followed may not have come to its end.
    """
    whole = [row for row in rows if row["discharge_mAh_cm2"] is not None]
    reached = [(row["cycle"], row["charge_end_potential_V"]) for row in whole]
    known = [(cycle, value_V) for cycle, value_V in reached if value_V is not None]
    cut_off_V = min((value_V for _, value_V in known[:_FIRST_CHARGES]), default=0.0)
    failed = None
    for cycle, value_V in reversed(known):
        if value_V >= cut_off_V - _REACHED_WITHIN_V:
            break
        failed = int(cycle)
    return failed


def _line(label: str, row: Mapping[str, Any]) -> str:
    efficiency = row["coulombic_efficiency_percent"]
    tail = f", CE {efficiency:.4g} %" if efficiency is not None else ""
    rate = f" ({rate_text(row['rate_C'])})" if row["rate_C"] else ""
    return (
        f"{label:<13} charge {capacity_text(row, 'charge')}, "
        f"discharge {capacity_text(row, 'discharge')}{tail}{rate}"
    )
