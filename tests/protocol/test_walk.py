"""Walking a program: order, names, loops, branches, results, includes, and repeating it exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Rest
from cellbench.protocol import Program, ProtocolError, Walk, load_protocol
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    EisStep,
    LaterStep,
    MarkStep,
    PassEnded,
    PressStep,
    PromptStep,
    TemperatureStep,
)

Load = Callable[..., Program]
Steps = Callable[..., list[AnyStep]]


def paths(items: list[AnyStep]) -> list[str]:
    return [item.path for item in items]


def texts(items: list[AnyStep]) -> list[str]:
    return [item.text for item in items if isinstance(item, MarkStep)]


def test_each_step_of_the_shipped_ramp_has_its_path() -> None:
    found = [item.path for item in Walk(load_protocol("ccd"))]
    assert found[:9] == [
        "press",
        "rest",
        "eis",
        "for_each[1]/current",
        "for_each[1]/current_2",
        "for_each[1]/rest",
        "for_each[1]/eis",
        "for_each[1]",
        "for_each[2]/current",
    ]
    assert found[-1] == "press_2"
    assert len(set(found)) == len(found) == 3 + 15 * 5 + 1


def test_the_shipped_ramp_has_the_currents_of_the_study_in_both_directions() -> None:
    steps = [item for item in Walk(load_protocol("ccd")) if isinstance(item, ChannelStep)]
    currents = [s.technique.current_A for s in steps if isinstance(s.technique, ConstantCurrent)]
    densities = [current / 0.7853981634e-4 / 10 for current in currents]
    study = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 5]
    assert densities[::2] == pytest.approx(study)
    assert densities[1::2] == pytest.approx([-each for each in study])


def test_a_setting_replaces_the_currents() -> None:
    sets = {"currents": "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7 mA/cm2"}
    program = load_protocol("ccd", None, sets)
    assert sum(isinstance(item, PassEnded) for item in Walk(program)) == 7
    assert program.parameters["currents"].changed
    assert not program.parameters["half_cycle"].changed


def test_loop_variables_are_shown_as_they_were_written(steps: Steps) -> None:
    (first, *_) = steps(
        '  - for each: {j: "0.1, 0.2 mA/cm2"}\n    steps:\n      - current: {at: $j, for: 1 s}\n'
    )
    assert dict(first.bindings) == {"j": "0.1 mA/cm2"}
    assert first.what == "current 0.1 mA/cm2 (78.54 uA) for 1 s"
    assert first.line == 6


def test_several_variables_make_their_product_the_last_fastest(steps: Steps) -> None:
    found = steps(
        '  - for each: {p: "1, 2 MPa", T: [20 degC, 30 degC]}\n    steps:\n      - press: $p\n'
        "      - temperature: $T\n"
    )
    pressures = [s.pressure_Pa for s in found if isinstance(s, PressStep)]
    temperatures = [s.temperature_K for s in found if isinstance(s, TemperatureStep)]
    assert pressures == [1e6, 1e6, 2e6, 2e6]
    assert temperatures == pytest.approx([293.15, 303.15] * 2)


def test_a_loop_is_left_when_the_host_says_so(program: Load) -> None:
    walk = Walk(
        program("  - repeat: 5\n    until: short\n    steps:\n      - mark: x\n  - mark: y\n")
    )
    seen = []
    for item in walk:
        seen.append(item.path)
        if item.path == "repeat[2]":
            walk.leave()
    assert seen == ["repeat[1]/mark", "repeat[1]", "repeat[2]/mark", "repeat[2]", "mark"]


def test_leaving_an_inner_loop_stays_in_the_outer(program: Load) -> None:
    walk = Walk(
        program(
            "  - repeat: 2\n    steps:\n      - repeat: 3\n        until: short\n        steps:\n"
            "          - mark: x\n"
        )
    )
    seen = []
    for item in walk:
        seen.append(item.path)
        if item.path.endswith("/repeat[1]"):
            walk.leave()
    assert seen.count("repeat[2]") == 1
    assert "repeat[1]/repeat[2]/mark" not in seen


def test_a_repeat_that_runs_out_says_that_its_condition_never_came(program: Load) -> None:
    text = "  - repeat: 2\n    until: short\n    steps:\n      - mark: x\n"
    ends = [item for item in Walk(program(text)) if isinstance(item, PassEnded)]
    assert [(end.last, end.unmet) for end in ends] == [(False, False), (True, True)]


RESULTS = """\
  - eis: {from: 1 MHz, to: 1 Hz, as: first}
  - voltage: {at: 10 mV * ($first.R_low / 100 Ohm), for: 1 min}
  - if: $first.R_low > 100 Ohm
    steps:
      - mark: high
    else:
      - mark: low
"""


@pytest.mark.parametrize(("resistance", "mark"), [(200.0, "high"), (50.0, "low")])
def test_results_of_earlier_steps_decide(program: Load, resistance: float, mark: str) -> None:
    walk = Walk(program(RESULTS))
    items: list[AnyStep | PassEnded] = []
    for item in walk:
        items.append(item)
        if isinstance(item, EisStep):
            walk.record("first", {"R_low_ohm": resistance})
    hold, marked = items[1], items[2]
    assert isinstance(hold, ChannelStep)
    assert isinstance(hold.technique, ConstantVoltage)
    assert hold.technique.voltage_V == pytest.approx(0.01 * resistance / 100)
    assert isinstance(marked, MarkStep)
    assert marked.text == mark


def test_planning_walks_both_branches_and_says_what_waits_for_results(program: Load) -> None:
    walk = Walk(program(RESULTS), planning=True)
    items = [item for item in walk if not isinstance(item, PassEnded)]
    assert isinstance(items[1], LaterStep)
    assert items[1].uses == ("first.R_low",)
    assert paths(items[2:]) == ["if/mark", "if/else/mark"]
    assert walk.problems == []


def test_a_result_that_never_came_is_an_error_when_it_is_needed(program: Load) -> None:
    walk = Walk(program(RESULTS))
    next(walk)
    with pytest.raises(ProtocolError, match="gave no results"):
        next(walk)


def test_a_result_of_another_name_is_an_error_that_names_what_there_is(program: Load) -> None:
    walk = Walk(program(RESULTS))
    next(walk)
    walk.record("first", {"R_bulk_ohm": 3.0})
    with pytest.raises(ProtocolError, match="R_bulk_ohm"):
        next(walk)


def test_loops_can_end_by_results(program: Load) -> None:
    walk = Walk(
        program(
            "  - repeat: 9\n    until: $s.R > 5 Ohm\n    steps:\n"
            "      - eis: {from: 1 Hz, to: 1 mHz, as: s}\n"
        )
    )
    passes: list[bool | None] = []
    for item in walk:
        if isinstance(item, EisStep):
            walk.record("s", {"R_ohm": 3.0 * (1 + len(passes))})
        elif isinstance(item, PassEnded):
            passes.append(getattr(item.until[0], "value", None))
            if passes[-1]:
                walk.leave()
    assert passes == [False, True]


def test_two_walks_of_one_program_are_equal() -> None:
    program = load_protocol("ccd")
    assert list(Walk(program)) == list(Walk(program))


def test_named_blocks_groups_and_names_of_blocks(steps: Steps, program: Load) -> None:
    found = list(
        Walk(
            program(
                "name: x\ncell: LYC\ndefine:\n  pause: {for: 1 min}\n  both:\n    - rest: $pause\n"
                "    - mark: m\nsteps:\n  - group: Formation (slow)\n    steps: $both\n"
                "  - repeat: 2\n    name: cycle\n    steps: $both\n"
            )
        )
    )
    assert [item.path for item in found] == [
        "Formation_slow/rest",
        "Formation_slow/mark",
        "cycle[1]/rest",
        "cycle[1]/mark",
        "cycle[1]",
        "cycle[2]/rest",
        "cycle[2]/mark",
        "cycle[2]",
    ]


def test_an_include_has_its_own_parameters(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "name: inner\nparameters: {pause: 1 s, n: 2}\nsteps:\n"
        "  - repeat: $n\n    steps:\n      - rest: $pause\n"
    )
    outer = tmp_path / "outer.yaml"
    outer.write_text(
        "name: outer\ncell: LYC\nparameters: {long: 9 s}\nsteps:\n"
        "  - include: inner\n  - include: inner.yaml\n    with: {pause: $long / 3, n: 1}\n"
    )
    program = load_protocol(outer)
    steps = [item for item in Walk(program) if isinstance(item, ChannelStep)]
    durations = [s.technique.duration_s for s in steps if isinstance(s.technique, Rest)]
    assert durations == pytest.approx([1.0, 1.0, 3.0])
    assert [step.path for step in steps] == [
        "inner/repeat[1]/rest",
        "inner/repeat[2]/rest",
        "inner_2/repeat[1]/rest",
    ]
    assert steps[0].file == "inner.yaml"
    assert [each.name for each in program.sources] == ["outer.yaml", "inner.yaml"]


def test_an_included_protocols_limits_hold_too(tmp_path: Path) -> None:
    path = tmp_path / "outer.yaml"
    path.write_text("name: x\ncell: LYC\nsteps:\n  - include: ccd\n")
    assert load_protocol(path).limits.pressure_max_Pa == pytest.approx(12e6)


def test_limits_tighten_and_never_loosen(program: Load) -> None:
    wide = program(
        "name: x\ncell: LYC\nlimits: {voltage: -9 V to 1 V, stack pressure: at most 99 MPa, "
        "current: 1 mA/cm2, temperature: 20 degC to 90 degC}\nsteps:\n  - rest: 1 s\n"
    ).limits
    assert (wide.voltage_min_V, wide.voltage_max_V) == (-5.0, 1.0)
    assert wide.pressure_max_Pa == 35e6
    assert wide.electrical.current_max_A == pytest.approx(0.7854e-3, rel=1e-4)
    assert (wide.temperature_min_K, wide.temperature_max_K) == pytest.approx((293.15, 333.15))


def test_charge_and_discharge_have_their_direction_from_the_card(tmp_path: Path) -> None:
    card = tmp_path / "full.yaml"
    text = (
        "cell: F\nlayout: NCM | SE | In/InLi\nworking: {active: NCM, loading: 6 mg/cm2, "
        "1C: 180 mA/g, diameter: 10 mm}\ncounter: {material: In/InLi}\nelectrolyte: {thickness: "
        "1 mm, diameter: 10 mm}\nlimits: {potential: 2 V to 5 V vs Li+/Li, current: 5 mA/cm2}\n"
    )
    protocol = tmp_path / "p.yaml"
    protocol.write_text(
        "name: x\nparameters: {upper: 4.8 V vs Li+/Li}\nsteps:\n"
        "  - charge: {at: C/10, until: potential >= $upper, at most: 1.3 of nominal capacity}\n"
        "  - discharge: {at: C/10, for: 1 h}\n"
    )
    signs = []
    for extra in ("", "charge current: negative\n"):
        card.write_text(text + extra)
        walked = [s for s in Walk(load_protocol(protocol, card)) if isinstance(s, ChannelStep)]
        signs.append(
            [s.technique.current_A > 0 for s in walked if isinstance(s.technique, ConstantCurrent)]
        )
        first = walked[0].technique
        assert isinstance(first, ConstantCurrent)
        assert first.cut_offs[0].value == pytest.approx(4.18)
        assert first.duration_s == pytest.approx(13 * 3600)
    assert signs == [[True, False], [False, True]]


def test_a_press_step_without_gate_has_the_usual_one(steps: Steps) -> None:
    (press, hold, release) = steps("  - press: 10 MPa\n  - press: hold\n  - press: release\n")
    assert isinstance(press, PressStep)
    assert press.settle is not None
    assert press.settle.within == pytest.approx(0.2e6)
    assert press.force_N == pytest.approx(785.4, rel=1e-4)
    assert isinstance(hold, PressStep)
    assert isinstance(release, PressStep)
    assert (hold.kind, release.kind) == ("hold", "release")


def test_a_press_can_be_told_a_force_and_zero_is_a_pressure(steps: Steps) -> None:
    (by_force, zero) = steps("  - press: 1 kN\n  - press: 0 MPa\n")
    assert isinstance(by_force, PressStep)
    assert by_force.pressure_Pa == pytest.approx(12.73e6, rel=1e-3)
    assert isinstance(zero, PressStep)
    assert zero.force_N == 0.0


def test_recording_rules_thin_what_is_kept_and_not_what_is_watched(steps: Steps) -> None:
    (step, coarse) = steps(
        "  - rest: {for: 1 h, record: {every: 60 s, dV: 5 mV, dP: 0.05 MPa}}\n"
        "  - rest: {for: 1 h, record: {every: 60 s, sample: 10 s}}\n"
    )
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, Rest)
    assert (step.record.every_s, step.record.dV_V, step.technique.interval_s) == (60.0, 0.005, 1.0)
    assert isinstance(coarse, ChannelStep)
    assert isinstance(coarse.technique, Rest)
    assert coarse.technique.interval_s == 10.0


def test_prompts_marks_and_interruptions_are_kept(steps: Steps) -> None:
    (prompt, rest) = steps(
        "  - prompt: {ask: Close the valve, choices: [done, cannot]}\n"
        "  - rest: {for: 1 s, when interrupted: continue, when: available}\n"
    )
    assert isinstance(prompt, PromptStep)
    assert prompt.choices == ("done", "cannot")
    assert rest.when_interrupted == "continue"
    assert not rest.required


def test_the_identity_of_a_program_changes_with_a_setting() -> None:
    plain, changed = load_protocol("ccd"), load_protocol("ccd", None, {"rest": "9 min"})
    assert plain.identity == load_protocol("ccd").identity != changed.identity


@pytest.mark.parametrize("text", ["at most $top", "0 MPa to 2 * $top / 2", "$top"])
def test_limits_can_use_parameters(program: Load, text: str) -> None:
    head = "name: x\ncell: LYC\nparameters: {top: 9 MPa}\n"
    limits = program(f"{head}limits: {{stack pressure: {text}}}\nsteps:\n  - rest: 1 s\n").limits
    assert limits.pressure_max_Pa == pytest.approx(9e6)
