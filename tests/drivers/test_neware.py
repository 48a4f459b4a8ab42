"""The Neware driver against frames captured from a BTS Client, and against other people's code.

The step files are compared with those of aurora-unicycler. The captured frames of aurora-neware are
in its source distribution only: the tests on them run where AURORA_NEWARE_SOURCE names it unpacked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import math
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, TransportClosed
from cellbench.instruments.readings import Block, EndingKind, Flag, Outcome
from cellbench.instruments.roles import Cycler, Running
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Repeat,
    Rest,
    StepList,
    Technique,
)
from cellbench.transport import Stream, pipe
from cellbench.transport.tcp import open_tcp
from cellbench_drivers.neware import Neware
from cellbench_drivers.neware_bts import Bts
from cellbench_drivers.neware_steps import program_of, step_file

LIMITS = ElectricalLimits(voltage_min_V=2.0, voltage_max_V=4.9, current_max_A=2e-3)
TO_4V3 = CutOff(quantity="voltage", above=True, value=4.3)
CHARGE = ConstantCurrent(current_A=1.25e-3, duration_s=36000.0, cut_offs=(TO_4V3,))
HOLD = ConstantVoltage(
    voltage_V=4.3,
    duration_s=7200.0,
    cut_offs=(CutOff(quantity="current", above=False, value=5e-5),),
)
DISCHARGE = ConstantCurrent(
    current_A=-1.25e-3,
    duration_s=36000.0,
    cut_offs=(CutOff(quantity="voltage", above=False, value=3.0),),
)
CYCLES = StepList(
    steps=(Rest(duration_s=60.0), Repeat(times=3, steps=(CHARGE, HOLD, DISCHARGE))),
)
DEVICES = (
    '<serverip count="1"><server ip="127.0.0.1" port="3306" /></serverip><middle count="2">'
    '<channel ip="127.0.0.1" devtype="27" devid="21" subdevid="1" Channelid="1">true</channel>'
    '<channel ip="127.0.0.1" devtype="27" devid="21" subdevid="1" Channelid="2">false</channel>'
    "</middle>"
)


class BtsClient:
    """The other end: answers in the layouts of the captured frames, from a few attributes."""

    def __init__(self) -> None:
        self.stream, self._end = pipe()
        self.heard: list[str] = []
        self.status = "finish"
        self.barcode = "251203_x_02"
        self.test = 143
        self.rows: list[tuple[int, int, float, float]] = []  # step, ms, V, A
        self.missing: set[int] = set()
        self.step_type, self.counted = "cc", "0"
        self.log_end = True
        self.finished_steps = ""
        self.starts = "ok"
        self.takes_starts = True
        self.voltage = "3.8834"
        self.total_s = 0.0
        self.on_start: Callable[[], None] = lambda: None
        self.before_reply: Callable[[str], bytes | None] = lambda _: None

    async def __aenter__(self) -> BtsClient:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._task.done():
            self._task.result()
        self._task.cancel()

    def commands(self) -> list[str]:
        return [command_of(each) for each in self.heard]

    async def _serve(self) -> None:
        with contextlib.suppress(TransportClosed):  # a test may pull the cable
            await self._serve_for_ever()

    async def _serve_for_ever(self) -> None:
        while True:
            request = (await self._end.read_until(b"\n\n#\r\n", 1e9)).decode()
            assert request.startswith(
                '<?xml version="1.0" encoding="UTF-8" ?>\n<bts version="1.0">'
            )
            self.heard.append(request)
            instead = self.before_reply(request)
            if instead is None:
                instead = self._reply(command_of(request), request).encode()
            for at in range(0, len(instead), 100):
                await self._end.write(instead[at : at + 100])
                await asyncio.sleep(0)

    def _reply(self, command: str, request: str) -> str:
        match command:
            case "connect":
                body = "<result>ok</result>"
            case "getdevinfo":
                body = DEVICES
            case "getchlstatus":
                body = f'<list count="1"><status subdevid="1">{self.status}</status></list>'
            case "inquire":
                body = (
                    '<list count="1"><inquire dev="27-21-1-2-0" cycle_id="44" step_id="4" '
                    f'step_type="dc" workstatus="{self.status}" barcode="{self.barcode}" '
                    f'current="-0.0003" voltage="{self.voltage}" capacity="0.001" energy="0.0047" '
                    f'totaltime="{self.total_s}" relativetime="12319" open_or_close="0" '
                    'log_code="102000" /></list>'
                )
            case "inquiredf":
                body = (
                    '<list count="1"><chl devtype="27" devid="21" subdevid="1" chlid="2" '
                    f'testid="{self.test}" count="{len(self.rows)}">true</chl></list>'
                )
            case "download":
                body = self._download(request)
            case "downloadlog":
                end = f'<data seqid="{len(self.rows)}" log_code="100001" atime="x" />'
                body = (
                    '<list count="2"><data seqid="1" log_code="100000" atime="x" />'
                    f"{end * self.log_end}</list>"
                )
            case "downloadStepLayer":
                body = f'<list count="1">{self.finished_steps}</list>'
            case "start":
                self._start(request)
                body = f'<list count="1"><start ip="127.0.0.1">{self.starts}</start></list>'
            case "stop":
                self.status = "stop"
                body = '<list count="1"><stop ip="127.0.0.1">ok</stop></list>'
            case _:
                raise AssertionError(request)
        said = (
            command.replace("download", "donwload") if command != "downloadStepLayer" else command
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n  '
            f"<cmd>{said}_resp</cmd>\r\n  {body}\r\n</bts>\n\n#\r\n"
        )

    def _start(self, request: str) -> None:
        if self.starts == "ok" and self.takes_starts:
            found = re.search(r'<start .* barcode="([^"]*)"', request)
            assert found is not None
            self.barcode, self.status, self.rows = found[1], "working", []
            self.test += 1
            self.on_start()

    def _download(self, request: str) -> str:
        found = re.search(r'startpos="(\d+)" count="(\d+)"', request)
        assert found is not None
        first, count = int(found[1]), int(found[2])
        assert 1 <= count <= 1000
        about = (
            f'steptype="{self.step_type}" atime="2025-12-28 22:29:05" cap="{self.counted}" eng="0"'
        )
        data = "".join(
            f'<data seqid="{number}" stepid="{step}" cycleid="0" testtime="{ms}" volt="{volt}" '
            f'curr="{curr}" {about} />'
            for number, (step, ms, volt, curr) in enumerate(self.rows, start=1)
            if first <= number < first + count and number not in self.missing
        )
        return f'<list count="1">{data}</list>'


def command_of(request: str) -> str:
    found = re.search(r"<cmd>(\w+)</cmd>", request)
    assert found is not None
    return found[1]


def play(scenario: Callable[[BtsClient, Neware], Any], folder: Path, **options: object) -> Any:
    async def all_of_it() -> Any:
        async with BtsClient() as client:
            neware = driver(client.stream, folder, **options)
            await neware.connect()
            return await scenario(client, neware)

    return run(all_of_it(), virtual=True)


def driver(stream: Stream, folder: Path, **options: object) -> Neware:
    given = {"channel": "27-21-1-2", "steps folder": str(folder), **options}
    return Neware("cycler", stream, given)


async def blocks_of(running: Running) -> list[Block]:
    return [block async for block in running]


def column(blocks: list[Block], name: str) -> list[float]:
    return [value for block in blocks for value in block.columns[name]]


def finishing(client: BtsClient, rows: list[tuple[int, int, float, float]], after_s: float) -> None:
    """The rows come at once; the channel finishes later."""
    client.rows = rows

    def finish() -> None:
        client.status = "finish"

    asyncio.get_running_loop().call_later(after_s, finish)


# --- Step files ---------------------------------------------------------------------------------


def test_it_plays_the_role_of_a_cycler(tmp_path: Path) -> None:
    assert isinstance(driver(pipe()[0], tmp_path), Cycler)


def test_a_step_file_is_that_of_the_manual() -> None:
    text = step_file(program_of(CYCLES), LIMITS, "sample", capacity_C=18.0)
    config = parsed(text).find("config")
    assert config is not None
    assert config.get("version") == "17"
    steps = [
        (each.get("Step_ID"), each.get("Step_Type")) for each in config.iterfind("Step_Info/*")
    ]
    assert steps == [("1", "4"), ("2", "1"), ("3", "3"), ("4", "2"), ("5", "5"), ("6", "6")]

    def value(path: str) -> str | None:
        found = config.find(path) if config is not None else None
        return None if found is None else found.get("Value")

    main = "Step_Info/Step{}/Limit/Main/{}"
    assert value("Head_Info/MultCap") == "18000"
    assert value(main.format(1, "Time")) == "60000"
    assert value(main.format(2, "Curr")) == "1.25"
    assert value(main.format(2, "Stop_Volt")) == "43000"
    assert value(main.format(3, "Volt")) == "43000"
    assert value(main.format(3, "Stop_Curr")) == "0.05"
    assert value(main.format(3, "Curr")) == "1.25"
    assert value(main.format(4, "Stop_Volt")) == "30000"
    assert value("Step_Info/Step5/Limit/Other/Start_Step") == "2"
    assert value("Step_Info/Step5/Limit/Other/Cycle_Count") == "3"
    protect = "Whole_Prt/Protect/Main/{}"
    assert value(protect.format("Volt/Upper")) == "49050"
    assert value(protect.format("Volt/Lower")) == "19950"
    assert value(protect.format("Curr/Upper")) == "2.04"
    assert value(protect.format("Curr/Lower")) == "-2.04"
    assert value("Whole_Prt/Record/Main/Time") == "1000"


def test_a_step_file_is_the_same_each_time() -> None:
    first, second = (step_file(program_of(CYCLES), LIMITS, "sample") for _ in range(2))
    assert first == second
    assert step_file(program_of(CYCLES), LIMITS, "other") != first


@pytest.mark.parametrize(("open_circuit_V", "step_type"), [(3.2, "3"), (4.0, "19")])
def test_a_hold_charges_or_discharges_from_where_the_cell_is(
    open_circuit_V: float, step_type: str
) -> None:
    hold = ConstantVoltage(voltage_V=3.7, duration_s=60.0)
    text = step_file(
        program_of(StepList(steps=(hold,))), LIMITS, "x", open_circuit_V=open_circuit_V
    )
    assert f'Step_Type="{step_type}"' in text
    assert '<Curr Value="2" />' in text


def test_a_hold_whose_direction_differs_between_cycles_is_refused() -> None:
    hold = ConstantVoltage(voltage_V=3.7, duration_s=60.0)
    up = ConstantVoltage(voltage_V=4.0, duration_s=60.0)
    steps = StepList(steps=(Repeat(times=2, steps=(hold, up)),))
    with pytest.raises(ValueError, match="write the first cycle out"):
        step_file(program_of(steps), LIMITS, "x", open_circuit_V=3.0)


def test_step_files_of_another_writer_say_the_same() -> None:
    unicycler = pytest.importorskip("aurora_unicycler", reason="aurora-unicycler is not installed")
    protocol = unicycler.Protocol(
        sample={"name": "sample", "capacity_mAh": 5.0},
        record={"time_s": 1.0},
        safety={
            "max_voltage_V": 4.905,
            "min_voltage_V": 1.995,
            "max_current_mA": 2.04,
            "min_current_mA": -2.04,
            "delay_s": 1.0,
        },
        method=[
            {"step": "open_circuit_voltage", "until_time_s": 60.0},
            {"step": "tag", "tag": "cycle"},
            {"step": "constant_current", "current_mA": 1.25, "until_time_s": 36000.0,
             "until_voltage_V": 4.3},
            {"step": "constant_voltage", "voltage_V": 4.3, "until_time_s": 7200.0,
             "until_current_mA": 0.05},
            {"step": "constant_current", "current_mA": -1.25, "until_time_s": 36000.0,
             "until_voltage_V": 3.0},
            {"step": "loop", "loop_to": "cycle", "cycle_count": 3},
        ],
    )  # fmt: skip
    theirs = protocol.to_neware_xml()
    ours = step_file(program_of(CYCLES), LIMITS, "sample", capacity_C=18.0)
    assert contents(ours) == contents(theirs)


def contents(text: str) -> Any:
    """A step file as nested tuples: numbers by value, without what differs from file to file."""

    def plain(element: ET.Element) -> Any:
        attributes: dict[str, str | float] = {
            key: number(value)
            for key, value in element.attrib.items()
            if key not in {"Guid", "date"}
        }
        if element.tag == "Creator":
            attributes = {}
        return element.tag, attributes, [plain(each) for each in element]

    return plain(parsed(text))


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 (written here)


def number(text: str) -> str | float:
    try:
        return round(float(text), 6)
    except ValueError:
        return text


# --- Identification -----------------------------------------------------------------------------


def test_connecting_logs_in_finds_the_channel_and_leaves_its_test_alone(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.status = "working"
        identity = await neware.connect()
        assert identity.model == "Neware BTS85"
        assert identity.serial == "27-21-1-2"
        assert identity.remarks == ('the channel is at "working": 251203_x_02',)
        assert set(client.commands()) == {"connect", "getdevinfo", "inquire"}
        assert (
            "<username>admin</username><password>neware</password><type>bfgs</type>"
            in (client.heard[0])
        )
        assert (
            '<list count="1"><inquire ip="127.0.0.1" devtype="27" devid="21" subdevid="1" '
            'chlid="2" aux="0" barcode="1">true</inquire></list>'
        ) in client.heard[2]

    play(scenario, tmp_path)


def test_a_channel_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with BtsClient() as client:
            with pytest.raises(InstrumentError, match=r"21-1-7 is not there.*27-21-1-1, 27-21-1-2"):
                await driver(client.stream, tmp_path, channel="21-1-7").connect()

    run(scenario(), virtual=True)


@pytest.mark.parametrize("options", [{"channel": "two"}, {"units": "kA"}, {"steps": "x"}])
def test_an_option_that_is_not_possible_is_an_input_error(
    tmp_path: Path, options: Mapping[str, object]
) -> None:
    with pytest.raises(InputError):
        driver(pipe()[0], tmp_path, **options)


def test_garbage_is_an_error_and_the_next_request_is_answered(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> Outcome:
        client.before_reply = lambda _: b"<bts><cmd>\xff</bts>#\r\n"
        with pytest.raises(InstrumentError, match="no XML"):
            await neware.connect()
        client.before_reply = lambda _: None
        return await neware.quiet()

    assert play(scenario, tmp_path) == Outcome("cycler", "open circuit (finish)", confirmed=True)


def test_a_late_reply_is_not_taken_for_the_next(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> Outcome:
        silent = [True]

        def once(request: str) -> bytes | None:
            if silent and command_of(request) == "connect":
                silent.clear()
                return b""
            if command_of(request) == "getchlstatus":
                late = '<bts version="1.0"><cmd>connect_resp</cmd></bts>\n\n#\r\n'
                return (late + client._reply("getchlstatus", request)).encode()
            return None

        client.before_reply = once
        with pytest.raises(InstrumentError, match="does not answer"):
            await neware.connect()
        return await neware.quiet()

    assert play(scenario, tmp_path).confirmed


# --- One technique ------------------------------------------------------------------------------


async def ran(neware: Neware, technique: Technique) -> tuple[list[Block], Running]:
    async with neware.run(technique, LIMITS) as running:
        return await blocks_of(running), running


def test_a_current_runs_to_its_cut_off_on_the_cycler(tmp_path: Path) -> None:
    rows = [(1, 1000 * at, 4.2 + 0.01 * at, 1.25e-3) for at in range(11)]

    async def scenario(client: BtsClient, neware: Neware) -> tuple[list[Block], Running]:
        client.on_start = lambda: finishing(client, rows, 11.0)
        blocks, running = await ran(neware, CHARGE)
        starting = next(each for each in client.heard if "<cmd>start</cmd>" in each)
        assert f'barcode="cycler-1">{tmp_path / "cycler-1.xml"}</start><backup backupdir="' in (
            starting
        )
        assert (tmp_path / "cycler-1.xml").read_text() == step_file(
            program_of(StepList(steps=(CHARGE,))), LIMITS, "cycler-1", open_circuit_V=3.8834
        )
        assert "stop" not in client.commands()
        return blocks, running

    blocks, running = play(scenario, tmp_path)
    assert column(blocks, "voltage_V") == pytest.approx([row[2] for row in rows])
    assert column(blocks, "current_A") == pytest.approx([1.25e-3] * 11)
    assert set(blocks[0].columns) == {"voltage_V", "current_A", "charge_C"}
    times = [time_s - running.started_s for block in blocks for time_s in block.time_s]
    assert times == pytest.approx(list(range(11)))
    assert running.ending is not None
    assert (running.ending.kind, running.ending.on_device) == (EndingKind.CUT_OFF, True)
    assert running.ending.detail == "voltage at or above 4.3 V"
    assert running.open_circuit_V == 3.8834


def test_milliamperes_are_an_option(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[Block]:
        client.on_start = lambda: finishing(client, [(1, 60000, 4.0, 1.25)], 5.0)
        return (await ran(neware, CHARGE))[0]

    blocks = play(scenario, tmp_path, units="mA/mAh")
    assert column(blocks, "current_A") == pytest.approx([1.25e-3])


@pytest.mark.parametrize(
    ("status", "last_ms", "kind"),
    [
        ("finish", 60000, EndingKind.COMPLETED),
        ("finish", 30000, EndingKind.ABORTED),
        ("protect", 30000, EndingKind.TRIPPED),
        ("stop", 30000, EndingKind.STOPPED),
    ],
)
def test_how_it_ended_is_told_by_status_and_rows(
    tmp_path: Path, status: str, last_ms: int, kind: EndingKind
) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> Running:
        def begin() -> None:
            client.rows, client.status = [(1, 0, 3.9, 0.0), (1, last_ms, 3.9, 0.0)], status

        client.on_start = begin
        return (await ran(neware, Rest(duration_s=60.0)))[1]

    ending = play(scenario, tmp_path).ending
    assert ending is not None
    assert ending.kind is kind


def test_live_data_are_asked_for_every_5_s_at_most(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[float]:
        times: list[float] = []

        def note(request: str) -> None:
            if command_of(request) == "inquire":
                times.append(asyncio.get_running_loop().time())

        client.before_reply = note
        client.on_start = lambda: finishing(client, [(1, 60000, 3.9, 0.0)], 60.0)
        await ran(neware, Rest(duration_s=60.0))
        return times

    times = play(scenario, tmp_path)
    assert len(times) > 10
    assert min(b - a for a, b in pairwise(times)) >= 5.0


def test_a_cut_off_that_no_step_file_expresses_is_watched_on_the_rows(tmp_path: Path) -> None:
    below = CutOff(quantity="voltage", above=False, value=3.5)

    async def scenario(client: BtsClient, neware: Neware) -> tuple[list[Block], Running]:
        def begin() -> None:
            client.rows = [(1, 1000 * at, 4.0 - 0.2 * at, 0.0) for at in range(5)]

        client.on_start = begin
        rest = Rest(duration_s=3600.0, cut_offs=(below,))
        found = await ran(neware, rest)
        assert client.status == "stop"
        return found

    blocks, running = play(scenario, tmp_path)
    assert running.ending is not None
    assert (running.ending.kind, running.ending.on_device) == (EndingKind.CUT_OFF, False)
    assert list(blocks[0].flags) == [0, 0, 0, 0, Flag.AFTER_CROSSING]


def test_a_busy_channel_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.status = "working"
        with pytest.raises(InstrumentError, match='"working" of the test "251203_x_02"'):
            await ran(neware, CHARGE)
        assert not {"start", "stop"} & set(client.commands())

    play(scenario, tmp_path)


def test_a_refused_start_is_an_error(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.starts = "false"
        with pytest.raises(InstrumentError, match="refuses to start"):
            await ran(neware, CHARGE)

    play(scenario, tmp_path)


def test_a_start_that_does_not_come_about_is_an_error(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.takes_starts = False
        with pytest.raises(InstrumentError, match='said that it starts "cycler-1"'):
            await ran(neware, CHARGE)

    play(scenario, tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        with pytest.raises(InstrumentError, match="cannot be written"):
            await ran(neware, CHARGE)
        assert "start" not in client.commands()

    no_folder = tmp_path / "nowhere"
    no_folder.write_text("a file", encoding="utf-8")
    play(scenario, no_folder)


def test_the_path_on_the_pc_is_a_path_of_windows(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> str:
        client.on_start = lambda: finishing(client, [(1, 36000000, 4.0, 0.0)], 1.0)
        await ran(neware, CHARGE)
        return next(each for each in client.heard if "<cmd>start</cmd>" in each)

    started = play(scenario, tmp_path, **{"steps folder on pc": "C:\\cellbench"})
    assert r">C:\cellbench\cycler-1.xml</start>" in started
    assert r'backupdir="C:\cellbench"' in started


@pytest.mark.parametrize("after_s", [0.5, 12.0])
def test_leaving_early_stops_the_channel_and_reads_that_back(
    tmp_path: Path, after_s: float
) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[str]:
        async def charge() -> None:
            await ran(neware, CHARGE)

        task = asyncio.create_task(charge())
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return client.commands()

    commands = play(scenario, tmp_path)
    assert "stop" in commands
    assert commands[-1] == "getchlstatus"


def test_a_start_that_shows_late_is_stopped_all_the_same(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        def begin() -> None:
            client.status = "finish"
            asyncio.get_running_loop().call_later(4.0, setattr, client, "status", "working")

        client.on_start = begin
        async with neware.run(CHARGE, LIMITS):
            pass
        assert client.status == "stop"
        assert client.commands().count("stop") == 2

    play(scenario, tmp_path)


def test_techniques_follow_one_another_under_new_names(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[str]:
        names = []
        for _ in range(2):
            client.on_start = lambda: finishing(client, [(1, 60000, 3.9, 0.0)], 5.0)
            await ran(neware, Rest(duration_s=60.0))
            names.append(client.barcode)
        return names

    assert play(scenario, tmp_path) == ["cycler-1", "cycler-2"]


def test_a_channel_that_does_not_stop_is_said_to_be_on(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> Outcome:
        def obstinate(request: str) -> None:
            client.status = "working"

        client.on_start = lambda: setattr(client, "before_reply", obstinate)
        with pytest.raises(InstrumentError, match="may still be on"):
            async with neware.run(CHARGE, LIMITS):
                pass
        return await neware.quiet()

    outcome = play(scenario, tmp_path)
    assert not outcome.confirmed
    assert 'still at "working"' in outcome.state


def test_leaving_when_the_connection_is_gone_is_an_error(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        with pytest.raises(InstrumentError, match="may still be on"):
            async with neware.run(CHARGE, LIMITS):
                await client._end.close()

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("kind", "counted", "charge_C"),
    [("cc", "0.5", 1800.0), ("dv", "0.5", -1800.0), ("dc", "0.25", -900.0), ("rest", "0", 0.0),
     ("pulse", "0.5", math.nan), ("cv", "--", math.nan)],
)  # fmt: skip
def test_the_cycler_counts_the_charge_and_the_step_tells_its_sign(
    tmp_path: Path, kind: str, counted: str, charge_C: float
) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[Block]:
        client.step_type, client.counted = kind, counted
        client.on_start = lambda: finishing(client, [(1, 36000000, 4.0, 0.0)], 1.0)
        return (await ran(neware, CHARGE))[0]

    (count_C,) = column(play(scenario, tmp_path), "charge_C")
    assert count_C == pytest.approx(charge_C, nan_ok=True)


# --- Lists --------------------------------------------------------------------------------------


def cycled_rows(per_step: int) -> list[tuple[int, int, float, float]]:
    """Rows of `CYCLES`: so many of each step, a second apart."""
    steps = [1, *(2, 3, 4) * 3]
    return [(step, 1000 * at, 4.0, 1e-3) for step in steps for at in range(per_step)]


def step_layer(rows: list[tuple[int, int, float, float]], per_step: int) -> str:
    """One line for each step of `rows` but the last."""
    return "".join(
        f'<data startseqid="{first + 1}" endseqid="{first + per_step}" stepindex="1" '
        f'stepid="{rows[first][0]}" cycleid="1" steptype="cc" steptime="{1000 * (per_step - 1)}" />'
        for first in range(0, len(rows) - per_step, per_step)
    )


def test_every_row_of_a_list_comes_once_in_order_with_its_step(tmp_path: Path) -> None:
    rows = cycled_rows(300)

    async def scenario(client: BtsClient, neware: Neware) -> tuple[list[Block], Running]:
        client.on_start = lambda: finishing(client, rows, 30.0)
        async with neware.run_list(CYCLES, LIMITS, "run 7/cell A") as running:
            blocks = await blocks_of(running)
        assert re.fullmatch(r"run_7_cell_A-[0-9a-f]{8}", client.barcode)
        return blocks, running

    blocks, running = play(scenario, tmp_path)
    assert [len(block.time_s) for block in blocks] == [1000, 1000, 1000]
    assert column(blocks, "row") == list(range(1, 3001))
    assert column(blocks, "step") == [float(at // 300) for at in range(3000)]
    times = [time_s - running.started_s for block in blocks for time_s in block.time_s]
    assert times[299] == times[300] == 299.0
    assert times[-1] == 2990.0
    assert not any(flag for block in blocks for flag in block.flags)
    assert running.ending is not None
    assert running.ending.kind is EndingKind.COMPLETED


def test_a_list_that_finishes_too_early_is_not_complete(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> Running:
        client.on_start = lambda: finishing(client, [(1, 500, 4.0, 0.0)], 1.0)
        steps = StepList(steps=(Rest(duration_s=60.0), Rest(duration_s=10.0)))
        async with neware.run_list(steps, LIMITS, "x") as running:
            await blocks_of(running)
        return running

    ending = play(scenario, tmp_path).ending
    assert ending is not None
    assert (ending.kind, ending.detail) == (
        EndingKind.ABORTED,
        "it finished after technique 1 of 2",
    )


def test_rows_that_are_missing_are_asked_for_again_and_then_flagged(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> list[Block]:
        client.missing = {5, 6}
        client.on_start = lambda: finishing(client, cycled_rows(3), 10.0)
        async with neware.run_list(CYCLES, LIMITS, "x") as running:
            return await blocks_of(running)

    blocks = play(scenario, tmp_path)
    assert column(blocks, "row") == [1, 2, 3, 4, *range(7, 31)]
    flags = [flag for block in blocks for flag in block.flags]
    assert flags == [0, 0, 0, 0, Flag.MISSING, *[0] * 23]


def test_last_rows_that_do_not_arrive_are_an_error(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.missing = {30}
        client.on_start = lambda: finishing(client, cycled_rows(3), 10.0)
        with pytest.raises(InstrumentError, match="rows 30 to 30"):
            async with neware.run_list(CYCLES, LIMITS, "x") as running:
                await blocks_of(running)

    play(scenario, tmp_path)


@pytest.mark.parametrize("log_end", [True, False])
def test_the_end_needs_the_log_or_a_second_look(tmp_path: Path, log_end: bool) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> int:
        client.log_end = log_end

        def begin() -> None:
            client.rows, client.status = cycled_rows(1), "finish"

        client.on_start = begin
        async with neware.run_list(CYCLES, LIMITS, "x") as running:
            assert len(column(await blocks_of(running), "row")) == 10
        return client.commands().count("inquire")

    assert play(scenario, tmp_path) == (3 if log_end else 4)


def test_a_list_with_an_end_that_needs_the_host_is_refused(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        rest = Rest(duration_s=60.0, cut_offs=(CutOff(quantity="voltage", above=True, value=4.0),))
        with pytest.raises(InstrumentError, match="cannot by itself end a step"):
            async with neware.run_list(StepList(steps=(rest,)), LIMITS, "x"):
                pass
        assert "start" not in client.commands()

    play(scenario, tmp_path)


def test_another_test_on_the_channel_is_an_error(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        async with neware.run_list(CYCLES, LIMITS, "x") as running:
            client.rows = cycled_rows(1)[:2]
            await anext(aiter(running))
            client.barcode = "of somebody else"
            with pytest.raises(InstrumentError, match='has the test "of somebody else", not "x"'):
                await anext(aiter(running))

    play(scenario, tmp_path)


@pytest.mark.parametrize("after_row", [0, 7, 12, 30])
def test_a_running_test_is_attached_to_and_what_was_missed_is_fetched(
    tmp_path: Path, after_row: int
) -> None:
    rows = cycled_rows(3)

    async def scenario(client: BtsClient, neware: Neware) -> list[Block]:
        client.barcode, client.status, client.total_s = "x", "working", 500.0
        client.finished_steps = step_layer(rows, 3)
        finishing(client, rows, 7.0)
        now_s = asyncio.get_running_loop().time()
        async with neware.attach(CYCLES, "x", after_row) as running:
            blocks = await blocks_of(running)
        assert running.started_s == now_s - 500.0
        assert running.ending is not None
        assert running.ending.kind is EndingKind.COMPLETED
        for block in blocks:
            assert list(block.time_s) == [
                running.started_s + 2.0 * ((row - 1) // 3) + (row - 1) % 3
                for row in block.columns["row"]
            ]
        return blocks

    blocks = play(scenario, tmp_path)
    assert column(blocks, "row") == list(range(after_row + 1, 31))
    assert column(blocks, "step") == [row // 3 for row in range(after_row, 30)]
    assert not any(flag for block in blocks for flag in block.flags)


def test_rows_of_a_test_that_ended_meanwhile_are_fetched_and_flagged_late(tmp_path: Path) -> None:
    rows = cycled_rows(3)

    async def scenario(client: BtsClient, neware: Neware) -> tuple[list[Block], float]:
        client.barcode, client.rows = "x", rows
        client.finished_steps = step_layer(rows, 3)
        async with neware.attach(CYCLES, "x", 27) as running:
            blocks = await blocks_of(running)
        assert "stop" not in client.commands()
        return blocks, asyncio.get_running_loop().time()

    blocks, now_s = play(scenario, tmp_path)
    assert column(blocks, "row") == [28, 29, 30]
    assert list(blocks[0].flags) == [Flag.LATE] * 3
    assert blocks[0].time_s[-1] <= now_s


def test_attaching_to_another_test_is_an_error_and_leaves_it_alone(tmp_path: Path) -> None:
    async def scenario(client: BtsClient, neware: Neware) -> None:
        client.status = "working"
        with pytest.raises(InstrumentError, match='has the test "251203_x_02", not "mine"'):
            async with neware.attach(CYCLES, "mine", 0):
                pass
        assert "stop" not in client.commands()

    play(scenario, tmp_path)


# --- Captured frames ----------------------------------------------------------------------------


def captured() -> Any:
    """The frames that aurora-neware's tests captured from a BTS Client."""
    source = os.environ.get("AURORA_NEWARE_SOURCE")
    if not source:
        pytest.skip("AURORA_NEWARE_SOURCE does not name aurora-neware's source distribution")
    spec = importlib.util.spec_from_file_location("mocks", Path(source) / "tests" / "mocks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FakeSocket()


@contextlib.asynccontextmanager
async def replaying() -> AsyncIterator[Stream]:
    """A TCP server that replays the captured frames, in pieces."""
    frames = captured()
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\n\n#\r\n")
                # It tells requests apart by how its own client spells them.
                spelled = request.replace(b"<list count=", b"<list count = ")
                if b"<cmd>download" in spelled and b"<cmd>downloadStepLayer" not in spelled:
                    spelled = spelled.replace(b'" />', b'"/>')
                frames.sendall(spelled)
                reply = frames.recv(10**7)
                for at in range(0, len(reply), 1000):
                    writer.write(reply[at : at + 1000])
                    await writer.drain()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        stream = await open_tcp(*server.sockets[0].getsockname()[:2])
        yield stream
        await stream.close()
        await gone.wait()


async def test_captured_frames_are_understood(tmp_path: Path) -> None:
    async with replaying() as stream:
        bts = Bts("cycler", stream, 5.0, 1.0)
        await bts.log_in("admin", "neware")
        channels, _ = await bts.channels()
        assert len(channels) == 16
        first, second, fourth = channels[0], channels[1], channels[3]
        assert await bts.status(first) == "finish"
        live = await bts.live(second)
        assert live == ("working", "251203_kigr_gen17_02", 4.6947, -0.0003, 3189199.3)
        assert await bts.last_test(first) == (143, 219585)
        rows = await bts.rows(first, 219576)
        assert [row.number for row in rows] == list(range(219576, 219586))
        assert rows[-1][:5] == (219585, 24, 36136400, 3.49995565414429, -0.000295051460852847)
        assert abs(rows[-1].charge_C) < 36
        assert await bts.last_row_of_log(first) == 219585
        steps = await bts.finished_steps(first)
        assert steps[-1] == (7519, 7927, 3, 3932700)
        assert await bts.start(first, "x", "x.xml", "x")
        assert not await bts.start(fourth, "x", "x.xml", "x")
        assert await bts.stop(first)
        assert not await bts.stop(fourth)


async def test_the_driver_connects_to_captured_frames_and_is_refused_a_start(
    tmp_path: Path,
) -> None:
    async with replaying() as stream:
        neware = Neware("cycler", stream, {"channel": "21-1-1", "steps folder": str(tmp_path)})
        identity = await neware.connect()
        assert (identity.model, identity.serial, identity.remarks) == (
            "Neware BTS85",
            "27-21-1-1",
            (),
        )
        assert await neware.quiet() == Outcome("cycler", "open circuit (finish)", confirmed=True)
