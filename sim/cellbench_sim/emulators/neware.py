"""A Neware BTS 8 client PC with its cycler: "BTSAPI", XML over TCP.

A request is one ``<bts>`` document ended by ``#`` CR LF, usually after two line feeds; so is a
reply, which comes in pieces. A stray quotation mark after ``</list>``, as a common client sends it,
is character data to an XML parser and does no harm. The words ``donwload_resp`` and
``donwloadlog_resp`` are BTS 8's own spelling.

The cycler carries out tests by itself and needs neither the PC nor its host. Live data are
refreshed every 5 s; status words of `getchlstatus` and recorded rows are always the present ones.

Sources: captured frames of the package aurora-neware; its requests. What no capture shows (replies
to `goto`, `continue`, `broadcaststop`, `setpause`, to unknown commands and channels) is assumed to
follow the pattern of those that are shown. Unreadable requests are met with silence.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, Self
from xml.sax.saxutils import escape

from cellbench.errors import InputError
from cellbench_sim.emulators.cycler import EmptyHolder, OutputStage, Ratings
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.neware_channel import Layer, Live, NewareChannel, Row, Test
from cellbench_sim.emulators.neware_steps import StepFile, StepFileError, read_step_file
from cellbench_sim.emulators.neware_xml import (
    date,
    decimals,
    digits,
    integer,
    listed,
    only,
    text_of,
    whole,
    xml_element,
)
from cellbench_sim.leads import Cell
from cellbench_sim.randomness import random_stream

Files = Callable[[str], bytes | None]

_END = b"#\r\n"
_PIECE = 1000
_LONGEST_REQUEST = 1 << 20
_REFRESH_S = 5.0
_ROWS_MAX, _LOG_MAX = 1000, 5000
_WORKING_LOG_CODE = 102000
_LOGIN = ("admin", "neware")
_CHANNELS, _SUBDEVICES = 8, 2
#: Requests whose parts are kept: those that a hundred channels are looked at with.
_REQUESTS_KNOWN = 1024
#: The attributes that name a channel.
_PLACE = ("devtype", "devid", "subdevid", "chlid")


class ChannelKey(NamedTuple):
    """Which channel of which device; written ``devid-subdevid-chlid``."""

    device: int
    subdevice: int
    channel: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``21-1-2``, or the longer form of live data, ``27-21-1-2-0``, type first.

        Raises:
            InputError: It is neither.
        """
        parts = text.strip().split("-")
        parts = parts[1:4] if len(parts) in {4, 5} else parts
        if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise InputError(
                f"{text!r} is no Neware channel: write devid-subdevid-channel, for example 21-1-2"
            )
        return cls(*map(int, parts))


_FIRST_CHANNEL = ChannelKey(21, 1, 1)


def no_files(path: str) -> bytes | None:  # noqa: ARG001 (the signature of all resolvers)
    """Resolve nothing: a PC that no step file was ever put on."""
    return None


def folder_on_pc(folder: Path, name_on_pc: str) -> Files:
    r"""Return what reads files of a local folder by their names on the BTS PC.

    Args:
        folder: The local folder.
        name_on_pc: What Windows calls it there, e.g. ``D:\steps`` or a drive that maps a share.
    """

    def read(path: str) -> bytes | None:
        try:
            inside = PureWindowsPath(path).relative_to(PureWindowsPath(name_on_pc))
        except ValueError:
            return None
        local = folder.joinpath(*inside.parts)
        return local.read_bytes() if ".." not in inside.parts and local.is_file() else None

    return read


@dataclass
class Rack:
    """The BTS PC and the devices behind it, whoever is connected.

    Attributes:
        device_type: ``devtype`` of the devices; 20 to 27 are the families BTS 78 to 85.
        units: What currents, capacities and energies are given in: ``A`` or ``mA``.
        files: What reads a step file by its Windows path on the PC, each asked in turn.
        channels: Every channel, in the order in which they are listed.
        with_cells: Those that hold one of the bench's cells.
        live: What the PC shows of a channel, and since which refresh.
        last_test_id: Of the test that was started last.
    """

    device_type: int
    units: str
    files: list[Files] = field(default_factory=list)
    channels: dict[ChannelKey, NewareChannel] = field(default_factory=dict)
    with_cells: set[ChannelKey] = field(default_factory=set)
    live: dict[ChannelKey, tuple[int, Live]] = field(default_factory=dict)
    last_test_id: int = 142


class _Host(Emulator):
    """One host's connection to the PC.

    Args:
        name: As of all emulators.
        timebase: The same.
        answer: Returns the reply to a request, nothing to one that is met with silence.
        first: The connection that brought the PC to the bench.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        answer: Callable[[bytes], bytes],
        *,
        first: Emulator | None = None,
    ) -> None:
        super().__init__(name, timebase, first=first)
        self._answer = answer
        self._received = bytearray()

    def _on_attach(self) -> None:
        self._received.clear()

    def _receive(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END)) >= 0:
            request = bytes(self._received[:end])
            del self._received[: end + len(_END)]
            reply = self._answer(request)
            for start in range(0, len(reply), _PIECE):
                self._send(reply[start : start + _PIECE])
        if len(self._received) > _LONGEST_REQUEST:
            self._received.clear()


class NewareEmulator(_Host):
    """One channel that holds a cell of the bench, and the BTS PC as its host reaches it.

    Several of them can share a rack. The PC takes several hosts at a time (assumed).

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: What the leads of that channel are clipped to.
        seed: Seed of noise and gain errors.
        channel: The channel with the cell; the others are empty, unless somebody else has them.
        device_type: See `Rack`.
        units: See `Rack`.
        files: Reads a step file by its Windows path on the PC; None where there is none.
        ratings: What a channel can do.
        rack: The one that the channel is in; a new one if there is none yet.

    Attributes:
        rack: What is behind the connection.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: Cell,
        *,
        seed: int,
        channel: ChannelKey = _FIRST_CHANNEL,
        device_type: int = 27,
        units: str = "A",
        files: Files = no_files,
        ratings: Ratings = Ratings(),  # noqa: B008 (frozen)
        rack: Rack | None = None,
    ) -> None:
        super().__init__(name, timebase, self._reply)
        if units not in {"A", "mA"}:
            raise InputError(f"{name}: units are A or mA, not {units!r}")
        self.rack = rack or Rack(device_type, units)
        if (self.rack.device_type, self.rack.units) != (device_type, units):
            raise InputError(f"{name}: channels behind one computer have one type and one unit")
        self.rack.files.append(files)
        self._scale = 1.0 if units == "A" else 1e3
        self._ratings = ratings
        self._hold(channel, world, seed)
        self._commands: dict[str, Callable[[ET.Element], list[str]]] = {
            "connect": self._connect,
            "getdevinfo": self._device_info,
            "getchlstatus": self._statuses,
            "inquire": self._inquire,
            "inquiredf": self._inquire_rows,
            "download": self._download,
            "downloadlog": self._download_log,
            "downloadStepLayer": self._download_layers,
            "start": self._start,
            "stop": self._by_channel("stop", lambda channel, _: channel.stop()),
            "continue": self._by_channel("continue", lambda channel, _: channel.resume()),
            "goto": self._by_channel("goto", _go_to),
            "light": self._by_channel("light", lambda _, element: text_of(element) in _BOOLEANS),
            "clearflag": self._by_channel("clearflag", lambda channel, _: channel.clear_alarm()),
            "chl_ctrl": self._by_channel("chl_ctrl", _refuse),
            "parallel": self._by_channel("parallel", _refuse),
            "setpause": self._by_channel("setpause", _set_pause),
            "cancelpause": self._by_channel("cancelpause", _cancel_pause),
            "getpause": self._pauses,
            "reset": self._reset,
            "resetalarm": self._reset_alarm,
            "broadcaststop": self._broadcast_stop,
        }

    @classmethod
    def from_bench(
        cls,
        name: str,
        timebase: Timebase,
        world: Cell,
        *,
        seed: int,
        options: Mapping[str, Any],
        rack: Rack | None = None,
    ) -> Self:
        """Build the emulator that a bench file's options describe.

        ``channel`` (``21-1-2``), ``units`` (``A``, ``mA``), ``steps_folder`` (a local folder) and
        ``steps_folder_on_pc`` (what the PC calls it; by default the same).
        """
        settings: dict[str, Any] = {}
        if "channel" in options:
            text = str(options["channel"])
            settings["channel"] = ChannelKey.parse(text)
            if text.count("-") > 2:
                settings["device_type"] = int(text.split("-", maxsplit=1)[0])
        if "units" in options:
            settings["units"] = str(options["units"])
        if "steps_folder" in options:
            folder = str(options["steps_folder"])
            on_pc = str(options.get("steps_folder_on_pc", folder))
            settings["files"] = folder_on_pc(Path(folder), on_pc)
        return cls(name, timebase, world, seed=seed, rack=rack, **settings)

    def another_channel(
        self, name: str, cell: Cell, *, seed: int, options: Mapping[str, Any]
    ) -> Emulator:
        """Build another channel of the same rack; the same device, or another behind the PC."""
        rack, timebase = self.rack, self._timebase
        return self.from_bench(name, timebase, cell, seed=seed, options=options, rack=rack)

    def _hold(self, channel: ChannelKey, cell: Cell, seed: int) -> None:
        """Put a cell into a channel; the other ones of its device are there too, and empty.

        Raises:
            InputError: There is a cell in it already.
        """
        rack = self.rack
        if channel in rack.with_cells:
            written = "-".join(map(str, channel))
            raise InputError(f"{self.name}: another cell is in channel {written} already")
        for subdevice in range(1, max(_SUBDEVICES, channel.subdevice) + 1):
            for number in range(1, max(_CHANNELS, channel.channel) + 1):
                key = ChannelKey(channel.device, subdevice, number)
                if key not in rack.channels:
                    rack.channels[key] = self._channel(key, EmptyHolder(), seed)
        rack.channels[channel] = self._channel(channel, cell, seed)
        rack.channels = dict(sorted(rack.channels.items()))
        rack.with_cells.add(channel)

    def _channel(self, key: ChannelKey, cell: Cell, seed: int) -> NewareChannel:
        stage = OutputStage(cell, self._ratings, random_stream(seed, f"{self.name}/{key}"))
        return NewareChannel(stage, self._timebase.now, self._call_at)

    @property
    def channels(self) -> Mapping[ChannelKey, NewareChannel]:
        """Every channel of the rack, in the order in which they are listed."""
        return self.rack.channels

    def files(self, path: str) -> bytes | None:
        """Return a step file by its Windows path on the PC; None where there is none."""
        found = (files(path) for files in self.rack.files)
        return next((content for content in found if content is not None), None)

    # ------------------------------------------------------------------ the wire

    @property
    def at(self) -> object:
        """The PC, which has one address for all its channels."""
        return self.rack

    def for_new_host(self) -> Emulator:
        """Return a connection of its own to the same PC."""
        return _Host(self.name, self._timebase, self._reply, first=self)

    def _reply(self, request: bytes) -> bytes:
        root = _parsed(request)
        if root is None:
            return b""
        command = root.findtext("cmd", "").strip()
        action = self._commands.get(command)
        word = command.replace("download", "donwload") if command in _MISSPELT else command
        body = action(root) if action else ["  <result>false</result>"]
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<bts version="1.0">',
            f"  <cmd>{escape(word)}_resp</cmd>",
            *body,
            "</bts>",
        ]
        return "\r\n".join(lines).encode() + b"\n\n" + _END

    # ------------------------------------------------------------------ what there is

    def _connect(self, root: ET.Element) -> list[str]:
        login = (root.findtext("username", ""), root.findtext("password", ""))
        return [f"  <result>{'ok' if login == _LOGIN else 'false'}</result>"]

    def _device_info(self, root: ET.Element) -> list[str]:  # noqa: ARG002 (as all commands)
        lines = [
            '  <serverip count="1">',
            '    <server ip="127.0.0.1" port="3306" />',
            "  </serverip>",
            f'  <middle count="{len(self.rack.channels)}">',
        ]
        for key, channel in self.rack.channels.items():
            place = self._place(key, ip=True, channel_name="Channelid")
            free = "true" if channel.status == "finish" else "false"
            lines.append(xml_element("channel", place, free))
        return [*lines, "</middle>"]

    def _statuses(self, root: ET.Element) -> list[str]:
        """Echo the subdevice as 1 whatever was asked for, as BTS 8 is known to."""
        entries = []
        for element in root.iter("status"):
            key = self._key(element)
            channel = self.rack.channels.get(key)
            place = {**self._place(key, ip=True), "subdevid": 1, "reservepause": 1}
            entries.append(xml_element("status", place, channel.status if channel else "false"))
        return listed(entries)

    def _inquire(self, root: ET.Element) -> list[str]:
        return listed(self._live_data(element) for element in root.iter("inquire"))

    def _live_data(self, element: ET.Element) -> str:
        key = self._key(element)
        place = f"{self.rack.device_type}-{key.device}-{key.subdevice}-{key.channel}-0"
        live = self._refreshed(key)
        if live is None:
            return xml_element("inquire", {"dev": place, "workstatus": "--"})
        working = live.status == "working"
        running = live.status in {"working", "pause"} and live.step is not None
        values: dict[str, Any] = {"dev": place, "cycle_id": live.cycle}
        if live.step is not None and running:
            values |= {"step_id": live.step.number}
        values |= {
            "step_type": live.step.type.word if live.step is not None and running else "--",
            "workstatus": live.status,
        }
        if element.get("barcode") == "1":
            values |= {"barcode": live.barcode}
        values |= {
            "current": decimals(live.current_A * self._scale),
            "voltage": decimals(live.voltage_V),
            "capacity": decimals(live.capacity_Ah * self._scale),
            "energy": decimals(live.energy_Wh * self._scale),
            "totaltime": decimals(live.test_time_s, 1),
            "relativetime": decimals(live.step_time_s, 1),
            "open_or_close": 0,
            "log_code": _WORKING_LOG_CODE if working else 0,
        }
        return xml_element("inquire", values)

    def _refreshed(self, key: ChannelKey) -> Live | None:
        """Return live data that are as old as the last refresh that anybody has seen."""
        channel = self.rack.channels.get(key)
        if channel is None:
            return None
        period = int(self._timebase.now() // _REFRESH_S)
        known = self.rack.live.get(key)
        if known is None or known[0] != period:
            known = self.rack.live[key] = (period, channel.live())
        return known[1]

    # ------------------------------------------------------------------ what was recorded

    def _inquire_rows(self, root: ET.Element) -> list[str]:
        entries = []
        for element in root.iter("chl"):
            key = self._key(element)
            test = self._test(element)
            rows = {"testid": test.test_id, "count": len(test.rows)}
            complete = "true" if test.finished else "false"
            entries.append(xml_element("chl", {**self._place(key), **rows}, complete))
        return listed(entries)

    def _download(self, root: ET.Element) -> list[str]:
        element = only(root, "download")
        test = self._test(element)
        start, count = integer(element, "startpos"), integer(element, "count")
        first = max(start, 1)
        rows = test.rows[first - 1 : first - 1 + min(max(count, 0), _ROWS_MAX)]
        about = {"testid": test.test_id, "startpos": start, "count": count, "auxid": 0}
        entries = [self._row(at, row) for at, row in enumerate(rows, start=first)]
        return [self._about("download", element, about), *listed(entries)]

    def _row(self, number: int, row: Row) -> str:
        values = {
            "seqid": number,
            "stepid": row.step,
            "cycleid": row.cycle - 1,
            "steptype": row.type.word,
            "testtime": round(row.step_time_s * 1e3),
            "atime": date(row.time_s),
            "volt": digits(row.voltage_V),
            "curr": digits(row.current_A * self._scale),
            "cap": digits(row.capacity_Ah * self._scale),
            "eng": digits(row.energy_Wh * self._scale),
        }
        return xml_element("data", values)

    def _download_log(self, root: ET.Element) -> list[str]:
        element = only(root, "download")
        test = self._test(element)
        entries = [
            xml_element(
                "data",
                {
                    "seqid": max(entry.rows, 1),
                    "log_code": int(entry.code),
                    "atime": date(entry.time_s),
                },
            )
            for entry in test.log[:_LOG_MAX]
        ]
        about = self._about("download", element, {"testid": test.test_id, "log_lever": 0})
        return [about, *listed(entries)]

    def _download_layers(self, root: ET.Element) -> list[str]:
        element = only(root, "downloadStepLayer")
        test = self._test(element)
        entries = [self._layer(at, layer) for at, layer in enumerate(test.layers, start=1)]
        about = self._about("downloadStepLayer", element, {"testid": test.test_id})
        return [about, *listed(entries)]

    def _layer(self, number: int, layer: Layer) -> str:
        start, end = layer.start, layer.end
        values = {
            "startseqid": layer.first_row,
            "endseqid": layer.last_row,
            "stepindex": number,
            "stepid": end.step,
            "cycleid": end.cycle,
            "steptype": end.type.word,
            "steptime": round(end.step_time_s * 1e3),
            "endatime": date(end.time_s),
            "startvolt": digits(start.voltage_V),
            "endvolt": digits(end.voltage_V),
            "startcurr": digits(start.current_A * self._scale),
            "endcurr": digits(end.current_A * self._scale),
            "cap": digits(end.capacity_Ah * self._scale),
            "eng": digits(end.energy_Wh * self._scale),
            "dcir": 0,
        }
        return xml_element("data", values)

    def _test(self, element: ET.Element) -> Test:
        """Return the test that is asked for, 0 for the latest; one without rows where none is."""
        channel = self.rack.channels.get(self._key(element))
        test_id = integer(element, "testid")
        nothing = Test(test_id, "", finished=True)
        if channel is None:
            return nothing
        return (channel.latest if test_id == 0 else channel.tests.get(test_id)) or nothing

    # ------------------------------------------------------------------ what is done

    def _start(self, root: ET.Element) -> list[str]:
        """Start the channels of a list, which share one test id."""
        test_id = self.rack.last_test_id + 1
        entries = []
        for element in root.iter("start"):
            channel = self.rack.channels.get(self._key(element))
            file = self._step_file(element)
            started = (
                channel is not None
                and file is not None
                and channel.start(file, test_id, element.get("barcode", ""))
            )
            if started:
                self.rack.last_test_id = test_id
            entries.append(self._done("start", element, started))
        return listed(entries)

    def _reset(self, root: ET.Element) -> list[str]:
        element = only(root, "reset")
        channel, file = self.rack.channels.get(self._key(element)), self._step_file(element)
        done = channel is not None and file is not None and channel.replace(file)
        return [self._done("reset", element, done)]

    def _step_file(self, element: ET.Element) -> StepFile | None:
        content = self.files(text_of(element))
        if content is None:
            return None
        try:
            return read_step_file(content, self._ratings)
        except StepFileError:
            return None

    def _by_channel(
        self, tag: str, action: Callable[[NewareChannel, ET.Element], bool]
    ) -> Callable[[ET.Element], list[str]]:
        """Return a command that does something to each channel of its list."""

        def command(root: ET.Element) -> list[str]:
            entries = []
            for element in root.iter(tag):
                channel = self.rack.channels.get(self._key(element))
                done = channel is not None and action(channel, element)
                entries.append(self._done(tag, element, done))
            return listed(entries)

        return command

    def _pauses(self, root: ET.Element) -> list[str]:
        entries = []
        for element in root.iter("getpause"):
            key = self._key(element)
            channel = self.rack.channels.get(key)
            pause = channel.pause_at if channel else None
            values = {"cycleid": pause[0], "stepid": pause[1]} if pause else {}
            place = self._place(key, ip=True) | values
            entries.append(xml_element("getpause", place, "true" if pause else "false"))
        return listed(entries)

    def _broadcast_stop(self, root: ET.Element) -> list[str]:
        return self._by_device(root, "stop", lambda channel: channel.stop())

    def _reset_alarm(self, root: ET.Element) -> list[str]:
        return self._by_device(root, "resetalarm", lambda channel: channel.clear_alarm())

    def _by_device(
        self, root: ET.Element, tag: str, action: Callable[[NewareChannel], bool]
    ) -> list[str]:
        entries = []
        for element in root.iter(tag):
            device = integer(element, "devid")
            here = [channel for key, channel in self.rack.channels.items() if key.device == device]
            for channel in here:
                action(channel)
            place = {"ip": "127.0.0.1", "devtype": self.rack.device_type, "devid": device}
            entries.append(xml_element(tag, place, "ok" if here else "false"))
        return listed(entries)

    # ------------------------------------------------------------------ names of channels

    def _key(self, element: ET.Element) -> ChannelKey:
        attributes = [element.get(name, "") for name in _PLACE]
        return _channel_key(self.rack.device_type, *attributes)

    def _place(
        self, key: ChannelKey, *, ip: bool = False, channel_name: str = "chlid"
    ) -> dict[str, Any]:
        address = {"ip": "127.0.0.1"} if ip else {}
        return {
            **address,
            "devtype": self.rack.device_type,
            "devid": key.device,
            "subdevid": key.subdevice,
            channel_name: key.channel,
        }

    def _about(self, tag: str, element: ET.Element, values: dict[str, Any]) -> str:
        return xml_element(tag, {**self._place(self._key(element)), **values}, indent=2)

    def _done(self, tag: str, element: ET.Element, done: bool) -> str:
        place = self._place(self._key(element), ip=True)
        return xml_element(tag, place, "ok" if done else "false")


_MISSPELT = {"download", "downloadlog"}
_BOOLEANS = {"true", "false"}


@lru_cache(_REQUESTS_KNOWN)
def _parsed(request: bytes) -> ET.Element | None:
    """Return a request, which nobody changes, or None if it cannot be read.

    A host that looks at a channel again and again sends the same bytes each time.
    """
    if b"<!DOCTYPE" in request:
        return None
    try:
        return ET.fromstring(request.strip())  # noqa: S314 (no document type: no entities)
    except (ET.ParseError, ValueError, LookupError):
        return None


@lru_cache(_REQUESTS_KNOWN)
def _channel_key(device_type: int, *attributes: str) -> ChannelKey:
    """Return which channel of a device is meant; one of another type is none of it."""
    asked_type, device, subdevice, channel = map(whole, attributes)
    return ChannelKey(device if asked_type == device_type else 0, subdevice, channel)


def _refuse(channel: NewareChannel, element: ET.Element) -> bool:  # noqa: ARG001 (as all actions)
    """Refuse what this device has no hardware for."""
    return False


def _go_to(channel: NewareChannel, element: ET.Element) -> bool:
    return channel.goto(integer(element, "step"))


def _set_pause(channel: NewareChannel, element: ET.Element) -> bool:
    if channel.status != "working":
        return False
    channel.pause_at = (integer(element, "cycleid"), integer(element, "stepid"))
    return True


def _cancel_pause(channel: NewareChannel, element: ET.Element) -> bool:  # noqa: ARG001 (one at most)
    was, channel.pause_at = channel.pause_at, None
    return was is not None
