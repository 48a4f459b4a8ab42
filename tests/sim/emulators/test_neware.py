"""The Neware cycler: captured frames, step files carried out without a host, and aurora-neware."""

from __future__ import annotations

import asyncio
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.clock import run
from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.neware import ChannelKey, NewareEmulator, folder_on_pc
from cellbench_sim.presets import load_preset
from cellbench_sim.serve import serve
from cellbench_sim.world import World

END = b"\n\n#\r\n"
CHANNEL = 'devtype="27" devid="21" subdevid="1" chlid="1"'
WITH_IP = f'ip="127.0.0.1" {CHANNEL}'


def step(kind: int, limits: str = "", *, other: str = "", protect: str = "") -> str:
    """A step whose number `step_file` fills in."""
    main = f"<Main>{limits}</Main>" if limits else ""
    cycle = f"<Other>{other}</Other>" if other else ""
    guard = f"<Protect><Main>{protect}</Main></Protect>" if protect else ""
    return (
        f'<Step{{n}} Step_ID="{{n}}" Step_Type="{kind}">'
        f"<Limit>{main}{cycle}</Limit>{guard}</Step{{n}}>"
    )


def step_file(*steps: str, protect: str = "", record: str = '<Time Value="1000"/>') -> bytes:
    inner = "".join(text.replace("{n}", str(n)) for n, text in enumerate((*steps, step(6)), 1))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<root>
 <config type="Step File" version="17" client_version="BTS Client 8.0.0.478(2024.06.24)(R3)">
  <Head_Info><Start_Step Value="1" Hide_Ctrl_Step="0"/><MultCap Value="7200"/></Head_Info>
  <Whole_Prt>
   <Protect><Main>{protect}</Main></Protect><Record><Main>{record}</Main></Record>
  </Whole_Prt>
  <Step_Info Num="{len(steps) + 1}">{inner}</Step_Info>
  <SMBUS><SMBUS_Info Num="0" AdjacentInterval="0"/></SMBUS>
 </config>
</root>""".encode()


def rest(ms: int) -> str:
    return step(4, f'<Time Value="{ms}"/>')


def charge(mA: float, *limits: str) -> str:
    return step(1, f'<Curr Value="{mA}"/>' + "".join(limits))


def discharge(mA: float, *limits: str) -> str:
    return step(2, f'<Curr Value="{mA}"/>' + "".join(limits))


def hold(volts: float, *limits: str, kind: int = 3) -> str:
    return step(kind, f'<Volt Value="{volts * 1e4:.0f}"/>' + "".join(limits))


def time_ms(value: int) -> str:
    return f'<Time Value="{value}"/>'


class Client:
    """A host of the BTS PC."""

    def __init__(self, device: NewareEmulator, files: dict[str, bytes]) -> None:
        self.device, self.files = device, files
        self.stream = device.connect()

    async def ask(self, body: str, terminator: bytes = END) -> bytes:
        """Send the body of a request; return the reply without its terminator."""
        head = '<?xml version="1.0" encoding="UTF-8" ?>\n<bts version="1.0">'
        await self.stream.write(f"{head}{body}</bts>".encode() + terminator)
        return (await self.stream.read_until(END, 30.0)).removesuffix(END)

    async def entries(self, body: str) -> list[ET.Element]:
        """Return the entries of the list of a reply."""
        found = ET.fromstring(await self.ask(body)).find("list")  # noqa: S314
        assert found is not None
        return list(found)

    async def word(self, body: str) -> str | None:
        (entry,) = await self.entries(body)
        return entry.text

    async def start(self, content: bytes | None, path: str = r"D:\steps\a.xml") -> str | None:
        if content is not None:
            self.files[path] = content
        return await self.word(
            f'<cmd>start</cmd><list count = "1"><start {WITH_IP} barcode="pellet 7">{path}</start>'
            '<backup backupdir="C:\\data" remotedir="" filenametype="0" /></list>"'
        )

    async def status(self) -> str | None:
        return await self.word(
            f'<cmd>getchlstatus</cmd><list count="1"><status {WITH_IP}>true</status></list>'
        )

    async def do(self, command: str, attributes: str = "") -> str | None:
        element = f"<{command} {WITH_IP} {attributes}>true</{command}>"
        return await self.word(f'<cmd>{command}</cmd><list count="1">{element}</list>')

    async def live(self) -> dict[str, str]:
        (entry,) = await self.entries(
            f'<cmd>inquire</cmd><list count="1"><inquire {WITH_IP} aux="0" barcode="1">true'
            "</inquire></list>"
        )
        return entry.attrib

    async def rows(self, startpos: int = 1, count: int = 1000) -> list[dict[str, str]]:
        request = f'auxid="0" testid="0" startpos="{startpos}" count="{count}"'
        body = f"<cmd>download</cmd><download {CHANNEL} {request}/>"
        return [entry.attrib for entry in await self.entries(body)]

    async def layers(self) -> list[dict[str, str]]:
        body = f"<cmd>downloadStepLayer</cmd><downloadStepLayer {CHANNEL} />"
        return [entry.attrib for entry in await self.entries(body)]

    async def log(self) -> list[dict[str, str]]:
        body = f'<cmd>downloadlog</cmd><download {CHANNEL} testid="0"/>'
        return [entry.attrib for entry in await self.entries(body)]


Story = Callable[[Client], Awaitable[None]]
Tell = Callable[..., None]


@pytest.fixture
def with_cycler(cell: Any) -> Tell:
    """Return a function that tells a story to a cycler whose channel 21-1-1 is on ``cell``."""

    def tell(story: Story, *, on: Any = None, **settings: Any) -> None:
        async def main() -> None:
            cell.time_s = 0.0
            timebase = Timebase()
            timebase.start()
            files: dict[str, bytes] = {}
            world = cell if on is None else on
            device = NewareEmulator("cycler", timebase, world, seed=1, files=files.get, **settings)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Client(device, files))
                watch.cancel()

        run(main(), virtual=True)

    return tell


def a_cell() -> World:
    """A lithium cell of a few mAh."""
    return World(load_preset("LCO_InLi"), seed=3)


# ---------------------------------------------------------------------- frames


def test_a_login_is_answered_as_captured(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        login = "<username>admin</username><password>{}</password><type>bfgs</type>"
        assert await client.ask("<cmd>connect</cmd>" + login.format("neware")) == (
            b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
            b"  <cmd>connect_resp</cmd>\r\n  <result>ok</result>\r\n</bts>"
        )
        assert b"<result>false</result>" in await client.ask(
            "<cmd>connect</cmd>" + login.format("wrong")
        )

    with_cycler(story)


def test_the_devices_are_listed_as_captured(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        reply = await client.ask("<cmd>getdevinfo</cmd>")
        assert reply.startswith(
            b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
            b'  <cmd>getdevinfo_resp</cmd>\r\n  <serverip count="1">\r\n'
            b'    <server ip="127.0.0.1" port="3306" />\r\n  </serverip>\r\n'
            b'  <middle count="16">\r\n'
            b'    <channel ip="127.0.0.1" devtype="27" devid="21" subdevid="1" Channelid="1">true'
            b"</channel>\r\n"
        )
        assert reply.endswith(b"</channel>\r\n</middle>\r\n</bts>")
        await client.start(step_file(rest(60_000)))
        assert b'Channelid="1">false</channel>' in await client.ask("<cmd>getdevinfo</cmd>")

    with_cycler(story)


def test_live_data_are_answered_as_captured(with_cycler: Tell, cell: Any) -> None:
    cell.open_circuit_V = 3.8834

    async def story(client: Client) -> None:
        request = f'<inquire {WITH_IP} aux="0" barcode="1">true</inquire>'
        reply = await client.ask(f'<cmd>inquire</cmd><list count="1">{request}</list>')
        assert reply.startswith(
            b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
            b'  <cmd>inquire_resp</cmd>\r\n  <list count="1">\r\n'
            b'    <inquire dev="27-21-1-1-0" cycle_id="1" step_type="--" workstatus="finish"'
            b' barcode="" current="0" voltage="3.88'
        )
        assert reply.endswith(
            b' capacity="0" energy="0" totaltime="0" relativetime="0" open_or_close="0"'
            b' log_code="0" />\r\n  </list>\r\n</bts>'
        )
        await client.start(step_file(discharge(0.3, time_ms(60_000))))
        await asyncio.sleep(30)
        live = await client.live()
        assert list(live)[:6] == [
            "dev", "cycle_id", "step_id", "step_type", "workstatus", "barcode"
        ]  # fmt: skip
        assert (live["step_type"], live["workstatus"]) == ("dc", "working")
        assert (live["current"], live["barcode"]) == ("-0.0003", "pellet 7")
        assert (live["relativetime"], live["log_code"]) == ("30", "102000")

    with_cycler(story)


def test_a_plain_terminator_and_pieces_of_a_request_are_taken(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert b"getdevinfo_resp" in await client.ask("<cmd>getdevinfo</cmd>", b"#\r\n")
        request = b"<bts><cmd>getdevinfo</cmd></bts>\n\n#\r\n"
        for byte in request:
            await client.stream.write(bytes([byte]))
        assert b"getdevinfo_resp" in await client.stream.read_until(END, 1.0)

    with_cycler(story)


def test_a_reply_comes_in_pieces(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        pieces: list[bytes] = []
        client.device.attach(pieces.append, lambda: None)
        client.device.receive(b"<bts><cmd>getdevinfo</cmd></bts>#\r\n")
        assert len(pieces) > 1
        assert b"".join(pieces).endswith(b"</bts>\n\n#\r\n")

    with_cycler(story)


def test_what_cannot_be_read_is_met_with_silence(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.stream.write(b"<bts><cmd>connect</bts>#\r\n")
        await client.stream.write(b"<!DOCTYPE bts><bts><cmd>getdevinfo</cmd></bts>#\r\n")
        await asyncio.sleep(1)
        assert b"<result>false</result>" in await client.ask("<cmd>selfdestruct</cmd>")

    with_cycler(story)


def test_status_words_echo_the_wrong_subdevice(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        place = 'ip="127.0.0.1" devtype="27" devid="21" subdevid="2" chlid="5"'
        (entry,) = await client.entries(
            f'<cmd>getchlstatus</cmd><list count="1"><status {place}>true</status></list>'
        )
        assert entry.attrib == {
            "ip": "127.0.0.1", "devtype": "27", "devid": "21", "subdevid": "1", "chlid": "5",
            "reservepause": "1",
        }  # fmt: skip
        assert entry.text == "finish"

    with_cycler(story)


# ---------------------------------------------------------------------- tests


def test_steps_make_rows_layers_and_log_as_captured(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        content = step_file(
            rest(20_000), charge(0.3, time_ms(25_000)), discharge(0.3, time_ms(10_000)),
            record='<Time Value="10000"/>',
        )  # fmt: skip
        assert await client.start(content) == "ok"
        await asyncio.sleep(60)
        assert await client.status() == "finish"
        rows = await client.rows()
        assert list(rows[0]) == [
            "seqid", "stepid", "cycleid", "steptype", "testtime", "atime", "volt", "curr", "cap",
            "eng",
        ]  # fmt: skip
        assert [(row["stepid"], row["steptype"], row["testtime"]) for row in rows] == [
            ("1", "rest", "0"), ("1", "rest", "10000"), ("1", "rest", "20000"),
            ("2", "cc", "0"), ("2", "cc", "10000"), ("2", "cc", "20000"), ("2", "cc", "25000"),
            ("3", "dc", "0"), ("3", "dc", "10000"),
        ]  # fmt: skip
        assert {row["cycleid"] for row in rows} == {"0"}
        assert float(rows[6]["cap"]) == pytest.approx(0.3e-3 * 25 / 3600, rel=1e-3)
        assert float(rows[6]["curr"]) == pytest.approx(0.3e-3, rel=1e-3)
        assert float(rows[8]["curr"]) == pytest.approx(-0.3e-3, rel=1e-3)
        assert float(rows[8]["cap"]) == pytest.approx(0.3e-3 * 10 / 3600, rel=1e-3)
        assert rows[0]["atime"] == "2026-01-01 00:00:00"
        layers = await client.layers()
        assert [(layer["startseqid"], layer["endseqid"]) for layer in layers] == [
            ("1", "3"), ("4", "7"), ("8", "9")
        ]  # fmt: skip
        assert [layer["cycleid"] for layer in layers] == ["1", "1", "1"]
        assert [layer["steptime"] for layer in layers] == ["20000", "25000", "10000"]
        log = await client.log()
        assert [(entry["seqid"], entry["log_code"]) for entry in log] == [
            ("1", "100000"), ("9", "100001")
        ]  # fmt: skip

    with_cycler(story)


def test_downloads_are_misspelt_and_at_most_a_thousand_rows(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(rest(150_000), record='<Time Value="100"/>'))
        await asyncio.sleep(200)
        assert len(await client.rows(count=5000)) == 1000
        rest_of_them = await client.rows(startpos=1001)
        assert (len(rest_of_them), rest_of_them[0]["seqid"]) == (501, "1001")
        nothing = await client.ask(
            f'<cmd>download</cmd><download {CHANNEL} auxid="0" testid="0" startpos="0" count="0"/>'
        )
        assert nothing == (
            b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
            b"  <cmd>donwload_resp</cmd>\r\n"
            b'  <download devtype="27" devid="21" subdevid="1" chlid="1" testid="143"'
            b' startpos="0" count="0" auxid="0" />\r\n  <list count="0" />\r\n</bts>'
        )
        log = await client.ask(f'<cmd>downloadlog</cmd><download {CHANNEL} testid="0"/>')
        assert b"<cmd>donwloadlog_resp</cmd>" in log

    with_cycler(story)


def test_units_are_the_installations_own(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(charge(0.3, time_ms(36_000))))
        await asyncio.sleep(40)
        last = (await client.rows())[-1]
        assert float(last["curr"]) == pytest.approx(0.3, rel=1e-3)
        assert float(last["cap"]) == pytest.approx(3e-3, rel=1e-3)

    with_cycler(story, units="mA")


def test_a_row_is_kept_for_each_change_of_voltage(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        content = step_file(
            charge(2.0, '<Stop_Volt Value="38000"/>'),
            record='<Time Value="600000"/><Volt Value="500"/>',
        )
        await client.start(content)
        await asyncio.sleep(3 * 3600)
        volts = [float(row["volt"]) for row in await client.rows()]
        assert volts[-1] == pytest.approx(3.8, abs=1e-3)
        assert len(volts) > (volts[-1] - volts[0]) / 0.05
        after_the_jump = volts[3:]
        assert max(b - a for a, b in itertools.pairwise(after_the_jump)) < 0.06

    with_cycler(story, on=a_cell())


def test_cycles_count_from_nought_in_rows_and_from_one_in_layers(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        content = step_file(
            rest(1000), charge(0.1, time_ms(2000)), discharge(0.1, time_ms(2000)),
            step(5, other='<Start_Step Value="2"/><Cycle_Count Value="3"/>'), rest(1000),
        )  # fmt: skip
        await client.start(content)
        await asyncio.sleep(20)
        layers = await client.layers()
        assert [layer["steptype"] for layer in layers] == [
            "rest", "cc", "dc", "cc", "dc", "cc", "dc", "rest"
        ]  # fmt: skip
        assert [layer["cycleid"] for layer in layers] == ["1", "1", "1", "2", "2", "3", "3", "3"]
        assert [layer["stepindex"] for layer in layers] == [str(n) for n in range(1, 9)]
        rows = await client.rows()
        assert (rows[0]["cycleid"], rows[-1]["cycleid"]) == ("0", "2")

    with_cycler(story)


def test_charging_ends_at_its_voltage_and_holding_at_its_current(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        content = step_file(
            charge(0.5, '<Stop_Volt Value="36000"/>'),
            hold(3.6, '<Stop_Curr Value="0.1"/>', '<Curr Value="0.5"/>'),
            step(7, '<Curr Value="0.5"/><Volt Value="36500"/><Stop_Curr Value="0.1"/>'),
            discharge(0.5, '<Stop_Volt Value="33000"/>'),
            step(20, '<Curr Value="0.5"/><Volt Value="32500"/><Stop_Curr Value="0.1"/>'),
            record='<Time Value="60000"/>',
        )
        await client.start(content)
        await asyncio.sleep(20 * 3600)
        assert await client.status() == "finish"
        constant, held, both, down, taper = await client.layers()
        assert float(constant["endvolt"]) == pytest.approx(3.6, abs=2e-4)
        assert float(constant["endvolt"]) >= 3.6
        for layer, volts in ((held, 3.6), (both, 3.65), (taper, 3.25)):
            assert float(layer["endvolt"]) == pytest.approx(volts, abs=5e-4)
            assert abs(float(layer["endcurr"])) == pytest.approx(1e-4, rel=0.02)
        assert float(down["endvolt"]) == pytest.approx(3.3, abs=1e-3)
        assert [layer["steptype"] for layer in (held, both, taper)] == ["cv", "cccv", "cccd"]
        currents = [float(row["curr"]) for row in await client.rows()]
        assert max(abs(value) for value in currents) < 0.5e-3 * 1.001

    with_cycler(story, on=a_cell())


def test_a_capacity_ends_a_step(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(discharge(2, '<Cap Value="20"/>'), rest(1000)))
        await asyncio.sleep(30)
        first = (await client.layers())[0]
        assert float(first["cap"]) == pytest.approx(20e-3 / 3600, rel=1e-2)
        assert first["steptime"] == "10000"

    with_cycler(story)


def test_a_symmetric_cell_may_be_driven_below_zero(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(discharge(1, time_ms(5000))))
        await asyncio.sleep(3)
        assert cell.terminals() == pytest.approx((-1.0, -1e-3), rel=1e-3)

    with_cycler(story)


def test_the_whole_test_is_protected_after_its_delay(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        content = step_file(
            charge(2, time_ms(600_000)),
            protect='<Volt><Upper Value="20500"/><Lower Value="-1000"/></Volt><Curr><Upper/>'
            '</Curr><Delay_Time Value="2000"/>',
        )
        await client.start(content)
        await asyncio.sleep(10.03)
        cell.open_circuit_V = 1.0
        await asyncio.sleep(1.5)
        assert await client.status() == "working"
        await asyncio.sleep(2)
        assert await client.status() == "protect"
        assert cell.is_open
        assert (await client.live())["workstatus"] == "protect"
        assert await client.do("clearflag") == "ok"
        assert await client.do("clearflag") == "false"
        assert await client.start(step_file(rest(1000))) == "ok"

    with_cycler(story)


def test_currents_and_capacity_are_protected_too(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        for limit in (
            '<Curr><Upper Value="1"/></Curr>',
            '<Cap><Upper Value="10"/></Cap>',
        ):
            await client.start(step_file(charge(2, time_ms(600_000)), protect=limit))
            await asyncio.sleep(10)
            assert await client.status() == "protect"
            assert cell.is_open
        low = '<Curr><Lower Value="-1"/></Curr>'
        await client.start(step_file(discharge(2, time_ms(600_000)), protect=low))
        await asyncio.sleep(1)
        assert await client.status() == "protect"

    with_cycler(story)


def test_a_step_has_a_protection_of_its_own(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        guarded = step(1, '<Curr Value="2"/>', protect='<Volt><Upper Value="10000"/></Volt>')
        await client.start(step_file(rest(1000), guarded))
        await asyncio.sleep(3)
        assert await client.status() == "protect"

    with_cycler(story)


def test_a_test_goes_on_without_a_host(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(charge(0.3, time_ms(100_000)), rest(1000)))
        await client.stream.close()
        await asyncio.sleep(150)
        again = Client(client.device, client.files)
        assert await again.status() == "finish"
        assert len(await again.rows()) == 101 + 2

    with_cycler(story)


def test_each_test_has_its_own_rows(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        ask = f'<cmd>inquiredf</cmd><list count="1"><chl {CHANNEL} testid="0" /></list>'
        seen = []
        for seconds in (3, 5):
            await client.start(step_file(rest(seconds * 1000)))
            await asyncio.sleep(2)
            (entry,) = await client.entries(ask)
            assert entry.text == "false"
            await asyncio.sleep(10)
            (entry,) = await client.entries(ask)
            seen.append((entry.get("testid"), entry.get("count"), entry.text))
        assert seen == [("143", "4", "true"), ("144", "6", "true")]
        old = f'{CHANNEL} auxid="0" testid="143" startpos="1" count="1000"'
        assert len(await client.entries(f"<cmd>download</cmd><download {old}/>")) == 4

    with_cycler(story)


def test_channels_started_together_share_a_test_id(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        client.files["a.xml"] = step_file(rest(60_000))
        other = WITH_IP.replace('chlid="1"', 'chlid="2"')
        starts = "".join(
            f'<start {place} barcode="x">a.xml</start>' for place in (WITH_IP, other, WITH_IP)
        )
        words = await client.entries(f'<cmd>start</cmd><list count="3">{starts}</list>')
        assert [entry.text for entry in words] == ["ok", "ok", "false"]
        assert {test for channel in client.device.channels.values() for test in channel.tests} == {
            143
        }

    with_cycler(story)


def test_a_channel_without_a_cell_runs_into_its_protection(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        high = '<Volt><Upper Value="45000"/></Volt>'
        client.files["a.xml"] = step_file(charge(1, time_ms(60_000)), protect=high)
        place = WITH_IP.replace('chlid="1"', 'chlid="8"')
        start = f'<start {place} barcode="x">a.xml</start>'
        assert await client.word(f'<cmd>start</cmd><list count="1">{start}</list>') == "ok"
        await asyncio.sleep(1)
        body = f'<cmd>getchlstatus</cmd><list count="1"><status {place}>true</status></list>'
        assert await client.word(body) == "protect"
        assert [kind for kind, _ in cell.commands] == ["open"]

    with_cycler(story)


def test_live_data_are_refreshed_every_five_seconds(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert (await client.live())["workstatus"] == "finish"
        await client.start(step_file(rest(60_000)))
        assert await client.status() == "working"
        assert (await client.live())["workstatus"] == "finish"
        await asyncio.sleep(5)
        assert (await client.live())["relativetime"] == "5"
        await asyncio.sleep(4)
        assert (await client.live())["relativetime"] == "5"

    with_cycler(story)


def test_stop_opens_the_cell_and_continue_takes_up_the_step(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        assert await client.do("stop") == "false"
        await client.start(step_file(charge(1, time_ms(20_000))))
        await asyncio.sleep(5.5)
        assert await client.do("stop") == "ok"
        assert cell.is_open
        assert await client.status() == "stop"
        await asyncio.sleep(100)
        assert await client.do("continue") == "ok"
        await asyncio.sleep(14)
        assert await client.status() == "working"
        await asyncio.sleep(1)
        assert await client.status() == "finish"
        (layer,) = await client.layers()
        assert layer["steptime"] == "20000"
        assert float(layer["cap"]) == pytest.approx(20e-3 / 3600, rel=1e-3)
        assert [entry["log_code"] for entry in await client.log()] == [
            "100000", "100215", "100213", "100007", "100001"
        ]  # fmt: skip

    with_cycler(story)


def test_pauses_wait_for_continue(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(charge(1, time_ms(2000)), step(13), rest(2000)))
        await asyncio.sleep(10)
        assert await client.status() == "pause"
        assert cell.is_open
        assert await client.start(step_file(rest(1000))) == "false"
        assert await client.do("continue") == "ok"
        await asyncio.sleep(3)
        assert await client.status() == "finish"

    with_cycler(story)


def test_a_pause_can_be_reserved_and_taken_back(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        at_2 = 'cycleid="1" stepid="2"'
        assert await client.do("setpause", at_2) == "false"
        await client.start(step_file(rest(2000), rest(2000), rest(2000)))
        assert await client.do("setpause", at_2) == "ok"
        assert await client.do("getpause") == "true"
        assert await client.do("cancelpause", at_2) == "ok"
        assert await client.do("setpause", 'cycleid="1" stepid="3"') == "ok"
        await asyncio.sleep(10)
        assert await client.status() == "pause"
        assert await client.do("continue") == "ok"
        await asyncio.sleep(3)
        assert await client.status() == "finish"

    with_cycler(story)


def test_goto_leaves_a_step_early(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert await client.do("goto", 'step="2"') == "false"
        await client.start(step_file(rest(60_000), charge(1, time_ms(2000))))
        await asyncio.sleep(5)
        assert await client.do("goto", 'step="9"') == "false"
        assert await client.do("goto", 'step="2"') == "ok"
        await asyncio.sleep(1)
        assert [layer["steptime"] for layer in await client.layers()] == ["5000"]
        await asyncio.sleep(2)
        assert await client.status() == "finish"

    with_cycler(story)


def test_reset_puts_another_file_under_a_running_test(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(charge(1, time_ms(60_000))))
        client.files["b.xml"] = step_file(charge(0.5, time_ms(10_000)))
        await asyncio.sleep(5.05)
        reply = await client.ask(f'<cmd>reset</cmd><reset {WITH_IP} DBC_CAN="0">b.xml</reset>')
        assert b'chlid="1">ok</reset>' in reply
        assert b"<list" not in reply
        await asyncio.sleep(6)
        assert await client.status() == "finish"
        (layer,) = await client.layers()
        assert float(layer["endcurr"]) == pytest.approx(0.5e-3, rel=1e-3)

    with_cycler(story)


def test_a_device_is_stopped_as_a_whole(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start(step_file(charge(1, time_ms(60_000))))
        await asyncio.sleep(1)
        body = '<cmd>broadcaststop</cmd><list count="1"><stop {}>true</stop></list>'
        wrong = body.format('ip="127.0.0.1" devtype="27" devid="9"')
        assert await client.word(wrong) == "false"
        assert await client.status() == "working"
        right = body.format('ip="127.0.0.1" devtype="27" devid="21"')
        assert await client.word(right) == "ok"
        assert await client.status() == "stop"
        assert cell.is_open

    with_cycler(story)


def test_light_is_obeyed_and_hardware_that_is_not_there_refused(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert await client.do("light") == "ok"
        assert await client.do("chl_ctrl") == "false"
        assert await client.do("parallel") == "false"

    with_cycler(story)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no XML",
        b"<root/>",
        b'<!DOCTYPE root><root><config type="Step File"/></root>',
        step_file(rest(1000)).replace(b'Num="2"', b'Num="3"'),
        step_file(rest(1000)).replace(b'Step_Type="6"', b'Step_Type="4"'),
        step_file(rest(1000)).replace(b'Step_ID="1"', b'Step_ID="7"'),
        step_file(rest(1000)).replace(b'Start_Step Value="1"', b'Start_Step Value="4"'),
        step_file(step(4)),
        step_file(step(16, '<Curr Value="1"/>')),
        step_file(step(1, '<Stop_Volt Value="40000"/>')),
        step_file(charge(0, time_ms(1000))),
        step_file(charge(101, time_ms(1000))),
        step_file(hold(6.0, time_ms(1000))),
        step_file(charge(1, '<Stop_Volt Value="high"/>')),
        step_file(charge(1, '<Stop_Temp Value="60"/>')),
        step_file(hold(4.0, '<Stop_Volt Value="40000"/>')),
        step_file(rest(1000), step(5, other='<Start_Step Value="2"/><Cycle_Count Value="2"/>')),
        step_file(step(13), step(5, other='<Start_Step Value="1"/><Cycle_Count Value="2"/>')),
        None,
    ],
)
def test_a_file_that_cannot_be_carried_out_is_refused(
    with_cycler: Tell, cell: Any, content: bytes | None
) -> None:
    async def story(client: Client) -> None:
        assert await client.start(content) == "false"
        assert [kind for kind, _ in cell.commands] == ["open"]
        assert await client.status() == "finish"

    with_cycler(story)


def test_rates_refer_to_the_nominal_capacity(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        content = step_file(step(1, '<Rate Value="0.5"/>' + time_ms(5000)))
        await client.start(content)  # 7200 mAs are 2 mAh
        await asyncio.sleep(6)
        assert float((await client.rows())[-1]["curr"]) == pytest.approx(1e-3, rel=1e-3)

    with_cycler(story)


def test_looking_changes_nothing(with_cycler: Tell) -> None:
    rows: list[list[dict[str, str]]] = []
    content = step_file(
        charge(0.5, '<Stop_Volt Value="36500"/>'),
        hold(3.65, '<Stop_Curr Value="0.2"/>', '<Curr Value="0.5"/>'),
        record='<Time Value="30000"/>',
    )

    def story(looks: int) -> Story:
        async def tell(client: Client) -> None:
            await client.start(content)
            for _ in range(looks):
                await client.live()
                await asyncio.sleep(5 * 3600 / looks)
            rows.append(await client.rows())

        return tell

    with_cycler(story(1), on=a_cell())
    with_cycler(story(1000), on=a_cell())
    assert rows[0] == rows[1]


@given(st.binary(max_size=200))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_pc_down(with_cycler: Tell, data: bytes) -> None:
    async def story(client: Client) -> None:
        await client.stream.write(data + b"#\r\n<bts>" + data + b"</bts>#\r\n")
        await client.stream.drain(0.1)
        assert b"connect_resp" in await client.ask("<cmd>connect</cmd>")

    with_cycler(story)


# ---------------------------------------------------------------------- bench files


def test_channels_are_named_as_the_manual_names_them() -> None:
    assert ChannelKey.parse("27-1-3") == ChannelKey(27, 1, 3)
    assert ChannelKey.parse("27-21-1-2-0") == ChannelKey(21, 1, 2)
    for text in ("3", "a-b-c", "1-0-2", ""):
        with pytest.raises(InputError, match="devid-subdevid-channel"):
            ChannelKey.parse(text)


def test_files_of_the_pc_are_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.xml").write_bytes(b"a")
    (tmp_path.parent / "secret").write_bytes(b"no")
    files = folder_on_pc(tmp_path, r"D:\Steps")
    assert files(r"d:\steps\sub\a.xml") == b"a"
    assert files("D:/Steps/sub/a.xml") == b"a"
    assert files(r"D:\Steps\sub\b.xml") is None
    assert files(r"D:\Steps\..\secret") is None
    assert files(r"C:\Steps\sub\a.xml") is None


def test_a_bench_file_describes_the_cycler(tmp_path: Path, cell: Any) -> None:
    options = {
        "channel": "27-3-1", "units": "mA", "port": "simulated",
        "steps_folder": str(tmp_path), "steps_folder_on_pc": r"Z:\steps",
    }  # fmt: skip
    device = NewareEmulator.from_bench("cycler", Timebase(), cell, seed=1, options=options)
    assert ChannelKey(27, 3, 1) in device.channels
    (tmp_path / "a.xml").write_bytes(b"a")
    assert device.files(r"Z:\steps\a.xml") == b"a"
    with pytest.raises(InputError, match="units are A or mA"):
        NewareEmulator.from_bench("cycler", Timebase(), cell, seed=1, options={"units": "kA"})


# ---------------------------------------------------------------------- a program of others


def test_aurora_neware_runs_a_test(tmp_path: Path) -> None:
    neware = pytest.importorskip(
        "aurora_neware", reason="aurora-neware, an independent client, is not installed"
    )
    path = tmp_path / "a.xml"
    path.write_bytes(step_file(rest(300), charge(0.3, time_ms(600)), record='<Time Value="100"/>'))

    def work(host: str, port: int) -> None:
        with neware.NewareAPI(host, port) as api:
            assert len(api.channel_map) == 16
            assert set(api.inquire()) == set(api.channel_map)
            assert api.getchlstatus("21-2-5")["21-2-5"]["subdevid"] == 2
            (reply,) = api.start("21-1-1", "pellet 7", path)
            assert reply["start"] == "ok"
            while api.getchlstatus("21-1-1")["21-1-1"]["status"] != "finish":
                assert api.inquiredf("21-1-1")["21-1-1"]["testid"] == 143
            data = api.download("21-1-1", last_n_points=0)
            assert data["steptype"] == ["rest"] * 4 + ["cc"] * 7
            assert data["curr"][-1] == pytest.approx(0.3e-3, rel=1e-3)
            assert [layer["steptype"] for layer in api.get_steps("21-1-1")] == ["rest", "cc"]
            assert [row["log_code"] for row in api.downloadlog("21-1-1")] == [100000, 100001]
            assert api.get_testid("21-1-1")["21-1-1"]["full_test_id"] == "21-1-1-143"
            assert api.stop("21-1-1")[0]["stop"] == "false"
            assert api.light("21-1-1")[0]["light"] == "ok"
            assert api.clearflag("21-1-1")[0]["clearflag"] == "false"

    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        folder = str(tmp_path)
        device = NewareEmulator.from_bench(
            "cycler", timebase, a_cell(), seed=1, options={"steps_folder": folder}
        )
        async with serve([device]) as addresses:
            host, port = addresses["cycler"][0].removeprefix("tcp://").split(":")
            await asyncio.to_thread(work, host, int(port))

    asyncio.run(main())


def test_a_step_file_of_aurora_unicycler_is_carried_out(with_cycler: Tell) -> None:
    unicycler = pytest.importorskip(
        "aurora_unicycler", reason="aurora-unicycler, which writes step files, is not installed"
    )
    protocol = unicycler.CyclingProtocol(
        record=unicycler.RecordParams(time_s=10),
        safety=unicycler.SafetyParams(max_voltage_V=4.0, min_voltage_V=-0.1, delay_s=1),
        method=[
            unicycler.OpenCircuitVoltage(until_time_s=30),
            unicycler.Tag(tag="cycle"),
            unicycler.ConstantCurrent(current_mA=0.5, until_voltage_V=3.6, until_time_s=36000),
            unicycler.ConstantVoltage(voltage_V=3.6, until_current_mA=0.2, until_time_s=36000),
            unicycler.ConstantCurrent(current_mA=-0.5, until_voltage_V=3.3, until_time_s=36000),
            unicycler.Loop(loop_to="cycle", cycle_count=2),
        ],
    )
    content = protocol.to_neware_xml(sample_name="pellet", capacity_mAh=2).encode()

    async def story(client: Client) -> None:
        assert await client.start(content) == "ok"
        await asyncio.sleep(24 * 3600)
        assert await client.status() == "finish"
        layers = await client.layers()
        assert [layer["steptype"] for layer in layers] == ["rest", *["cc", "cv", "dc"] * 2]
        assert [layer["cycleid"] for layer in layers] == ["1"] * 4 + ["2"] * 3

    with_cycler(story, on=a_cell())
