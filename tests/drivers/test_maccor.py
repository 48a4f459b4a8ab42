"""The Maccor driver against the messages of Maccor's help, and against pymacnet's spoofer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, TransportClosed
from cellbench.instruments.readings import Block, EndingKind, Flag, Outcome
from cellbench.instruments.roles import Channel, Cycler, Running
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Rest,
    Sweep,
    Technique,
)
from cellbench.transport import Stream, pipe
from cellbench.transport.tcp import open_tcp
from cellbench_drivers.maccor import Maccor
from cellbench_drivers.maccor_net import MacNet

if TYPE_CHECKING:
    from tests.drivers.conftest import ScriptedInstrument

    Scripted = type[ScriptedInstrument]

LIMITS = ElectricalLimits(voltage_min_V=2.0, voltage_max_V=4.3, current_max_A=2e-3)
TO_4V = CutOff(quantity="voltage", above=True, value=4.0)
CHARGE = ConstantCurrent(current_A=1e-3, duration_s=60.0, interval_s=1.0, cut_offs=(TO_4V,))
RANGES = {
    f"IR{number}{way}": top
    for number, top in enumerate((150e-6, 5e-3, 150e-3, 5.0), start=1)
    for way in ("Chg", "Dis")
}


class System:
    """The other end: direct mode on one channel, with a watchdog and a voltage that rises."""

    def __init__(self) -> None:
        self.stream, self._end = pipe()
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self.watchdog_s = 6.0
        self.state = 0
        self.reason = 0
        self.mode = 0
        self.rate_V_per_s = 0.02
        self.tests = {"cellbench_2_1", "cellbench_2_2", "cellbench_2_3"}
        self.test = ""
        self.fed_s = 0.0
        self.started_s = 0.0
        self.system_type = 0
        self.refuse: dict[tuple[int, int], object] = {}
        self.before_reply: Callable[[dict[str, Any]], None] = lambda _: None

    async def __aenter__(self) -> System:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._task.done() and kind is None:
            self._task.result()
        self._task.cancel()

    def asked(self, f_class: int, f_number: int) -> list[dict[str, Any]]:
        return [
            each for _, each in self.heard if (each["FClass"], each["FNum"]) == (f_class, f_number)
        ]

    async def _serve(self) -> None:
        with contextlib.suppress(TransportClosed):  # a test may pull the cable
            await self._serve_for_ever()

    async def _serve_for_ever(self) -> None:
        text = ""
        while True:
            text += (await self._end.read_until(b"}", 1e9)).decode()
            if text.count("{") != text.count("}"):
                continue
            request, text = json.loads(text), ""
            asked = request["params"]
            self.heard.append((self._now(), asked))
            self._watch()
            self.before_reply(asked)
            result = {**asked, **self._answer(asked)}
            reply = {"jsonrpc": "2.0", "result": result, "id": request["id"]}
            # The help prints replies over several lines.
            data = (json.dumps(reply, indent=1) + "\r\n").encode()
            await self._end.write(data[:7])
            await asyncio.sleep(0)
            await self._end.write(data[7:])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _watch(self) -> None:
        if self.state == 2 and self._now() - self.fed_s > self.watchdog_s:
            self.state, self.reason = 3, 192

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        function = (asked["FClass"], asked["FNum"])
        if function in self.refuse:
            return {"Result": self.refuse[function]}
        match function:
            case (1, 1):
                return {
                    "MacTest32EXEversionMajor": 3,
                    "MacTest32EXEversionMinor": 2,
                    "MacTest32EXEversionBuild": 18,
                }
            case (1, 2):
                return {"SystemID": "Win10", "SystemType": self.system_type, "TestChannels": 12}
            case (1, 4):
                return {"TestNameExists": asked["TestName"] in self.tests}
            case (3, 1):
                return {"Vmax": 5.0, "Vmin": 0.0, **RANGES}
            case (4, 6):
                return {"TestName": self.test, "ProcName": "someone's"}
            case (4, 7):
                return self._reading()
            case (6, 5):
                self.state = 7
            case (6, 7):
                self.state, self.mode = 2, {"C": 1, "D": 2}[asked["ChMode"]]
                self.started_s = self.fed_s = self._now()
                self.tests.add(asked["TestName"])
                self.output = asked
            case (6, 8):
                assert self._now() - self.fed_s >= 0.1, "sent too fast"
                self.fed_s = self._now()
            case (6, 10):
                return {}
        return {"Result": "OK"}

    def _reading(self) -> dict[str, Any]:
        elapsed_s = self._now() - self.started_s if self.state == 2 else 0.0
        return {
            "RF1": self.mode,
            "RF2": self.reason,
            "Stat": self.state,
            "TestTime": round(elapsed_s, 2),
            "Voltage": 3.7 + (-1 if self.mode == 2 else 1) * self.rate_V_per_s * elapsed_s,
            "Current": self.output["Current"] if self.state == 2 else 0,
        }


def play(scenario: Callable[[System, Maccor], Any], **options: object) -> Any:
    async def all_of_it() -> Any:
        async with System() as tester:
            maccor = Maccor("cycler", tester.stream, {"channel": 2, "watchdog": "6 s", **options})
            await maccor.connect()
            return await scenario(tester, maccor)

    return run(all_of_it(), virtual=True)


async def ran(maccor: Maccor, technique: Technique) -> tuple[list[Block], Running]:
    async with maccor.run(technique, LIMITS) as running:
        return [block async for block in running], running


def column(blocks: list[Block], name: str) -> list[float]:
    return [value for block in blocks for value in block.columns[name]]


def kind_of(running: Running) -> EndingKind:
    assert running.ending is not None
    return running.ending.kind


# --- Messages -----------------------------------------------------------------------------------

STATUS = (
    b'{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":4,"FNum":7,"Chan":3},"id":1}',
    b'{"jsonrpc":"2.0","result":{"FClass":4,"FNum":7,"Chan":3,"RF1":31,"RF2":193,"Stat":4,\n'
    b'"LastRecNum":18,"Cycle":0,"Step":2,"TestTime":15,\n"StepTime":10,"Capacity":0,"Energy":0,'
    b'"Current":0,"Voltage":0.0062561989761889,"SystemTime":"2016-11-14T09:24:08"},"id":1987}\r\n',
)


def test_the_documented_pair_of_messages_is_understood(scripted: Scripted) -> None:
    async def scenario() -> None:
        async with scripted(STATUS, (STATUS[0].replace(b"1}", b"2}"), STATUS[1])) as instrument:
            net = MacNet("cycler", instrument.stream, 1.0)
            reading = await net.read(3)
            assert reading == (4, 31, 193, 15.0, 0.0062561989761889, 0.0)
            assert not net.echoes_ids
            assert await net.read(3) == reading

    run(scenario(), virtual=True)


def test_a_late_reply_is_not_taken_for_the_next(scripted: Scripted) -> None:
    late = STATUS[1].replace(b"1987", b"1")
    next_one = STATUS[1].replace(b"1987", b"2").replace(b'"Voltage":0.006', b'"Voltage":3.006')
    ask_again = STATUS[0].replace(b"1}", b"2}")

    async def scenario() -> float:
        async with scripted((STATUS[0], b""), (ask_again, late + next_one)) as instrument:
            net = MacNet("cycler", instrument.stream, 1.0)
            with pytest.raises(InstrumentError, match="does not answer"):
                await net.read(3)
            return (await net.read(3)).voltage_V

    assert run(scenario(), virtual=True) == pytest.approx(3.0062561989761889)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params"},"id":1}', "Invalid"),
        (b'{"err": 1}', "err"),
        (b'{"jsonrpc":"2.0","result":{"FClass":4,"FNum":6},"id":1}', "to function 4,7"),
        (b"[}", "no JSON"),
        (b'{"jsonrpc":"2.0","result":{"FClass":4,"FNum":7,"Stat":"x"},"id":1}', "Stat as 'x'"),
    ],
)
def test_refusals_and_garbage_are_errors(scripted: Scripted, reply: bytes, message: str) -> None:
    async def scenario() -> None:
        async with scripted((STATUS[0], reply)) as instrument:
            with pytest.raises(InstrumentError, match=message):
                await MacNet("cycler", instrument.stream, 1.0).read(3)

    run(scenario(), virtual=True)


# --- Identification -----------------------------------------------------------------------------


def test_it_plays_a_channel_and_no_cycler() -> None:
    maccor = Maccor("cycler", pipe()[0], {"channel": 1})
    assert isinstance(maccor, Channel)
    assert not isinstance(maccor, Cycler)
    assert not maccor.capabilities.bounded_without_host


@pytest.mark.parametrize("options", [{}, {"channel": 0}, {"channel": 1, "unit": 2}])
def test_an_option_that_is_not_possible_is_an_input_error(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Maccor("cycler", pipe()[0], options)


def test_connecting_tells_versions_and_what_the_channel_can_do() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        identity = await maccor.connect()
        assert identity.serial == "Win10, channel 2"
        assert identity.firmware == "MacTest32 3.2.18"
        assert identity.remarks == ()
        able = maccor.capabilities
        assert (able.voltage_max_V, able.current_max_A) == (5.0, 5.0)
        assert able.bounded_without_host
        assert {each["Chan"] for _, each in tester.heard if "Chan" in each} == {1}
        assert not {each["FNum"] for _, each in tester.heard if each["FClass"] == 6}

    play(scenario)


def test_a_system_without_direct_mode_is_refused() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        tester.system_type = 2
        with pytest.raises(InstrumentError, match="direct mode needs type 0"):
            await maccor.connect()

    play(scenario)


def test_what_an_earlier_host_left_is_reset() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        tester.state, tester.test = 3, "cellbench_2_3"
        identity = await maccor.connect()
        assert identity.remarks == ('the test "cellbench_2_3" was suspended: reset',)
        assert tester.state == 7

    play(scenario)


def test_a_test_of_somebody_else_is_left_alone() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        tester.state, tester.test = 2, "thesis"
        tester.fed_s, tester.output = 1e9, {"Current": 0}
        with pytest.raises(InstrumentError, match='"active" with the test "thesis"'):
            await maccor.connect()
        assert not tester.asked(6, 5)

    play(scenario)


# --- Techniques ---------------------------------------------------------------------------------


def test_a_current_runs_to_its_cut_off_within_limits_on_the_tester() -> None:
    async def scenario(tester: System, maccor: Maccor) -> tuple[list[Block], Running]:
        blocks, running = await ran(maccor, CHARGE)
        (safety,) = tester.asked(6, 10)
        assert safety["VSafeMax"] == pytest.approx(4.305)
        assert safety["VSafeMin"] == pytest.approx(1.995)
        assert safety["ISafeChg"] == safety["ISafeDis"] == pytest.approx(2.04e-3)
        (start,) = tester.asked(6, 7)
        assert start == {
            "FClass": 6,
            "FNum": 7,
            "Chan": 1,
            "TestName": "cellbench_2_4",
            "Current": 1e-3,
            "Voltage": 4.3,
            "Power": 65536,
            "Resistance": 0,
            "CurrentRange": 2,
            "ChMode": "C",
            "DataTime": 1.0,
            "DataV": 0,
            "DataI": 0,
        }
        assert tester.state == 7
        functions = [(each["FClass"], each["FNum"]) for _, each in tester.heard]
        assert functions.index((6, 10)) < functions.index((6, 7))
        return blocks, running

    blocks, running = play(scenario)
    assert [block.time_s[0] - running.started_s for block in blocks] == pytest.approx(
        list(range(16))
    )
    assert column(blocks, "voltage_V")[-1] == pytest.approx(4.0)
    assert set(column(blocks, "current_A")) == {1e-3}
    assert kind_of(running) is EndingKind.CUT_OFF
    assert running.open_circuit_V == 3.7
    assert not any(flag for block in blocks for flag in block.flags)


def test_discharge_is_negative() -> None:
    async def scenario(tester: System, maccor: Maccor) -> tuple[list[Block], Running]:
        found = await ran(maccor, ConstantCurrent(current_A=-1e-4, duration_s=10.0))
        (start,) = tester.asked(6, 7)
        assert (start["ChMode"], start["Current"], start["Voltage"]) == ("D", 1e-4, 2.0)
        assert start["CurrentRange"] == 1
        return found

    blocks, running = play(scenario)
    assert set(column(blocks, "current_A")) == {-1e-4}
    assert column(blocks, "voltage_V")[-1] == pytest.approx(3.5)
    assert kind_of(running) is EndingKind.COMPLETED


@pytest.mark.parametrize(("voltage_V", "mode"), [(4.0, "C"), (3.5, "D")])
def test_a_hold_begins_in_the_direction_of_its_voltage(voltage_V: float, mode: str) -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        await ran(maccor, ConstantVoltage(voltage_V=voltage_V, duration_s=2.0))
        (start,) = tester.asked(6, 7)
        assert (start["ChMode"], start["Voltage"], start["Current"]) == (mode, voltage_V, 2e-3)

    play(scenario)


def test_a_rest_starts_nothing() -> None:
    async def scenario(tester: System, maccor: Maccor) -> tuple[list[Block], Running]:
        found = await ran(maccor, Rest(duration_s=10.0, interval_s=5.0))
        assert not [each for _, each in tester.heard if each["FClass"] == 6]
        return found

    blocks, running = play(scenario)
    assert column(blocks, "current_A") == [0.0, 0.0, 0.0]
    assert kind_of(running) is EndingKind.COMPLETED
    assert not any(flag for block in blocks for flag in block.flags)


def test_the_watchdog_is_fed_thrice_in_its_time_between_rows() -> None:
    async def scenario(tester: System, maccor: Maccor) -> list[float]:
        charge = ConstantCurrent(current_A=1e-3, duration_s=60.0, interval_s=30.0)
        tester.rate_V_per_s = 0.0
        _, running = await ran(maccor, charge)
        assert kind_of(running) is EndingKind.COMPLETED
        return [time_s for time_s, each in tester.heard if (each["FClass"], each["FNum"]) == (6, 8)]

    beats = play(scenario)
    gaps = [b - a for a, b in pairwise(beats)]
    assert gaps == pytest.approx([2.0] * 29)


def test_when_nobody_reads_the_tester_suspends_the_channel() -> None:
    async def scenario(tester: System, maccor: Maccor) -> Running:
        async with maccor.run(CHARGE, LIMITS) as running:
            await anext(aiter(running))
            await asyncio.sleep(7.0)
            async for _ in running:
                pass
        assert tester.state == 7
        return running

    running = play(scenario)
    assert kind_of(running) is EndingKind.ABORTED
    assert running.ending is not None
    assert running.ending.detail == 'the channel is "suspended" (RF2 192)'


def test_a_safety_limit_of_the_tester_is_a_trip() -> None:
    async def scenario(tester: System, maccor: Maccor) -> Running:
        async with maccor.run(CHARGE, LIMITS) as running:
            await anext(aiter(running))
            tester.state, tester.reason = 3, 253
            async for _ in running:
                pass
        return running

    running = play(scenario)
    assert running.ending is not None
    assert running.ending.kind is EndingKind.TRIPPED
    assert running.ending.on_device
    assert "absolute voltage safety" in running.ending.detail


def test_a_test_time_that_stands_still_is_stale() -> None:
    async def scenario(tester: System, maccor: Maccor) -> list[Block]:
        tester._reading = lambda: {  # type: ignore[method-assign]
            "RF1": 1, "RF2": 0, "Stat": tester.state, "TestTime": 2, "Voltage": 3.7, "Current": 1e-3
        }  # fmt: skip
        return (await ran(maccor, ConstantCurrent(current_A=1e-3, duration_s=5.0)))[0]

    flags = [block.flags[0] for block in play(scenario)]
    assert flags == [0, 0, 0, Flag.STALE, Flag.STALE, Flag.STALE]


@pytest.mark.parametrize("said", ["Command sent too fast", 5, "3"])
def test_an_output_that_came_too_soon_is_repeated(said: object) -> None:
    async def scenario(tester: System, maccor: Maccor) -> Running:
        tester.refuse[6, 8] = said

        def relent(asked: dict[str, Any]) -> None:
            if len(tester.asked(6, 8)) > 3:
                tester.refuse.clear()

        tester.before_reply = relent
        return (await ran(maccor, CHARGE))[1]

    assert kind_of(play(scenario)) is EndingKind.CUT_OFF


def test_an_output_that_is_refused_for_good_ends_the_technique() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        tester.refuse[6, 8] = 4
        with pytest.raises(InstrumentError, match="refuses function 6,8: 4"):
            await ran(maccor, CHARGE)
        assert tester.state == 7

    play(scenario)


def test_limits_that_are_not_kept_stop_everything_before_the_start() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        answer = tester._answer
        tester._answer = lambda asked: (  # type: ignore[method-assign]
            {"VSafeMax": 5.0} if asked["FNum"] == 10 else answer(asked)
        )
        with pytest.raises(InstrumentError, match=r"VSafeMax at 5 instead of 4\.305"):
            await ran(maccor, CHARGE)
        assert not tester.asked(6, 7)

    play(scenario)


def test_a_technique_beyond_it_is_refused() -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        with pytest.raises(InstrumentError, match="cannot do sweep"):
            await ran(maccor, Sweep(start_V=0.0, end_V=1.0, rate_V_per_s=1.0))
        with pytest.raises(InstrumentError, match="within its limits"):
            await ran(maccor, ConstantCurrent(current_A=1.0, duration_s=1.0))

    play(scenario)


@pytest.mark.parametrize("after_s", [0.5, 12.3])
def test_leaving_early_resets_the_channel_and_reads_that_back(after_s: float) -> None:
    async def scenario(tester: System, maccor: Maccor) -> None:
        async def charge() -> None:
            await ran(maccor, CHARGE)

        task = asyncio.create_task(charge())
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        last = [(each["FClass"], each["FNum"]) for _, each in tester.heard][-2:]
        assert last == [(6, 5), (4, 7)]
        assert tester.state == 7

    play(scenario)


def test_a_channel_that_does_not_stop_is_said_to_be_on() -> None:
    async def scenario(tester: System, maccor: Maccor) -> Outcome:
        tester.refuse[6, 5], tester.watchdog_s = "blocked", 1e9
        with pytest.raises(InstrumentError, match=r"may still be on.*blocked"):
            async with maccor.run(CHARGE, LIMITS):
                pass
        return await maccor.quiet()

    outcome = play(scenario)
    assert not outcome.confirmed


def test_quiet_resets_what_is_active_and_leaves_alone_what_rests() -> None:
    async def scenario(tester: System, maccor: Maccor) -> tuple[Outcome, Outcome]:
        resting = await maccor.quiet()
        assert not tester.asked(6, 5)
        tester.state, tester.fed_s, tester.output = 2, 1e9, {"Current": 0}
        return resting, await maccor.quiet()

    assert play(scenario) == (
        Outcome("cycler", "open circuit (available)", confirmed=True),
        Outcome("cycler", "open circuit (reset)", confirmed=True),
    )


def test_when_the_connection_is_gone_the_cell_may_be_on() -> None:
    async def scenario(tester: System, maccor: Maccor) -> Outcome:
        with pytest.raises(InstrumentError, match="may still be on"):
            async with maccor.run(CHARGE, LIMITS):
                await tester._end.close()
        return await maccor.quiet()

    assert not play(scenario).confirmed


# --- A partner ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_it_runs_a_technique_on_the_spoofer_of_pymacnet() -> None:
    spoofer_module = pytest.importorskip(
        "pymacnet.maccorspoofer.MaccorSpoofer", reason="pymacnet is not installed"
    )
    port = free_port()
    spoofer = spoofer_module.MaccorSpoofer(
        {"server_ip": "127.0.0.1", "json_port": port, "tcp_port": free_port(), "num_channels": 8}
    )
    spoofer.start()
    # The spoofer has no notion of state: the test plays the cell, and the relay.
    spoofer.update_channel_status(1, {"Stat": 0, "Voltage": 3.7, "RF1": 1})
    stream = await _reached(port)
    try:
        maccor = Maccor("cycler", stream, {"channel": 2, "current max": "1 A"})
        identity = await maccor.connect()
        assert identity.serial == "Win10, channel 2"
        assert "replies do not carry the id of their request" in identity.remarks
        timer = threading.Timer(0.5, spoofer.update_channel_status, (1, {"Stat": 2}))
        timer.start()
        charge = ConstantCurrent(current_A=1e-3, duration_s=30.0, interval_s=0.2, cut_offs=(TO_4V,))
        voltages = []
        async with maccor.run(charge, LIMITS) as running:
            async for block in running:
                voltages.append(block.columns["voltage_V"][0])
                reached = {"Voltage": 3.7 + 0.1 * len(voltages)}
                if len(voltages) == 3:
                    reached["Stat"] = 4
                spoofer.update_channel_status(1, reached)
        assert voltages == pytest.approx([3.7, 3.8, 3.9, 4.0])
        assert (await maccor.quiet()).confirmed
    finally:
        await stream.close()
        await asyncio.to_thread(spoofer.stop)


async def _reached(port: int) -> Stream:
    for _ in range(50):
        try:
            return await open_tcp("127.0.0.1", port)
        except TransportClosed:  # its thread has not bound the port yet
            await asyncio.sleep(0.1)
    raise AssertionError("the spoofer does not listen")
