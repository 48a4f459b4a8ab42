"""A Maccor cycler's MacNet server: JSON over TCP (port 57570).

A request is one JSON object, however it is laid out, without any terminator; a reply is printed
over several lines, as in the help text, and ended by CR LF. Functions are named by class and number
(``FClass``, ``FNum``); channels count from 0. A refused command has a ``Result`` other than OK: its
meaning as text. What is no valid request at all gets a JSON-RPC error object.

Current, capacity and energy are magnitudes, ``RF1`` says in which direction (assumed; the function
table does not say: option ``signed_current``). Rest (``R``) by function 6,8 fails unless told
otherwise, as seen on a real system in 2022. Numeric error codes follow JSON-RPC (assumed). Function
6,13 and file transfer are missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

from cellbench.errors import InputError
from cellbench.quantities import parse
from cellbench_sim.emulators.cycler import EmptyHolder, OutputStage, Ratings
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.maccor_binary import MaccorBinaryPort
from cellbench_sim.emulators.maccor_channel import MaccorChannel
from cellbench_sim.emulators.maccor_json import MacNetError, Params, end_of_object, illegal
from cellbench_sim.emulators.maccor_steps import (
    Mode,
    Output,
    Procedure,
    ProcedureStep,
    Recording,
    Safety,
    SetOutput,
    Stat,
)
from cellbench_sim.leads import Cell
from cellbench_sim.randomness import random_stream

#: Ranges of the 4000 series' smallest boards; the largest is range 4.
RATINGS = Ratings(current_ranges_A=(150e-6, 5e-3, 150e-3, 5.0))
#: What every tester's folder of procedures holds here.
PROCEDURES: Mapping[str, Procedure] = {
    "Rest 60 s": (ProcedureStep(Output(Mode.REST), duration_s=60.0),)
}
_CHANNELS = 12
_CHANNELS_A_MESSAGE = 128
_ALL_SELECTED = 65535
_NAME_MAX, _COMMENT_MAX = 250, 80
_LONGEST_REQUEST = 1 << 16
_SWITCHED_ON = datetime(2026, 1, 1, tzinfo=UTC)
_ABSOLUTE_ZERO_C = 273.15
#: A power outside every range: none is set.
_LEFT_OUT = 65536.0
_TEMPERATURE_NOISE_K = 0.05
#: How far beyond the ranges safety limits can be put.
_SAFETY_HEADROOM = 1.05

_OUTPUT_WORDS = {
    SetOutput.OK: "OK",
    SetOutput.NOT_ACTIVE: "The channel is not active",
    SetOutput.TOO_FAST: "Command sent too fast",
    SetOutput.NO_DIRECT_MODE: "Direct mode is not active",
    SetOutput.NOT_READY: "Direct mode is not ready yet",
}
_NO_PROCEDURE, _NOT_ACTIVE = "Procedure does not exist", "Channel not active"
_NOT_SUSPENDED, _NAME_TOO_LONG = "Channel not suspended", "Name too long"
_NOT_UNIQUE, _IN_USE = "Test name not unique", "Channel in use"
_NONE_SELECTED, _PROCEDURE_FAILED = "No channel selected", "Procedure failed"
_NOT_COMPLETED = "Channel not completed"


class TemperedCell(Cell, Protocol):
    """A cell with a thermocouple on it."""

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of the cell."""


Reply = dict[str, Any]


class MaccorEmulator(Emulator):
    """The tester and its server; one channel holds the bench's cell, the others are empty.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: What the leads of that channel are clipped to, thermocouple included.
        seed: Seed of noise and gain errors.
        channel: The channel with the cell, counted from 1 as on the front.
        watchdog_s: ``MacNetDirectModeWD`` of the tester's set-up; 0 for none.
        rest_in_json: Whether function 6,8 takes the mode ``R``.
        signed_current: Whether discharge currents are shown negative.
        procedures: What the procedure folder holds.
        ratings: What a channel can do; four ranges.

    Attributes:
        channels: Every channel, the first one at index 0.
        binary: The server's binary port, which only sets outputs and resets channels.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: TemperedCell,
        *,
        seed: int,
        channel: int = 1,
        watchdog_s: float = 30.0,
        rest_in_json: bool = False,
        signed_current: bool = False,
        procedures: Mapping[str, Procedure] = PROCEDURES,
        ratings: Ratings = RATINGS,
    ) -> None:
        super().__init__(name, timebase)
        if channel < 1:
            raise InputError(f"{name}: channels count from 1, there is no {channel}")
        self._world = world
        self._cell_channel = channel - 1
        self._rest_in_json = rest_in_json
        self._signed = signed_current
        self._procedures = procedures
        self._ratings = ratings
        self._rng = random_stream(seed, name)
        self._received = bytearray()
        self._test_names: set[str] = set()
        self._selected: list[int] = []
        self._global_flags = 0
        self._listed = 0
        self.channels: list[MaccorChannel] = []
        for index in range(max(_CHANNELS, channel)):
            rng = random_stream(seed, f"{name}/{index}")
            cell: Cell = world if index == self._cell_channel else EmptyHolder()
            stage = OutputStage(cell, ratings, rng)
            self.channels.append(
                MaccorChannel(stage, timebase.now, self._call_at, watchdog_s=watchdog_s)
            )
        self.binary = MaccorBinaryPort(f"{name} binary", timebase, self.channels)
        self._functions: dict[tuple[int, int], Callable[[Params], Reply]] = {
            (0, 0): lambda params: dict(params.values),
            (1, 1): self._version,
            (1, 2): self._system,
            (1, 3): self._procedure_exists,
            (1, 4): self._test_name_exists,
            (1, 5): self._list_files,
            (3, 1): self._channel_limits,
            (3, 2): self._calibration,
            (4, 1): self._statuses,
            (4, 2): self._voltages,
            (4, 3): self._currents,
            (4, 4): self._aux_values,
            (4, 5): self._aux_units,
            (4, 6): self._names,
            (4, 7): self._readings,
            (4, 8): self._variables,
            (4, 9): self._test_times,
            (4, 10): self._ends,
            (5, 1): self._set_global_flags,
            (6, 1): self._select,
            (6, 2): self._start,
            (6, 3): lambda params: self._try(
                params, lambda channel: channel.suspend(), _NOT_ACTIVE
            ),
            (6, 4): lambda params: self._try(
                params, lambda channel: channel.resume(), _NOT_SUSPENDED
            ),
            (6, 5): self._reset,
            (6, 6): self._archive,
            (6, 7): self._start_direct,
            (6, 8): self._set_output,
            (6, 9): self._set_variable,
            (6, 10): self._set_safety,
            (6, 11): self._dry_run,
        }

    @classmethod
    def from_bench(
        cls,
        name: str,
        timebase: Timebase,
        world: TemperedCell,
        *,
        seed: int,
        options: Mapping[str, Any],
    ) -> Self:
        """Build the emulator that a bench file's options describe.

        ``channel`` (from 1), ``watchdog`` (``30 s``, ``0 s`` for none), ``json_rest`` and
        ``signed_current`` (true or false).
        """
        settings: dict[str, Any] = {}
        if "channel" in options:
            text = str(options["channel"])
            if not text.isdecimal():
                raise InputError(f"{name}: a Maccor channel is a number from 1, not {text!r}")
            settings["channel"] = int(text)
        if "watchdog" in options:
            settings["watchdog_s"] = parse(str(options["watchdog"]), "time")
        for option, setting in (("json_rest", "rest_in_json"), ("signed_current",) * 2):
            if option in options:
                settings[setting] = str(options[option]).lower() in {"true", "yes", "1"}
        return cls(name, timebase, world, seed=seed, **settings)

    # ------------------------------------------------------------------ the wire

    def _on_attach(self) -> None:
        self._received.clear()

    def _receive(self, data: bytes) -> None:
        self._received += data
        while self._received.strip():
            end = end_of_object(self._received)
            if end is None:
                break
            request = bytes(self._received[:end])
            del self._received[:end]
            self._answer(request)
        if len(self._received) > _LONGEST_REQUEST:
            self._received.clear()
            self._say({"error": {"code": -32700, "message": "Parse error"}}, None)

    def _answer(self, request: bytes) -> None:
        identity: Any = None
        try:
            try:
                message = _object(request)
            except (ValueError, RecursionError) as error:
                raise MacNetError(-32700, "Parse error") from error
            identity = message.get("id")
            self._say({"result": self._call(message)}, identity)
        except MacNetError as error:
            self._say({"error": {"code": error.code, "message": error.message}}, identity)

    def _call(self, message: dict[str, Any]) -> Reply:
        if (message.get("jsonrpc"), message.get("method")) != ("2.0", "MacNet") or (
            "id" not in message
        ):
            raise MacNetError(-32600, "Method MacNet, jsonrpc 2.0 or id not found")
        values = message.get("params")
        if not isinstance(values, dict):
            raise MacNetError(-32602, "Invalid params")
        f_class, f_number = values.get("FClass"), values.get("FNum")
        if type(f_class) is not int:
            raise MacNetError(-32602, '"FClass" key does not exist or value syntax error')
        if f_class not in {entry for entry, _ in self._functions}:
            raise MacNetError(-32601, "Invalid FClass")
        function = self._functions.get((f_class, f_number)) if type(f_number) is int else None
        if function is None:
            raise MacNetError(-32601, "Invalid FNum")
        head = {"FClass": f_class, "FNum": f_number}
        if "Chan" in values:
            head["Chan"] = values["Chan"]
        return head | function(Params(values))

    def _say(self, reply: Reply, identity: Any) -> None:
        text = json.dumps({"jsonrpc": "2.0", **reply, "id": identity}, indent=1)
        self._send(text.encode() + b"\r\n")

    # ------------------------------------------------------------------ the system

    def _version(self, params: Params) -> Reply:  # noqa: ARG002 (as all functions)
        return {
            "APIVersion": 1,
            "MacTest32EXEversionMajor": 3, "MacTest32EXEversionMinor": 2,
            "MacTest32EXEversionBuild": 18,
            "MacTest32DLLversionMajor": 3, "MacTest32DLLversionMinor": 2,
            "MacTest32DLLversionBuild": 18,
            "MacTest32ExeDT": "2016-11-08T15:02:58", "MacTest32DLLDT": "2016-11-13T11:29:48",
        }  # fmt: skip

    def _system(self, params: Params) -> Reply:  # noqa: ARG002 (as all functions)
        return {
            "SystemID": "cellbench", "SystemType": 0, "ControllerBoards": 1,
            "TestChannels": len(self.channels), "AuxBoards": 1, "AuxChannels": 1,
        }  # fmt: skip

    def _procedure_exists(self, params: Params) -> Reply:
        name = params.text("ProcName")
        return {"ProcName": name, "ProcedurExists": _truth(name in self._procedures)}

    def _test_name_exists(self, params: Params) -> Reply:
        name = params.text("TestName")
        return {"TestName": name, "TestNameExists": _truth(name in self._test_names)}

    def _list_files(self, params: Params) -> Reply:
        """Return the first file of a kind (command 0), or the next one; empty after the last."""
        kind = params.integer("FileType", 1, 7)
        self._listed = 0 if params.integer("Command", 0, 1) == 0 else self._listed + 1
        names = sorted(self._procedures) if kind == 1 else []
        name = f"{names[self._listed]}.000" if self._listed < len(names) else ""
        return {"FileType": kind, "FileName": name}

    def _set_global_flags(self, params: Params) -> Reply:
        try:
            self._global_flags |= int(params.text("GlobFlags"), 16)
        except ValueError as error:
            raise illegal() from error
        return {"Result": "OK"}

    # ------------------------------------------------------------------ what channels show

    def _channel_limits(self, params: Params) -> Reply:
        channel = self._channel(params)
        ranges = {
            f"IR{number}{direction}": self._ratings.current_ranges_A[number - 1]
            for direction in ("Chg", "Dis")
            for number in (4, 3, 2, 1)
        }
        safety = _safety_reply(channel.safety)
        return {
            "Vmax": self._ratings.voltage_max_V,
            "Vmin": self._ratings.voltage_min_V,
            "VSafeMax": safety["VSafeMax"],
            "VSafeMin": safety["VSafeMin"],
            **ranges,
            **safety,
            "TickSpeed": 0.01,
        }

    def _calibration(self, params: Params) -> Reply:
        self._channel(params)
        date = "2025-11-03T09:00:00"
        return {"VoltCalDT": date, "CurrCalDT": date}

    def _statuses(self, params: Params) -> Reply:
        def status(channel: MaccorChannel) -> Reply:
            return {"RF1": channel.rf1, "RF2": channel.rf2, "Stat": channel.stat}

        return self._of_several(params, "Status", status)

    def _voltages(self, params: Params) -> Reply:
        return self._of_several(params, "Voltage", lambda channel: channel.reading()[0])

    def _currents(self, params: Params) -> Reply:
        return self._of_several(
            params, "Current", lambda channel: self._shown_A(channel.reading()[1])
        )

    def _test_times(self, params: Params) -> Reply:
        return self._of_several(params, "TestTimes", lambda channel: _plain(channel.test_time_s, 2))

    def _of_several(
        self, params: Params, name: str, value: Callable[[MaccorChannel], Any]
    ) -> Reply:
        first = params.integer("Chan", 0, len(self.channels) - 1)
        most = min(_CHANNELS_A_MESSAGE, len(self.channels) - first)
        length = params.integer("Len", 1, most, default=1)
        return {"Len": length, name: [value(self.channels[first + at]) for at in range(length)]}

    def _aux_values(self, params: Params) -> Reply:
        if self._index(params) != self._cell_channel:
            return {"Len": 0, "AuxValues": []}
        self._world.advance_to(self._timebase.now())
        noise_K = self._rng.gauss(0.0, _TEMPERATURE_NOISE_K)
        value_C = self._world.cell_temperature_K - _ABSOLUTE_ZERO_C + noise_K
        return {"Len": 1, "AuxValues": [round(value_C, 2)]}

    def _aux_units(self, params: Params) -> Reply:
        wired = self._index(params) == self._cell_channel
        return {"Len": int(wired), "AuxUnit": ["C"] if wired else []}

    def _names(self, params: Params) -> Reply:
        channel = self._channel(params)
        return {
            "TestName": channel.test_name, "ProcName": channel.procedure_name,
            "Comment": channel.comment, "ProcDesc": "",
        }  # fmt: skip

    def _readings(self, params: Params) -> Reply:
        channel = self._channel(params)
        voltage_V, current_A = channel.reading()
        moment = _SWITCHED_ON + timedelta(seconds=self._timebase.now())
        return {
            "RF1": channel.rf1,
            "RF2": channel.rf2,
            "Stat": channel.stat,
            "LastRecNum": len(channel.records),
            "Cycle": 0,
            "Step": channel.step,
            "TestTime": _plain(channel.test_time_s, 2),
            "StepTime": _plain(channel.step_time_s, 2),
            "Capacity": _plain(channel.charge_Ah, 15),
            "Energy": _plain(channel.energy_Wh, 15),
            "Current": _plain(self._shown_A(current_A), 15),
            "Voltage": voltage_V,
            "TesterTime": f"{moment:%Y-%m-%dT%H:%M:%S}",
        }

    def _variables(self, params: Params) -> Reply:
        flags = f"0x{self._global_flags & 0xFFFFFFFF:08X}"
        return {"GlobFlags": flags, "VARs": list(self._channel(params).variables)}

    def _ends(self, params: Params) -> Reply:
        self._channel(params)
        return {"NumOfEnds": 0, "EndNum": 0}

    # ------------------------------------------------------------------ tests

    def _select(self, params: Params) -> Reply:
        chosen = params.values.get("Chans")
        if not isinstance(chosen, list):
            raise MacNetError(-32602, "Missing object")
        several = [Params({"Chan": entry}) for entry in chosen]
        self._selected = [self._index(entry) for entry in several]
        for index in self._selected:
            channel = self.channels[index]
            if channel.stat is Stat.AVAILABLE:
                channel.stat = Stat.SELECTED
        return {"Result": "OK"}

    def _start(self, params: Params) -> Reply:
        indices = self._targets(params)
        refusal = self._refusal(params, indices)
        if refusal != "OK":
            return {"Result": refusal}
        name = self._take_name(params.text("TestName"))
        procedure = params.text("ProcName")
        for index in indices:
            channel = self.channels[index]
            channel.test_name, channel.procedure_name = name, procedure
            channel.comment = params.text("Comment", "")[:_COMMENT_MAX]
            channel.start_procedure(self._procedures[procedure])
        return {"Result": "OK"}

    def _dry_run(self, params: Params) -> Reply:
        return {"Result": self._refusal(params, self._targets(params))}

    def _targets(self, params: Params) -> list[int]:
        if params.values.get("Chan") == _ALL_SELECTED:
            return self._selected
        return [self._index(params)]

    def _refusal(self, params: Params, indices: list[int]) -> str:
        """Return why a test cannot start, OK where it can."""
        if not indices:
            return _NONE_SELECTED
        if any(self.channels[index].in_use for index in indices):
            return _IN_USE
        if params.text("ProcName") not in self._procedures:
            return _NO_PROCEDURE
        return self._name_refusal(params.text("TestName"))

    def _name_refusal(self, name: str) -> str:
        if len(name) > _NAME_MAX:
            return _NAME_TOO_LONG
        return _NOT_UNIQUE if name in self._test_names else "OK"

    def _take_name(self, name: str) -> str:
        if name in {"", "Random"}:
            name = f"R{self._rng.randrange(10**8):08d}"
        self._test_names.add(name)
        return name

    def _reset(self, params: Params) -> Reply:
        self._channel(params).reset()
        return {"Result": "OK"}

    def _archive(self, params: Params) -> Reply:
        channel = self._channel(params)
        if channel.stat is not Stat.COMPLETED:
            return {"Result": _NOT_COMPLETED}
        channel.reset()
        return {"Result": "OK"}

    def _try(self, params: Params, action: Callable[[MaccorChannel], bool], refusal: str) -> Reply:
        return {"Result": "OK" if action(self._channel(params)) else refusal}

    # ------------------------------------------------------------------ direct mode

    def _start_direct(self, params: Params) -> Reply:
        channel = self._channel(params)
        output, active = self._output(params)
        recording = Recording(
            *(params.number(name, 0.0) or math.inf for name in ("DataTime", "DataV", "DataI"))
        )
        if channel.in_use:
            return {"Result": "Channel not available"}
        refusal = self._name_refusal(params.text("TestName"))
        if refusal != "OK":
            return {"Result": refusal}
        if len(active) > 3:
            return {"Result": _PROCEDURE_FAILED}
        channel.test_name = self._take_name(params.text("TestName"))
        channel.start_direct(output, recording, active)
        return {"Result": "OK"}

    def _set_output(self, params: Params) -> Reply:
        channel = self._channel(params)
        output, active = self._output(params)
        if len(active) > 3:
            raise illegal()
        if output.mode is Mode.REST and not self._rest_in_json:
            raise MacNetError(-32000, "MacNet error")
        return {"Result": _OUTPUT_WORDS[channel.set_output(output)]}

    def _output(self, params: Params) -> tuple[Output, frozenset[str]]:
        mode = params.text("ChMode")
        if mode not in {"C", "D", "R"}:
            raise illegal()
        values = [
            params.number("Current"),
            params.number("Voltage"),
            params.number("Power", _LEFT_OUT),
            params.number("Resistance", 0.0),
        ]
        current_range = params.integer("CurrentRange", 1, 4)
        return Output.read(Mode(ord(mode)), values, current_range, self._ratings)

    def _set_variable(self, params: Params) -> Reply:
        channel = self._channel(params)
        number = params.integer("VarNum", 1, len(channel.variables))
        channel.variables[number - 1] = params.number("Value")
        return {"Result": "OK"}

    def _set_safety(self, params: Params) -> Reply:
        """Set what a channel can be set to, and say what that was."""
        channel, ratings = self._channel(params), self._ratings
        most_A = _SAFETY_HEADROOM * ratings.current_max_A
        high_V = _SAFETY_HEADROOM * ratings.voltage_max_V
        low_V = _SAFETY_HEADROOM * ratings.voltage_min_V
        most_W = most_A * max(high_V, -low_V)
        bounds = {
            "VSafeMax": (low_V, high_V), "VSafeMin": (low_V, high_V),
            "ISafeChg": (0.0, most_A), "ISafeDis": (0.0, most_A),
            "PBatSafeChg": (0.0, most_W), "PBatSafeDis": (0.0, most_W),
        }  # fmt: skip
        values = [min(max(params.number(name), low), high) for name, (low, high) in bounds.items()]
        channel.set_safety(Safety(*values))
        return _safety_reply(channel.safety)

    # ------------------------------------------------------------------ helpers

    def _index(self, params: Params) -> int:
        return params.integer("Chan", 0, len(self.channels) - 1)

    def _channel(self, params: Params) -> MaccorChannel:
        return self.channels[self._index(params)]

    def _shown_A(self, current_A: float) -> float:
        return current_A if self._signed else abs(current_A)


def _safety_reply(safety: Safety) -> Reply:
    return {
        "VSafeMax": safety.voltage_max_V, "VSafeMin": safety.voltage_min_V,
        "ISafeChg": safety.charge_A, "ISafeDis": safety.discharge_A,
        "PBatSafeChg": safety.charge_W, "PBatSafeDis": safety.discharge_W,
    }  # fmt: skip


def _object(request: bytes) -> dict[str, Any]:
    message = json.loads(request)
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 (one more way to be no request)
    return message


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _plain(value: float, decimals: int) -> float:
    """Return a number that prints without a fraction where it has none."""
    rounded = round(value, decimals)
    return int(rounded) if rounded == int(rounded) else rounded
