"""A Memmert chamber's AtmoWEB on HTTP: the bench's chamber, one request on each connection.

Source: the public pyatmoweb package and product notes. ``GET /atmoweb?Temp1Read=&TempSet=60.0``: a
key with nothing behind it is read, with a value it is set; every key is answered by what holds
then. The reply is a fragment of JSON, without braces and with a comma too many; what this chamber
has not reads ``N/A``, what no chamber has ``N/D``. The answer has the type ``Unknown`` and no
length: the chamber closes the connection after it.

Values are set where remote control is enabled for writing at the panel, within their ranges, and
the set point acts in the mode ``Manual``; what is not taken reads as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

import h11

from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

Remote = Literal["off", "r", "rw"]

_NOISE_K, _ZERO_CELSIUS_K = 0.02, 273.15
_MANUAL, _IDLE = "Manual", "Idle"
_NUMBER = re.compile(r"[+-]?\d{1,4}(\.\d{0,6})?")
#: What a chamber may have, and this one has not.
_ABSENT = frozenset({"HumRead", "HumSet", "Temp2Read", "Temp3Read", "Temp4Read", "CO2Read"})
_MAY_BE_SET = ("TempSet", "AlTempLo", "AlTempHi")


class MemmertEmulator(Emulator):
    """The chamber.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of its sensor's noise.
        remote: What somebody has enabled at the panel: nothing, to read, to read and write.
        range_C: Lowest and highest set point, in degC.
        strict_json: Whether its firmware answers whole JSON instead of a fragment.
        device_type: What ``DevType`` answers.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        remote: Remote = "rw",
        range_C: tuple[float, float] = (-42.0, 190.0),
        strict_json: bool = False,
        device_type: str = "CTC256",
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._chamber = world.chamber
        self._rng = random_stream(seed, name)
        self.remote: Remote = remote
        self.door_open = False
        self._range_C, self._strict = range_C, strict_json
        start_K = world.chamber.set_point_K
        self._operation = _IDLE if start_K is None else _MANUAL
        self._values = {
            "TempSet": 25.0 if start_K is None else round(start_K - _ZERO_CELSIUS_K, 1),
            "AlTempLo": range_C[0],
            "AlTempHi": range_C[1],
        }
        self._readings: dict[str, Callable[[], Any]] = {
            "Temp1Read": lambda: round(self._temperature_C(), 2),
            "CurOp": lambda: self._operation,
            "SN": lambda: f"B{seed % 1000:03d}.0042",
            "DevType": lambda: device_type,
            "SWRev": lambda: "BC: 4.10, FC: 4.04",
            "DoorOpen": lambda: int(self.door_open),
            "RC": lambda: self.remote,
        }
        self._http, self._answered = h11.Connection(h11.SERVER), False

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the chamber; a bench file has nothing to say that its own set-up depends on."""
        del options
        return cls(name, timebase, world, seed=seed)

    # ------------------------------------------------------------------ HTTP

    def _on_attach(self) -> None:
        self._http, self._answered = h11.Connection(h11.SERVER), False

    def _receive(self, data: bytes) -> None:
        if self._answered or not data:
            return
        self._http.receive_data(data)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._respond(error.error_status_hint, "")
            return
        if isinstance(event, h11.Request):
            self._answer(event)

    def _answer(self, request: h11.Request) -> None:
        address = urlsplit(request.target.decode("latin-1"))
        if request.method != b"GET":
            self._respond(405, "")
        elif address.path != "/atmoweb":
            self._respond(404, "")
        elif self.remote == "off":
            self._respond(403, "")
        else:
            self._world.advance_to(self._timebase.now())
            self._respond(200, self._body(parse_qsl(address.query, keep_blank_values=True)))

    def _respond(self, status: int, body: str) -> None:
        """Send the reply as the chamber does, which no library would, and close the connection."""
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n"
        head += "Content-Type: Unknown\r\nConnection: close\r\n\r\n"
        self._send((head + body).encode("latin-1"))
        self._answered, attached = True, self._sink

        def close() -> None:
            if self._sink is attached:
                self.hang_up()

        if self.line.delay_s > 0:
            self._call_at(self._timebase.now() + self.line.delay_s, close)
        elif not self.line.silent:
            close()

    # ------------------------------------------------------------------ keys

    def _body(self, keys: list[tuple[str, str]]) -> str:
        answers = {key: self._take(key, text) for key, text in keys}
        if self._strict:
            return json.dumps(answers)
        return "".join(
            f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in answers.items()
        )

    def _take(self, key: str, text: str) -> Any:
        """Set a key if there is something to set, and return what it is then."""
        if text and self.remote == "rw":
            self._set(key, text)
        name = key.removesuffix("_Range")
        if name in self._values:
            low, high = self._range_C
            return {"min": low, "max": high} if name != key else self._values[key]
        if key in self._readings:
            return self._readings[key]()
        return "N/A" if key in _ABSENT else "N/D"

    def _set(self, key: str, text: str) -> None:
        low, high = self._range_C
        if key == "CurOp" and text in {_MANUAL, _IDLE}:
            self._operation = text
        elif key in _MAY_BE_SET and _NUMBER.fullmatch(text) and low <= float(text) <= high:
            self._values[key] = round(float(text), 1)
        self._control()

    def _control(self) -> None:
        """Let the chamber follow; a command only where something changes."""
        manual = self._operation == _MANUAL
        wanted_K = self._values["TempSet"] + _ZERO_CELSIUS_K if manual else None
        if wanted_K != self._chamber.set_point_K:
            self._chamber.set_point_K = wanted_K

    def _temperature_C(self) -> float:
        noise_K = self._rng.gauss(0.0, _NOISE_K)
        return self._world.air_temperature_K - _ZERO_CELSIUS_K + noise_K


_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Not Allowed"}
