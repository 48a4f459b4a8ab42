"""Protocols of ours as PyBaMM experiments, which PyBaMM itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.exchange import pybamm_experiment
from cellbench.exchange.cycling import (
    Cycling,
    Flow,
    Holding,
    Loop,
    Passing,
    Resting,
    Scanning,
    Spectrum,
)
from cellbench.protocol.program import Recording

CYCLES = Loop(
    3,
    (
        Passing(Flow(1e-3), 7200.0, 4.2),
        Holding(4.2, 90.0, Flow(5e-5)),
        Resting(600.0),
        Passing(Flow(-0.5, is_rate=True), None, 3.0),
    ),
)
METHOD = (
    Resting(1800.0),
    CYCLES,
    Spectrum(1e5, 1.0, 10, amplitude_V=0.01),
    Scanning(3.0, 3.5, 1e-3),
    Loop(2, (CYCLES, Passing(Flow(-2e-3), 3600.0))),
)


def export(protocol: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["protocol", "export", protocol, "--to", "pybamm", *arguments])


def test_the_file_reads_like_an_experiment() -> None:
    text, misfits = pybamm_experiment.written(Cycling("Some cycles", METHOD, cell="pouch"))
    assert [str(each) for each in misfits] == [
        "its limits: left out, the model has its own",
        "a spectrum, which no experiment measures: left out",
    ]
    assert (
        """
        "Rest for 30 minutes",
        *[(
            "Charge at 1 mA for 2 hours or until 4.2 V",
            "Hold at 4.2 V for 90 seconds or until 0.05 mA",
            "Rest for 10 minutes",
            "Discharge at 0.5C until 3 V",
        )] * 3,
        pybamm.step.voltage(np.array([[0, 3], [500, 3.5]])),
        *[
"""
        in text
    )


@pytest.mark.parametrize("name", ["pelletize", "ccd", "gitt"])
def test_what_no_experiment_can_say_is_refused(name: str, tmp_path: Path) -> None:
    output = tmp_path / "x.py"
    result = export(name, "-o", str(output))
    assert result.exit_code == 2
    assert result.stderr.startswith("PyBaMM cannot say this:")
    assert not output.exists()


# --- PyBaMM itself --------------------------------------------------------------------------------


def experiment_of(text: str) -> Any:
    """What the file makes."""
    names: dict[str, Any] = {}
    exec(compile(text, "experiment.py", "exec"), names)  # noqa: S102 (written by us just now)
    return names["experiment"]


@pytest.mark.long
def test_pybamm_reads_what_is_written() -> None:
    pytest.importorskip("pybamm", reason="PyBaMM is not installed")
    record = Recording(every_s=10.0)
    experiment = experiment_of(pybamm_experiment.written(Cycling("x", METHOD, record))[0])
    assert experiment.cycle_lengths == [1, 4, 4, 4, 1, 4, 4, 4, 1, 4, 4, 4, 1]
    steps = experiment.steps
    assert experiment.period == 10.0
    assert [type(each).__name__ for each in steps[:6]] == [
        "Rest", "Current", "Voltage", "Rest", "CRate", "Current"
    ]  # fmt: skip
    charge, hold, rest, discharge = steps[1:5]
    # A current of PyBaMM is positive where it discharges.
    assert charge.value == pytest.approx(-1e-3)
    assert charge.duration == 7200.0
    assert [(each.operator, each.value) for each in charge.termination] == [(None, 4.2)]
    assert hold.value == 4.2
    assert hold.duration == 90.0
    assert hold.termination[0].value == pytest.approx(5e-5)
    assert rest.duration == 600.0
    assert discharge.value == 0.5
    assert discharge.termination[0].value == 3.0
    scan = steps[13]
    assert type(scan).__name__ == "Voltage"
    assert scan.duration == 500.0


@pytest.mark.long
@pytest.mark.parametrize("name", ["rate_test", "formation", "long_cycling"])
def test_pybamm_reads_shipped_protocols(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pybamm", reason="PyBaMM is not installed")
    output = tmp_path / "x.py"
    result = export(name, "-o", str(output))
    assert result.exit_code == 0, result.output
    experiment = experiment_of(output.read_text())
    assert len(experiment.steps) >= 16
    told = [line.partition(":")[0] for line in result.stderr.splitlines() if "a spectrum" in line]
    assert len(set(told)) == len(told)
    assert bool(told) == (name != "rate_test")
