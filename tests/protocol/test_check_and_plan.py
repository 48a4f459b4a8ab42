"""Checks against a bench, deviations, and what a plan foretells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points

import pytest
from tests.protocol.conftest import CHANNEL, GAUGE, PRESS, Bench, Fixture, Instrument

from cellbench import library
from cellbench.instruments.capabilities import ImpedanceBand
from cellbench.instruments.techniques import Impedance
from cellbench.protocol import (
    Program,
    ProtocolError,
    Walk,
    adapt,
    check,
    load_protocol,
    plan,
    problems_of,
)
from cellbench.protocol.planning import spectrum_duration_s
from cellbench.protocol.program import EisStep, PassEnded

Load = Callable[..., Program]


def said(program: Program, bench: Bench) -> str:
    return " ".join(problem.render() for problem in check(program, bench).problems)


@pytest.mark.long
@pytest.mark.parametrize("name", library.protocol_names())
def test_each_shipped_protocol_is_sound_on_the_usual_bench(name: str, bench: Bench) -> None:
    program = load_protocol(name)
    kind = next(iter(program.fixtures), "servo")
    bench = replace(bench, fixture=Fixture(kind=kind))
    found = check(program, bench, analyses=entry_points(group="cellbench.analyses").names)
    assert found.problems == ()
    planned = plan(program, bench)
    asks = any(row.what.startswith("ask: ") for row in planned.rows)
    assert (planned.duration_max_s is None) == asks  # nobody knows how long a person takes
    assert planned.duration_max_s is None or planned.duration_min_s <= planned.duration_max_s
    json.dumps(planned.answer())
    json.dumps(found.answer())


def test_the_pressure_ladder_can_go_to_30_megapascals(bench: Bench) -> None:
    sets = {"pressures": "2, 5, 8, 14, 22, 30 MPa"}
    assert check(load_protocol("stack_pressure_eis", None, sets), bench).problems == ()


def test_a_band_that_is_clipped_is_a_deviation(bench: Bench) -> None:
    program = load_protocol("pellet_conductivity")
    assert check(program, bench).deviations == ("band ends at 1 MHz (asked for 7 MHz)",)
    (eis,) = (item for item in Walk(program) if isinstance(item, EisStep))
    adapted, deviations = adapt(eis, bench)
    assert isinstance(adapted, EisStep)
    assert adapted.technique.frequency_max_Hz == 1e6
    assert adapted.what == "eis 1 MHz to 1 Hz, 10 mV"
    assert list(deviations) == ["band ends at 1 MHz (asked for 7 MHz)"]


def test_a_band_without_anything_in_common_is_a_problem(program: Load, bench: Bench) -> None:
    able = replace(CHANNEL, impedance=ImpedanceBand(1.0, 10.0))
    dull = replace(bench, channel=Instrument(able))
    text = "  - eis: {from: 1 MHz, to: 1 kHz, band: as available}\n"
    assert "beyond Potentiostat" in said(program(text), dull)


def test_spectra_where_available_are_left_out_without_an_analyser(bench: Bench) -> None:
    plain = replace(bench, channel=Instrument(replace(CHANNEL, impedance=None)))
    found = check(load_protocol("ccd"), plain)
    assert found.problems == ()
    assert len(found.deviations) == 1
    assert "left out" in found.deviations[0]
    assert "eis" not in [row.path for row in plan(load_protocol("ccd"), plain).rows]


@pytest.mark.parametrize("role", ["channel", "press", "chamber"])
def test_a_role_that_nobody_plays_is_a_problem_where_it_is_required(
    role: str, program: Load, bench: Bench
) -> None:
    lacking = Bench(**{**vars(bench), role: None})
    text = "  - press: 1 MPa\n  - rest: 1 s\n  - temperature: 25 degC\n"
    assert "the bench has no" in said(program(text), lacking)
    assert said(program(text), bench) == ""


def test_a_chamber_that_is_not_there_is_only_a_deviation_where_the_step_allows_it(
    bench: Bench,
) -> None:
    ambient = replace(bench, chamber=None)
    found = check(load_protocol("pellet_conductivity"), ambient)
    assert found.problems == ()
    assert any("temperature chamber" in text for text in found.deviations)


def test_a_condition_on_what_nobody_measures_is_a_problem(program: Load, bench: Bench) -> None:
    blind = replace(bench, press=None, gauge=None, chamber=None)
    text = "  - wait: {until: stack pressure < 1 MPa, at most: 1 h}\n"
    assert "measures the stack pressure" in said(program(text), blind)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fixture": Fixture(at_most="100 N")}, "die and fixture bear"),
        ({"press": Instrument(replace(PRESS, force_max_N=200.0))}, "Press reaches 200 N"),
        ({"gauge": Instrument(replace(GAUGE, force_max_N=200.0))}, "Load cell ends at 200 N"),
        ({"press": Instrument(replace(PRESS, force_min_N=1000.0))}, "cannot set less than 1 kN"),
        ({"press": Instrument(replace(PRESS, rate_max_N_per_s=1.0))}, "faster than Press moves"),
        ({"fixture": Fixture(die="8 mm")}, "has 8 mm"),
    ],
)
def test_a_pressure_has_to_fit_die_press_and_gauge(
    changed: dict[str, object], words: str, program: Load, bench: Bench
) -> None:
    other = Bench(**{**vars(bench), **changed})
    assert words in said(program("  - press: 5 MPa\n"), other)


def test_a_ramp_that_overshoots_before_the_host_reacts_is_a_problem(
    program: Load, bench: Bench
) -> None:
    assert "Ramp more slowly" in said(program("  - press: {to: 34 MPa, ramp: 5 MPa/s}\n"), bench)
    assert said(program("  - press: {to: 34 MPa, ramp: 0.5 MPa/s}\n"), bench) == ""


def test_a_sweep_too_fast_for_the_host_needs_an_instrument_that_watches(
    program: Load, bench: Bench, slow_bench: Bench
) -> None:
    fast = program("  - sweep: {from: 0 V, to: 4 V, rate: 2 V/s, step: 10 mV}\n")
    assert "sweep more slowly" in said(fast, slow_bench)
    assert said(fast, bench) == ""


def test_continuing_without_the_host_needs_a_bounded_instrument(
    program: Load, bench: Bench, slow_bench: Bench
) -> None:
    text = "  - rest: {for: 1 h, when interrupted: continue}\n"
    assert "is not safe" in said(program(text), slow_bench)
    assert said(program(text), bench) == ""


@pytest.mark.parametrize(
    ("step", "refused"),
    [("current: {at: 0.1 mA/cm2, for: 1 h", False),
     ("current: {at: 0.1 mA/cm2, until: voltage >= 0.1 V, at most: 1 h", False),
     ("current: {at: 0.1 mA/cm2, until: stack pressure > 6 MPa, at most: 1 h", True),
     ("current: {at: 0.1 mA/cm2, for: 1 h, every: {after: 5 min, do: [rest: 1 min]}", True),
     ("rest: {for: 1 h, stop if: temperature > 40 degC", True)],
)  # fmt: skip
def test_continuing_needs_a_step_that_nothing_but_the_instrument_ends(
    step: str, refused: bool, program: Load, bench: Bench
) -> None:
    found = said(program(f"  - {step}, when interrupted: continue}}\n"), bench)
    assert ("is not safe" in found) is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  - eis: {from: 1 Hz, to: 1 mHz, amplitude: 1 mA}\n", "galvanostatic"),
        ("  - eis: {from: 1 Hz, to: 1 mHz, bias: 5 V}\n", "leave the limits"),
        ("  - eis: {from: 1 Hz, to: 1 mHz, amplitude: 6 V}\n", "larger than the limits"),
        ("  - voltage: {at: -6 V, for: 1 s}\n", "outside the limits"),
    ],
)
def test_set_points_of_spectra_and_holds_respect_the_limits(
    text: str, words: str, program: Load, bench: Bench
) -> None:
    assert words in said(program(text), bench)


def test_a_technique_that_the_instrument_lacks_is_a_problem(program: Load, bench: Bench) -> None:
    able = replace(CHANNEL, techniques=frozenset(("rest",)))
    plain = replace(bench, channel=Instrument(able))
    assert "cannot do a constant current" in said(
        program("  - current: {at: 1 mA, for: 1 s}\n"), plain
    )


def test_a_mistake_in_a_loop_is_reported_once(program: Load, bench: Bench) -> None:
    text = (
        '  - for each: {j: "20, 30, 40 mA/cm2"}\n    steps:\n      - current: {at: $j, for: 1 s}\n'
    )
    (problem,) = check(program(text), bench).problems
    assert "j = 20 mA/cm2" in problem.message


def test_an_analysis_that_does_not_exist_is_corrected(program: Load, bench: Bench) -> None:
    text = "name: x\ncell: LYC\nsteps:\n  - rest: 1 s\nanalyses: [cdd]\n"
    (problem,) = check(program(text), bench, analyses={"ccd"}).problems
    assert 'did you mean "ccd"' in problem.message


def test_a_spectrum_to_100_millihertz_takes_1_7_minutes() -> None:
    to_100_mHz = Impedance(frequency_max_Hz=1e6, frequency_min_Hz=0.1, amplitude_V=0.01)
    assert spectrum_duration_s(to_100_mHz) == pytest.approx(1.7 * 60, rel=0.03)
    to_1_mHz = Impedance(frequency_max_Hz=1e6, frequency_min_Hz=1e-3, amplitude_V=0.01)
    assert spectrum_duration_s(to_1_mHz) == pytest.approx(2.7 * 3600, rel=0.03)


def test_a_plan_adds_up_what_is_certain_and_what_is_possible(bench: Bench) -> None:
    planned = plan(load_protocol("ccd"), bench)
    assert planned.duration_max_s is not None
    assert planned.duration_max_s / 3600 == pytest.approx(11.0, abs=0.3)
    # Only the first pass of a loop that a short may end is certain.
    assert planned.duration_min_s < 1.1 * 3600
    by_path = {row.path: row for row in planned.rows}
    assert not by_path["for_each[1]/current"].optional
    assert by_path["for_each[2]/current"].optional
    one = by_path["for_each[10]/current"]
    assert one.charge_max_C == pytest.approx(0.7854e-3 * 1200, rel=1e-3)
    assert one.pressure_Pa == pytest.approx(5e6)
    assert (one.voltage_min_V, one.voltage_max_V) == (-2.0, 2.0)
    assert one.on_device == ("voltage", "current")
    assert one.on_host == ("stack pressure",)
    assert one.reaction_s == pytest.approx(2.021)
    assert one.rows == pytest.approx(1200 * 1.6, abs=5)


def test_steps_that_wait_for_results_or_people_have_no_known_end(
    program: Load, bench: Bench
) -> None:
    text = (
        "  - eis: {from: 1 MHz, to: 1 Hz, as: a}\n  - rest: 1 s * ($a.R_low / 1 Ohm)\n"
        "  - prompt: Close the valve\n"
    )
    planned = plan(program(text), bench)
    assert planned.duration_max_s is None
    assert [row.duration_max_s is None for row in planned.rows] == [False, True, True]
    assert "+ 2 steps of unknown duration" in planned.lines()[-1]
    ends = [line.split()[-1] for line in planned.lines()[2:5]]
    assert [end.endswith("+") for end in ends] == [False, True, True]
    assert ends[0] + "+" == ends[1]


def test_a_plan_has_a_head_a_line_for_each_step_and_a_total(bench: Bench) -> None:
    planned = plan(load_protocol("stack_pressure_eis"), bench)
    lines = planned.lines()
    assert " ".join(lines[1].split()) == "step what is done likely at most ends by"
    assert "press to 22 MPa" in "\n".join(lines[2 : 2 + len(planned.rows)])
    assert "the computer watches stack pressure, and acts within 2 s" in lines
    assert lines[-1].startswith(f"{len(planned.rows)} steps, 1:")


@pytest.mark.parametrize("name", library.protocol_names())
def test_a_plan_fits_100_columns(name: str, bench: Bench) -> None:
    assert max(len(line) for line in plan(load_protocol(name), bench).lines()) <= 100


def test_a_plan_keeps_what_is_likely_apart_from_what_is_longest(
    program: Load, bench: Bench
) -> None:
    text = (
        "  - press: {to: 1 MPa, settle: {within: 0.1 MPa, for: 2 min}}\n"
        "  - current: {at: 1 mA, until: voltage >= 1 V, at most: 1 h}\n  - rest: 90 s\n"
    )
    _, _, press, current, rest, *_ = plan(program(text), bench).lines()
    assert press.split()[-3:] == ["0:02:02", "0:12:04", "0:12:04"]
    assert current.split()[-3:] == ["?", "1:00:00", "1:12:04"]
    assert rest.split()[-2:] == ["0:01:30", "1:13:34"]


def test_a_plan_of_one_step_is_in_the_singular(program: Load, bench: Bench) -> None:
    assert plan(program("  - mark: x\n"), bench).lines()[-1].startswith("1 step, 0:00:00, ")


def test_a_plan_of_a_protocol_that_cannot_be_resolved_is_an_error(
    program: Load, bench: Bench
) -> None:
    with pytest.raises(ProtocolError, match="has no unit"):
        plan(program("  - rest: 10\n"), bench)


def test_passes_are_not_steps_of_the_plan(bench: Bench) -> None:
    items = [item for item in Walk(load_protocol("ccd")) if not isinstance(item, PassEnded)]
    assert len(plan(load_protocol("ccd"), bench).rows) == len(items)


def test_a_step_that_was_computed_can_be_checked_by_itself(program: Load, bench: Bench) -> None:
    text = "  - rest: {for: 1 s, as: r}\n  - voltage: {at: 3 * $r.voltage, for: 1 s}\n"
    loaded = program(text)
    assert check(loaded, bench).problems == ()
    walk = Walk(loaded)
    next(walk)
    walk.record("r", {"voltage_V": 2.0})
    hold = next(walk)
    assert not isinstance(hold, PassEnded)
    (problem,) = problems_of(hold, loaded, bench)
    assert "6 V at the terminals is outside the limits" in problem.message


def test_a_result_of_a_step_that_is_left_out_is_a_problem(program: Load, bench: Bench) -> None:
    plain = replace(bench, channel=Instrument(replace(CHANNEL, impedance=None)))
    text = (
        "  - eis: {from: 1 Hz, to: 1 mHz, as: e, when: available}\n"
        "  - if: $e.R_low > 1 Ohm\n    steps:\n      - mark: x\n"
    )
    assert said(program(text), bench) == ""
    assert "may have been left out" in said(program(text), plain)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("ccd within ladder", ""),
        ("ccd within ladder[2]", ""),
        ("ccd within ladder[30]", ""),
        ("ccd within ramp", 'nothing is within "ramp"'),
        ("cdd within ladder", 'did you mean "ccd"?'),
    ],
)
def test_an_analysis_may_name_the_place_where_it_looks(
    order: str, message: str, program: Load, bench: Bench
) -> None:
    text = "  - repeat: 2\n    name: ladder\n    steps: [{current: {at: 1 mA, for: 1 s}}]\n"
    problems = check(program(f"{text}analyses: ['{order}']\n"), bench, ["ccd"]).problems
    assert [message in problem.message for problem in problems] == [True] * bool(message)


# --- What nobody would switch off -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "energises"),
    [
        ("rest: 10 s", False),
        ("current: {at: 0.1 mA/cm2, for: 1 min}", True),
        ("voltage: {at: 0.1 V, for: 1 min}", True),
        ("eis: {from: 100 kHz, to: 1 kHz}", True),
    ],
)
def test_a_step_that_nobody_would_end_is_refused_unless_the_bench_accepts_it(
    step: str, energises: bool, program: Callable[..., Program], slow_bench: Bench
) -> None:
    tested = program(f"  - {step}\n")
    assert check(tested, slow_bench).problems == ()
    strict = replace(slow_bench, accepts_unbounded=frozenset())
    problems = check(tested, strict).problems
    assert bool(problems) is energises
    for problem in problems:
        assert "goes on when its computer dies" in problem.message
        assert '"accepts unbounded: [instrument]"' in problem.cure


@pytest.mark.parametrize(("rate", "refused"), [("1C", False), ("20C", True)])
def test_a_current_that_outruns_the_computer_is_refused(
    rate: str, refused: bool, program: Callable[..., Program], slow_bench: Bench
) -> None:
    text = f"name: Test\ncell: NMC811_LYC_Li\nsteps:\n  - current: {{at: {rate}, for: 1 min}}\n"
    problems = check(program(text), slow_bench).problems
    assert any("before the computer can react" in each.message for each in problems) is refused
