"""What is shown of a run's program and its cycles, as plain values."""

from __future__ import annotations

from typing import Any

from cellbench.analysis.capacity import efficiency_percent
from cellbench.analysis.cycles import Cycle, HalfCycle
from cellbench.protocol.program import AnyStep, Limits, PassEnded


def cycle_row(cycle: Cycle) -> dict[str, Any]:
    """One cycle: its charges in C, their ratio, mean voltages, when it was."""
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


def step_row(item: AnyStep | PassEnded) -> list[dict[str, Any]]:
    """A step by its path, what it does, and where it stands; nothing for the end of a pass."""
    if isinstance(item, PassEnded):
        return []
    return [{"path": item.path, "text": item.what, "file": item.file, "line": item.line}]


def limits_of(limits: Limits) -> list[dict[str, Any]]:
    """What holds at all times, in SI units; None for no limit on that side."""
    bounds = (
        ("voltage", "V", limits.voltage_min_V, limits.voltage_max_V),
        ("current", "A", -limits.current_max_A, limits.current_max_A),
        ("stack pressure", "Pa", limits.pressure_min_Pa, limits.pressure_max_Pa),
        ("temperature", "K", limits.temperature_min_K, limits.temperature_max_K),
    )
    return [
        {"quantity": quantity, "unit": unit, "min": low, "max": high}
        for quantity, unit, low, high in bounds
        if low is not None or high is not None
    ]
