"""What is shown of a run's program and its cycles, as plain values."""

from __future__ import annotations

from typing import Any

from cellbench.protocol.program import AnyStep, Limits, PassEnded


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
