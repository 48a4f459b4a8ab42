"""``cellbench bench``: on simulated benches, on served ones over real transports, and its files."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools import list_ports
from tests.serving import served as serving
from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.instruments.readings import Outcome
from cellbench.instruments.techniques import ElectricalLimits, Technique
from cellbench.transport.ownership import Ownership
from cellbench_drivers.keithley import Keithley

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
TERMINAL = {"COLUMNS": "100"}


def called(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["bench", *arguments], input=typed, env=TERMINAL)


def answered(*arguments: str) -> dict[str, Any]:
    done = called(*arguments, "--json")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def port(device: str, description: str, **ids: Any) -> SimpleNamespace:
    usual = {"name": device, "vid": None, "pid": None, "serial_number": None}
    return SimpleNamespace(device=device, description=description, **{**usual, **ids})


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens, of this test alone: addresses are locked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def serial_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        port("COM3", "EmStat4 HR (COM3)"),
        port("COM4", "USB serial device", vid=0x0483, pid=0xA1AD, serial_number="M5-200"),
        port("COM5", "n/a"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)


# --- scan -----------------------------------------------------------------------------------------


def test_scan_lists_ports_with_the_drivers_that_fit(serial_ports: None) -> None:
    found = {each["address"]: each for each in answered("scan")["found"]}
    assert found["COM3"]["drivers"] == ["palmsens"]
    assert found["COM4"]["drivers"] == ["mark10"]
    assert found["COM4"]["what"] == "USB serial device [0483:A1AD, M5-200]"
    assert found["COM5"]["drivers"] == []
    shown = called("scan").stdout
    assert re.search(r"COM3 +EmStat4 HR \(COM3\) +driver: palmsens", shown)


def test_scan_tries_the_hosts_that_are_named_and_those_of_bench_files(
    serial_ports: None, tmp_path: Path
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as named,
        socket.create_server(("127.0.0.1", 0)) as written,
    ):
        ours, theirs = (each.getsockname()[1] for each in (named, written))
        bench = tmp_path / "bench.yaml"
        bench.write_text(
            f"bench: b\ninstruments:\n  p: {{driver: plc_press, port: 127.0.0.1:{theirs}}}\n"
        )
        found = answered("scan", f"127.0.0.1:{ours}", "--bench", str(bench))["found"]
    assert {f"tcp://127.0.0.1:{ours}", f"tcp://127.0.0.1:{theirs}"} <= {
        each["address"] for each in found
    }


def test_scan_leaves_alone_what_somebody_has(serial_ports: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Ownership("run 7") as ours:
        where = server.getsockname()[1]
        ours.take("press", f"tcp 127.0.0.1:{where}")
        found = answered("scan", f"127.0.0.1:{where}")["found"]
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert [each["owner"] for each in found if each["address"].endswith(str(where))] != [""]


@pytest.mark.parametrize("host", ["192.0.2.0/24", "192.0.2.*", "some host", ""])
def test_scan_never_scans_ranges(host: str) -> None:
    done = called("scan", host)
    assert done.exit_code == 2
    assert "ranges are not scanned" in done.stderr


# --- init -----------------------------------------------------------------------------------------

POTENTIOSTAT = "potentiostat: {driver: palmsens, port: simulated}"
TRANSMITTER = (
    "load cell: {driver: load_cell_transmitter, port: COM7, profile: seneca_z_sg, "
    "serial: {baudrate: 2400, parity: even}}"
)


def test_init_writes_what_check_can_use(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    done = called("init", str(path), "--name", "glovebox 2", "--instrument", POTENTIOSTAT, "--yes")
    assert done.exit_code == 0, done.output
    assert path.read_text() == (
        "bench: glovebox 2\ninstruments:\n  potentiostat: {driver: palmsens, port: simulated}\n"
    )
    checked = answered("check", "--bench", str(path))
    assert checked["bench"] == "glovebox 2"
    assert [each["name"] for each in checked["instruments"]] == ["potentiostat"]


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text("mine")
    done = called("init", str(path), "--name", "b", "--instrument", POTENTIOSTAT, "--yes")
    assert done.exit_code == 2
    assert "is not overwritten" in done.stderr
    assert path.read_text() == "mine"


def test_init_asks_until_the_answers_are_right(serial_ports: None, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    answers = [
        "glovebox 2",
        "y", "potentiostat", "", "",  # the EmStat4 that was found, its port, no options
        "n",  # not the gauge
        "a press",  # no driver
        "plc_press", "", "192.0.2.20", "capacity: much",
        "192.0.2.20", "capacity: 25 kN",
        "",  # no more
        "10 mm", "big", "servo", "25 kN",
        "y",
    ]  # fmt: skip
    done = called("init", str(path), typed="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert "capacity" in done.output
    assert path.read_text() == (
        "bench: glovebox 2\ninstruments:\n"
        "  potentiostat: {driver: palmsens, port: COM3}\n"
        "  press: {driver: plc_press, port: 192.0.2.20, capacity: 25 kN}\n"
        "fixture: {die: 10 mm, kind: servo, at most: 25 kN}\n"
    )


def test_init_writes_nothing_without_consent(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    done = called("init", str(path), "--name", "b", "--instrument", POTENTIOSTAT, typed="n\n")
    assert done.exit_code == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("instrument", "said"),
    [
        ("a: {driver: nothing, port: COM3}", 'there is no driver "nothing"'),
        ("a: {driver: palmsens, port: some port}", '"some port" is no address'),
        ("a: {driver: plc_press, port: COM3}", "this instrument has none"),
        ("a: {driver: keller, port: COM3}", "piston_area: Field required"),
        ("a: {driver: palmsens}", '"a" needs "port"'),
        ("a: palmsens", 'write "name: {driver: ..., port: ...}"'),
        ("a: {driver: palmsens, port: COM3, serial: {baud: 3}}", 'did you mean "baudrate"?'),
        ("a: {driver: palmsens, port: COM3, serial: {parity: maybe}}", '"N", "E" or "O"'),
        ("a: {driver: palmsens, port: COM3, serial: {baudrate: fast}}", '"baudrate"'),
        (
            "a: {driver: plc_press, port: 192.0.2.1, serial: {baudrate: 9600}}",
            "plc_press has no serial port",
        ),
        ("a: {driver: palmsens, port: 'visa:nonsense'}", '"visa:nonsense" is no address'),
    ],
)
def test_init_says_what_is_wrong(instrument: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    done = called("init", str(path), "--name", "b", "--instrument", instrument, "--yes")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert not path.exists()


def test_init_takes_serial_settings_and_a_fixture(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    fixture = ("--fixture", "{die: 10 mm, kind: screw, at most: 25 kN}")
    done = called("init", str(path), "--name", "b", "--instrument", TRANSMITTER, *fixture, "--yes")
    assert done.exit_code == 0, done.output
    assert "serial: {baudrate: 2400, parity: even}" in path.read_text()
    assert "kind: screw" in path.read_text()


TWO = (
    "--instrument", "cycler: {driver: keithley, port: simulated}",
    "--instrument", "potentiostat: {driver: palmsens, port: simulated}",
)  # fmt: skip


def test_init_wires_two_channels_to_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    done = called("init", str(path), *TWO, "--yes")
    assert done.exit_code == 2
    assert "wiring" in done.stderr
    wires = "A1: {cycling: cycler, impedance: potentiostat, changeover: operator}"
    done = called("init", str(path), *TWO, "--wiring", wires, "--yes")
    assert done.exit_code == 0, done.output
    assert path.read_text().endswith(f"wiring:\n  {wires}\n")
    assert answered("check", "--bench", str(path))["sound"] is True


def test_init_asks_how_two_channels_share_a_cell(tmp_path: Path, serial_ports: None) -> None:
    path = tmp_path / "bench.yaml"
    answers = [
        "two", "n", "n",  # nothing of what was found
        "keithley", "cycler", "192.0.2.1", "", "palmsens", "potentiostat", "COM9", "", "",
        "A1", "cycler", "press", "potentiostat", "operator",
        "", "y",
    ]  # fmt: skip
    done = called("init", str(path), typed="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert '"press" is none of them' in done.output
    wires = "A1: {cycling: cycler, impedance: potentiostat, changeover: operator}"
    assert wires in path.read_text()


# --- check ----------------------------------------------------------------------------------------


def test_check_tells_who_answers_and_that_all_is_safe() -> None:
    done = called("check", "--bench", "keithley")
    assert done.exit_code == 0, done.output
    for words in (
        "SIMULATED BENCH", "Keithley 2450", "04096331", "1.6.7c", "voltage max: 20 V",
        "output off, high impedance: confirmed", "unverified", "rate max: 5000 N/s", "all is well",
    ):  # fmt: skip
        assert words in done.stdout


def test_check_as_json_has_it_all() -> None:
    checked = answered("check")
    assert checked["simulated"] is True
    potentiostat = checked["instruments"][0]
    assert potentiostat["model"] == "PalmSens Nexus"
    assert potentiostat["confirmed"] is True
    assert potentiostat["capabilities"]["on_device"] == ["current", "duration", "voltage"]
    assert potentiostat["unverified"]
    assert re.fullmatch(r"\S+ N", checked["instruments"][1]["reading"])


def test_check_goes_on_after_an_instrument_that_is_not_there(tmp_path: Path, nobody: str) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(
        "bench: b\ninstruments:\n"
        f"  chamber: {{driver: memmert, port: {nobody}}}\n"
        "  press: {driver: manual_press, port: none}\n"
    )
    done = called("check", "--bench", str(path), "--json")
    assert done.exit_code == 3
    chamber, press = json.loads(done.stdout)["instruments"]
    assert nobody in chamber["error"]
    assert "nobody to ask" in press["error"]


def test_check_does_not_call_safe_what_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def quiet(self: Keithley) -> Outcome:
        return Outcome(self.name, "output unknown: silent", confirmed=False)

    monkeypatch.setattr(Keithley, "quiet", quiet)
    done = called("check", "--bench", "keithley")
    assert done.exit_code == 3
    assert "NOT CONFIRMED" in done.stdout
    assert "not as it should be: source-measure unit" in done.stdout


# --- drill ----------------------------------------------------------------------------------------


def trials(answer: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["what"], each["by"]): each for each in answer["trials"]}


@pytest.mark.parametrize("bench", [(), ("--bench", "keithley")], ids=["palmsens", "keithley"])
def test_drill_trips_every_limit(bench: tuple[str, ...]) -> None:
    answer = answered("drill", *bench)
    made = trials(answer)
    for limit in ("upper voltage limit", "lower voltage limit", "current limit"):
        for place in ("instrument", "host"):
            assert made[limit, place]["passed"] is True
            assert 0 < made[limit, place]["reaction_s"] < 2
    assert made["duration", "instrument"]["passed"] is True
    assert "had gone off by itself" in made["silence of the host", "instrument"]["told"]
    assert answer["passed"] is True
    assert answer["confirmed"] is True
    if not bench:  # the potentiostat has to finish a period first
        assert 0.5 < made["order within a spectrum", "host"]["reaction_s"] < 20


@pytest.mark.parametrize("bench", ["two_by_hand", "two_on_a_switch"])
@pytest.mark.parametrize("channel", ["source-measure unit", "potentiostat"])
def test_drill_gets_the_cell_that_two_channels_share(bench: str, channel: str) -> None:
    answer = answered("drill", channel, "--bench", bench)
    assert answer["passed"] is True
    assert ("multiplexer: all contacts open" in answer["left"]) == (bench == "two_on_a_switch")


CYCLERS = {
    "maccor": "{driver: maccor, port: simulated, channel: 1}",
    "neware": "{driver: neware, port: simulated, channel: 27-1-3, steps folder: STEPS}",
}


@pytest.mark.parametrize("cycler", CYCLERS)
def test_check_and_drill_know_cyclers(cycler: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    entry = CYCLERS[cycler].replace("STEPS", str(tmp_path))
    path.write_text(f"bench: b\ninstruments:\n  cycler: {entry}\n")
    assert answered("check", "--bench", str(path))["sound"] is True
    # One of them has no negative voltages, and needs a charged cell.
    charged = ("--sim-cell", "NMC811_LYC_Li", "--voltage", "4.8 V")
    answer = answered("drill", "--bench", str(path), *charged)
    assert answer["passed"] is True
    assert trials(answer)["upper voltage limit", "host"]["passed"] is True


def test_drill_wants_to_know_which_channel() -> None:
    done = called("drill", "--bench", "two_by_hand")
    assert done.exit_code == 2
    assert "name the channel to drill; it has: source-measure unit, potentiostat" in done.stderr


def test_drill_finds_a_limit_that_does_not_act(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Keithley._running

    def deaf(self: Keithley, technique: Technique, limits: ElectricalLimits) -> Any:
        wide = limits.model_copy(update={"voltage_max_V": 2.0})
        return real(self, technique, wide)

    monkeypatch.setattr(Keithley, "_running", deaf)
    done = called("drill", "--bench", "keithley")
    assert done.exit_code == 3
    assert re.search(r"FAILED +upper voltage limit +instrument +let it pass", done.stdout)
    assert "failed: upper voltage limit" in done.stdout
    assert "output off, high impedance: confirmed" in done.stdout


def test_drill_finds_an_instrument_that_goes_on_without_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cellbench.engine.commissioning.drill.SILENCE_MARGIN_S", -5.5)
    done = called("drill", "--bench", "keithley")
    assert done.exit_code == 3
    assert "was still on when the host came back" in done.stdout
    assert "source-measure unit: output off, high impedance: confirmed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("press",), "press drives no cell; a drill is for: potentiostat"),
        (("nobody",), 'has no instrument "nobody"'),
        (("--current", "10 A"), "choose another --current"),
        (("--current", "1 uA"), "choose a larger --current"),
        (("--current", "5 mA"), "choose a smaller --current"),
        (("--current", "5 kg"), "5 kg"),
    ],
)
def test_drill_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    done = called("drill", *arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_drill_energises_nothing_that_nobody_has_agreed_to(tmp_path: Path, nobody: str) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(f"bench: b\ninstruments:\n  smu: {{driver: keithley, port: {nobody}}}\n")
    done = called("drill", "--bench", str(path))
    assert done.exit_code == 2
    assert "--dummy-cell" in done.stderr
    done = called("drill", "--bench", str(path), "--dummy-cell")
    assert done.exit_code == 3
    assert "smu" in done.stderr


# --- console --------------------------------------------------------------------------------------


def test_console_talks_keeps_a_log_and_leaves_the_instrument_quiet(tmp_path: Path) -> None:
    log = tmp_path / "talk.log"
    arguments = ("console", "source-measure unit", "--bench", "keithley", "--log", str(log))
    done = called(*arguments, typed="*IDN?\n:OUTP ON\n:OUTP?\n")
    assert done.exit_code == 0, done.output
    assert "KEITHLEY INSTRUMENTS,MODEL 2450" in done.stdout
    assert "output off, high impedance: confirmed" in done.stdout
    lines = log.read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    assert all(re.match(stamp, line) for line in lines)
    assert any(line.endswith(r"> 3A 4F 55 54 50 20 4F 4E 0A  :OUTP ON\x0a") for line in lines)
    assert any("< 31 0A" in line for line in lines)
    assert called(*arguments).exit_code == 2  # the log is not overwritten


def test_console_speaks_hexadecimal(tmp_path: Path) -> None:
    log = ("--log", str(tmp_path / "talk.log"))
    done = called("console", "chamber", "--hex", *log, typed="hello\n01 03 00 01 00 01 D5 CA\n")
    assert done.exit_code == 0, done.output
    assert '"hello" cannot be sent: write bytes such as 02 4F FF' in done.stdout
    assert "01 03 02 00 FA 38 07" in done.stdout


def test_console_stands_an_instrument_that_talks_on(tmp_path: Path) -> None:
    log = ("--log", str(tmp_path / "talk.log"))
    done = called("console", "load cell", "--ends", "cr", *log, typed="wc\n")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) > 20


# --- Over real transports -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Any]]:
    """Addresses and bench of ``cellbench sim serve`` in another process."""
    with serving() as answer:
        yield answer


def bench_file(served: dict[str, Any], tmp_path: Path, **ports: str) -> str:
    path = tmp_path / "served.yaml"
    entries = {
        name: {**entry, "port": ports.get(name, entry["port"])}
        for name, entry in served["bench"]["instruments"].items()
    }
    path.write_text(json.dumps({**served["bench"], "instruments": entries}))
    return str(path)


@posix_only
def test_check_works_over_tcp_serial_and_visa(served: dict[str, Any], tmp_path: Path) -> None:
    places = served["addresses"]
    host, number = places["potentiostat"][0].removeprefix("tcp://").split(":")
    path = bench_file(
        served,
        tmp_path,
        chamber=places["chamber"][1],
        potentiostat=f"visa:TCPIP::{host}::{number}::SOCKET",
    )
    checked = answered("check", "--bench", path)
    assert checked["simulated"] is False
    assert [each["sound"] for each in checked["instruments"]] == [True] * 4


@pytest.mark.long
@posix_only
def test_console_works_over_tcp(served: dict[str, Any], tmp_path: Path) -> None:
    path = bench_file(served, tmp_path)
    log = ("--log", str(tmp_path / "talk.log"), "--wait", "0.2 s")
    done = called("console", "potentiostat", "--bench", path, *log, typed="t\n")
    assert done.exit_code == 0, done.output
    assert "nexus" in done.stdout
    assert "cell off: confirmed" in done.stdout


@pytest.mark.slow
@posix_only
def test_drill_works_over_a_serial_port(served: dict[str, Any], tmp_path: Path) -> None:
    path = bench_file(served, tmp_path, potentiostat=served["addresses"]["potentiostat"][1])
    answer = answered("drill", "--bench", path, "--dummy-cell")
    assert answer["passed"] is True
    assert len([each for each in answer["trials"] if each["passed"]]) == 10
