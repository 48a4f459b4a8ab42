"""Scripts of techniques: valid in the vendor's grammar, bounded, with their cut-offs in them."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench_drivers.palmsens_models import MODELS, ModelName, capabilities
from cellbench_drivers.palmsens_scripts import CELL_OFF, script_for

LIMITS = ElectricalLimits(voltage_min_V=-1.5, voltage_max_V=4.9, current_max_A=5e-3)
NEXUS = MODELS["nexus"]
CUT_OFFS = (
    CutOff(quantity="voltage", above=True, value=4.3),
    CutOff(quantity="current", above=False, value=20e-6, after_s=60.0),
    CutOff(quantity="current", above=True, value=2e-3),
)
TECHNIQUES: list[Technique] = [
    Rest(duration_s=600, cut_offs=CUT_OFFS),
    ConstantCurrent(current_A=1e-3, duration_s=36000, cut_offs=CUT_OFFS),
    ConstantCurrent(current_A=-1e-3, duration_s=36000, interval_s=0.1),
    ConstantVoltage(voltage_V=4.8, duration_s=86400, cut_offs=CUT_OFFS),
    Sweep(start_V=0.0, end_V=4.8, rate_V_per_s=1e-4, cut_offs=CUT_OFFS),
    Impedance(frequency_max_Hz=1e6, frequency_min_Hz=0.1, amplitude_V=0.01),
    Impedance(frequency_max_Hz=1e6, frequency_min_Hz=0.1, amplitude_V=0.01, bias_V=4.3),
    Impedance(frequency_max_Hz=1e6, frequency_min_Hz=0.1, amplitude_A=1e-5, bias_A=1e-4),
    ConstantVoltage(
        voltage_V=4.3,
        duration_s=108000,
        interval_s=30.0,
        cut_offs=CUT_OFFS,
        spectra=Impedance(frequency_max_Hz=1e6, frequency_min_Hz=0.1, amplitude_V=0.01, bias_V=4.3),
        spectra_every_s=1200,
    ),
]


@pytest.fixture(scope="module")
def validate() -> Callable[[str], None]:
    """The vendor's own parser, without the rest of the vendor's package (which needs .NET)."""
    pytest.importorskip("antlr4")
    found = importlib.util.find_spec("pypalmsens")
    if found is None or found.origin is None:
        pytest.skip("pypalmsens is not installed")
    folder = Path(found.origin).parent / "_methodscript"
    spec = importlib.util.spec_from_file_location(
        "methodscript_grammar", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["methodscript_grammar"] = module
    spec.loader.exec_module(module)
    checked: Callable[[str], None] = module.validate
    return checked


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda each: each.technique)
def test_every_script_passes_the_grammar_of_the_vendor(
    technique: Technique, validate: Callable[[str], None]
) -> None:
    validate(script_for(technique, LIMITS, NEXUS).text)


def test_the_grammar_of_the_vendor_refuses_what_is_wrong(validate: Callable[[str], None]) -> None:
    validate(CELL_OFF)
    with pytest.raises(SyntaxError):
        validate("meas_loop_ca p c 1.5 1 10\nendloop\n")


@settings(max_examples=15)
@given(
    current_A=st.floats(-5e-3, 5e-3),
    duration_s=st.floats(1.0, 1e7),
    interval_s=st.floats(1e-3, 3600.0),
    value=st.floats(-10.0, 10.0),
)
def test_scripts_of_any_numbers_pass_the_grammar(
    current_A: float,
    duration_s: float,
    interval_s: float,
    value: float,
    validate: Callable[[str], None],
) -> None:
    cut_off = CutOff(quantity="voltage", above=value > 0, value=value)
    technique = ConstantCurrent(
        current_A=current_A, duration_s=duration_s, interval_s=interval_s, cut_offs=(cut_off,)
    )
    validate(script_for(technique, LIMITS, NEXUS).text)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda each: each.technique)
def test_every_script_opens_the_cell_at_its_end_and_measures_before_closing_it(
    technique: Technique,
) -> None:
    lines = script_for(technique, LIMITS, NEXUS).text.splitlines()
    assert lines[-2:] == ["on_finished:", "    cell_off"]
    closing = next((at for at, line in enumerate(lines) if line.startswith("cell_on")), None)
    if technique.technique != "rest":
        assert closing is not None
        assert "meas 100m p ab" in lines[:closing]
        assert 'send_string "TRIP voltage max"' in " ".join(lines[:closing])
    else:
        assert closing is None


@pytest.mark.parametrize("technique", TECHNIQUES[:5], ids=lambda each: each.technique)
def test_limits_abort_within_the_loop(technique: Technique) -> None:
    loop = script_for(technique, LIMITS, NEXUS).text.split("meas_loop_")[1]
    assert loop.count('send_string "TRIP voltage') == 2
    assert loop.count('send_string "TRIP current') == (0 if technique.technique == "rest" else 2)
    # In a hold and in a spectrum's, which are loops in a row, so does a cut-off.
    cut_offs = loop.count("CUT") if technique.technique == "constant voltage" else 0
    assert loop.count("abort\n") == loop.count("TRIP") + cut_offs


def test_a_cut_off_with_a_guard_time_waits_for_it() -> None:
    text = script_for(TECHNIQUES[1], LIMITS, NEXUS).text
    guarded = "    if t >= 60\n        if c <= 20u\n            if c >= -20u\n"
    assert guarded in text
    assert 'send_string "CUT 1"\n                breakloop\n' in text


def test_current_cut_offs_go_by_magnitude() -> None:
    text = script_for(TECHNIQUES[1], LIMITS, NEXUS).text
    assert "if c >= 2m\n" in text
    assert "if c <= -2m\n" in text


def test_the_loop_carries_its_own_end() -> None:
    assert "meas_loop_ocp p 1 600\n" in script_for(TECHNIQUES[0], LIMITS, NEXUS).text
    assert "meas_loop_cp p c -1m 100m 36k\n" in script_for(TECHNIQUES[2], LIMITS, NEXUS).text
    assert "meas_loop_ca p c 4800m 1 86397\n" in script_for(TECHNIQUES[3], LIMITS, NEXUS).text
    assert "meas_loop_lsv p c 0 4800m 1m 100u\n" in script_for(TECHNIQUES[4], LIMITS, NEXUS).text


def test_a_spectrum_is_taken_around_the_measured_open_circuit_voltage() -> None:
    text = script_for(TECHNIQUES[5], LIMITS, NEXUS).text
    assert "set_e p\ncell_on\n" in text
    assert "meas_loop_eis f zr zi 10m 1M 100m 71i p\n" in text


def test_a_galvanostatic_spectrum_controls_the_current() -> None:
    text = script_for(TECHNIQUES[7], LIMITS, NEXUS).text
    assert "set_pgstat_mode 6\n" in text
    assert "set_i 100u\n" in text
    assert "meas_loop_geis f zr zi 10u 1M 100m 71i 100u\n" in text


@pytest.mark.parametrize(
    ("model", "current_A", "range_A"),
    [
        ("nexus", 1e-3, 10e-3),
        ("nexus", 0.9e-3, 1e-3),
        ("nexus", -1.0, 1.0),
        ("emstat4 hr", 5e-9, 100e-9),
        ("emstat4 lr", 5e-9, 10e-9),
        ("emstat pico", 20e-6, 32e-6),
    ],
)
def test_the_smallest_range_with_headroom_is_taken(
    model: ModelName, current_A: float, range_A: float
) -> None:
    assert MODELS[model].range_for(current_A) == range_A


@pytest.mark.parametrize(
    ("technique", "model"),
    [
        (ConstantVoltage(voltage_V=4.8, duration_s=10), "emstat pico"),
        (ConstantVoltage(voltage_V=5.0, duration_s=10), "nexus"),
        (ConstantCurrent(current_A=6e-3, duration_s=10), "nexus"),
        (Sweep(start_V=-2.0, end_V=1.0, rate_V_per_s=0.1), "nexus"),
        (Impedance(frequency_max_Hz=1e6, frequency_min_Hz=1, amplitude_V=0.01), "emstat4 hr"),
        (Impedance(frequency_max_Hz=1e5, frequency_min_Hz=1, amplitude_A=4e-3), "nexus"),
    ],
)
def test_what_is_beyond_instrument_or_limits_is_refused(
    technique: Technique, model: ModelName
) -> None:
    with pytest.raises(ValueError, match="is outside"):
        script_for(technique, LIMITS, MODELS[model])


def test_a_set_value_right_at_a_limit_does_not_trip_by_its_own_noise() -> None:
    at_limit = ConstantCurrent(current_A=5e-3, duration_s=10)
    assert "if c >= 5100u\n" in script_for(at_limit, LIMITS, NEXUS).text
    hold = ConstantVoltage(voltage_V=4.9, duration_s=10)
    assert "if p >= 4905m\n" in script_for(hold, LIMITS, NEXUS).text


def test_a_sweep_through_vertices_is_one_script_that_keeps_the_cell_closed() -> None:
    sweep = Sweep(start_V=0.5, vertices_V=(2.5, 0.0), end_V=2.5, rate_V_per_s=1e-3)
    text = script_for(sweep, LIMITS, NEXUS).text
    loops = [line for line in text.splitlines() if line.startswith("meas_loop")]
    assert loops == [
        "meas_loop_lsv p c 500m 2500m 1m 1m",
        "meas_loop_lsv p c 2500m 0 1m 1m",
        "meas_loop_lsv p c 0 2500m 1m 1m",
    ]
    assert text.count("cell_on\n") == 1
    assert text.count("cell_off") == 2  # before it is measured, and when all is done


def test_a_hold_with_spectra_is_one_script_that_keeps_the_cell_closed_and_ends_by_itself() -> None:
    text = script_for(TECHNIQUES[8], LIMITS, NEXUS).text
    assert text.count("cell_on\n") == 1
    closed, ended = text.split("cell_on\n")[1].split("on_finished:\n")
    assert "cell_off" not in closed
    assert "set_pgstat_mode" not in closed  # it would open the cell
    assert ended == "    cell_off\n"
    assert "store_var end 108k eb\nloop due < end\n" in text
    assert "breakloop" not in text  # a cut-off ends the whole hold
    assert text.count('send_string "CUT 0"') == text.count("meas_loop_ca") == 4 + 3


def test_a_cut_off_ends_a_sweep_with_vertices_as_a_whole() -> None:
    sweep = Sweep(
        start_V=0.0, vertices_V=(1.0,), end_V=0.0, rate_V_per_s=1e-3, cut_offs=CUT_OFFS[:1]
    )
    text = script_for(sweep, LIMITS, NEXUS).text
    assert text.count('send_string "CUT 0"\n        abort\n') == 2
    assert "breakloop" not in text


@given(duration_s=st.floats(0.5, 1e6), interval_s=st.floats(0.01, 100.0))
def test_the_interval_divides_the_duration(duration_s: float, interval_s: float) -> None:
    technique = Rest(duration_s=duration_s, interval_s=interval_s)
    script = script_for(technique, LIMITS, NEXUS)
    exact_s = float(f"{duration_s:.5e}")
    whole = math.floor(exact_s / script.interval_s + 1e-6) * script.interval_s
    assert script.interval_s <= interval_s * (1 + 1e-6)
    assert exact_s - whole <= 2e-5 * exact_s


def test_currents_that_decay_are_followed_into_the_small_ranges() -> None:
    hold = ConstantVoltage(voltage_V=4.5, duration_s=3600)
    assert "set_autoranging ba 1n 10m\n" in script_for(hold, LIMITS, NEXUS).text
    fast = ConstantVoltage(voltage_V=4.5, duration_s=10, interval_s=0.01)
    assert "set_autoranging ba 100n 10m\n" in script_for(fast, LIMITS, NEXUS).text
    named = ConstantVoltage(voltage_V=4.5, duration_s=3600, current_range_A=5e-8)
    assert "set_autoranging ba 1n 100n\n" in script_for(named, LIMITS, NEXUS).text


def loops(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("meas_loop")]


def number(literal: str) -> float:
    prefixes = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}
    return float(literal.rstrip("".join(prefixes))) * prefixes.get(literal[-1], 1.0)


def test_the_first_intervals_at_a_voltage_are_sampled_densely() -> None:
    hold = ConstantVoltage(voltage_V=4.5, duration_s=3600, cut_offs=CUT_OFFS)
    text = script_for(hold, LIMITS, NEXUS).text
    assert loops(text) == [
        "meas_loop_ca p c 4500m 5m 100m",
        "meas_loop_ca p c 4500m 20m 900m",
        "meas_loop_ca p c 4500m 100m 2",
        "meas_loop_ca p c 4500m 1 3597",
    ]
    assert text.count("cell_on\n") == 1
    # Filters and ranges are fast until the last loop begins.
    fast, slow = text.split("meas_loop_ca p c 4500m 100m 2\n")
    assert "set_max_bandwidth 2k\n" in fast
    assert "set_autoranging ba 100n 10m\n" in fast
    assert "set_max_bandwidth 10\n" in slow
    assert "set_autoranging ba 1n 10m\n" in slow
    for loop in text.split("meas_loop_ca")[1:]:
        assert loop.count('send_string "TRIP') == 4
        assert loop.count('send_string "CUT') == 4  # a current's goes by either sign


def test_no_sample_of_a_hold_is_shorter_than_an_instrument_prints_and_none_is_left_over() -> None:
    for duration_s, interval_s in ((100.7, 1.0), (7.3, 0.5), (0.5, 0.1), (1.0, 1.0), (60.0, 60.0)):
        hold = ConstantVoltage(voltage_V=1.0, duration_s=duration_s, interval_s=interval_s)
        paces = [line.split()[-2:] for line in loops(script_for(hold, LIMITS, NEXUS).text)]
        times = [[number(each) for each in pace] for pace in paces]
        assert all(interval >= 5e-3 for interval, _ in times)
        counts = [duration / interval for interval, duration in times]
        assert counts == pytest.approx([round(count) for count in counts], rel=1e-4)
        assert sum(duration for _, duration in times) == pytest.approx(duration_s)


def test_slow_points_of_a_spectrum_are_given_their_periods() -> None:
    technique = Impedance(frequency_max_Hz=1e5, frequency_min_Hz=0.01, amplitude_V=0.01)
    script = script_for(technique, LIMITS, NEXUS)
    assert script.timeout_s(0) < 10.0
    assert script.timeout_s(script.rows - 1) > 10 / 0.01
    assert technique.frequencies_Hz[-1] == pytest.approx(0.01)


def test_golden_capability_replies_give_every_technique() -> None:
    commands = int("03FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE", 16)
    assert capabilities(NEXUS, commands).techniques == {
        "rest",
        "constant current",
        "constant voltage",
        "sweep",
        "impedance",
    }
    without_cp_and_geis = capabilities(NEXUS, commands & ~(1 << 67) & ~(1 << 70))
    assert "constant current" not in without_cp_and_geis.techniques
    assert without_cp_and_geis.impedance is not None
    assert not without_cp_and_geis.impedance.galvanostatic
