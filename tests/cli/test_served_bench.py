"""The emulators in a process of their own, in real time, through every transport they have in life.

The same short protocol gives the same result as in memory: drivers cannot tell the difference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving import served as serving

from cellbench.cli.app import app

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX"),
]

PROTOCOL = """
cellbench: 1
name: A quick spectrum
cell: LYC_PMMA_blocking
steps:
  - press: {to: 2 MPa, ramp: 5 MPa/s, settle: {within: 0.3 MPa, for: 2 s}}
  - rest: 1 s
  - eis: {from: 1 MHz, to: 1 kHz, points: 8 per decade, amplitude: 10 mV}
  - press: release
analyses: [conductivity]
"""


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    path = tmp_path / "quick.yaml"
    path.write_text(PROTOCOL)
    return str(path)


@pytest.fixture
def served() -> Iterator[dict[str, Any]]:
    """Addresses and bench of ``cellbench sim serve`` in another process."""
    with serving("--cell", "LYC_PMMA_blocking") as answer:
        yield answer


def tcp(places: list[str]) -> str:
    return places[0]


def pseudo_terminal(places: list[str]) -> str:
    return places[1]


def visa_serial(places: list[str]) -> str:
    return f"visa:ASRL{places[1]}::INSTR"


def visa_socket(places: list[str]) -> str:
    host, port = places[0].removeprefix("tcp://").split(":")
    return f"visa:TCPIP::{host}::{port}::SOCKET"


#: How the serial instruments are reached, and how the press, which has Modbus TCP alone.
WAYS = {
    "TCP": (tcp, tcp),
    "pyserial on a pseudo-terminal": (pseudo_terminal, tcp),
    "pyvisa-py": (visa_serial, visa_socket),
}


def conductivity(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        app(["run", *arguments, "--json"])
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.out + captured.err
    result: dict[str, Any] = json.loads(captured.out)["results"]["conductivity"]
    return result


def bench_file(served: dict[str, Any], way: str, directory: Path) -> Path:
    for_serial, for_press = WAYS[way]
    bench = served["bench"]
    for name, instrument in bench["instruments"].items():
        reach = for_press if name == "press" else for_serial
        instrument["port"] = reach(served["addresses"][name])
    path = directory / "bench.yaml"
    path.write_text(json.dumps(bench))
    return path


@pytest.mark.parametrize("way", WAYS)
def test_a_served_bench_gives_the_result_of_the_one_in_memory(
    served: dict[str, Any],
    protocol: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    path = bench_file(served, way, tmp_path)
    real = conductivity(capsys, protocol, "--bench", str(path))
    memory = conductivity(capsys, protocol)
    for quantity in ("conductivity_mS_cm", "R_total_ohm", "R_bulk_ohm"):
        assert real[quantity] == pytest.approx(memory[quantity], rel=0.01)
    assert real["stack_pressure_MPa"] == pytest.approx(memory["stack_pressure_MPa"], abs=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_in_real_time_is_recorded_and_replays(
    served: dict[str, Any],
    protocol: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    path = bench_file(served, way, tmp_path)
    conductivity(capsys, protocol, "--bench", str(path), "--record")
    with pytest.raises(SystemExit) as ended:
        app(["replay", "last"])
    assert ended.value.code == 0, capsys.readouterr().out
