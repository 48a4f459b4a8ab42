"""The plots of each analysis that is not drawn level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from cellbench.analysis import dq_dv
from cellbench.analysis.capacity import efficiency_percent
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles, half_cycles, rate_text
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.leakage import held_current
from cellbench.analysis.pressure_breathing import breathing_rows
from cellbench.report.curves import Axis, Curve, Plot, column, place, spread, thin
from cellbench.report.drawers_electrolyte import (
    arrhenius,
    electronic,
    onset,
    potential_axis,
    pressings,
    relaxation,
    voltammogram,
)

Drawer: TypeAlias = Callable[[Dataset, Result], Iterable[Plot]]
_CYCLE = Axis("cycle")
_STATES = ("fresh", "during charge", "charged", "during discharge", "discharged")


def plots_of(name: str, dataset: Dataset, result: Result) -> list[dict[str, Any]]:
    """The plots of one analysis as JSON values, none for one that the report does not know."""
    draw = DRAWERS.get(name.strip().replace(" ", "_"))
    plots = [plot.data() for plot in draw(dataset, result)] if draw else []
    return [plot for plot in plots if plot["curves"]]


# --- Cycling ------------------------------------------------------------------------------------


def _specific(dataset: Dataset) -> tuple[str, float]:
    """Unit of capacities, and what coulombs are divided by."""
    mass_kg = dataset.geometry.active_mass_kg
    return ("mAh/g", 3600 * mass_kg) if mass_kg else ("mAh/cm²", 3.6e4 * dataset.geometry.area_m2)


def _capacity(dataset: Dataset, _: Result) -> Iterable[Plot]:
    ran = cycles(dataset)
    yield _by_cycle(dataset, ran)
    yield _charge_discharge(dataset, ran)


def _by_cycle(dataset: Dataset, ran: Sequence[Cycle]) -> Plot:
    unit, per = _specific(dataset)
    numbers = [float(cycle.number) for cycle in ran]
    sizes = {
        name: [half.capacity_C / per if half else None for half in halves]
        for name, halves in (
            ("charge", [cycle.charge for cycle in ran]),
            ("discharge", [cycle.discharge for cycle in ran]),
        )
    }
    efficiency = [efficiency_percent(cycle) for cycle in ran]
    return Plot(
        "Capacity and coulombic efficiency",
        _CYCLE,
        Axis("capacity", unit, from_zero=True),
        [
            Curve("charge", numbers, sizes["charge"], "hollow"),
            Curve("discharge", numbers, sizes["discharge"], "points"),
            Curve("coulombic efficiency", numbers, efficiency, "points", right=True),
        ],
        right=Axis("coulombic efficiency", "%"),
    )


def _charge_discharge(dataset: Dataset, ran: Sequence[Cycle]) -> Plot:
    unit, per = _specific(dataset)
    chosen = [ran[index] for index in spread(len(ran), 8)]
    curves = [
        _voltage_curve(dataset, half, per, cycle.number, place(index, len(chosen)))
        for index, cycle in enumerate(chosen)
        for half in (cycle.first, cycle.second)
        if half
    ]
    return Plot(
        "Charge and discharge curves",
        Axis("capacity", unit, from_zero=True),
        potential_axis(dataset),
        curves,
        scale=("cycle", str(chosen[0].number), str(chosen[-1].number)) if len(ran) > 1 else None,
    )


def _voltage_curve(
    dataset: Dataset, half: HalfCycle, per: float, number: int, along: float
) -> Curve:
    charge_C, voltage_V = thin(half.charge_C, half.voltage_V, most=300)
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    label = f"cycle {number}, {half.direction}"
    return Curve(label, charge_C / per, voltage_V + shift_V, along=along)


def _efficiency(_: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    yield Plot(
        f"Coulombic efficiency, {result['definition']}",
        _CYCLE,
        Axis("coulombic efficiency", "%"),
        [Curve("efficiency", column(rows, "cycle"),
               column(rows, "coulombic_efficiency_percent"), "both")],
    )  # fmt: skip


def _retention(_: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    yield Plot(
        f"Retention against cycle {result['reference_cycle']}",
        _CYCLE,
        Axis("retention", "%", from_zero=True),
        [Curve("retention", column(rows, "cycle"), column(rows, "retention_percent"), "points")],
    )


def _rates(dataset: Dataset, result: Result) -> Iterable[Plot]:
    unit, per = _specific(dataset)
    ran = {cycle.number: cycle.discharge for cycle in cycles(dataset) if cycle.discharge}
    currents = {_step_name(row): row["current_density_mA_cm2"] or 0.0 for row in result["rates"]}
    names = sorted(currents, key=lambda name: currents[name])
    curves = []
    for row in result["rates"]:
        numbers = [n for n in ran if row["first_cycle"] <= n <= row["last_cycle"]]
        name = _step_name(row)
        along = place(names.index(name), len(names))
        sizes = [ran[number].capacity_C / per for number in numbers]
        curves.append(Curve(name, [float(n) for n in numbers], sizes, "points", along))
    yield Plot("Rate capability", _CYCLE, Axis("discharge capacity", unit, from_zero=True), curves)


def _step_name(row: Result) -> str:
    if row["rate_C"]:
        return rate_text(row["rate_C"])
    return f"{row['current_density_mA_cm2']:.3g} mA/cm²"


def _dq_dv(dataset: Dataset, _: Result) -> Iterable[Plot]:
    found = dq_dv.curves(dataset)
    numbers = sorted({curve.cycle for curve in found})
    chosen = [numbers[index] for index in spread(len(numbers), 8)]
    curves = []
    for curve in (one for one in found if one.cycle in chosen):
        sign = 1.0 if curve.direction == "charge" else -1.0
        x, y = thin(curve.potential_V, sign * curve.value)
        along = place(chosen.index(curve.cycle), len(chosen))
        curves.append(Curve(f"cycle {curve.cycle}, {curve.direction}", x, y, along=along))
    yield Plot(
        "Incremental capacity, discharge downwards",
        potential_axis(dataset),
        Axis("dQ/dV", dq_dv.unit(dataset)),
        curves,
        scale=("cycle", str(chosen[0]), str(chosen[-1])) if len(chosen) > 1 else None,
    )


# --- Time and current ---------------------------------------------------------------------------


def _leakage(dataset: Dataset, result: Result) -> Iterable[Plot]:
    piece = held_current(dataset)
    elapsed_s = piece.time_s - piece.step.start_s
    hours, micro = thin(elapsed_s / 3600, np.abs(piece.current_A) * 1e6)
    tail_h = np.linspace(hours[-1] / 3, hours[-1], 60)
    fitted = result["leakage_limit_uA"] + result["B_uA_s_half"] / np.sqrt(tail_h * 3600)
    yield Plot(
        "Current during the hold, spectra left out",
        Axis("time", "h"),
        Axis("|current|", "µA", log=True),
        [
            Curve("measured", hours, micro),
            Curve("I_inf + B t^-1/2", tail_h, np.abs(fitted), "dashed"),
        ],
    )


def _growth(_: Dataset, result: Result) -> Iterable[Plot]:
    key = {"interface": "R_interface_ohm", "slowest": "R_slowest_ohm"}.get(
        result["part"], "R_total_ohm"
    )
    rows = [row for row in result["spectra"] if row[key] is not None]
    values = [row[key] for row in rows]
    wide = bool(values) and max(values) > 20 * max(min(values), 1e-9)
    area = result["area_cm2"]
    yield Plot(
        f"Resistance of the {result['part']}".replace("the total", "the cell"),
        Axis("time", "h"),
        Axis("resistance x area", "Ω cm²", log=wide, from_zero=not wide),
        [
            Curve(
                state,
                [row["time_h"] for row in rows if row["state"] == state],
                [row[key] * area for row in rows if row["state"] == state],
                "points",
            )
            for state in _STATES
        ],
    )


def _breathing(dataset: Dataset, _: Result) -> Iterable[Plot]:
    time_s, pressure_Pa, areal = breathing_rows(dataset)
    hours, megapascal, charge = thin(time_s / 3600, pressure_Pa * 1e-6, areal, most=1500)
    yield Plot(
        "Stack pressure against charge",
        Axis("areal charge", "mAh/cm²"),
        Axis("stack pressure", "MPa"),
        [Curve("measured", charge, megapascal)],
    )
    yield Plot(
        "Stack pressure and charge in time",
        Axis("time", "h"),
        Axis("stack pressure", "MPa"),
        [
            Curve("stack pressure", hours, megapascal),
            Curve("areal charge", hours, charge, "dashed", right=True),
        ],
        right=Axis("areal charge", "mAh/cm²"),
    )


def _self_discharge(dataset: Dataset, _: Result) -> Iterable[Plot]:
    rest = max(dataset.steps_of("rest"), key=lambda step: step.duration_s)
    rows = dataset.samples.between(rest.start_s, rest.end_s)
    hours, volts = thin((rows.time_s - rest.start_s) / 3600, rows.voltage_V)
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    yield Plot(
        "Open circuit", Axis("time", "h"), potential_axis(dataset),
        [Curve("measured", hours, volts + shift_V)],
    )  # fmt: skip


def _stripping(dataset: Dataset, result: Result) -> Iterable[Plot]:
    half = max(half_cycles(dataset), key=lambda one: one.capacity_C)
    areal, volts = thin(
        half.charge_C / dataset.geometry.area_m2 / 3.6e4,
        np.abs(half.voltage_V - (result["offset_V"] or 0.0)),
    )
    ends = [result["stripping_capacity_mAh_cm2"]]
    yield Plot(
        "Stripping",
        Axis("stripped", "mAh/cm²", from_zero=True),
        Axis("|voltage|", "V", from_zero=True),
        [
            Curve("measured", areal, volts),
            Curve("end of stripping", ends, [result["voltage_at_end_V"]], "points"),
        ],
    )


def _symmetric(_: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    yield Plot(
        "Polarisation of every cycle",
        _CYCLE,
        Axis("polarisation", "V", from_zero=True),
        [Curve("polarisation", column(rows, "cycle"), column(rows, "polarisation_V"), "line")],
    )


def _gitt(dataset: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    yield Plot(
        "Diffusion coefficient", potential_axis(dataset), Axis("D", "cm²/s", log=True),
        [Curve("pulses", column(rows, "potential_V"), column(rows, "D_cm2_s"), "both")],
    )  # fmt: skip
    kept = dataset.samples
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    hours, volts = thin(kept.time_s / 3600, kept.voltage_V + shift_V, most=3000)
    yield Plot(
        "Titration", Axis("time", "h"), potential_axis(dataset), [Curve("measured", hours, volts)]
    )


def _pulses(dataset: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    names = [(f"R_{t:g}s_ohm", f"{t:g} s") for t in result["times_s"]]
    yield Plot(
        "Pulse resistance",
        potential_axis(dataset),
        Axis("resistance", "Ω", from_zero=True),
        [
            Curve(label, column(rows, "potential_V"), column(rows, key), "points")
            for key, label in (*names, ("R_end_ohm", "end of the pulse"))
        ],
    )


DRAWERS: dict[str, Drawer] = {
    "arrhenius": arrhenius,
    "capacity": _capacity,
    "coulombic_efficiency": _efficiency,
    "cyclic_voltammetry": voltammogram,
    "distribution_of_relaxation_times": relaxation,
    "dq_dv": _dq_dv,
    "electronic_conductivity": electronic,
    "fabrication_pressure": pressings,
    "gitt": _gitt,
    "leakage": _leakage,
    "lsv_onset": onset,
    "pressure_breathing": _breathing,
    "pulse_resistance": _pulses,
    "rate_table": _rates,
    "resistance_growth": _growth,
    "retention": _retention,
    "self_discharge": _self_discharge,
    "stripping": _stripping,
    "symmetric_cycling": _symmetric,
}
