"""What was programmed into an instrument when it was told to energise the cell, by the wire alone.

A reading of each manual of its own: of MethodSCRIPT, of SCPI, of Neware's step files, of MacNet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cellbench.protocol.program import Limits

#: A bound may lie so much beyond a limit that a set point at the limit does not cross it.
_VOLTAGE_V, _FACTOR = 0.05, 1.05
_LIMIT = re.compile(rb":SOUR:(CURR:VLIM|VOLT:ILIM) ([-+0-9.e]+)")
_BRANCH = re.compile(rb":BRAN:LIM:CONS \d+,OUT,([-+0-9.e]+),([-+0-9.e]+)")
_FILE = re.compile(rb'([^\\/"<>]+\.xml)')

#: Told what is wrong.
Tell = Callable[[str], None]


class MethodScript:
    """A script that closes the cell has the limits in it."""

    def __init__(self, limits: Limits, tell: Tell) -> None:
        self._limits, self._tell = limits, tell

    def heard(self, data: bytes) -> None:
        script = data.decode("latin-1")
        if "cell_on" not in script.split():
            return
        lines = [line.strip() for line in script.splitlines()]
        closes = next(index for index, line in enumerate(lines) if line.startswith("cell_on"))
        before = lines[:closes]
        window = [line.split()[2:] for line in before if line.startswith("set_range_minmax da")]
        trips = [line for line in lines if line.startswith("send_string")]
        watched = {"voltage max", "voltage min"}
        if not any("meas_loop_eis" in line or "meas_loop_geis" in line for line in lines):
            watched.add("current max")
        told = {line.partition("TRIP ")[2].rstrip('"') for line in trips}
        if missing := watched - told:
            self._tell(f"a script closes the cell without a trip on {', '.join(sorted(missing))}")
        if window and abs(_number(window[-1][1])) > self._limits.voltage_max_V + _VOLTAGE_V:
            self._tell(f"a script may apply {window[-1]}")


class SourceMeasure:
    """A source is limited before its trigger model, which turns it on, is started."""

    def __init__(self, limits: Limits, tell: Tell) -> None:
        self._limits, self._tell = limits, tell
        self._limit: dict[bytes, float] = {}
        self._branch: tuple[float, float] | None = None

    def heard(self, data: bytes) -> None:
        if b"*RST" in data:
            self._limit.clear()
            self._branch = None
        if b":TRIG:LOAD" in data:
            self._branch = None
        for name, value in _LIMIT.findall(data):
            self._limit[name] = float(value)
        if found := _BRANCH.search(data):
            self._branch = float(found[1]), float(found[2])
        if b":INIT" in data:
            self._started()

    def _started(self) -> None:
        limits = self._limits
        if self._branch is None or not self._limit:
            self._tell("a source was started without limits")
            return
        most_A, most_V = limits.current_max_A * _FACTOR, _most_V(limits) + _VOLTAGE_V
        current_A, voltage_V = (self._limit.get(name, 0.0) for name in (b"VOLT:ILIM", b"CURR:VLIM"))
        if current_A > most_A or voltage_V > most_V:
            self._tell(f"a source was started with {self._limit}")


class StepFile:
    """A step file has the protection of the whole test in it."""

    def __init__(self, limits: Limits, tell: Tell, folder: Path) -> None:
        self._limits, self._tell, self._folder = limits, tell, folder

    def heard(self, data: bytes) -> None:
        found = _FILE.search(data)
        if b"<start" not in data or found is None:
            return
        path = next(iter(self._folder.rglob(found[1].decode())), None)
        if path is None:
            return
        main = ET.parse(path).find(".//Whole_Prt/Protect/Main")  # noqa: S314 (our own file)
        if main is None or main.find("Volt") is None or main.find("Curr") is None:
            self._tell(f"{path.name} has no protection")
            return
        most_mA = self._limits.current_max_A * _FACTOR * 1e3
        for name in ("Upper", "Lower"):
            each = main.find(f"Curr/{name}")
            if each is None or abs(float(each.get("Value", "nan"))) > most_mA:
                self._tell(f"{path.name} protects from no current")


class MacNet:
    """A channel's safety limits are set before direct mode is started, whose output lies within."""

    SAFETY, START, OUTPUT = (6, 10), (6, 7), (6, 8)

    def __init__(self, limits: Limits, tell: Tell) -> None:
        self._limits, self._tell = limits, tell
        self._is_safe = False

    def heard(self, data: bytes) -> None:
        try:
            asked = json.loads(data)["params"]
        except (ValueError, KeyError):
            return
        function = asked["FClass"], asked["FNum"]
        if function == self.SAFETY:
            self._is_safe = self._within(asked)
        if function == self.START and not self._is_safe:
            self._tell("direct mode was started without safety limits")
        if function in {self.START, self.OUTPUT}:
            limits = self._limits
            current_A, voltage_V = abs(asked["Current"]), asked["Voltage"]
            window = limits.voltage_min_V - _VOLTAGE_V, limits.voltage_max_V + _VOLTAGE_V
            if current_A > limits.current_max_A * _FACTOR or not (
                window[0] <= voltage_V <= window[1]
            ):
                self._tell(f"direct mode was to put out {current_A} A up to {voltage_V} V")

    def _within(self, asked: Mapping[str, Any]) -> bool:
        limits = self._limits
        most_A: float = max(asked["ISafeChg"], asked["ISafeDis"])
        high_V: float = asked["VSafeMax"]
        low_V: float = asked["VSafeMin"]
        return (
            most_A <= limits.current_max_A * _FACTOR
            and high_V <= limits.voltage_max_V + _VOLTAGE_V
            and low_V >= limits.voltage_min_V - _VOLTAGE_V
        )


def _number(written: str) -> float:
    scale = {"m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3}.get(written[-1:], 1.0)
    return float(written.rstrip("munk")) * scale


def _most_V(limits: Limits) -> float:
    return max(abs(limits.voltage_min_V), abs(limits.voltage_max_V))


def watch_of(
    driver: str, limits: Limits, tell: Tell, folder: Path
) -> MethodScript | SourceMeasure | StepFile | MacNet | None:
    """What listens in on a channel of that driver; None for other instruments."""
    match driver:
        case "palmsens":
            return MethodScript(limits, tell)
        case "keithley":
            return SourceMeasure(limits, tell)
        case "neware":
            return StepFile(limits, tell, folder)
        case "maccor":
            return MacNet(limits, tell)
        case _:
            return None
