"""The cycles of a run as rows of plain values, for tables and other programs."""

from typing import Any

from cellbench.analysis.capacity import efficiency_percent
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles
from cellbench.analysis.dataset import Dataset


def cycle_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Each cycle: its charges (C), their ratio, mean voltages, when it was; none without charge."""
    try:
        found = cycles(dataset)
    except ValueError:
        return []
    return [_row(cycle) for cycle in found]


def _row(cycle: Cycle) -> dict[str, Any]:
    percent = efficiency_percent(cycle)
    halves = [each for each in (cycle.first, cycle.second) if each is not None]
    return {
        "cycle": cycle.number,
        "charge_C": _charge_C(cycle.charge),
        "discharge_C": _charge_C(cycle.discharge),
        "efficiency": None if percent is None else percent / 100,
        "mean_charge_voltage_V": _mean_V(cycle.charge),
        "mean_discharge_voltage_V": _mean_V(cycle.discharge),
        "start_s": halves[0].start_s if halves else None,
        "end_s": halves[-1].end_s if halves else None,
    }


def _charge_C(half: HalfCycle | None) -> float | None:
    return None if half is None else half.capacity_C


def _mean_V(half: HalfCycle | None) -> float | None:
    return half.energy_J / half.capacity_C if half is not None and half.capacity_C else None
