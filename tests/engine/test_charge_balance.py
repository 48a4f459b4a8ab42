"""Charge that a run reports against charge that passed in the simulated cell, through the stack.

The cell's own account is taken inside it, step by step of its grid; the run's goes over the
instrument, its wire, the driver and the store.

After a step of the voltage from rest there is a spike that charges the double layers within
milliseconds, before any sample: what the run leaves out of it is at most their capacitance times
the step. Beside the charge of a cell that reacts this is nothing; of a blocking cell it is most of
all that ever passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.stored import stored_dataset
from cellbench.engine.run import RunState
from cellbench.engine.session import prepare

pytestmark = pytest.mark.long

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nsteps:\n  - press: {to: 5 MPa}\n"
FULL = "NMC811_LYC_PMMA_Li"


def balance(run: Runner, protocol: str, cell: str) -> tuple[float, float, float]:
    """Return the charge that passed, that the journal counted, and that analyses find (C)."""
    ran = run(HEAD + protocol, cell=cell)
    assert ran.end.state is RunState.COMPLETED, ran.end.reason
    counted_C = sum(
        entry.data["results"]["charge_C"]
        for entry in ran.reader.journal
        if entry.kind == "step ended" and "charge_C" in entry.data["results"]
    )
    card = prepare("rate_test", cell=cell).card
    halves = half_cycles(stored_dataset(ran.reader, card))
    found_C = sum(piece.passed_C for half in halves for piece in half.pieces)
    return ran.simulator.world.cell.passed_C, counted_C, found_C


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


HOLDS = {
    "full cell, a high voltage": (FULL, "at: 4.0 V vs Li+/Li, for: 10 min"),
    "full cell, briefly": (FULL, "at: 4.0 V vs Li+/Li, for: 1 min"),
    "full cell, very briefly": (FULL, "at: 4.0 V vs Li+/Li, for: 10 s"),
    "full cell, a lower voltage": (FULL, "at: 3.75 V vs Li+/Li, for: 10 min"),
    "full cell, recorded seldom": (
        FULL,
        "at: 3.75 V vs Li+/Li, for: 10 min, record: {every: 10 s}",
    ),
    "full cell, down to its leakage": (
        FULL,
        "at: 4.0 V vs Li+/Li, for: 10 h, record: {every: 10 s}",
    ),
    # All charge of the next two passes within the first second, through 0.18 s.
    "carbon, oxidised": ("LYC_PMMA_carbon_Li", "at: 3.5 V vs Li+/Li, for: 1 min"),
    "carbon, reduced": ("LYC_PMMA_carbon_Li", "at: 2.0 V vs Li+/Li, for: 10 min"),
    "symmetric cell": ("LYC_PMMA", "at: 100 mV, for: 1 min"),
}


@pytest.mark.parametrize(("cell", "hold"), HOLDS.values(), ids=HOLDS.keys())
def test_the_charge_balance_closes_after_a_step_of_the_voltage(
    run: Runner, cell: str, hold: str
) -> None:
    passed_C, counted_C, stored_C = held(run, hold, cell)
    assert counted_C == pytest.approx(passed_C, rel=1e-3)
    assert stored_C == counted_C


def test_a_blocking_cell_lacks_no_more_than_its_double_layers_take_at_once(run: Runner) -> None:
    passed_C, counted_C, _ = held(run, "at: 100 mV, for: 10 min", "LYC_PMMA_blocking")
    missing_C = passed_C - counted_C
    # What passes within 5 ms, where the constant-phase element is a capacitance of microfarads.
    assert 0.0 < missing_C < 5e-6 * 0.1


def held(run: Runner, hold: str, cell: str) -> tuple[float, float, float]:
    """Return what passed, what the journal counted and what the last sample says (C)."""
    ran = run(HEAD + f"  - hold: {{{hold}}}\n", cell=cell)
    assert ran.end.state is RunState.COMPLETED, ran.end.reason
    (counted_C,) = (
        entry.data["results"]["charge_C"]
        for entry in ran.reader.journal
        if entry.kind == "step ended" and "charge_C" in entry.data["results"]
    )
    card = prepare("rate_test", cell=cell).card
    charge_C = stored_dataset(ran.reader, card).samples.charge_C
    return ran.simulator.world.cell.passed_C, counted_C, charge_C[np.isfinite(charge_C)][-1]


@pytest.mark.parametrize(("cell", "course"), COURSES.values(), ids=COURSES.keys())
def test_the_charge_balance_closes(run: Runner, cell: str, course: str) -> None:
    passed_C, counted_C, found_C = balance(run, course, cell)
    assert counted_C == pytest.approx(passed_C, rel=1e-3)
    assert found_C == pytest.approx(passed_C, rel=1e-3)
