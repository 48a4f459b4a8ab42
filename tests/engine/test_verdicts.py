"""Verdicts along the run: what is kept for them stays bounded, and what counts as a short."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.protocol.conftest import HEAD

from cellbench.analysis import symmetric_cycling
from cellbench.analysis.dataset import Dataset, Geometry, Samples, Spectrum, StepData
from cellbench.engine.trips import Trip
from cellbench.engine.verdicts import HALF_CYCLES_KEPT, Verdicts, foresees
from cellbench.protocol import Program, load_protocol

CELL = Geometry(area_m2=0.7854e-4, layout="symmetric")
CURRENT_A = 1e-3


@pytest.fixture
def program(tmp_path: object) -> Callable[[str], Program]:
    def load(text: str) -> Program:
        path = tmp_path / "test.yaml"  # type: ignore[operator]
        path.write_text(HEAD + text, encoding="utf-8")
        return load_protocol(path)

    return load


def until_short(program: Callable[[str], Program], verdict: str = "short") -> Program:
    return program(f"  - repeat: 5\n    until: {verdict}\n    steps: [{{rest: 1 s}}]\n")


def spectrum(
    electrolyte_ohm: float, interface_ohm: float, time_s: float = 0.0, temperature_K: float = 298.15
) -> Spectrum:
    frequency_Hz = np.logspace(6, -1, 71)
    interface = interface_ohm / (1 + 1j * 2 * math.pi * frequency_Hz * interface_ohm * 1e-6)
    boundary = electrolyte_ohm / 2 / (1 + 1j * 2 * math.pi * frequency_Hz * electrolyte_ohm * 5e-10)
    return Spectrum(
        time_s, "eis", frequency_Hz, electrolyte_ohm / 2 + boundary + interface, temperature_K
    )


def half_cycle(
    verdicts: Verdicts, number: int, resistance_ohm: float, shorted_rows: int = 0
) -> tuple[StepData, list[tuple[float, float, float]]]:
    """Half-cycles of 30 min at 10 s, after an hour in which the cell was prepared."""
    start_s = 3600.0 + 1800.0 * number
    current_A = CURRENT_A if number % 2 == 0 else -CURRENT_A
    after_s = 10.0 * np.arange(1, 181)
    ohm = np.where(np.arange(180) < 180 - shorted_rows, resistance_ohm, 10.0)
    noise_V = np.random.default_rng(number).normal(0.0, 2e-5, 180)
    voltage_V = current_A * ohm + noise_V
    rows = list(
        zip((start_s + after_s).tolist(), voltage_V.tolist(), [current_A] * 180, strict=True)
    )
    for row in rows:
        verdicts.row(*row)
    settings = {"current_A": current_A, "duration_s": 1800.0}
    name = "current" if number % 2 == 0 else "current_2"
    path = f"repeat[{number // 2 + 1}]/{name}"
    step = StepData(path, "current", start_s, start_s + 1800, settings)
    verdicts.step_ended(step, 298.15)
    return step, rows


def test_what_is_kept_for_a_verdict_does_not_grow_with_the_test(
    program: Callable[[str], Program],
) -> None:
    verdicts = Verdicts(CELL, until_short(program).nodes)
    verdicts.spectrum(spectrum(130.0, 200.0))
    for number in range(200):
        half_cycle(verdicts, number, 400.0)
        assert not verdicts.holds("short")
    assert len(verdicts._columns[0]) <= 2 * HALF_CYCLES_KEPT * 180
    assert len(verdicts._steps) <= 2 * HALF_CYCLES_KEPT


def test_a_short_is_found_after_a_long_sound_life(program: Callable[[str], Program]) -> None:
    verdicts = Verdicts(CELL, until_short(program).nodes)
    verdicts.spectrum(spectrum(130.0, 200.0))
    for number in range(120):
        half_cycle(verdicts, number, 400.0)
        assert not verdicts.holds("short")
    for number in range(120, 124):
        half_cycle(verdicts, number, 20.0)
    assert verdicts.holds("short")


@pytest.mark.parametrize(("left_ohm", "found"), [(130.0, False), (60.0, True)])
def test_a_spectrum_alone_can_prove_a_short(
    program: Callable[[str], Program], left_ohm: float, found: bool
) -> None:
    """Interfaces may go, at any apparent resistance; part of the electrolyte's is a bridge."""
    verdicts = Verdicts(CELL, until_short(program).nodes)
    verdicts.spectrum(spectrum(130.0, 4000.0))
    for number in range(4):
        half_cycle(verdicts, number, 4130.0)
        assert not verdicts.holds("short")
    verdicts.spectrum(spectrum(130.0, 4000.0, time_s=3600.0 + 4 * 1800))
    half_cycle(verdicts, 4, 140.0)
    verdicts.spectrum(spectrum(left_ohm, 20.0, time_s=3600.0 + 5 * 1800))
    assert verdicts.holds("short") is found


@pytest.mark.long
@pytest.mark.parametrize("shorted_rows", [0, 3, 30, 180])
@pytest.mark.parametrize("where", [40, 41, 59])
def test_what_runs_along_and_the_analysis_afterwards_say_the_same(
    program: Callable[[str], Program], where: int, shorted_rows: int
) -> None:
    verdicts = Verdicts(CELL, until_short(program).nodes)
    sound = spectrum(130.0, 200.0)
    verdicts.spectrum(sound)
    rows: list[tuple[float, float, float]] = []
    steps: list[StepData] = []
    for number in range(60):
        shorted = shorted_rows if number == where else 0
        step, measured = half_cycle(verdicts, number, 400.0, shorted)
        steps.append(step)
        rows += measured
        if verdicts.holds("short"):
            break
    time_s, voltage_V, current_A = np.array(rows).T
    samples = Samples(time_s, voltage_V, current_A)
    result = symmetric_cycling.analyse(Dataset(CELL, tuple(steps), samples, (sound,)))
    assert (result["verdict"] == "short") is verdicts.holds("short")
    assert verdicts.holds("short") is (shorted_rows >= 30)


def test_nothing_is_kept_where_no_verdict_is_asked_for(program: Callable[[str], Program]) -> None:
    verdicts = Verdicts(CELL, program("  - rest: 1 s\n").nodes)
    for number in range(5):
        half_cycle(verdicts, number, 400.0)
        verdicts.spectrum(spectrum(130.0, 200.0, time_s=number))
    assert len(verdicts._columns[0]) == 0
    assert len(verdicts._steps) == 0
    assert len(verdicts._spectra) == 1


@pytest.mark.parametrize("verdict", ["short", "irregular", "any of [short, irregular]"])
def test_a_loop_on_a_verdict_foresees_it(verdict: str, program: Callable[[str], Program]) -> None:
    nodes = until_short(program, verdict).nodes
    assert foresees(nodes, "short") == ("short" in verdict)
    assert foresees(nodes, "irregular") == ("irregular" in verdict)


# --- Spectra of protocols that foresee no short -------------------------------------------------


def judged(program: Callable[[str], Program], *spectra: Spectrum, layout: str = "full") -> None:
    geometry = Geometry(area_m2=0.7854e-4, layout=layout)
    verdicts = Verdicts(geometry, program("  - rest: 1 s\n").nodes)
    for each in spectra:
        verdicts.spectrum(each)


def test_an_impedance_below_that_of_the_electrolyte_is_a_short(
    program: Callable[[str], Program],
) -> None:
    with pytest.raises(Trip, match="short circuit"):
        judged(program, spectrum(130.0, 200.0), spectrum(20.0, 1.0))


def test_a_charge_transfer_that_falls_by_orders_of_magnitude_is_none(
    program: Callable[[str], Program],
) -> None:
    judged(program, spectrum(60.0, 31e3), spectrum(60.0, 40.0))


def test_an_electrolyte_that_warms_is_none(program: Callable[[str], Program]) -> None:
    hot = math.exp(0.4 / 8.617e-5 * (1 / 328.15 - 1 / 298.15))
    judged(program, spectrum(130.0, 200.0), spectrum(130 * hot, 20.0, temperature_K=328.15))


def test_a_blocking_cell_has_no_lithium_that_could_short_it(
    program: Callable[[str], Program],
) -> None:
    judged(program, spectrum(130.0, 200.0), spectrum(20.0, 1.0), layout="blocking")
