"""A real PostgreSQL server of our own on a free port, with passwords, to be killed at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from tests.telemetry.mosquitto import free_port

ADMIN, PASSWORD = "keeper", "a keeper's password: %&/?"
#: It refuses to run as root.
_UNPRIVILEGED = "nobody"
_SETTINGS = (
    "fsync=off",  # a killed process loses nothing by it, only a killed computer does
    "max_connections=40",
    "shared_buffers=32MB",
    "unix_socket_directories=",
)
#: Where it listens, and is asked by tests.
LOOPBACK = "127.0.0.1"
_START_S = 60.0


def programs() -> Path:
    """Where the server's programs are; the test is skipped where there are none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    found = shutil.which("postgres")
    places = [*debian, *([Path(found).resolve().parent] if found else [])]
    for place in reversed(places):
        if (place / "initdb").exists():
            return place
    pytest.skip("there is no PostgreSQL server here (Debian's package: postgresql)")


class PostgreSQL:
    """A cluster with one superuser, `ADMIN`.

    Args:
        links: Where it listens beside loopback, and who may come there, by their addresses.
    """

    def __init__(self, links: Mapping[str, str] | None = None) -> None:
        self._links = dict(links or {})
        self.port = free_port()
        self._programs = programs()
        # pytest's own directories are closed to other users.
        self._directory = Path(tempfile.mkdtemp(prefix="cellbench-postgresql-"))
        self._process: subprocess.Popen[bytes] | None = None
        secret = self._directory / "password"
        secret.write_text(PASSWORD)
        if self._user:
            shutil.chown(self._directory, self._user)
            shutil.chown(secret, self._user)
        made: list[str | Path] = [
            self._programs / "initdb",
            "-D",
            self._data,
            "-U",
            ADMIN,
            "--pwfile",
            secret,
        ]
        usual = ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run([*made, *usual], check=True, capture_output=True, **self._who)
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.writelines(
                f"host all all {who}/32 scram-sha-256\n" for who in self._links.values()
            )

    def url(self, database: str, user: str = ADMIN, password: str = PASSWORD) -> str:
        """How a database here is reached."""
        return f"postgresql://{user}:{quote(password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        until_s = time.monotonic() + _START_S
        while not self._is_up():
            assert time.monotonic() < until_s, self._log.read_text()
            if self._process is None or self._process.poll() is not None:
                self._launch()  # also again: those that a killed server left have to be gone first
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9: it has no moment to put anything in order."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Have it end, its clients thrown out."""
        self._end(signal.SIGINT)

    def freeze(self) -> None:
        """Have it not answer any more, with all its clients' sessions."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it, and leave nothing of it."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    @cached_property
    def _user(self) -> str | None:
        return _UNPRIVILEGED if os.geteuid() == 0 else None

    @cached_property
    def _who(self) -> dict[str, Any]:
        return {"user": self._user, "extra_groups": [], "cwd": "/"} if self._user else {}

    def _launch(self) -> None:
        listens = f"listen_addresses={','.join((LOOPBACK, *self._links))}"
        settings = (*_SETTINGS, listens, f"port={self.port}")
        options = [part for each in settings for part in ("-c", each)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdout=log,
                stderr=log,
                **self._who,
            )

    def _is_up(self) -> bool:
        asked: list[str | Path] = [
            self._programs / "pg_isready",
            "-q",
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
        ]
        return subprocess.run(asked, check=False).returncode == 0

    def _signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for each in (server, *server.children()):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(what)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_S)
            self._process = None
