"""A real Mosquitto on a free port, with passwords and an access list, to be killed at will."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Debian installs it where only root looks.
_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
USER, PASSWORD = "bench", "a bench's password"
WATCHER, WATCHERS_PASSWORD = "watcher", "a watcher's password"

ACCESS = f"""
user {USER}
topic readwrite cellbench/#

user {WATCHER}
topic readwrite cellbench/#
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Mosquitto:
    """A broker; ``settings`` are further lines of its configuration."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.port = free_port()
        self.directory = directory
        self._program = found("mosquitto")
        passwords = directory / "passwords"
        passwords.touch(mode=0o600)
        for user, password in ((USER, PASSWORD), (WATCHER, WATCHERS_PASSWORD)):
            made = [found("mosquitto_passwd"), "-b", str(passwords), user, password]
            subprocess.run(made, check=True, capture_output=True)
        (directory / "access").write_text(ACCESS)
        (directory / "access").chmod(0o600)
        (directory / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\n"
            f"password_file {passwords}\nacl_file {directory / 'access'}\n"
            f"user root\nlog_dest file {directory / 'mosquitto.log'}\n{settings}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        configuration = str(self.directory / "mosquitto.conf")
        self._process = subprocess.Popen(
            [self._program, "-c", configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            with socket.socket() as looking:
                if looking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.directory / "mosquitto.log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """It answers nobody, and its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def found(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path=_PLACES)
    if path is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install mosquitto)")
    return path


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cellbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Watcher:
    """Somebody who listens to everything, in a thread, and comes back when the broker does."""

    def __init__(self, port: int, **options: Any) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._port, self._options = port, options
        self._listening = threading.Event()
        self._loop = asyncio.SelectorEventLoop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        self._loop.close()

    def of(self, ending: str) -> list[dict[str, Any]]:
        return [content for topic, content in list(self.seen) if topic.endswith(ending)]

    def wait_for(self, wanted: Callable[[Watcher], object], limit_s: float = 20.0) -> None:
        end_s = time.monotonic() + limit_s
        while not wanted(self):
            assert time.monotonic() < end_s, self.seen[-5:]
            time.sleep(0.05)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._listen())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _listen(self) -> None:
        import aiomqtt

        options = {"username": WATCHER, "password": WATCHERS_PASSWORD} | self._options
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", self._port, **options) as client:
                    await client.subscribe("cellbench/#", qos=1)
                    self._listening.set()
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        if not message.topic.matches("+/+/run/+/command"):  # anything may be there
                            content = json.loads(message.payload)
                            self.seen.append((str(message.topic), content))
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)
