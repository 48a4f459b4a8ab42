"""Charge that a run reports against charge that passed in the simulated cell, through the stack.

The cell's own account is taken inside it, step by step of its grid; the run's goes over the
instrument, its wire, the driver and the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.stored import stored_dataset
from cellbench.bench import Bench
from cellbench.engine.run import Conductor, RunState
from cellbench.engine.session import prepare
from cellbench_sim.bench import SimulatedBench

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nsteps:\n  - press: {to: 5 MPa}\n"
FULL = "NMC811_LYC_PMMA_Li"


class Account:
    """What passes the terminals of a simulated cell, in its own time (C)."""

    def __init__(self) -> None:
        self.passed_C = 0.0

    async def keep(self, simulator: SimulatedBench, _bench: Bench, _conductor: Conductor) -> None:
        cell = simulator.world.cell
        advance = cell.advance

        def counted(time_s: float, duration_s: float) -> None:
            advance(time_s, duration_s)
            self.passed_C += cell.current_A * duration_s

        cell.advance = counted  # type: ignore[method-assign]


def balance(run: Runner, protocol: str, cell: str) -> tuple[float, float, float]:
    """Return the charge that passed, that the journal counted, and that analyses find (C)."""
    account = Account()
    ran = run(HEAD + protocol, cell=cell, disturb=account.keep)
    assert ran.end.state is RunState.COMPLETED, ran.end.reason
    counted_C = sum(
        entry.data["results"]["charge_C"]
        for entry in ran.reader.journal
        if entry.kind == "step ended" and "charge_C" in entry.data["results"]
    )
    card = prepare("rate_test", cell=cell).card
    halves = half_cycles(stored_dataset(ran.reader, card))
    found_C = sum(piece.passed_C for half in halves for piece in half.pieces)
    return account.passed_C, counted_C, found_C


COURSES = {
    "constant current": (FULL, "  - charge: {at: C/2, for: 30 min, record: {every: 60 s}}\n"),
    "to a cut-off": (
        FULL,
        "  - charge: {at: 1C, until: potential >= 4.0 V vs Li+/Li, at most: 2 h}\n",
    ),
    "to a charge": (FULL, "  - charge: {at: 1C, until: charge >= 20 mAh/g}\n"),
    "constant current, then constant voltage": (
        FULL,
        "  - charge: {at: 1C, until: potential >= 4.1 V vs Li+/Li, at most: 2 h, record: "
        "{dV: 5 mV}}\n"
        "  - hold: {at: 4.1 V vs Li+/Li, until: '|current| <= C/20', at most: 3 h}\n",
    ),
    "current interrupted by rests": (
        FULL,
        "  - charge: {at: C/2, for: 40 min, every: {after: 10 mAh/g, do: [rest: 5 min]}}\n",
    ),
    "hold interrupted by spectra": (
        FULL,
        "  - charge: {at: 1C, until: potential >= 4.1 V vs Li+/Li, at most: 2 h}\n"
        "  - hold:\n"
        "      at: 4.1 V vs Li+/Li\n"
        "      for: 2 h\n"
        "      record: {spacing: log, at least every: 60 s}\n"
        "      every: {interval: 20 min, do: [eis: "
        "{from: 100 kHz, to: 100 mHz, bias: 4.1 V vs Li+/Li}]}\n",
    ),
    "several currents of a symmetric cell": (
        "LYC_PMMA",
        "  - current: {at: 0.5 mA/cm2, for: 20 min}\n"
        "  - current: {at: 0.1 mA/cm2, until: charge >= 0.05 mAh/cm2}\n",
    ),
}


@pytest.mark.parametrize(("cell", "course"), COURSES.values(), ids=COURSES.keys())
def test_the_charge_balance_closes(run: Runner, cell: str, course: str) -> None:
    passed_C, counted_C, found_C = balance(run, course, cell)
    assert counted_C == pytest.approx(passed_C, rel=1e-3)
    assert found_C == pytest.approx(passed_C, rel=1e-3)
