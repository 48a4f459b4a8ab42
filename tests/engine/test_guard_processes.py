"""Who is who among processes, ending one for sure, starting one apart; Windows by stand-ins."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellbench import system
from cellbench.engine.guard import processes
from cellbench.engine.guard.handover import asked, taking_over
from cellbench.engine.guard.messages import Beat, Watch
from cellbench.engine.guard.piped import GuardGone, PipedGuard
from cellbench.engine.guard.processes import ProcessId
from cellbench.errors import InstrumentError
from cellbench.transport.ownership import Ownership, ask_path

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PLACE = "tcp 192.0.2.1, port 5025"


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(tmp_path / "locks"))


def test_a_process_is_ended_and_stays_known_as_gone() -> None:
    with subprocess.Popen(SLEEP) as sleeper:
        known = ProcessId.of(sleeper.pid)
        assert known.lives
        told = asyncio.run(known.end())
        assert told == f"process {sleeper.pid} was ended"
        assert not known.lives  # though nobody has waited for it yet
        assert asyncio.run(known.end()) == f"process {sleeper.pid} was gone already"


def test_another_process_of_the_same_id_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as sleeper:
        started = ProcessId.of(sleeper.pid).started
        assert started is not None
        assert "was gone already" in asyncio.run(ProcessId(sleeper.pid, started - 1.0).end())
        assert sleeper.poll() is None
        sleeper.kill()


def send_on(guard: PipedGuard) -> None:
    for _ in range(100_000):
        guard.send(Beat())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_guard_that_does_not_listen_hangs_nobody_and_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP) as engine:
        watch = Watch(
            run="2026-01-01-001",
            pid=engine.pid,
            process_started=ProcessId.of(engine.pid).started,
            ledger=str(tmp_path / "run.guard.jsonl"),
            bench="bench: nothing\ninstruments: {}\n",
            beside=None,
            limits={"voltage_min_V": -1.0, "voltage_max_V": 1.0, "current_max_A": 1.0},
            silence_s=None,
        )
        guard = PipedGuard(watch)
        os.kill(int(guard.name.removeprefix("process ")), signal.SIGSTOP)
        with pytest.raises(GuardGone, match="does not listen any more"):
            send_on(guard)
        with pytest.raises(GuardGone):
            guard.check()
        assert engine.poll() is None
        engine.kill()


def test_who_asks_is_seen_as_long_as_it_lives_and_asks(tmp_path: Path) -> None:
    assert asked([PLACE]) is None

    async def main() -> None:
        async with taking_over({"potentiostat": PLACE}, "cellbench quiet"):
            assert asked([PLACE]) == f"process {os.getpid()} (cellbench quiet)"
        assert asked([PLACE]) is None

    asyncio.run(main())
    ask_path(PLACE).write_text('{"pid": 4194000, "started": 1.0, "purpose": "one that is gone"}')
    assert asked([PLACE]) is None
    ask_path(PLACE).write_text('{"pid": 41')
    assert asked([PLACE]) is None


def test_a_guard_lets_go_and_anybody_else_does_not() -> None:
    async def main(*, yields: bool) -> list[str]:
        with Ownership("guard of run 7", yields=yields) as ownership:
            ownership.take("press", PLACE)

            async def guard() -> None:
                while asked([PLACE]) is None:
                    await asyncio.sleep(0.01)
                ownership.release()

            keeping = asyncio.create_task(guard())
            try:
                async with taking_over({"press": PLACE}, "cellbench quiet") as done:
                    return done
            finally:
                keeping.cancel()

    (told,) = asyncio.run(main(yields=True))
    assert told.startswith(f"press: process {os.getpid()} (guard of run 7, since ")
    with pytest.raises(InstrumentError, match=r"press: is in use by .*, or give --force"):
        asyncio.run(main(yields=False))
    assert asked([PLACE]) is None


# --- Windows, by stand-ins ------------------------------------------------------------------------


def test_on_windows_a_guard_has_a_console_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    assert system.own_console() == {"start_new_session": True}
    monkeypatch.setattr(system, "WINDOWS", True)
    assert system.own_console() == {"creationflags": 0x08000200}


def test_on_windows_a_full_pipe_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[int | None, int]] = []

    def set_state(handle: Any, mode: Any, *_: object) -> int:
        called.append((handle.value, mode._obj.value))
        return 1

    kernel = SimpleNamespace(SetNamedPipeHandleState=set_state)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(get_osfhandle=lambda pipe: 7 * pipe))
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(system, "WINDOWS", True)
    system.never_wait(6)
    assert called == [(42, 1)]  # PIPE_NOWAIT


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX sessions")
def test_a_process_apart_has_a_session_of_its_own(tmp_path: Path) -> None:
    process = processes.start_apart(SLEEP, tmp_path / "errors")
    try:
        assert os.getsid(process.pid) != os.getsid(0)
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
