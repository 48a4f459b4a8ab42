"""The live view and the operator's prompt on a real (pseudo) terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from cellbench.cli.live import LiveView

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from tests.terminal import Terminal

PROTOCOL = """
cellbench: 1
name: Ask first
cell: LYC_PMMA
steps:
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
  - rest: 30 s
"""


Begin = Callable[..., Terminal]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Run a protocol on a terminal; none outlives its test."""
    begun: list[Terminal] = []

    def run(protocol: str, *options: str, **terminal: Any) -> Terminal:
        path = tmp_path / "protocol.yaml"
        path.write_text(protocol, encoding="utf-8")
        command = [sys.executable, "-m", "cellbench", "run", str(path), *options]
        begun.append(Terminal(command, **terminal))
        return begun[-1]

    yield run
    for each in begun:
        each.close()


@pytest.mark.long
def test_a_question_can_be_seen_and_must_be_answered(begin: Begin) -> None:
    terminal = begin(PROTOCOL)
    terminal.wait_for("Is the glovebox closed? [yes/no]")
    terminal.type("maybe\n")
    terminal.wait_for("is not an answer")
    terminal.type("yes\n")
    terminal.wait_for("everything in its safe state")
    assert terminal.end() == 0


@pytest.mark.long
def test_ctrl_c_at_a_question_ends_the_run(begin: Begin) -> None:
    terminal = begin(PROTOCOL)
    terminal.wait_for("[yes/no]")
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    terminal.wait_for("everything in its safe state")
    assert terminal.end() == 130


SHORT = """
cellbench: 1
name: A short test
cell: LYC_PMMA
steps:
  - current: {at: 0.1 mA/cm2, for: 3 min}
"""


@pytest.mark.long
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_the_live_view_shows_step_readings_and_limits(
    begin: Begin, columns: int, rows: int
) -> None:
    shown = begin(SHORT, "--speed", "60", columns=columns, rows=rows)
    shown.wait_to_see("limits -5 V to 5 V")
    lines = shown.lines
    assert lines[0].startswith("SIMULATED BENCH (seed 0): no instrument is connected.")
    below = 1 if columns >= 100 else 2  # which cell and run, where one line does not hold both
    assert lines[below - 1].endswith("-001")
    assert lines[below].startswith("A short test   00:0")
    assert lines[below].endswith(" %")
    assert lines[below + 1].startswith("step 1/1  current: current 0.1 mA/cm2")
    assert lines[below + 1].endswith(" of 00:03:00")
    readings = lines[below + 3 : below + 7]
    assert [line.split("  ")[0] for line in readings] == [
        "voltage", "current", "stack pressure", "temperature"
    ]  # fmt: skip
    assert "mA/cm2, at most 7.854 mA" in readings[1]
    assert shown.end() == 0


@pytest.mark.long
@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "latin-1"}, {"NO_COLOR": "1"}]
)
def test_poor_terminals_are_no_trouble(begin: Begin, environment: dict[str, str]) -> None:
    shown = begin(SHORT.replace("test", "テスト Ω"), environment=environment)
    shown.wait_for("everything in its safe state")
    assert shown.end() == 0
    assert "Traceback" not in shown.shown
    if "TERM" in environment:
        assert "\x1b" not in shown.shown
        assert "  current: current 0.1 mA/cm2" in shown.shown
    if "NO_COLOR" in environment:
        assert "\x1b[36m" not in shown.shown  # no cyan line of bars


# --- Every size -----------------------------------------------------------------------------------


def found(**more: Any) -> dict[str, Any]:
    """A run under way, as `cellbench.engine.snapshot` tells of it."""

    def reading(value: float | None, age_s: float = 0.2, *, stale: bool = False) -> dict[str, Any]:
        return {"value": value, "age_s": age_s, "stale": stale, "recent": [1.0, None, 2.0] * 20}

    return {
        "run": "2026-11-21-003", "cell": "セル Ω", "bench": "glovebox 2", "simulated": False,
        "seed": None, "protocol": "Critical current density of a cell with a long name",
        "time_s": 5000.0, "ends_by_s": 20000.0, "ends_by_utc": "2026-11-21T06:40:00+00:00",
        "area_m2": 7.854e-5, "ending": "", "holds": {}, "end_after": None, "question": None,
        "step": {"number": 12, "of": 17, "path": "ladder[5]/first", "what": "current 0.8 mA/cm2",
                 "elapsed_s": 860.0, "duration_s": 1200.0},
        "limits": {"voltage_V": (-2.0, 2.0), "current_A": (None, 7.854e-3),
                   "stack_pressure_Pa": (None, 12e6), "temperature_K": (None, None)},
        "readings": {"voltage_V": reading(-0.23104), "current_A": reading(0.628e-3),
                     "stack_pressure_Pa": reading(5.03e6, 310.0, stale=True),
                     "temperature_K": reading(None, 2.5)},
        "messages": [{"time_s": 60.0 * n, "text": f"message {n} " * 8} for n in range(6)],
    } | more  # fmt: skip


def drawn(width: int, height: int, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    console.print(LiveView(lambda: found(**more)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_the_view_fits_its_terminal(width: int, height: int) -> None:
    lines = drawn(width, height)
    assert max(map(cell_len, lines)) <= width
    # What is above the messages is always whole; they take what is left.
    text = "\n".join(lines)
    for words in ("-0.2310 V", "628 uA", "5.03 MPa", "unknown", "25 %" if width >= 60 else "25"):
        assert words in text
    if width >= 60:
        assert len(lines) < height
        assert "STALE for 5 min 10 s" in text
    if height == 50:
        assert "message 5" in lines[-1]


def test_what_holds_a_run_and_what_it_asks_stand_out() -> None:
    question = {"prompt": "Is it\x1b[2J closed?", "choices": ["yes", "no"], "asked_s": 1.0}
    lines = drawn(80, 24, holds={"pause": "paused by jk at pc since Sat 03:12"}, question=question)
    assert "PAUSED by jk at pc since Sat 03:12" in lines
    assert "ASKS: Is it [2J closed? [yes/no]" in lines


def test_a_run_without_a_known_end_says_so() -> None:
    lines = drawn(80, 24, ends_by_s=None, ends_by_utc=None, step=None)
    assert any(line.endswith("   01:23:20   end unknown") for line in lines)
    assert "no step is under way yet" in lines


def test_without_its_characters_a_terminal_gets_no_bars() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii", "replace"), width=90, height=24)
    console.print(LiveView(found))
    console.file.flush()
    assert isinstance(console.file, io.TextIOWrapper)
    text = console.file.buffer.getvalue().decode()
    assert "-0.2310 V" in text
    assert "????" not in text
