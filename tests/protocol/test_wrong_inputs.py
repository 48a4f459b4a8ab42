"""Wrong protocols, cards and settings: each names its line and the cure, on at most one screen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.protocol.conftest import Bench

from cellbench import library
from cellbench.errors import InputError
from cellbench.protocol import (
    ProtocolError,
    Walk,
    check,
    load_card,
    load_protocol,
    parse_card,
    parse_settings,
)

SPECTRUM = "eis: {from: 1 MHz, to: 1 Hz}"
HEAD = ["name: Test", "cell: LYC"]


def steps(*lines: str) -> str:
    """A protocol whose first step begins in line 4."""
    return "\n".join([*HEAD, "steps:", *(f"  {line}" for line in lines)]) + "\n"


#: What is wrong: the file, the line that is named, and words of the message and the cure.
PROTOCOLS: dict[str, tuple[str, int, list[str]]] = {
    # YAML
    "tab": ("name: x\nsteps:\n\t- rest: 1 s\n", 3, ["tabs"]),
    "duplicate key": ("name: x\nname: y\nsteps: []\n", 2, ["given twice", "line 1"]),
    "anchor bomb": (
        "name: x\ndefine:\n  a: &a [x, x]\n  b: [*a, *a]\nsteps: []\n",
        3,
        ["anchors", "define"],
    ),
    "python tag": ("name: !!python/object/apply:os.system [ls]\nsteps: []\n", 1, ["tag"]),
    "too deep": ("name: " + "[" * 60 + "]" * 60 + "\n", 1, ["nested deeper"]),
    "open bracket": ("name: x\nsteps: [\n", 0, ["not YAML"]),
    "two documents": ("name: x\n---\nname: y\n", 2, ["one document"]),
    "empty": ("", 0, ["is empty"]),
    "only a comment": ("# nothing\n", 0, ["is empty"]),
    "not a mapping": ("- rest: 10 min\n", 1, ["block"]),
    "bars unquoted": (
        steps("- current: {at: 1 mA}", "- rest:", "    until: |current| <= 1 mA"),
        6,
        ["quotes"],
    ),
    "list in braces": (
        steps("- for each: {j: 0.1, 0.2 mA}", "  steps: []"),
        4,
        ["no value", "quotes"],
    ),
    "null byte": ("name: \0\n", 0, ["not YAML"]),
    # Interruptions, sweeps, checks
    "interrupted by nothing": (
        steps("- hold: {at: 1 V, for: 1 h, every: {interval: 10 min}}"),
        4,
        ['"every" needs "do"'],
    ),
    "interval and after": (
        steps(
            "- hold: {at: 1 V, for: 1 h, every: {interval: 9 min, after: 9 min, do: [rest: 9 s]}}"
        ),
        4,
        ['either "interval" or "after"', "clock then stops"],
    ),
    "loop in an interruption": (
        steps(
            "- rest:",
            "    for: 1 h",
            "    every:",
            "      after: 10 min",
            "      do:",
            "        - repeat: 3",
            "          steps: [{rest: 1 min}]",
        ),
        9,
        ['"every" holds', "Loops"],
    ),
    "spectrum longer than the interval": (
        steps(
            "- rest: {for: 9 h, every: {interval: 9 min, do: [eis: {from: 1 Hz, to: 9 mHz}]}}",
        ),
        4,
        ["takes up to", "longer interval"],
    ),
    "never interrupted": (
        steps("- hold: {at: 1 V, for: 10 min, every: {interval: 20 min, do: [rest: 1 s]}}"),
        4,
        ["ends before it is interrupted"],
    ),
    "charge after a rest": (
        steps("- rest: {for: 1 h, every: {after: 1 mAh, do: [mark: x]}}"),
        4,
        ["only a constant current"],
    ),
    "mistyped interruption": (
        steps("- rest: {for: 1 h, every: {intervall: 10 min, do: [mark: x]}}"),
        4,
        ['did you mean "interval"'],
    ),
    "one vertex": (
        steps("- cv: {from: 0 V, vertices: 2 V, rate: 1 mV/s}"),
        4,
        ["turns at two potentials"],
    ),
    "half a cycle": (
        steps('- cv: {from: 0 V, vertices: "2, 1 V", cycles: 0.5, rate: 1 mV/s}'),
        4,
        ["whole number"],
    ),
    "a check of nothing": (steps("- check: {}"), 4, ["nothing is checked"]),
    "check of a wrong unit": (
        steps("- check: {stack pressure: at most 5 V}"),
        4,
        ["pressure"],
    ),
    "remainder of different units": (
        steps("- repeat: 3", "  steps:", "    - if: $cycle % 2 s == 0", "      steps: [{mark: x}]"),
        6,
        ["is a"],
    ),
    "conditions seldom": (
        "name: x\ncell: LYC\nconditions: {every: 10 min}\nsteps:\n  - rest: 1 h\n",
        3,
        ["at least each 60 s"],
    ),
    "then nothing": (
        steps("- press: {to: 5 MPa, then: relase}"),
        4,
        ['must be "hold" or "release"'],
    ),
    # Shape
    "no name": ("cell: LYC\nsteps:\n  - rest: 1 s\n", 1, ['needs "name"']),
    "no steps": ("name: x\ncell: LYC\n", 1, ['needs "steps"']),
    "empty steps": ("name: x\ncell: LYC\nsteps: []\n", 3, ['"steps" is empty']),
    "mistyped section": ("name: x\ncell: LYC\nstep:\n  - rest: 1 s\n", 3, ['did you mean "steps"']),
    "mistyped verb": (steps("- rets: 10 min"), 4, ['did you mean "rest"']),
    "mistyped key": (steps("- current: {at: 1 mA, fro: 10 min}"), 4, ['did you mean "for"']),
    "mistyped record": (
        steps("- rest: {for: 1 min, record: {evry: 1 s}}"),
        4,
        ['did you mean "every"'],
    ),
    "two verbs": (steps("- rest: 10 min", "  eis: {from: 1 Hz, to: 1 mHz}"), 4, ["two steps"]),
    "no verb": (steps("- {until: short}"), 4, ["names no step"]),
    "a step without value": (steps("- rest:"), 4, ["has no value"]),
    "a bare word as step": (steps("- rest"), 4, ['like "rest: 10 min"']),
    "loop without steps": (steps('- for each: {j: "1, 2 mA"}'), 4, ['needs "steps"']),
    "steps beside a verb": (steps("- rest: 1 s", "  until: short"), 4, ["indented deeper"]),
    "unknown version": (
        "cellbench: 2\nname: x\nsteps:\n  - rest: 1 s\n",
        1,
        ["version 2, this cellbench reads version 1"],
    ),
    "wrong choice": (
        steps("- eis: {from: 1 Hz, to: 1 mHz, band: approximately}"),
        4,
        ["as available"],
    ),
    "bad result name": (steps("- mark: {text: x, as: a b}"), 4, ["letters, digits"]),
    "bad parameter name": (
        "name: x\ncell: LYC\nparameters:\n  half cycle: 1 s\nsteps:\n  - rest: 1 s\n",
        4,
        ["letters, digits"],
    ),
    # Quantities
    "no unit": (steps("- rest: 10"), 4, ["has no unit", "30 min"]),
    "unknown unit": (steps("- rest: 10 minits"), 4, ['did you mean "min"']),
    "wrong case": (steps("- press: 5 MPA"), 4, ['did you mean "MPa"']),
    "wrong dimension": (
        steps("- current: {at: 0.5 mA/cm, for: 1 min}"),
        4,
        ["current per length", '"0.5 mA/cm2"'],
    ),
    "coulomb or C-rate": (steps("- current: {at: 5 C, for: 1 min}"), 4, ['"5C" or "5 coulomb"']),
    "decimal comma": (steps('- current: {at: "0,5 mA", for: 1 min}'), 4, ['"0.5" or "0, 5"']),
    "infinite": (steps("- rest: 1e999 s"), 4, ["beyond all bounds"]),
    "negative time": (steps("- rest: -5 min"), 4, ["not above zero"]),
    "an unknown reference": (steps("- voltage: {at: 1 V vs RHE, for: 1 min}"), 4, ["vs Li+/Li"]),
    "C-rate of a symmetric cell": (
        steps("- current: {at: C/10, for: 1 min}"),
        4,
        ["symmetric", "0.5 mA/cm2"],
    ),
    "a list where one value belongs": (steps('- rest: "1, 2 min"'), 4, ["not one value"]),
    # Names and expressions
    "unknown parameter": (steps("- rest: $duration"), 4, ['no parameter "$duration"']),
    "mistyped parameter": (
        "name: x\ncell: LYC\nparameters:\n  pause: 1 s\nsteps:\n  - rest: $puase\n",
        6,
        ['did you mean "$pause"'],
    ),
    "unknown result": (steps("- rest: $first.time"), 4, ['"as: first"']),
    "hostile expression": (steps("- rest: \"__import__('os').system('ls')\""), 4, ["no function"]),
    "attribute access": (
        steps("- mark: {text: a, as: m}", "- rest: $m.__class__.__bases__"),
        5,
        ["no sense"],
    ),
    "deep expression": (steps(f"- rest: {'(' * 100}1 s{')' * 100}"), 4, ["25 deep"]),
    "long expression": (steps(f"- rest: {'1 s + ' * 400}1 s"), 4, ["1000 characters"]),
    "huge exponent": (steps("- rest: (9 ^ 999) * 1 s"), 4, ["exponent"]),
    "huge range": (
        steps("- for each: {j: 0 to 1 by 1e-9 A}", "  steps:", "    - mark: x"),
        4,
        ["too many"],
    ),
    "division by zero": (steps("- rest: 1 s / 0"), 4, ["cannot be computed"]),
    "volts plus amperes": (
        steps("- voltage: {at: 1 V + 1 A, for: 1 s}"),
        4,
        ["is a voltage", "a current"],
    ),
    "block that holds itself": (
        "name: x\ncell: LYC\ndefine:\n  a: {x: $a}\nsteps:\n  - eis: $a\n",
        4,
        ["holds itself"],
    ),
    "unknown condition": (
        steps("- rest: {until: it is done, at most: 1 h}"),
        4,
        ["not a condition", "irregular"],
    ),
    "mistyped verdict": (
        steps("- repeat: 3", "  until: shorted", "  steps:", "    - mark: x"),
        5,
        ["short"],
    ),
    "unwatched quantity": (
        steps("- rest: {until: humidity > 5 %, at most: 1 h}"),
        4,
        ["not a quantity"],
    ),
    # What nothing ends
    "endless current": (steps("- current: {at: 1 mA}"), 4, ["nothing ends", "for: 20 min"]),
    "no bound": (
        steps("- current: {at: 1 mA, until: voltage >= 1 V}"),
        4,
        ["never comes", "at most"],
    ),
    "endless wait": (steps("- wait: {until: stack pressure < 1 MPa}"), 4, ["nothing ends"]),
    "endless loop": (
        steps("- repeat: forever", "  steps:", "    - mark: x"),
        4,
        ["how often", "has to end"],
    ),
    "loop of zero": (steps("- repeat: 0", "  steps:", "    - mark: x"), 4, ["whole number"]),
    "nested loops without end": (
        steps(
            "- repeat: 100000",
            "  steps:",
            "    - repeat: 100000",
            "      steps:",
            "        - mark: x",
        ),
        4,
        ["more than 100,000 steps"],
    ),
    "zero current": (steps("- current: {at: 0 mA, for: 1 min}"), 4, ["rest"]),
    # Cell, fixture, instruments
    "voltage beyond the card": (
        steps("- voltage: {at: 5.5 V, for: 1 min}"),
        4,
        ["outside the limits", "-5 V to 5 V"],
    ),
    "hold beyond the protocol's limit": (
        "name: x\ncell: LYC\nlimits:\n  voltage: 0 V to 4.2 V\nsteps:\n"
        "  - hold: {at: 4.8 V, for: 30 h}\n",
        6,
        ["outside the limits", "0 V to 4.2 V"],
    ),
    "cut-off beyond the limits": (
        steps("- current: {at: 1 mA, until: voltage >= 6 V, at most: 1 h}"),
        4,
        ["trip before"],
    ),
    "current beyond the card": (
        steps("- current: {at: 20 mA/cm2, for: 1 min}"),
        4,
        ["beyond the limit", "10 mA/cm2"],
    ),
    "pressure beyond the card": (steps("- press: 40 MPa"), 4, ["beyond the limit", "35 MPa"]),
    "pull": (steps("- press: -1 MPa"), 4, ["does not pull"]),
    "spectrum above the band": (
        steps("- eis: {from: 7 MHz, to: 1 Hz}"),
        4,
        ["beyond", "1 MHz to 1 Hz", "as available"],
    ),
    "gate too fine": (
        steps("- press: {to: 5 MPa, settle: {within: 1 Pa, for: 1 min}}"),
        4,
        ["can confirm"],
    ),
    "gate too short": (
        steps("- press: {to: 5 MPa, settle: {within: 1 MPa, for: 1 ms}}"),
        4,
        ["can confirm"],
    ),
    "too fast": (steps("- rest: {for: 1 min, record: {every: 1 us}}"), 4, ["faster than", "1 ms"]),
    "chamber beyond": (steps("- temperature: 90 degC"), 4, ["outside the limits", "60 °C"]),
    "tiny current": (steps("- current: {at: 1 nA / 1000, for: 1 min}"), 4, ["resolves"]),
    "limits that leave nothing": (
        "name: x\ncell: LYC\nlimits:\n  voltage: 6 V to 7 V\nsteps:\n  - rest: 1 s\n",
        4,
        ["leaves no voltage"],
    ),
    "limits upside down": (
        "name: x\ncell: LYC\nlimits:\n  voltage: 2 V to -2 V\nsteps:\n  - rest: 1 s\n",
        4,
        ["below its start"],
    ),
    "unknown cell": ("name: x\ncell: LYK\nsteps:\n  - rest: 1 s\n", 2, ['did you mean "LYC']),
    "no cell": ("name: x\nsteps:\n  - rest: 1 s\n", 1, ["names no cell", "--cell"]),
    # What is hardly meant, and endless
    "a rest of 1e300 h": (steps("- rest: 1e300 h"), 4, ["would last", "10 years"]),
    "a sweep of years": (
        steps("- sweep: {from: 0 V, to: 1 V, rate: 1 nV/s}"),
        4,
        ["would last 31.7 years"],
    ),
    "a spectrum of years": (steps("- eis: {from: 1 Hz, to: 1e-12 Hz}"), 4, ["would last"]),
    "a wait of years": (steps("- wait: 11000 d"), 4, ["would last"]),
    "a ramp of years": (
        steps("- press: {to: 1 MPa, ramp: 1e-6 Pa/s, settle: {within: 0.1 MPa, for: 1 min}}"),
        4,
        ["would last"],
    ),
    "a billion passes": (
        steps(
            "- for each: {a: 1 to 1000 by 1}",
            "  steps:",
            "    - for each: {b: 1 to 1000 by 1}",
            "      steps:",
            "        - for each: {c: 1 to 1000 by 1}",
            "          steps: [{mark: x}]",
        ),
        4,
        ["expands to more than 100,000 steps"],
    ),
    "a billion combinations": (
        steps(
            "- for each: {a: 1 to 1000 by 1, b: 1 to 1000 by 1, c: 1 to 1000 by 1}",
            "  steps: [{mark: x}]",
        ),
        4,
        ["expands to more than 100,000 steps"],
    ),
    "a loop without steps": (steps("- repeat: 3", "  steps:"), 4, ['needs "steps"']),
    "temperature at its limit": (
        steps("- temperature: 59 degC"),
        4,
        ["close to the limit of 60 °C", "Stay 2 K away"],
    ),
    "charge of a symmetric cell": (
        steps("- charge: {at: 1 mA, for: 1 h}"),
        4,
        ["no direction on a symmetric cell", '"charge current: positive"'],
    ),
    "capacity of a symmetric cell": (
        steps("- current: {at: 1 mA, for: 0.5 of nominal capacity}"),
        4,
        ["gives no capacity", '"0.5 mAh/cm2"'],
    ),
    "a lone voltage as limit": (
        "name: x\ncell: LYC\nlimits:\n  voltage: 2 V\nsteps:\n  - rest: 1 s\n",
        4,
        ["only one end", '"-2 V to 2 V"', '"at most 2 V"'],
    ),
    "an analysis without its steps": (
        "name: x\ncell: LYC\nsteps:\n  - rest: 1 s\nanalyses:\n  - ccd\n",
        6,
        ['"ccd" needs a current step'],
    ),
    "a conductivity without spectrum": (
        "name: x\ncell: LYC\nsteps:\n  - rest: 1 s\nanalyses: [conductivity]\n",
        5,
        ['"conductivity" needs a spectrum'],
    ),
    # How it is said
    "amplitude in ampere": (
        steps("- eis: {from: 1 MHz, to: 1 Hz, amplitude: 10 mA}"),
        4,
        ["galvanostatic", "10 mA exceeds the limit of 7.854 mA (10 mA/cm2)", '"10 mV"'],
    ),
    "mistyped block": (
        "name: x\ncell: LYC\ndefine:\n  spectrum: {from: 1 MHz, to: 1 Hz}\nsteps:\n"
        "  - eis: $spectrumm\n",
        6,
        ['no block "$spectrumm" under "define"', 'did you mean "$spectrum"'],
    ),
    "years": (steps("- rest: 2 years"), 4, ["for a time, use s, min, h or d"]),
    "C for degC": (steps("- temperature: 25 C"), 4, ['write "25 degC"']),
    "C for degC in limits": (
        "name: x\ncell: LYC\nlimits:\n  temperature: 10 C to 50 C\nsteps:\n  - rest: 1 s\n",
        4,
        ['write "10 degC"'],
    ),
    "settle without block": (
        steps("- press: {to: 1 MPa, settle: 3 min}"),
        4,
        ['"{within: 0.1 MPa, for: 2 min}"'],
    ),
    "ramp too fast": (
        steps("- press: {to: 1 MPa, ramp: 50 MPa/s}"),
        4,
        ["faster than Press moves", "at most 6.3 MPa/s"],
    ),
    "ramp that overshoots": (
        steps("- press: {to: 34 MPa, ramp: 5 MPa/s}"),
        4,
        ["too far", "at most 1.3 MPa/s"],
    ),
    "a step of zero": (
        steps("- for each: {j: 1 to 2 by 0 mA}", "  steps: [{mark: x}]"),
        4,
        ["a step of zero never arrives"],
    ),
    "bars in brackets": (
        steps("- rest: {until: [|current| <= 1 mA, short], at most: 1 h}"),
        4,
        ["needs quotes", '"|current| <= 1 mA"'],
    ),
    # Includes
    "include that includes itself": (steps("- include: wrong.yaml"), 4, ["includes itself"]),
    "missing include": (steps("- include: nothere.yaml"), 4, ["nothere.yaml"]),
    "unknown parameter of an include": (
        steps("- include: ccd", "  with: {curents: 1 mA}"),
        5,
        ["has no parameter"],
    ),
}

CARD = """cell: X
layout: NMC | SE | In/InLi
working: {active: NMC, diameter: 10 mm}
counter: {material: In/InLi}
electrolyte: {thickness: 0.5 mm, diameter: 10 mm}
limits:
  potential: 2.5 V to 4.5 V vs Li+/Li
  current: 5 mA/cm2
"""
CARDS: dict[str, tuple[str, int, list[str]]] = {
    "no reference": (
        CARD.replace(" vs Li+/Li", ""),
        7,
        ["no reference", "at the terminals", "In/InLi"],
    ),
    "C-rate without capacity": (CARD.replace("5 mA/cm2", "5C"), 8, ["1C", "loading"]),
    "thickness in litres": (CARD.replace("0.5 mm", "0.5 l"), 5, ["not a unit"]),
    "negative thickness": (CARD.replace("0.5 mm", "-0.5 mm"), 5, ["not above zero"]),
    "mistyped key": (CARD.replace("thickness", "thicknes"), 5, ["thickness"]),
    "both sizes": (
        CARD.replace("NMC, diameter: 10 mm", "NMC, diameter: 10 mm, area: 1 cm2"),
        3,
        ["not both"],
    ),
    "no size": (CARD.replace(", diameter: 10 mm}\ncounter", "}\ncounter"), 3, ["diameter"]),
    "half a window": (CARD.replace("2.5 V to 4.5 V", "at most 4.5 V"), 7, ["both ends"]),
    "thick": (CARD.replace("0.5 mm", "354 mm"), 5, ["thickness of 0.354 m", "1 um to 20 mm"]),
    "wide": (
        CARD.replace("NMC, diameter: 10 mm", "NMC, diameter: 10 m"),
        3,
        ["working diameter of 10 m"],
    ),
    "hardly pressed": (
        CARD.replace("0.5 mm,", "0.5 mm, fabrication pressure: 300 Pa,"),
        5,
        ["fabrication pressure of 0.3 kPa", "0.1 MPa to 5 GPa"],
    ),
    "a full cell of one metal": (
        CARD.replace("layout", "kind: full\nlayout").replace("active: NMC", "material: In/InLi"),
        2,
        ["no full cell", "kind: symmetric"],
    ),
    "a potential for a voltage": (
        CARD.replace("In/InLi", "Li").replace(" vs Li+/Li", ""),
        7,
        ["has a reference", '"voltage: ..."'],
    ),
    "counter potential without reference": (
        CARD.replace("In/InLi}", "In/InLi, potential: 0.62 V}"),
        4,
        ['"0.62 V vs Li+/Li"'],
    ),
    "C for degC": (
        CARD + "  temperature: 10 C to 60 C\n",
        9,
        ['write "10 degC"'],
    ),
    "window upside down": (CARD.replace("2.5 V to 4.5 V", "4.5 V to 2.5 V"), 7, ["start"]),
}

SETTINGS: dict[str, tuple[dict[str, str], list[str]]] = {
    "unknown": ({"curents": "1 mA"}, ["--set curents", 'did you mean "currents"']),
    "wrong unit": ({"half_cycle": "20 mins."}, ["--set half_cycle"]),
    "wrong dimension": ({"half_cycle": "0.5 mA"}, ["--set half_cycle", "20 min"]),
    "words": ({"half_cycle": "long"}, ["--set half_cycle", "20 min"]),
    "no step": ({"currents": "0.1 to 0.5 mA/cm2"}, ["--set currents", "by how much"]),
    "no unit": ({"half_cycle": "5"}, ["--set half_cycle: ", '"5" has no unit: write "5 min"']),
    "no unit in a list": ({"currents": "1, 2"}, ['write "1, 2 mA/cm2"']),
    "beyond the cell": ({"currents": "1, 50 mA/cm2"}, ["j = 50 mA/cm2", "beyond the limit"]),
}


def complaint(bench: Bench, path: Path, settings: dict[str, str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        check(load_protocol(path, None, settings), bench).raise_problems()
    return str(caught.value)


def fits_a_screen(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) <= 24 and all(len(line) <= 110 for line in lines)


@pytest.mark.parametrize("case", PROTOCOLS)
def test_a_wrong_protocol_names_line_and_cure(case: str, tmp_path: Path, bench: Bench) -> None:
    text, line, words = PROTOCOLS[case]
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    said = complaint(bench, path)
    assert f"wrong.yaml, line {line}: " in said if line else "wrong.yaml" in said
    flat = " ".join(said.split())
    assert [word for word in words if word not in flat] == [], said
    assert fits_a_screen(said)


@pytest.mark.parametrize("case", CARDS)
def test_a_wrong_card_names_line_and_cure(case: str, tmp_path: Path) -> None:
    text, line, words = CARDS[case]
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_card(None, path)
    said = str(caught.value)
    flat = " ".join(said.split())
    assert [word for word in words if word not in flat] == [], said
    assert f"card.yaml, line {line}: " in said
    assert fits_a_screen(said)


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting_names_the_parameter(case: str, bench: Bench) -> None:
    settings, words = SETTINGS[case]
    with pytest.raises(InputError) as caught:
        check(load_protocol("ccd", None, settings), bench).raise_problems()
    flat = " ".join(str(caught.value).split())
    assert [word for word in words if word not in flat] == [], flat
    assert "line 1:" not in flat
    assert fits_a_screen(str(caught.value))


ONE_MISTAKE = {
    "misspelt key": steps("- current: {att: 1 mA, for: 1 s}"),
    "misspelt key of a list": steps("- rest: {untl: voltage > 1 V, at most: 1 h}"),
    "pressure": steps("- press: 400 MPa"),
    "verb in a group": steps("- group: a", "  steps:", "    - rets: 1 s"),
    "only step": steps("- rets: 1 s"),
    "step that is none": steps("- rest"),
    "only step of a loop": steps("- repeat: 2", "  steps:", "    - eis: 3"),
}


@pytest.mark.parametrize("case", ONE_MISTAKE)
def test_one_mistake_is_one_problem(case: str, tmp_path: Path, bench: Bench) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(ONE_MISTAKE[case], encoding="utf-8")
    assert complaint(bench, path).count("wrong.yaml, line") == 1


def test_a_misspelt_key_of_a_card_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(CARD.replace("layout", "layuot"), encoding="utf-8")
    with pytest.raises(InputError, match='did you mean "layout"') as caught:
        load_card(None, path)
    assert str(caught.value).count("card.yaml, line") == 1


def test_a_card_that_was_kept_with_a_run_is_taken_as_it_is() -> None:
    assert parse_card(CARD.replace("0.5 mm", "354 mm"), "card").electrolyte.thickness_m == 0.354


def test_what_expands_beyond_all_bounds_is_found_without_expanding_it(
    tmp_path: Path, bench: Bench
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(PROTOCOLS["a billion passes"][0], encoding="utf-8")
    program = load_protocol(path)
    assert list(Walk(program, planning=True)) == []
    with pytest.raises(ProtocolError, match="more than 100,000 steps"):
        next(Walk(program))


def test_a_card_can_give_charge_a_direction(tmp_path: Path, bench: Bench) -> None:
    card = Path(library.find_card("LYC")).read_text(encoding="utf-8")
    (tmp_path / "card.yaml").write_text(f"{card}charge current: negative\n", encoding="utf-8")
    path = tmp_path / "charge.yaml"
    path.write_text(
        "name: x\ncell: card.yaml\nsteps:\n  - charge: {at: 1 mA, for: 1 h}\n", encoding="utf-8"
    )
    assert check(load_protocol(path), bench).problems == ()


@pytest.mark.parametrize("setting", ["currents", "=5 mA", "currents=", ""])
def test_a_setting_without_name_or_value_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match="name=value"):
        parse_settings([setting])


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_settings(["a=1 s", "a=2 s"])


@pytest.mark.parametrize("name", ["cdd", "nothere.yaml", "\0", "x" * 5000])
def test_a_protocol_that_is_not_there_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="there is no"):
        load_protocol(name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "is a directory"),
        pytest.param(
            getattr(os, "mkfifo", None),
            "is not a regular file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no special files here"),
        ),
    ],
)
def test_what_is_no_file_is_called_what_it_is(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.yaml")
    with pytest.raises(InputError, match=words):
        load_protocol(tmp_path / "x.yaml")


def test_a_file_that_is_not_utf8_is_an_input_error(tmp_path: Path, bench: Bench) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"cell: LYC\nname: caf\xe9\n")
    assert "latin.yaml, line 2: this is not UTF-8" in complaint(bench, path)


def test_a_file_of_two_megabytes_is_not_parsed(tmp_path: Path, bench: Bench) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: b\n" * 400_000, encoding="utf-8")
    assert "larger than 1 MB" in complaint(bench, path)


def test_blocks_that_multiply_are_stopped(tmp_path: Path, bench: Bench) -> None:
    blocks = [f"  b{n}: [$b{n + 1}, $b{n + 1}, $b{n + 1}]" for n in range(30)]
    path = tmp_path / "bomb.yaml"
    lines = ["name: x", "cell: LYC", "define:", *blocks, "  b30: {mark: x}"]
    path.write_text("\n".join([*lines, "steps: $b0"]), encoding="utf-8")
    assert "expand to more than" in complaint(bench, path)


def test_of_many_problems_the_first_are_shown_and_the_rest_counted(
    tmp_path: Path, bench: Bench
) -> None:
    path = tmp_path / "many.yaml"
    lines = "".join(f"  - rest: {n} secs.\n" for n in range(1, 13))
    path.write_text(f"name: x\ncell: LYC\nsteps:\n{lines}", encoding="utf-8")
    said = complaint(bench, path)
    assert "line 4: " in said
    assert "more problems." in said
    assert fits_a_screen(said)


def test_two_protocols_that_include_each_other_are_refused(tmp_path: Path, bench: Bench) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        text = f"name: {name}\ncell: LYC\nsteps:\n  - include: {other}.yaml\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert "includes itself" in complaint(bench, tmp_path / "a.yaml")


def test_a_card_beside_the_protocol_is_found_without_its_suffix(tmp_path: Path) -> None:
    card = library.find_card("LYC").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(card.replace("cell: LYC", "cell: Li-7", 1), "utf-8")
    protocol = tmp_path / "p.yaml"
    protocol.write_text("name: p\ncell: mine\nsteps:\n  - rest: 1 s\n", "utf-8")
    assert load_protocol(protocol).card.cell == "Li-7"
    assert library.find_card(str(tmp_path / "mine")) == tmp_path / "mine.yaml"
