"""Protocols from aurora-unicycler and to it, and the program itself as the judge of both."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cellbench.cell import CellCard
from cellbench.cli.app import app
from cellbench.engine.session import prepare
from cellbench.errors import InputError
from cellbench.exchange import unicycler
from cellbench.exchange.cycling import (
    Cycling,
    Doing,
    Flow,
    Holding,
    Loop,
    Passing,
    Resting,
    Safety,
    Scanning,
    Spectrum,
)
from cellbench.exchange.protocol_text import protocol_text
from cellbench.exchange.reduced import reduced
from cellbench.protocol import Plan, Program, load_card, load_protocol, parse_card, plan
from cellbench.protocol.program import Recording

CARD = """
cell: pouch
layout: NMC811 | liquid | graphite
kind: full
working: {active: NMC811, diameter: 100 mm}
counter: {material: graphite, potential: 0.1 V vs Li+/Li, diameter: 100 mm}
electrolyte: {thickness: 0.025 mm, diameter: 100 mm}
nominal capacity: 123 mAh
limits: {voltage: -0.2 V to 5.2 V at the terminals, current: 500 mA}
"""
POUCH = parse_card(CARD, "pouch.yaml")


def example(**fields: Any) -> dict[str, Any]:
    """A protocol as small as there is, and other fields."""
    return {
        "record": {"time_s": 10},
        "method": [{"step": "open_circuit_voltage", "until_time_s": 60}],
    } | fields


def read(tmp_path: Path, content: object) -> tuple[Cycling, list[str]]:
    path = tmp_path / "protocol.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    cycling, misfits = unicycler.read(path)
    return cycling, [str(each) for each in misfits]


def cellbench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["protocol", *arguments])


# --- In -------------------------------------------------------------------------------------------


def test_steps_loops_and_limits_come_in(tmp_path: Path) -> None:
    cycling, misfits = read(
        tmp_path,
        {
            "unicycler": {"version": "0.4.6"},
            "sample": {"name": "coin 7", "capacity_mAh": "2"},
            "record": {"current_mA": "", "voltage_V": "0.1", "time_s": "10"},
            "safety": {"max_voltage_V": 4.4, "min_voltage_V": 2, "max_current_mA": 5,
                       "min_current_mA": -5, "max_capacity_mAh": 3, "delay_s": 10},
            "method": [
                {"step": "open_circuit_voltage", "until_time_s": 3600},
                {"step": "tag", "tag": "longterm"},
                {"step": "constant_current", "rate_C": "C/5", "until_voltage_V": 4.2,
                 "until_time_s": 25200},
                {"step": "constant_voltage", "voltage_V": 4.2, "until_rate_C": 0.05,
                 "until_time_s": 3600},
                {"step": "constant_current", "current_mA": -0.4, "until_voltage_V": 3,
                 "until_time_s": 25200},
                {"step": "loop", "loop_to": "longterm", "cycle_count": 100},
                {"step": "voltage_scan", "start_voltage_V": 3, "end_voltage_V": 2.5,
                 "scan_rate_mV_per_s": 0.1},
                {"step": "impedance_spectroscopy", "amplitude_V": 0.01, "start_frequency_Hz": 1e5,
                 "end_frequency_Hz": 0.1, "measures_per_point": 2},
            ],
        },
    )  # fmt: skip
    assert cycling.steps == (
        Resting(3600.0),
        Loop(
            100,
            (
                Passing(Flow(0.2, is_rate=True), 25200.0, 4.2),
                Holding(4.2, 3600.0, Flow(0.05, is_rate=True)),
                Passing(Flow(-0.4e-3), 25200.0, 3.0),
            ),
        ),
        Scanning(3.0, 2.5, 1e-4),
        Spectrum(1e5, 0.1, 10, amplitude_V=0.01),
    )
    assert cycling.safety == Safety(2.0, 4.4, 5e-3, 3 * 3.6)
    assert cycling.record == Recording(every_s=10.0, dV_V=0.1)
    assert misfits == [
        "limits act at once here, not after 10 s",
        "step 8 (impedance_spectroscopy): its 2 measures per point: left out",
    ]


def test_loops_to_numbers_count_tags_and_can_begin_together(tmp_path: Path) -> None:
    """As the last loop of unicycler's own example does."""
    rest = {"step": "open_circuit_voltage", "until_time_s": 1}
    method = [{"step": "tag", "tag": "a remark"}, rest, rest,
              {"step": "loop", "loop_to": 3, "cycle_count": 2},
              {"step": "loop", "loop_to": 3, "cycle_count": 5}]  # fmt: skip
    cycling, misfits = read(tmp_path, example(method=method))
    assert cycling.steps == (Resting(1.0), Loop(5, (Loop(2, (Resting(1.0),)),)))
    assert misfits[1:] == ['step 1 (tag): the tag "a remark", to which no loop goes: left out']


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ([{"step": "tea"}], "step 1: Input tag 'tea'"),
        ([{"step": "open_circuit_voltage"}], "step 1, open_circuit_voltage, until_time_s: Field"),
        ([{"step": "open_circuit_voltage", "until_time_s": -1}], "greater than 0"),
        ([{"step": "open_circuit_voltage", "until_time_s": 1, "milk": 1}], "milk: Extra inputs"),
        ([{"step": "constant_current", "rate_C": "C/x", "until_time_s": 1}], '"C/x" is no C-rate'),
        ([{"step": "constant_current", "until_time_s": 1}], "neither rate_C nor current_mA"),
        ([{"step": "constant_current", "rate_C": 1, "until_voltage_V": 0}], "nothing ends it"),
        ([{"step": "constant_voltage", "voltage_V": 4}], "nothing ends it"),
        ([{"step": "loop", "loop_to": 1, "cycle_count": 2}], "no step before it"),
        ([{"step": "loop", "loop_to": "x", "cycle_count": 2}], "no step before it"),
        ([{"step": "voltage_scan", "start_voltage_V": 1, "end_voltage_V": 1,
           "scan_rate_mV_per_s": 1}], "it ends where it starts"),
        ([{"step": "impedance_spectroscopy", "start_frequency_Hz": 10, "end_frequency_Hz": 1}],
         "one amplitude"),
        ([{"step": "open_circuit_voltage", "until_time_s": 1},
          {"step": "open_circuit_voltage", "until_time_s": 1},
          {"step": "open_circuit_voltage", "until_time_s": 1},
          {"step": "loop", "loop_to": 2, "cycle_count": 2},
          {"step": "loop", "loop_to": 3, "cycle_count": 2}], "the middle of another loop"),
        ([], "method: Tuple should have at least 1 item"),
    ],
)  # fmt: skip
def test_what_is_no_protocol_is_refused_by_step(
    tmp_path: Path, method: list[dict[str, Any]], why: str
) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        read(tmp_path, example(method=method))


@pytest.mark.parametrize(
    ("text", "why"), [("{", "line 1: no JSON"), ("[]", "all of it"), ("{}", "record: Field")]
)
def test_what_is_no_file_of_unicycler_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read(tmp_path, text)


def test_what_bounds_a_step_without_a_time_is_said(tmp_path: Path) -> None:
    method = [{"step": "constant_current", "rate_C": 0.5, "until_voltage_V": 4.2},
              {"step": "constant_current", "current_mA": -1, "until_voltage_V": 3},
              {"step": "constant_voltage", "voltage_V": 4.2, "until_rate_C": 0.05}]  # fmt: skip
    cycling, misfits = read(tmp_path, example(method=method))
    assert cycling.steps[0] == Passing(Flow(0.5, is_rate=True), 2.6 * 3600, 4.2)
    assert misfits == [
        "it has no limits of its own: those of the cell card hold",
        "step 1 (constant_current): no time bounds it: 1.3 of the nominal capacity does",
        'step 2 (constant_current): no time bounds it: the parameter "longest" does',
        'step 3 (constant_voltage): no time bounds it: the parameter "longest" does',
    ]
    text, _ = protocol_text(cycling, [], "protocol.json")
    assert text.count("at most: $longest") == 2
    assert "longest: 24 h" in text


def test_limits_and_capacity_are_compared_with_the_card(tmp_path: Path) -> None:
    method = [{"step": "constant_current", "rate_C": 0.5, "until_time_s": 60}]
    fields = example(
        method=method,
        sample={"capacity_mAh": 100},
        safety={"max_voltage_V": 6, "max_current_mA": 10, "min_current_mA": -5},
    )
    cycling, misfits = read(tmp_path, fields)
    assert misfits == ["limits of the current: 5 mA now counts in both directions"]
    _, found = protocol_text(cycling, [], "protocol.json", POUCH, "pouch")
    assert [str(each) for each in found] == [
        "its capacity of 100 mAh: C-rates refer to 123 mAh, as the card of pouch says",
        "limits of the voltage: those of the card count, -0.2 to 5.2 V",
    ]


def test_a_symmetric_cell_gets_signed_currents(tmp_path: Path) -> None:
    card, _ = load_card(None, "LYC_PMMA")
    cycling = Cycling("x", (Passing(Flow(1e-3), 60.0), Passing(Flow(-1e-3), 60.0)))
    text, _ = protocol_text(cycling, [], "x.json", card, "LYC_PMMA")
    assert "- current: {at: 1 mA, for: 1 min, record: $rows}" in text
    assert "- current: {at: -1 mA, for: 1 min, record: $rows}" in text
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert load_protocol(path).card.cell == "LYC_PMMA"


@pytest.mark.parametrize(
    ("card", "steps"),
    [
        (POUCH, ["charge: {at: C/10", "discharge: {at: 0.4C"]),
        (None, ["current: {at: C/10", "current: {at: -0.4C"]),
        # An anode against lithium: what raises its voltage takes the lithium out of it.
        (
            parse_card(CARD + "charge current: negative\n", "half"),
            ["current: {at: C/10", "current: {at: -0.4C"],
        ),
    ],
)
def test_a_current_keeps_its_direction_whatever_charges_the_cell(
    card: CellCard | None, steps: list[str], tmp_path: Path
) -> None:
    method = (
        Passing(Flow(0.1, is_rate=True), 3600.0, 4.2),
        Passing(Flow(-0.4, is_rate=True), 3600.0, 3.0),
    )
    text, _ = protocol_text(Cycling("x", method), [], "x.json", card)
    assert [line.strip("- ").partition(",")[0] for line in text.splitlines()[-2:]] == steps
    path = tmp_path / "x.yaml"
    path.write_text(text)
    reduction, _ = reduced(load_protocol(path, card or POUCH))
    first, second = reduction.steps
    assert isinstance(first, Passing)
    assert isinstance(second, Passing)
    assert first.current.value == pytest.approx(12.3e-3)
    assert (first.until_V, second.until_V) == (4.2, 3.0)
    assert second.current.value == pytest.approx(-49.2e-3)


def test_text_of_others_cannot_write_yaml(tmp_path: Path) -> None:
    evil = "x\nsteps: []\n# \x1b[2J"
    cycling = Cycling(evil, (Loop(2, (Resting(1.0),), evil),))
    text, _ = protocol_text(cycling, [], evil)
    path = tmp_path / "x.yaml"
    path.write_text(text)
    program = load_protocol(path, POUCH)
    assert program.name == "x steps: [] #  [2J"
    assert len(program.nodes) == 1


@pytest.mark.parametrize(("until_V", "refused"), [(4.3, False), (4.9, True)])
def test_a_protocol_without_limits_gets_those_of_the_card(
    tmp_path: Path, until_V: float, refused: bool
) -> None:
    method = [{"step": "constant_current", "rate_C": 0.1, "until_voltage_V": until_V}]
    source, output = tmp_path / "x.json", tmp_path / "x.yaml"
    source.write_text(json.dumps(example(method=method)))
    card = "NMC811_LYC_PMMA_Li"
    result = cellbench(
        "import", str(source), "--from", "unicycler", "--cell", card, "-o", str(output)
    )
    assert result.exit_code == 0, result.output
    assert "no limits of its own: those of the cell card hold" in result.stderr
    result = CliRunner().invoke(app, ["check", str(output)])
    assert result.exit_code == (2 if refused else 0), result.output
    assert ("4.5 V" in result.stderr) == refused


# --- Round trips ----------------------------------------------------------------------------------


def program_of(cycling: Cycling, path: Path) -> Program:
    path.write_text(protocol_text(cycling, [], "test", POUCH)[0])
    return load_protocol(path, POUCH)


def came_back(program: Program, path: Path) -> Program:
    """A program, out to a file of unicycler and in again."""
    text, misfits = unicycler.written(reduced(program)[0])
    assert not misfits
    file = path.with_suffix(".json")
    file.write_text(text)
    cycling, _ = unicycler.read(file)
    return program_of(cycling, path)


def planned(program: Program) -> Plan:
    return plan(program, DECLARED)


DECLARED = prepare("formation").declared()
_SHOWN = ("duration_min_s", "duration_max_s", "charge_max_C", "voltage_min_V", "voltage_max_V",
          "current_max_A", "rows", "end_max_s")  # fmt: skip


def assert_plans_alike(one: Program, other: Program) -> None:
    rows, others = planned(one).rows, planned(other).rows
    assert len(rows) == len(others)
    for row, its in zip(rows, others, strict=True):
        for name in _SHOWN:
            value = getattr(row, name)
            assert getattr(its, name) == (value if value is None else pytest.approx(value)), name


few = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
times = st.sampled_from([1.0, 30.0, 90.0, 600.0, 5400.0, 36000.0, 0.1, 12.34])
volts = st.floats(0.01, 5.0).map(lambda value: round(value, 4))
amperes = st.floats(1e-6, 0.4).map(lambda value: float(f"{value:.6g}"))
charging = st.builds(Passing, amperes.map(Flow), times, st.none() | volts)
discharging = st.builds(Passing, amperes.map(lambda A: Flow(-A)), times, st.none() | volts)
holding = st.builds(Holding, volts, times, st.none() | amperes.map(Flow))
scans = st.builds(Scanning, st.just(1.5), volts.filter(lambda V: V != 1.5), st.just(1e-3))
spectra = st.builds(
    Spectrum, st.just(1e5), st.sampled_from([1.0, 0.1]), st.sampled_from([5, 10]), st.just(0.01)
)
steps: st.SearchStrategy[Doing] = st.one_of(
    times.map(Resting), charging, discharging, holding, scans, spectra
)


def loops(inside: st.SearchStrategy[Doing]) -> st.SearchStrategy[Doing]:
    bodies = st.lists(inside, min_size=1, max_size=3).map(tuple)
    return st.builds(Loop, st.integers(2, 3), bodies, st.sampled_from(["", "cycle", "main part"]))


methods = st.lists(st.recursive(steps, loops, max_leaves=6), min_size=1, max_size=4).map(tuple)


@few
@given(method=methods)
def test_what_goes_out_and_comes_in_again_plans_the_same(
    method: tuple[Doing, ...], tmp_path: Path
) -> None:
    record = Recording(every_s=10.0, dV_V=0.005)
    program = program_of(Cycling("x", method, record), tmp_path / "x.yaml")
    assert_plans_alike(came_back(program, tmp_path / "y.yaml"), program)


@pytest.mark.parametrize("name", ["pulse_resistance", "rate_test", "formation", "long_cycling"])
def test_shipped_protocols_go_out_or_say_why_not(name: str, tmp_path: Path) -> None:
    """Each step that was left out is told of by name; those that were not come back alike."""
    program = load_protocol(name)
    cycling, misfits = reduced(program)
    if any(each.fatal for each in misfits):
        result = cellbench("export", name, "--to", "unicycler")
        assert result.exit_code == 2
        assert str(next(each for each in misfits if each.fatal)) in result.stderr
        return
    left_out = [each for each in misfits if "the whole step" in each.text]
    verbs = {each.origin.where.partition("_")[0] for each in left_out}
    assert verbs <= {"temperature", "press", "check"}
    again, _ = reduced(came_back(program, tmp_path / "x.yaml"))
    assert method_of(again) == method_of(cycling)


def method_of(cycling: Cycling) -> list[dict[str, Any]]:
    """The steps as unicycler has them, loops without their names."""
    method = json.loads(unicycler.written(cycling)[0])["method"]
    return [each | dict.fromkeys(("tag", "loop_to"), "") for each in method]


# --- Out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("current: {at: 1 mA, for: 1 h, every: {after: 10 min, do: [rest: 1 min]}}", "schedule"),
        ("current: {at: -1 mA, until: voltage <= 0 V at the terminals, at most: 1 h}", "of 0 V"),
        ("repeat: 3\n    until: short\n    steps: [rest: 1 min]", 'ends on "short"'),
        ("sweep: {from: open circuit, to: 1 V at the terminals, rate: 1 mV/s}", "open-circuit"),
    ],
)
def test_what_unicycler_cannot_say_is_refused(tmp_path: Path, step: str, why: str) -> None:
    (tmp_path / "pouch.yaml").write_text(CARD)
    path = tmp_path / "x.yaml"
    path.write_text(f"cellbench: 1\nname: x\ncell: pouch\nsteps:\n  - {step}\n")
    output = tmp_path / "x.json"
    result = cellbench("export", str(path), "--to", "unicycler", "-o", str(output))
    assert result.exit_code == 2, result.output
    assert why in result.stderr
    assert not output.exists()


def test_what_is_left_out_is_told_of_by_step(tmp_path: Path) -> None:
    (tmp_path / "pouch.yaml").write_text(CARD)
    path = tmp_path / "x.yaml"
    path.write_text(
        "cellbench: 1\nname: x\ncell: pouch\nsteps:\n"
        "  - temperature: 25 degC\n"
        "  - repeat: 2\n    name: cycle\n    steps:\n"
        "      - charge: {at: C/5, until: [stack pressure > 9 MPa, short], at most: 1 h}\n"
        "      - rest: {for: 1 h, record: {every: 5 s}}\n"
        "  - eis: {from: 1 MHz, to: 1 Hz, amplitude: 10 mV, bias: 3 V at the terminals}\n"
    )
    output = tmp_path / "x.json"
    result = cellbench("export", str(path), "--to", "unicycler", "-o", str(output))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(output)
    assert result.stderr.splitlines() == [
        "what does not fit:",
        "  its steps are recorded by rules of their own: now all by one, the finest",
        "  step 1 (temperature): the whole step (temperature 25 °C): left out",
        '  step 2 (cycle/charge): its condition "stack pressure >= 9 MPa": left out',
        '  step 2 (cycle/charge): its condition "short": left out',
        "  step 4 (eis): its bias of 3 V: now taken around open circuit",
    ]
    method = json.loads(output.read_text())["method"]
    assert [each["step"] for each in method] == [
        "tag", "constant_current", "open_circuit_voltage", "loop", "impedance_spectroscopy"
    ]  # fmt: skip


# --- The program itself ---------------------------------------------------------------------------

partner = pytest.importorskip("aurora_unicycler", reason="aurora-unicycler is not installed")

_SOURCE = os.environ.get("AURORA_UNICYCLER_SOURCE", "")
needs_source = pytest.mark.skipif(
    not _SOURCE, reason="AURORA_UNICYCLER_SOURCE does not name its source distribution"
)


def published() -> Iterator[dict[str, Any]]:
    """Every protocol in its tests, its README and its documentation that is given as data."""
    root = Path(_SOURCE)
    yield from (
        json.loads(path.read_text()) for path in root.glob("tests/test_data/test_pro*.json")
    )
    for page in (root / "README.md", root / "docs" / "protocol.md"):
        for block in re.findall(r"from_dict\((\{.*?\n\})\)", page.read_text(), flags=re.DOTALL):
            yield json.loads(re.sub(r",(\s*[\]}])", r"\1", block))


def in_amperes(protocol: Any, capacity_mAh: float) -> list[dict[str, Any]]:
    """Its steps with all currents in mA and loops by tag alone, as data."""
    protocol = protocol.model_copy(deep=True)
    pytest.importorskip("aurora_unicycler._utils").tag_to_indices(protocol)
    rows = []
    for step in protocol.method:
        row = step.model_dump(exclude={"id"})
        for rate, current in (("rate_C", "current_mA"), ("until_rate_C", "until_current_mA")):
            if row.get(rate):
                row[current] = row[rate] * capacity_mAh
            row.pop(rate, None)
        rows.append({name: pytest.approx(value) if isinstance(value, float) else value
                     for name, value in row.items()})  # fmt: skip
    return rows


@needs_source
def test_its_own_examples_come_in_and_go_out_again(tmp_path: Path) -> None:
    examples = list(published())
    assert len(examples) >= 6
    for number, content in enumerate(examples):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(content))
        theirs = partner.CyclingProtocol.from_json(file)
        cycling, _ = unicycler.read(file)
        text, _ = unicycler.written(reduced(program_of(cycling, tmp_path / "x.yaml"))[0])
        ours = partner.CyclingProtocol.from_dict(json.loads(text))
        assert without_our_bounds(in_amperes(ours, 123.0), theirs) == in_amperes(theirs, 123.0)


def without_our_bounds(rows: list[dict[str, Any]], theirs: Any) -> list[dict[str, Any]]:
    """Steps without the times with which we bound what they leave unbounded."""
    unbounded = [getattr(step, "until_time_s", 1.0) is None for step in theirs.method
                 if step.step != "tag"]  # fmt: skip
    return [row | {"until_time_s": None} if bare else row
            for row, bare in zip(rows, unbounded, strict=True)]  # fmt: skip


@few
@given(method=methods)
def test_the_program_takes_what_is_written(method: tuple[Doing, ...], tmp_path: Path) -> None:
    text, _ = unicycler.written(Cycling("x", method, Recording(every_s=10.0)))
    taken = partner.CyclingProtocol.from_dict(json.loads(text))
    file = tmp_path / "taken.json"
    taken.to_json(file)
    assert method_of(unicycler.read(file)[0]) == method_of(Cycling("x", method))
