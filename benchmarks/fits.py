"""What one circuit fit costs: 61 points, 8 parameters, beside the evaluation of its model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Resistor, evaluate, fit

_CIRCUIT: Circuit = (
    Resistor("bulk"),
    Arc("arc"),
    Arc("second arc"),
    ConstantPhase("tail", ideal=True),
)


def fits(repeats: int) -> list[dict[str, Any]]:
    frequency_Hz = np.geomspace(1e6, 0.1, 61)
    linear = np.log([60.0, 120.0, 120 * 2e-6, 300.0, 300 * 5e-4, 0.2])
    truth = np.array([*linear[:3], 0.95, *linear[3:5], 0.85, linear[5]])
    clean, _ = evaluate(_CIRCUIT, truth, frequency_Hz)
    noise = np.random.default_rng(3).normal(size=(2, 61)) * 1e-3
    measured = clean * (1 + noise[0] + 1j * noise[1])
    start = truth + np.array([0.1, -0.1, 0.2, -0.03, 0.1, -0.2, 0.03, 0.1])
    once_ms = _best_ms(lambda: evaluate(_CIRCUIT, truth, frequency_Hz), 20 * repeats)
    fit_ms = _best_ms(lambda: fit(_CIRCUIT, start, frequency_Hz, measured), 5 * repeats)
    return [
        {"what": "model and derivatives once", "ms": round(once_ms, 3)},
        {"what": "fit of 61 points, 8 parameters", "ms": round(fit_ms, 2), "allowed_ms": 10,
         "ratio_to_model": round(fit_ms / once_ms, 1)},
    ]  # fmt: skip


def _best_ms(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)
