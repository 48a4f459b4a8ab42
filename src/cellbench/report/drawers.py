"""Which plots each analysis has; and those of cycling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from cellbench.analysis import bare, dq_dv, part_of
from cellbench.analysis.capacity import efficiency_percent
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles, rate_text
from cellbench.analysis.dataset import Dataset, Result
from cellbench.report.curves import (
    CYCLE,
    Axis,
    Curve,
    Plot,
    column,
    place,
    potential_axis,
    spread,
    thin,
)
from cellbench.report.drawers_electrolyte import (
    arrhenius,
    conductivities,
    consistency,
    electronic,
    onset,
    pressings,
    relaxation,
    voltammogram,
)
from cellbench.report.drawers_lithium import against_pressure, ramp, stripping, symmetric
from cellbench.report.drawers_time import (
    breathing,
    growth,
    leakage,
    open_circuit,
    pulses,
    titration,
)

Drawer: TypeAlias = Callable[[Dataset, Result], Iterable[Plot]]


def plots_of(name: str, dataset: Dataset, result: Result) -> list[dict[str, Any]]:
    """The plots of one analysis as JSON values, none for one that the report does not know."""
    draw = DRAWERS.get(bare(name))
    plots = [plot.data() for plot in draw(part_of(name, dataset), result)] if draw else []
    return [plot for plot in plots if plot["curves"]]


def specific(dataset: Dataset) -> tuple[str, float]:
    """Unit of capacities, and what coulombs are divided by."""
    mass_kg = dataset.geometry.active_mass_kg
    return ("mAh/g", 3600 * mass_kg) if mass_kg else ("mAh/cm²", 3.6e4 * dataset.geometry.area_m2)


# --- Capacity -----------------------------------------------------------------------------------


def _capacity(dataset: Dataset, _: Result) -> Iterable[Plot]:
    ran = cycles(dataset)
    yield _by_cycle(dataset, ran)
    yield _charge_discharge(dataset, ran)


def _by_cycle(dataset: Dataset, ran: Sequence[Cycle]) -> Plot:
    unit, per = specific(dataset)
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
        CYCLE,
        Axis("capacity", unit, from_zero=True),
        [
            Curve("charge", numbers, sizes["charge"], "hollow"),
            Curve("discharge", numbers, sizes["discharge"], "points"),
            Curve("coulombic efficiency", numbers, efficiency, "points", right=True),
        ],
        right=Axis("coulombic efficiency", "%"),
    )


def _charge_discharge(dataset: Dataset, ran: Sequence[Cycle]) -> Plot:
    unit, per = specific(dataset)
    chosen = [ran[index] for index in spread(len(ran), 8)]
    curves = [
        _voltage_curve(dataset, half, per, f"cycle {cycle.number}", place(index, len(chosen)))
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


def _voltage_curve(dataset: Dataset, half: HalfCycle, per: float, name: str, along: float) -> Curve:
    charge_C, voltage_V = thin(half.charge_C, half.voltage_V, most=300)
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    return Curve(f"{name}, {half.direction}", charge_C / per, voltage_V + shift_V, along=along)


def _efficiency(_: Dataset, result: Result) -> Iterable[Plot]:
    rows = result["rows"]
    yield Plot(
        f"Coulombic efficiency, {result['definition']}",
        CYCLE,
        Axis("coulombic efficiency", "%"),
        [Curve("efficiency", column(rows, "cycle"),
               column(rows, "coulombic_efficiency_percent"), "both")],
    )  # fmt: skip


def _retention(_: Dataset, result: Result) -> Iterable[Plot]:
    rows, end = result["rows"], result["end_percent"]
    numbers = column(rows, "cycle")
    yield Plot(
        f"Retention against cycle {result['reference_cycle']}",
        CYCLE,
        Axis("retention", "%"),
        [
            Curve("retention", numbers, column(rows, "retention_percent"), "points"),
            Curve(f"end of life, {end:g} %", [numbers[0], numbers[-1]], [end, end], "dashed"),
        ],
    )


# --- Rates --------------------------------------------------------------------------------------


def _rates(dataset: Dataset, result: Result) -> Iterable[Plot]:
    unit, per = specific(dataset)
    ran = {cycle.number: cycle.discharge for cycle in cycles(dataset) if cycle.discharge}
    currents = {_step_name(row): row["current_density_mA_cm2"] or 0.0 for row in result["rates"]}
    names = sorted(currents, key=lambda name: currents[name])
    staircase: list[Curve] = []
    last: dict[str, Curve] = {}
    for row in result["rates"]:
        numbers = [n for n in ran if row["first_cycle"] <= n <= row["last_cycle"]]
        name = _step_name(row)
        along = place(names.index(name), len(names))
        sizes = [ran[number].capacity_C / per for number in numbers]
        staircase.append(Curve(name, [float(n) for n in numbers], sizes, "points", along))
        last.setdefault(name, _voltage_curve(dataset, ran[numbers[-1]], per, name, along))
    size = Axis("discharge capacity", unit, from_zero=True)
    yield Plot("Rate capability", CYCLE, size, staircase)
    yield Plot("Discharge curves, the last at each rate", size, potential_axis(dataset),
               [last[name] for name in names])  # fmt: skip


def _step_name(row: Result) -> str:
    if row["rate_C"]:
        return rate_text(row["rate_C"])
    return f"{row['current_density_mA_cm2']:.3g} mA/cm²"


# --- dQ/dV --------------------------------------------------------------------------------------


def _dq_dv(dataset: Dataset, result: Result) -> Iterable[Plot]:
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
        Axis("dQ/dV", dq_dv.unit(dataset).replace("cm2", "cm²")),
        curves,
        scale=("cycle", str(chosen[0]), str(chosen[-1])) if len(chosen) > 1 else None,
    )
    if len(chosen) > 1:
        yield _peak_shifts(dataset, result)


def _peak_shifts(dataset: Dataset, result: Result) -> Plot:
    curves = []
    for direction, mark in (("charge", "points"), ("discharge", "hollow")):
        rows = [row for row in result["peaks"] if row["direction"] == direction]
        x, y = column(rows, "cycle"), column(rows, "potential_V")
        curves.append(Curve(direction, x, y, mark))  # type: ignore[arg-type]
    return Plot("Peaks over the cycles", CYCLE, potential_axis(dataset), curves)


DRAWERS: dict[str, Drawer] = {
    "arrhenius": arrhenius,
    "capacity": _capacity,
    "ccd": ramp,
    "conductivity": conductivities,
    "coulombic_efficiency": _efficiency,
    "cyclic_voltammetry": voltammogram,
    "distribution_of_relaxation_times": relaxation,
    "dq_dv": _dq_dv,
    "electronic_conductivity": electronic,
    "fabrication_pressure": pressings,
    "gitt": titration,
    "interface_resistance": against_pressure,
    "kramers_kronig": consistency,
    "leakage": leakage,
    "lsv_onset": onset,
    "pressure_breathing": breathing,
    "pulse_resistance": pulses,
    "rate_table": _rates,
    "resistance_growth": growth,
    "retention": _retention,
    "self_discharge": open_circuit,
    "stripping": stripping,
    "symmetric_cycling": symmetric,
}
