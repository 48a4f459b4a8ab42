"""Runs of the real command line and a real broker, which is killed, restarted, or hostile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.serving import served as serving
from tests.telemetry.mosquitto import (
    PASSWORD,
    USER,
    WATCHER,
    WATCHERS_PASSWORD,
    Mosquitto,
    Watcher,
    running,
)

from cellbench.store import Run, RunReader, Store
from cellbench.telemetry import Watched, follow, read_telemetry
from cellbench.telemetry.commands import sign

pytest.importorskip("aiomqtt", reason="the extra [mqtt] is not installed")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="Mosquitto is run as on Debian"),
]

#: At 60 times real time a rest is a quarter of a second, and two entries.
RESTS = """
cellbench: 1
name: Many short rests
cell: LYC_PMMA
steps:
  - repeat: 16
    steps: [rest: 15 s]
"""
BENCH = "cellbench/simulated_LYC_PMMA_fixture_servo"


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    path = tmp_path / "rests.yaml"
    path.write_text(RESTS)
    return str(path)


def configure(
    store: Path, port: int, *, password: str = PASSWORD, further: str = "", rest: str = ""
) -> Path:
    """Write a telemetry file where it counts by itself."""
    store.mkdir(exist_ok=True)
    secret = store / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    path = store / "telemetry.yaml"
    path.write_text(
        f"mqtt:\n  host: 127.0.0.1\n  port: {port}\n  user: {USER}\n"
        f"  password: {{file: password}}\n  every: 1 s\n{further}\n{rest}\n"
    )
    return path


def run_to_its_end(*arguments: str) -> tuple[str, str]:
    with running(*arguments) as process:
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    return out, err


def journal(store: Path) -> RunReader:
    (path,) = sorted((store / "runs").glob("*.sqlite"))
    return RunReader(path)


def seqs(watcher: Watcher) -> list[int]:
    return [each["seq"] for each in watcher.of("/event")]


def without_repeats(numbers: list[int]) -> list[int]:
    """As a receiver does it: what is not newer than the newest is a repeat."""
    kept: list[int] = []
    for number in numbers:
        if not kept or number > kept[-1]:
            kept.append(number)
    return kept


def presence(watcher: Watcher) -> list[dict[str, Any]]:
    return [each for each in watcher.of("/state") if "online" in each]


@contextmanager
def a_run_that_is_told(
    mosquitto: Mosquitto, protocol: str, store: Path
) -> Iterator[tuple[Watcher, subprocess.Popen[str]]]:
    """A run under way, a little more than whose beginning has come through the broker."""
    configure(store, mosquitto.port)
    with (
        Watcher(mosquitto.port) as watcher,
        running("run", protocol, "--speed", "60") as process,
    ):
        watcher.wait_for(lambda each: len(seqs(each)) > 5)
        yield watcher, process


def test_a_run_is_told_whole(mosquitto: Mosquitto, protocol: str, store_directory: Path) -> None:
    configure(store_directory, mosquitto.port)
    with Watcher(mosquitto.port) as watcher:
        run_to_its_end("run", protocol, "--speed", "60")
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    entries = journal(store_directory).journal
    # The broker was there all the time: no repeats at all.
    assert seqs(watcher) == [entry.seq for entry in entries]
    assert [e["text"] for e in watcher.of("/event") if e["kind"] == "run started"] != [""]
    states = [each["state"] for each in watcher.of("/state") if "protocol" in each]
    assert states[0] == "running"
    assert states[-1] == "completed"
    (first, *_, last) = watcher.of("/telemetry")
    assert first["readings"]["temperature"]["unit"] == "K"
    assert last["time_s"] > first["time_s"]
    # At 60 times real time an interval of a second is a minute of the run's.
    assert len(watcher.of("/telemetry")) < 25
    (alert,) = watcher.of("/alert")
    assert alert["text"].startswith("SIMULATED BENCH: cell LYC_PMMA")
    assert not list((store_directory / "telemetry").glob("*.left.json"))


def test_a_broker_that_is_killed_and_comes_back_misses_nothing(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    Path(protocol).write_text(RESTS.replace("16", "40"))
    configure(store_directory, mosquitto.port)
    with (
        Watcher(mosquitto.port) as watcher,
        running("run", protocol, "--speed", "60") as process,
    ):
        for seen in (8, 30):

            def enough(each: Watcher, seen: int = seen) -> bool:
                return len(set(seqs(each))) > seen

            watcher.wait_for(enough)
            mosquitto.kill()
            time.sleep(1.5)
            mosquitto.start()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    entries = journal(store_directory).journal
    assert without_repeats(seqs(watcher)) == [entry.seq for entry in entries]
    assert "is there again" in "".join(entry.text for entry in entries if entry.kind == "telling")


def test_wrong_credentials_change_nothing_and_are_said(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    configure(store_directory, mosquitto.port, password="a guess")  # noqa: S106
    with Watcher(mosquitto.port) as watcher:
        _, err = run_to_its_end("run", protocol, "--speed", "60")
        assert watcher.seen == []
    said = [entry.text for entry in journal(store_directory).journal if entry.kind == "telling"]
    assert len(said) == 1
    assert "Not authorized" in said[0]
    assert "a guess" not in said[0] + err
    assert "the next one tells it" in err


def test_what_no_broker_heard_is_told_by_the_next_run(
    mosquitto: Mosquitto, tmp_path: Path, store_directory: Path
) -> None:
    short = tmp_path / "short.yaml"
    short.write_text(RESTS.replace("16", "2"))
    configure(store_directory, mosquitto.port)
    mosquitto.kill()
    run_to_its_end("run", str(short))
    first = journal(store_directory)
    mosquitto.start()
    with Watcher(mosquitto.port) as watcher:
        run_to_its_end("run", str(short), "--speed", "60")
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    run = first.path.stem
    told = [each["seq"] for each in watcher.of(f"/run/{run}/event")]
    assert told == [entry.seq for entry in first.journal]
    assert watcher.of(f"/run/{run}/state")[-1]["state"] == "completed"
    # The bench is where the run of today is.
    assert run not in {each["run"] for each in watcher.of(f"{BENCH}/state")}
    assert not list((store_directory / "telemetry").glob("*.left.json"))


def test_a_broker_that_stays_away_does_not_slow_a_run(
    mosquitto: Mosquitto, protocol: str, tmp_path: Path
) -> None:
    alone, told = tmp_path / "alone", tmp_path / "told"
    began_s = time.monotonic()
    run_to_its_end("run", protocol, "--speed", "60", "--store", str(alone))
    alone_s = time.monotonic() - began_s
    configure(told, mosquitto.port)
    began_s = time.monotonic()
    with (
        Watcher(mosquitto.port) as watcher,
        running("run", protocol, "--speed", "60", "--store", str(told)) as process,
    ):
        watcher.wait_for(lambda each: len(seqs(each)) > 5)
        mosquitto.kill()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    # What is left to be said is given up after some seconds; the run itself has taken as long.
    assert time.monotonic() - began_s < alone_s + 20
    undisturbed, other = journal(alone), journal(told)
    steps = [(entry.kind, entry.step) for entry in undisturbed.journal]
    assert [(e.kind, e.step) for e in other.journal if e.kind != "telling"] == steps
    source = undisturbed.sources()[0]
    rows, rows_told = (len(each.samples(source)["time_s"]) for each in (undisturbed, other))
    assert rows_told == pytest.approx(rows, rel=0.02)
    assert other.journal[-1].time_s == pytest.approx(undisturbed.journal[-1].time_s, rel=0.02)


def test_at_the_speed_of_simulation_telling_changes_no_sample(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    alone, told = tmp_path / "alone", tmp_path / "told"
    configure(told, mosquitto.port)
    for store in (alone, told):
        run_to_its_end("run", "pellet_conductivity", "--store", str(store))
    readers = journal(alone), journal(told)
    texts = [[(e.time_s, e.kind, e.text) for e in reader.journal] for reader in readers]
    assert texts[0] == texts[1]
    for source in readers[0].sources():
        columns, others = (reader.samples(source) for reader in readers)
        assert all((columns[name] == others[name]).all() for name in ("time_s", "flags"))


def test_the_broker_says_so_when_the_process_is_killed(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    with a_run_that_is_told(mosquitto, protocol, store_directory) as (watcher, process):
        assert watcher.of(f"{BENCH}/state")[-1]["online"] is True
        process.send_signal(signal.SIGKILL)
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    assert watcher.of(f"{BENCH}/state")[-1]["reason"] == "connection lost"
    # It is retained: who comes later sees it too.
    with Watcher(mosquitto.port) as later:
        later.wait_for(lambda each: each.of(f"{BENCH}/state"))
        assert later.of(f"{BENCH}/state") == [watcher.of(f"{BENCH}/state")[-1]]


async def publish(port: int, topic: str, message: bytes) -> None:
    import aiomqtt

    async with aiomqtt.Client(
        "127.0.0.1", port, username=WATCHER, password=WATCHERS_PASSWORD
    ) as client:
        await client.publish(topic, message, qos=1)


def test_a_run_that_somebody_ends_is_told_to_its_end(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    with a_run_that_is_told(mosquitto, protocol, store_directory) as (watcher, process):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    assert process.returncode == 130
    assert seqs(watcher) == [entry.seq for entry in journal(store_directory).journal]
    assert watcher.of("/event")[-1]["kind"] == "run ended"
    assert "interrupted at" in watcher.of("/alert")[-1]["text"]


def test_a_broker_that_hangs_for_a_while_misses_nothing(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    with a_run_that_is_told(mosquitto, protocol, store_directory) as (watcher, process):
        mosquitto.hang()
        time.sleep(3)
        mosquitto.go_on()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        watcher.wait_for(lambda each: each.of(f"{BENCH}/state")[-1]["online"] is False)
    entries = journal(store_directory).journal
    assert without_repeats(seqs(watcher)) == [entry.seq for entry in entries]


# --- Resuming -----------------------------------------------------------------------------------

CYCLER = """
bench: a cycler
instruments:
  cycler: {driver: neware, port: simulated, channel: 27-21-1-1, steps folder: steps}
fixture: {die: 10 mm, kind: spring, at most: 5 kN}
"""
CYCLING = """
cellbench: 1
name: Killed in the middle
cell: NMC811_LYC_PMMA_Li
steps:
  - repeat: 4
    steps:
      - charge: {at: C/5, until: potential >= 4.2 V vs Li+/Li, for: 10 s}
      - discharge: {at: C/5, until: potential <= 2.6 V vs Li+/Li, for: 10 s}
"""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """A bench that outlives its hosts; yields its bench file."""
    played = directory / "played.yaml"
    played.write_text(CYCLER)
    options = ["--bench", str(played), "--cell", "NMC811_LYC_PMMA_Li", "--speed", "10"]
    with serving(*options) as answer:
        bench = directory / "bench.yaml"
        bench.write_text(json.dumps(answer["bench"]))
        yield str(bench)


def test_a_run_that_was_killed_and_is_resumed_is_told_without_a_gap(
    mosquitto: Mosquitto, tmp_path: Path, store_directory: Path
) -> None:
    cycling = tmp_path / "cycling.yaml"
    cycling.write_text(CYCLING)
    configure(store_directory, mosquitto.port)
    with served(tmp_path) as bench, Watcher(mosquitto.port) as watcher:
        with running("run", str(cycling), "--bench", bench) as process:
            watcher.wait_for(lambda each: len(seqs(each)) > 6, 60)
            process.send_signal(signal.SIGKILL)
        watcher.wait_for(lambda each: presence(each)[-1]["online"] is False)
        with running("resume", "--store", str(store_directory)) as process:
            out, err = process.communicate(timeout=90)
        assert process.returncode == 0, out + err
        watcher.wait_for(lambda each: presence(each)[-1].get("reason") == "the run is over")
    entries = journal(store_directory).journal
    assert without_repeats(seqs(watcher)) == [entry.seq for entry in entries]
    assert "resumed" in {entry.kind for entry in entries}
    assert [each["about"] for each in watcher.of("/alert")] == ["holds", "ends"]
    reasons = [each.get("reason") for each in presence(watcher)]
    assert reasons.count("connection lost") == 1


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_with_a_laboratory_s_own_authority_and_client_certificates(
    tmp_path: Path, protocol: str, store_directory: Path, trusted: bool
) -> None:
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    authority, stranger = trustme.CA(), trustme.CA()
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("bench@lab.example")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    server.cert_chain_pems[0].write_to_path(str(directory / "server.pem"))
    server.private_key_pem.write_to_path(str(directory / "server.key"))
    broker = Mosquitto(
        directory,
        f"cafile {directory / 'ca.pem'}\ncertfile {directory / 'server.pem'}\n"
        f"keyfile {directory / 'server.key'}\nrequire_certificate true\n",
    )
    broker.start()
    store_directory.mkdir()
    client.cert_chain_pems[0].write_to_path(str(store_directory / "client.pem"))
    client.private_key_pem.write_to_path(str(store_directory / "client.key"))
    known = authority if trusted else stranger
    known.cert_pem.write_to_path(str(store_directory / "ca.pem"))
    further = "  tls: {ca: ca.pem, certificate: client.pem, key: client.key}"
    configure(store_directory, broker.port, further=further)
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    authority.issue_cert("watcher@lab.example").configure_cert(context)
    try:
        with Watcher(broker.port, tls_context=context) as watcher:
            run_to_its_end("run", protocol, "--speed", "60")
            entries = journal(store_directory).journal
            if trusted:
                assert without_repeats(seqs(watcher)) == [entry.seq for entry in entries]
            else:
                assert watcher.seen == []
                said = [entry.text for entry in entries if entry.kind == "telling"]
                assert "certificate verify failed" in said[0]
    finally:
        broker.kill()


# --- Commands -----------------------------------------------------------------------------------

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105


class Obedient:
    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, Any], str]] = []

    async def command(self, name: str, arguments: Mapping[str, Any], who: str) -> str:
        self.done.append((name, dict(arguments), who))
        return f"{name}: done"


def with_operators(store: Path) -> str:
    store.mkdir(exist_ok=True)
    path = store / "operators.yaml"
    path.write_text(f"operators:\n  anna: {{secret: {SECRET}}}\n")
    path.chmod(0o600)
    return "  commands: {operators: operators.yaml}"


@contextmanager
def a_run(store: Store) -> Iterator[Watched]:
    """A run whose engine is elsewhere: it is there to be commanded."""
    import sqlite3
    from contextlib import closing

    from sqlmodel import SQLModel

    from cellbench.store import JournalEntry
    from cellbench.store.runfile import open_engine

    run: Run = store.register(protocol="p", cell="c", bench="b 2", simulated=False, seed=None)
    path = store.run_path(run.id)
    engine = open_engine(path, durable=False)
    SQLModel.metadata.create_all(
        engine, tables=[SQLModel.metadata.tables[str(JournalEntry.__tablename__)]]
    )
    engine.dispose()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM journalentry").fetchone() == (0,)
    yield Watched(run, path)


async def test_commands_through_the_broker_count_if_they_are_genuine_and_only_once(
    mosquitto: Mosquitto, store_directory: Path
) -> None:
    import aiomqtt

    path = configure(store_directory, mosquitto.port, further=with_operators(store_directory))
    telemetry, commands, said = read_telemetry(path), Obedient(), list[str]()

    def say(_kind: str, text: str, /, **_data: Any) -> None:
        said.append(text)

    with Store() as store, a_run(store) as watched:
        topic = f"cellbench/b_2/run/{watched.run.id}"

        async def session(messages: list[bytes], *, expected: int) -> list[dict[str, Any]]:
            """What a process that follows the run answers, until it ends."""
            leave, answers = asyncio.Event(), list[dict[str, Any]]()
            following = asyncio.create_task(
                follow(watched, telemetry, store, say=say, commands=commands, leave=leave)
            )
            async with aiomqtt.Client(
                "127.0.0.1", mosquitto.port, username=WATCHER, password=WATCHERS_PASSWORD
            ) as client:
                await client.subscribe(f"{topic}/answer")
                await asyncio.sleep(1.5)
                for message in messages:
                    await client.publish(f"{topic}/command", message, qos=1)
                await asyncio.sleep(1.0)
                while len(client.messages):
                    answer = await anext(aiter(client.messages))
                    assert isinstance(answer.payload, bytes)
                    answers.append(json.loads(answer.payload))
            leave.set()
            await following
            assert len(answers) == expected
            return answers

        def message(counter: int, **changes: Any) -> bytes:
            order: dict[str, Any] = {
                "topic": topic,
                "counter": counter,
                "command": "pause",
                "arguments": {},
            }
            secret = changes.pop("secret", SECRET).encode()
            return sign(secret, changes.pop("operator", "anna"), **(order | changes))

        genuine = message(5, command="answer", arguments={"text": "yes"})
        late = datetime.now(UTC) - timedelta(minutes=5)
        bad = [
            b"pause",
            message(6, secret="a guess that is long enough"),  # noqa: S106
            message(7, operator="mallory"),
            message(8, topic=topic.replace("b_2", "b_3")),
            message(9, time=late),
        ]
        # Another run's and a late one are genuine, and told so; strangers hear nothing.
        answers = await session([*bad, genuine, genuine], expected=4)
        assert [each["accepted"] for each in answers] == [False, False, True, False]
        assert commands.done == [("answer", {"text": "yes"}, "anna")]
        kinds = {text.partition("refused, ")[2].partition(":")[0] for text in said}
        assert kinds == {"malformed", "unauthenticated", "another run", "late", "replayed"}
        # Another process takes up the run: what was replay-proof stays so.
        answers = await session([genuine, message(10)], expected=2)
        assert [each["accepted"] for each in answers] == [False, True]
        assert [name for name, _, _ in commands.done] == ["answer", "pause"]


def test_commands_are_off_unless_they_are_switched_on(
    mosquitto: Mosquitto, protocol: str, store_directory: Path
) -> None:
    configure(store_directory, mosquitto.port)
    with (
        Watcher(mosquitto.port) as watcher,
        running("run", protocol, "--speed", "60") as process,
    ):
        watcher.wait_for(lambda each: len(seqs(each)) > 3)
        run = watcher.of("/event")[0]["run"]
        message = sign(
            SECRET.encode(),
            "anna",
            topic=f"{BENCH}/run/{run}",
            counter=1,
            command="abort",
            arguments={},
        )
        asyncio.run(publish(mosquitto.port, f"{BENCH}/run/{run}/command", message))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert watcher.of("/event")[-1]["kind"] == "run ended"
    assert watcher.of("/answer") == []


# --- cellbench telemetry ------------------------------------------------------------------------


def test_telemetry_test_says_of_each_way_whether_it_works(
    mosquitto: Mosquitto, store_directory: Path
) -> None:
    pytest.importorskip("apprise", reason="the extra [alerts] is not installed")
    rest = "alerts: {to: {nowhere: 'json://127.0.0.1:9'}}"
    configure(store_directory, mosquitto.port, rest=rest)
    with Watcher(mosquitto.port) as watcher, running("telemetry", "test") as process:
        out, err = process.communicate(timeout=60)
        watcher.wait_for(lambda each: each.of("cellbench/test/test"))
    assert process.returncode == 1, out + err
    assert "MQTT broker 127.0.0.1" in out
    assert ": sent" in out
    assert "nowhere: NOT SENT: " in out


def test_a_wrong_telemetry_file_ends_a_run_before_it_begins(
    protocol: str, store_directory: Path
) -> None:
    store_directory.mkdir()
    (store_directory / "telemetry.yaml").write_text("mqtt: {hots: broker}\n")
    with running("run", protocol) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 'did you mean "host"?' in err
    assert "Traceback" not in err
    assert not list((store_directory / "runs").iterdir())


def test_without_a_telemetry_file_nothing_of_it_is_imported(tmp_path: Path) -> None:
    short = tmp_path / "short.yaml"
    short.write_text(RESTS.replace("16", "1"))
    code = (
        "import sys\nfrom cellbench.cli.app import app\n"
        f"try:\n    app(['run', {str(short)!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "names = {'aiomqtt', 'paho', 'apprise', 'cellbench.telemetry'} & set(sys.modules)\n"
        "assert not names, names\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("known", [True, False])
async def test_telemetry_command_signs_and_says_what_came_of_it(
    mosquitto: Mosquitto, store_directory: Path, tmp_path: Path, known: bool
) -> None:
    path = configure(store_directory, mosquitto.port, further=with_operators(store_directory))
    telemetry, commands, leave = read_telemetry(path), Obedient(), asyncio.Event()
    elsewhere = tmp_path / "elsewhere"
    configure(elsewhere, mosquitto.port, further=with_operators(elsewhere))
    if not known:
        wrong = (elsewhere / "operators.yaml").read_text().replace("0123", "3210")
        (elsewhere / "operators.yaml").write_text(wrong)

    def say(_kind: str, _text: str, /, **_data: Any) -> None:
        """Nobody is told here."""

    with Store() as store, a_run(store) as watched:
        following = asyncio.create_task(
            follow(watched, telemetry, store, say=say, commands=commands, leave=leave)
        )
        await asyncio.sleep(1.5)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cellbench", "telemetry", "command", "b 2", watched.run.id),
            *("pause", "--operator", "anna", "--with", "reason=lunch", "--wait", "3 s"),
            *("--store", str(elsewhere)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        leave.set()
        await following
    assert process.returncode == (0 if known else 1), out + err
    if known:
        assert out.decode().strip() == "pause: done"
        assert commands.done == [("pause", {"reason": "lunch"}, "anna")]
    else:
        assert b"no answer in 3 s: whether it was done is unknown" in out
        assert commands.done == []
