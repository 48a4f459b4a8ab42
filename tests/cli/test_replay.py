"""``cellbench run --record`` and ``cellbench replay``, and the recordings in the repository.

Those are of short runs on emulators that another process served in real time, on TCP ports and
pseudo-terminals; `tests/recordings/remake.py` makes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cellbench.cli.app import app
from cellbench.engine.recorded import read_recording, write_recording
from cellbench.transport.recording import Kind, WireEvent, events_of, packed

RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.recording"))
NAMES = [path.stem for path in RECORDINGS]

SHORT = """
cellbench: 1
name: A look at a pellet
cell: LYC_PMMA_blocking
parameters: {duration: 5 s}
steps:
  - press: {to: 2 MPa, ramp: 5 MPa/s, settle: {within: 0.3 MPa, for: 2 s}}
  - rest: $duration
  - eis: {from: 1 MHz, to: 1 kHz, points: 8 per decade, amplitude: 10 mV}
  - press: release
analyses: [conductivity]
"""


Cellbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cellbench(capsys: pytest.CaptureFixture[str]) -> Cellbench:
    """Call the command; its exit code, output and errors."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([str(each) for each in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, captured.out, captured.err

    return call


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "look.yaml"
    path.write_text(SHORT)
    return path


# --- The recordings in the repository -------------------------------------------------------------


def test_there_are_recordings_and_they_are_small() -> None:
    assert {"ccd_tcp", "pellet_conductivity_pty"} <= set(NAMES)
    assert all(path.stat().st_size < 300_000 for path in RECORDINGS)
    assert all(read_recording(path).facts["time"] == "real" for path in RECORDINGS)


@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_todays_code_does_what_was_recorded(cellbench: Cellbench, path: Path) -> None:
    code, out, _ = cellbench("replay", path)
    assert code == 0, out
    assert "compared by meaning" in out
    assert "No divergence" in out


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "setting", "instrument"),
    [
        ("ccd_tcp", "currents=0.1, 0.5, 2, 4.9 mA/cm2", "potentiostat"),
        ("ccd_tcp", "stack_pressure=5.1 MPa", "press"),
        ("pellet_conductivity_pty", "temperature=21 degC", "chamber"),
        ("pellet_conductivity_pty", "equilibrate=121 s", "potentiostat"),
    ],
)
def test_a_changed_threshold_is_found_and_named(
    cellbench: Cellbench, name: str, setting: str, instrument: str
) -> None:
    arguments = ["replay", RECORDINGS[NAMES.index(name)], "--set", setting]
    code, out, _ = cellbench(*arguments)
    assert code == 1
    assert f"First divergence: {instrument}, at 0" in out
    assert "  expected " in out
    assert "  sent " in out
    code, out, _ = cellbench(*arguments, "--json")
    answer = json.loads(out)["found"]
    assert code == 1
    assert answer["divergence"]["connection"] == instrument
    assert answer["divergence"]["expected"] != answer["divergence"]["sent"]


@pytest.mark.long
@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_a_flipped_byte_is_found_and_named(
    cellbench: Cellbench, path: Path, tmp_path: Path
) -> None:
    recording = read_recording(path)
    events = list(events_of(recording.wire))
    scripts = [
        index
        for index, event in enumerate(events)
        if event.kind is Kind.SENT and event.data.startswith(b"e\n")
    ]
    at = scripts[len(scripts) // 2]
    event = events[at]
    middle = event.data.index(b"set_max_bandwidth") + len(b"set_max_bandwidth ")
    data = event.data[:middle] + bytes([event.data[middle] ^ 1]) + event.data[middle + 1 :]
    events[at] = WireEvent(event.time_s, event.connection, event.kind, data)
    flipped = tmp_path / "flipped.recording"
    write_recording(recording.model_copy(update={"wire": packed(events)}), flipped)
    code, out, _ = cellbench("replay", flipped)
    assert code == 1
    assert "First divergence: potentiostat" in out
    assert "set_max_bandwidth" in out


def test_a_recording_can_be_run_again_on_the_simulated_bench(cellbench: Cellbench) -> None:
    path = RECORDINGS[NAMES.index("pellet_conductivity_pty")]
    code, out, _ = cellbench("replay", path, "--on", "sim", "--tolerance", "10")
    assert "steps: all 5 agree" in out
    assert code == 0, out


# --- A run, from its recording to its replay ------------------------------------------------------


@pytest.mark.long
def test_a_run_is_recorded_replayed_exported_and_repeated(
    cellbench: Cellbench, protocol: Path, tmp_path: Path
) -> None:
    assert cellbench("run", protocol, "--record", "--seed", "5")[0] == 0
    code, out, _ = cellbench("replay", "last")
    assert code == 0
    assert "No divergence: today's code does what was recorded." in out
    assert "compared byte for byte" in out
    assert "compared by meaning" in cellbench("replay", "last", "--lenient")[1]
    code, out, _ = cellbench("replay", "last", "--set", "duration=6 s")
    assert code == 1
    assert "expected      meas_loop_ocp p 1 5" in out
    assert "sent          meas_loop_ocp p 1 6" in out
    assert "step rest" in out
    code, out, _ = cellbench("export", "last", "--to", "recording", "-o", tmp_path)
    assert code == 0
    path = Path(out.strip())
    protocol.unlink()
    assert cellbench("replay", path)[0] == 0
    code, out, _ = cellbench("replay", path, "--on", "sim")
    assert code == 0
    assert "steps: all 4 agree" in out
    code, out, _ = cellbench("replay", "last", "--on", "sim", "--sim-cell", "LYC_blocking")
    assert code == 1
    assert "conductivity.conductivity_mS_cm" in out
    code, out, _ = cellbench("replay", path, "--on", "sim", "--json")
    assert json.loads(out)["agrees"] is True


@pytest.mark.long
def test_what_cannot_be_replayed_is_said(
    cellbench: Cellbench, protocol: Path, tmp_path: Path
) -> None:
    assert cellbench("run", protocol)[0] == 0
    code, _, err = cellbench("replay", "last")
    assert code == 2
    assert "no wire log: it was run without --record" in err
    assert cellbench("replay", "last", "--on", "sim")[0] == 0
    code, _, err = cellbench("export", "last", "--to", "recording", "-o", tmp_path)
    assert code == 2
    assert "no wire log" in err
    code, _, err = cellbench("replay", protocol)
    assert code == 2
    assert "is no recording" in err
    code, _, err = cellbench("replay", "2020-01-01-001")
    assert code == 2
    assert "there is no run" in err
    code, _, err = cellbench("replay", RECORDINGS[0], "--timing", "1 V")
    assert code == 2
    assert "--timing" in err
    code, _, err = cellbench("replay", RECORDINGS[0], "--set", "nothing=1")
    assert code == 2
    assert "no such parameter" in err
