"""Commands through a real broker to a real run: only the genuine ones, and each of them once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.mosquitto import (
    PASSWORD,
    USER,
    WATCHER,
    WATCHERS_PASSWORD,
    Mosquitto,
    Watcher,
    running,
)

from cellbench.store import RunReader
from cellbench.telemetry.commands import sign

pytest.importorskip("aiomqtt", reason="the extra [mqtt] is not installed")
pytest.importorskip("cellbench.engine.gate", reason="runs take no commands from outside")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="Mosquitto is run as on Debian"),
]

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105
RESTS = """
cellbench: 1
name: Many short rests
cell: LYC_PMMA
steps:
  - repeat: 400
    steps: [rest: 15 s]
"""
BENCH = "cellbench/simulated_LYC_PMMA_fixture_servo"


def configure(store: Path, port: int) -> None:
    store.mkdir()
    operators = f"operators:\n  anna: {{secret: {SECRET}}}\n"
    for name, text in (("password", PASSWORD), ("operators.yaml", operators)):
        (store / name).write_text(text)
        (store / name).chmod(0o600)
    (store / "telemetry.yaml").write_text(
        f"mqtt:\n  host: 127.0.0.1\n  port: {port}\n  user: {USER}\n"
        "  password: {file: password}\n  commands: {operators: operators.yaml}\n"
    )


async def publish(port: int, topic: str, *messages: bytes) -> None:
    import aiomqtt

    async with aiomqtt.Client(
        "127.0.0.1", port, username=WATCHER, password=WATCHERS_PASSWORD
    ) as client:
        for message in messages:
            await client.publish(topic, message, qos=1)


def test_a_run_obeys_its_operators_and_nobody_else(
    mosquitto: Mosquitto, tmp_path: Path, store_directory: Path
) -> None:
    protocol = tmp_path / "rests.yaml"
    protocol.write_text(RESTS)
    configure(store_directory, mosquitto.port)
    with (
        Watcher(mosquitto.port) as watcher,
        running("run", str(protocol), "--speed", "60") as process,
    ):
        watcher.wait_for(lambda each: len(each.of("/event")) > 5)
        topic = f"{BENCH}/run/{watcher.of('/event')[0]['run']}"

        def message(counter: int, command: str, **changes: Any) -> bytes:
            arguments = changes.pop("arguments", {})
            order = {"topic": topic, "counter": counter, "command": command} | changes
            secret = str(order.pop("secret", SECRET)).encode()
            return sign(secret, "anna", arguments=arguments, **order)  # type: ignore[arg-type]

        def send(*messages: bytes, answers: int) -> None:
            asyncio.run(publish(mosquitto.port, f"{topic}/command", *messages))
            watcher.wait_for(lambda each: len(each.of("/answer")) >= answers)

        pause = message(10, "pause")
        send(
            b"abort",
            message(1, "abort", secret="a guess that is long enough"),  # noqa: S106
            message(2, "abort", topic=topic.replace("servo", "screw")),
            pause,
            answers=2,
        )
        send(message(11, "continue"), pause, answers=4)
        seen = len(watcher.of("/event"))
        watcher.wait_for(lambda each: len(each.of("/event")) > seen + 4)
        send(message(12, "stop", arguments={"after": "step"}), answers=5)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    assert process.returncode == 1, out + err
    assert [each["accepted"] for each in watcher.of("/answer")] == [False, True, True, False, True]
    (file,) = (store_directory / "runs").glob("*.sqlite")
    journal = RunReader(file).journal
    refused = {entry.data["refused"] for entry in journal if entry.kind == "command refused"}
    assert refused == {"malformed", "unauthenticated", "another run", "replayed"}
    told = [entry.text for entry in journal if "anna" in entry.text and "refused" not in entry.text]
    assert len(told) >= 3, told
    assert journal[-1].data["state"] == "interrupted"
