"""Alerts to a real HTTP server and a real SMTP server on this computer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.mosquitto import free_port

from cellbench.telemetry.alerts import Alert
from cellbench.telemetry.configuration import Topic

pytest.importorskip("apprise", reason="the extra [alerts] is not installed")
# apprise imports it where there is one.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ALERT = Alert(
    Topic.TRIPS,
    "NCM85-017 on glovebox 2: stopped",
    "cell NCM85-017, bench glovebox 2: stopped at Sat 03:12:41 in cycle[17]/charge.\n"
    "  stack pressure: 3.9 MPa, below its limit of 4.0 MPa for 30 s.\n"
    "  potentiostat: cell off: confirmed 0.00 mA",
    True,
    17,
    "end",
)


class Web:
    """A web server that keeps what it is sent; it can refuse a number of times first."""

    def __init__(self, port: int) -> None:
        self.received: list[dict[str, Any]] = []
        self.refusals = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if web.refusals:
                    web.refusals -= 1
                    self.send_response(503)
                else:
                    web.received.append(content)
                    self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web(0)
    yield server
    server.close()


class Said:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, kind: str, text: str, /, **_data: Any) -> None:
        assert kind == "telling"
        self.texts.append(text)


async def deliver(url: str, said: Said, limit_s: float = 20.0) -> None:
    """Have the alert delivered, however often it takes."""
    from cellbench.telemetry.delivery import Delivery

    delivery = Delivery("night shift", url, said)
    delivery.hand_over(ALERT)
    assert not delivery.idle
    working = asyncio.create_task(delivery.run())
    async with asyncio.timeout(limit_s):
        while not delivery.idle:
            await asyncio.sleep(0.05)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_web_hook_gets_the_whole_message(web: Web) -> None:
    said = Said()
    await deliver(f"json://127.0.0.1:{web.port}/hook", said)
    (content,) = web.received
    assert content["title"] == ALERT.title
    assert content["message"] == ALERT.text
    assert content["type"] == "warning"
    assert said.texts == []


async def test_what_does_not_arrive_is_tried_again_and_said_once(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellbench.telemetry.delivery._PAUSE_S", 0.05)
    web.refusals, said = 2, Said()
    await deliver(f"json://127.0.0.1:{web.port}/hook", said)
    assert len(web.received) == 1
    assert len(said.texts) == 2
    assert 'alert to "night shift"' in said.texts[0]
    assert "it is tried again" in said.texts[0]
    assert "delivered after 3 attempts" in said.texts[1]


async def test_mail_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")
    mails: list[bytes] = []

    class Post:
        async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
            mails.append(envelope.content)
            return "250 OK"

    server = controller.Controller(Post(), hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        url = f"mailto://127.0.0.1:{server.port}/?from=cellbench@lab.example&to=night@lab.example"
        await deliver(url, Said())
    finally:
        server.stop()
    mail = message_from_bytes(mails[0], policy=policy.default)
    assert mail["Subject"] == ALERT.title
    assert "night@lab.example" in str(mail["To"])
    body = mail.get_body(("html", "plain"))
    assert body is not None
    for part in ("3.9 MPa", "below its limit of 4.0 MPa", "confirmed 0.00 mA", "cycle[17]/charge"):
        assert part in body.get_content()


# --- Whole runs ---------------------------------------------------------------------------------

TRIP = """
cellbench: 1
name: Too much for this cell
cell: LYC_PMMA
limits: {voltage: -10 mV to 10 mV}
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - current: {at: 0.5 mA/cm2, for: 1 h}
"""


def run(store: Path, protocol: str, alerts: str) -> tuple[int, str]:
    store.mkdir(exist_ok=True)
    (store / "telemetry.yaml").write_text(f"alerts: {{{alerts}}}\n")
    (store / "trip.yaml").write_text(protocol)
    done = subprocess.run(
        [sys.executable, "-m", "cellbench", "run", str(store / "trip.yaml")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
def test_a_trip_is_one_message_that_says_it_all(web: Web, store_directory: Path) -> None:
    code, out = run(store_directory, TRIP, f"to: {{hook: 'json://127.0.0.1:{web.port}'}}")
    assert code == 1, out
    (content,) = web.received
    lines = content["message"].splitlines()
    assert lines[0].startswith("SIMULATED BENCH: cell LYC_PMMA, bench simulated LYC_PMMA")
    assert "stopped at" in lines[0]
    assert lines[0].endswith("in current.")
    assert "voltage" in lines[1]
    assert "10 mV" in lines[1] or "0.01 V" in lines[1]
    assert any("cell off" in line for line in lines)
    assert "NOT CONFIRMED" not in content["message"]
    assert "cellbench resume" in lines[-1]


@pytest.mark.long
def test_what_could_not_be_delivered_is_delivered_with_the_next_run(store_directory: Path) -> None:
    port = free_port()
    alerts = f"to: {{hook: 'json://127.0.0.1:{port}'}}, patience: 1 s"
    code, out = run(store_directory, TRIP, alerts)
    assert code == 1, out
    assert "it is tried again" in out
    assert "the next one tells it" in out
    web = Web(port)
    try:
        good = TRIP.replace("-10 mV to 10 mV", "-5 V to 5 V").replace("1 h", "1 s")
        code, out = run(store_directory, good, alerts)
        assert code == 0, out
    finally:
        web.close()
    said = sorted(content["title"].rpartition(": ")[2] for content in web.received)
    assert said == ["completed", "stopped"]
