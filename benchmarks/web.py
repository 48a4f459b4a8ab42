"""The server: a long run's first view and zooms, the delay of live curves, what viewers cost a run.

The first view and the zooms stand beside one pass of SQLite alone over the same file; a run's
processor time with viewers beside the same without. The server is a process of its own throughout.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from cellbench.engine.control import ControlServer
from cellbench.engine.gate import Gate
from cellbench.engine.requests import Reply, Request, Who
from cellbench.engine.session import prepare
from cellbench.engine.side_thread import SideThread
from cellbench.engine.simulation import conduct
from cellbench.store import Run, RunWriter, Store
from cellbench.web.users import Users

_SHORT = "cellbench: 1\nname: {name}\ncell: LYC_PMMA\nsteps:\n  - rest: 1 s\n"
_LONG = (
    "cellbench: 1\nname: Watched\ncell: LYC_PMMA\nsteps:\n"
    "  - current: {at: 0.1 mA/cm2, for: 100 h, record: {every: 1 s}}\n"
)
_RATE_HZ = 10


def web(*, quick: bool) -> list[dict[str, Any]]:
    rows = 100_000 if quick else 1_000_000
    channels, seconds = (10, 3.0) if quick else (100, 20.0)
    return [
        *_long_run(rows),
        _live(channels, seconds),
        *_viewers((0, 2) if quick else (0, 1, 20), 3.0 if quick else 20.0),
    ]


# --- A long run -----------------------------------------------------------------------------------


def _long_run(rows: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        store = Path(directory)
        short, path = _run_of(store, "Short"), _run_of(store, "Long")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM sample")
            connection.executemany(
                "INSERT INTO sample VALUES (?, ?, 1, ?, ?, NULL, ?, ?, 0, NULL)", _samples(rows)
            )
        bare_s = statistics.median(_scan(path) for _ in range(3))
        with _served(store) as browser:
            browser.timed(f"/api/runs/{short.stem}/traces")  # a server that has just begun
            first_s, size = browser.timed("/api/runs/last/traces")
            again_s, _ = browser.timed("/api/runs/last/traces")
            zooms_s = [browser.timed(_zoom(rows))[0] for _ in range(40)]
    times = {
        "first view": first_s,
        "the same view again": again_s,
        "zoom, median of 40": statistics.median(zooms_s),
        "zoom, slowest of 40": max(zooms_s),
    }
    return [
        {
            "run of rows": rows,
            "what": what,
            "ms": round(1e3 * seconds, 1),
            "ratio_to_one_scan": round(seconds / bare_s, 2),
            "kB": round(size / 1e3) if "view" in what else "",
        }
        for what, seconds in times.items()
    ]


def _samples(rows: int) -> Iterator[tuple[Any, ...]]:
    noise = random.Random(1)  # noqa: S311 (no secret)
    for second in range(rows):
        value = noise.random()
        if second % 10 == 8:
            yield second, "load cell", None, None, 390 + value, None
        elif second % 10 == 9:
            yield second, "chamber", None, None, None, 298 + value
        else:
            volts = math.sin(second / 1e4) + 0.01 * value
            yield second, "potentiostat", volts, 1e-3 * volts, None, None


def _scan(path: Path) -> float:
    names = ("time_s", "voltage_V", "current_A", "force_N", "temperature_K")
    wanted = ", ".join(f"min({name}), max({name})" for name in names)
    with closing(sqlite3.connect(path)) as connection:
        began_s = time.perf_counter()
        connection.execute(f"SELECT {wanted} FROM sample").fetchall()  # noqa: S608 (our names)
        return time.perf_counter() - began_s


def _zoom(rows: int) -> str:
    """Any part of the run, from all of it down to some hundred seconds."""
    width_s = rows * 10 ** random.uniform(-4, 0)  # noqa: S311 (no secret)
    from_s = random.uniform(0, rows - width_s)  # noqa: S311 (no secret)
    return f"/api/runs/last/traces?from_s={from_s:.1f}&to_s={from_s + width_s:.1f}"


# --- Live -----------------------------------------------------------------------------------------


def _live(channels: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, ExitStack() as stack:
        store = Path(directory)
        runs = [_run_of(store, f"Live {number}") for number in range(channels)]
        browser = stack.enter_context(_served(store))
        delays_s: list[float] = []
        asyncio.run(_told(runs, browser, delays_s, seconds))
    delays_s.sort()
    return {
        "live": f"{channels} channels x {_RATE_HZ} Hz, all watched",
        "rows": len(delays_s),
        "expected": round(channels * _RATE_HZ * seconds),
        "delay_median_ms": round(1e3 * statistics.median(delays_s)),
        "delay_95_percent_ms": round(1e3 * delays_s[int(0.95 * len(delays_s))]),
        "delay_worst_ms": round(1e3 * delays_s[-1]),
    }


async def _told(runs: list[Path], browser: _Browser, delays_s: list[float], seconds: float) -> None:
    """Measure on all channels, have all of them watched, note when each row is told."""
    base_s = time.time()
    snapshot = _snapshot(runs[0].stem)

    async def obey(_request: Request, _who: Who) -> Reply:
        return Reply(accepted=True, text="", data=snapshot | {"time_s": time.time() - base_s})

    def told(event: dict[str, Any]) -> None:
        now_s = time.time() - base_s
        for source in event.get("sources", ()):
            delays_s.extend(now_s - time_s for time_s in source["columns"]["time_s"])

    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(SideThread("side"))
        writers = []
        for path in runs:
            gate = Gate(obey, lambda _text: None)
            await stack.enter_async_context(ControlServer(path.stem, path, side, gate))
            writers.append(RunWriter(path, durable=True, again=True))
        await asyncio.sleep(0.5)
        with browser.watching([f"/api/runs/{path.stem}/events" for path in runs], told):
            await asyncio.sleep(3.0)
            delays_s.clear()
            await _measured(writers, base_s, seconds)
            await asyncio.sleep(2.0)
        for writer in writers:
            await writer.close()


async def _measured(writers: list[RunWriter], base_s: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for tick in range(round(seconds * _RATE_HZ)):
        for writer in writers:
            now_s = time.time() - base_s
            writer.add_samples([(now_s, "potentiostat", 1, 0.1, 1e-4, None, None, None, 0, None)])
        await asyncio.sleep(max(0.0, began_s + (tick + 1) / _RATE_HZ - loop.time()))


def _snapshot(run: str) -> dict[str, Any]:
    return {
        "run": run, "state": "running", "time_s": 0.0, "ends_by_s": None, "ends_by_utc": None,
        "step": None, "readings": {}, "holds": {}, "question": None, "messages": [],
        "area_m2": 1e-4,
    }  # fmt: skip


# --- Viewers --------------------------------------------------------------------------------------


def _viewers(counts: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    """Processor time of a run at 60x with so many viewers of its page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        store = Path(directory)
        Store(store).close()
        protocol = store / "long.yaml"
        protocol.write_text(_LONG)
        command = [sys.executable, "-m", "cellbench", "run", str(protocol), "--store", str(store)]
        with (
            subprocess.Popen([*command, "--speed", "60"], stdout=subprocess.DEVNULL) as run,
            _served(store) as browser,
        ):
            try:
                shares = {count: _share(run.pid, browser, count, seconds) for count in counts}
            finally:
                run.terminate()
    alone = shares[counts[0]]
    return [
        {
            "viewers of a run at 60x": count,
            "processor_of_the_run": f"{share:.1%}",
            "ratio_to_none": round(share / alone, 2),
        }
        for count, share in shares.items()
    ]


def _share(pid: int, browser: _Browser, viewers: int, seconds: float) -> float:
    process = psutil.Process(pid)
    with browser.watching(["/api/runs/last/events"] * viewers, lambda _event: None):
        time.sleep(5.0)
        before_s, began_s = sum(process.cpu_times()[:2]), time.perf_counter()
        time.sleep(seconds)
        passed_s = time.perf_counter() - began_s
        return float(sum(process.cpu_times()[:2]) - before_s) / passed_s


# --- A store, a server, a browser -----------------------------------------------------------------


def _run_of(store: Path, name: str) -> Path:
    """A real run of one second's rest, whose file is then filled with something else."""
    protocol = store / "protocol.yaml"
    protocol.write_text(_SHORT.format(name=name))
    with Store(store) as opened:
        run: Run = conduct(prepare(str(protocol), seed=1), opened).run
        return opened.run_path(run.id)


class _Browser:
    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"}

    def timed(self, path: str) -> tuple[float, int]:
        """How long an answer takes, and its size."""
        began_s = time.perf_counter()
        with closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise SystemExit(f"{path}: {body.decode()}")
        return time.perf_counter() - began_s, len(body)

    @contextmanager
    def watching(self, paths: list[str], told: Any) -> Iterator[None]:
        """Watch some events, each from a thread of its own."""
        connections = []
        for path in paths:
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            threading.Thread(target=_heard, args=(response, told), daemon=True).start()
            connections.append(response)
        try:
            yield
        finally:
            for response in connections:
                response.fp.raw._sock.shutdown(2)  # type: ignore[attr-defined]  # noqa: SLF001


def _heard(response: http.client.HTTPResponse, told: Any) -> None:
    while line := response.readline():
        if line.startswith(b"data: ") and not line.startswith(b'data: "'):
            told(json.loads(line[6:]))


@contextmanager
def _served(store: Path) -> Iterator[_Browser]:
    token = Users(store).add_token("benchmark", "viewer")
    command = [sys.executable, "-u", "-m", "cellbench", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--store", str(store)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if "cellbench is at" in line)
            found = re.search(r":(\d+)/", said)
            assert found is not None
            yield _Browser(int(found[1]), token)
        finally:
            process.terminate()
