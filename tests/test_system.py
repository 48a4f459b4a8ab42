"""What is the operating system's: here as it is, and for Windows with stand-ins."""

from __future__ import annotations

import asyncio
import ctypes
import getpass
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cellbench import clock, system
from cellbench.system import SystemClocks

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="what POSIX does")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Stand in for Windows, as far as the test says what it would have done."""
    monkeypatch.setattr(system, "WINDOWS", True)
    return monkeypatch


class Kernel32:
    """Stands in for Windows' own library."""

    def QueryUnbiasedInterruptTime(self, to: object) -> int:
        to._obj.value = 123_4567890  # type: ignore[attr-defined]
        return 1

    def GetDriveTypeW(self, drive: str) -> int:
        return {"C:\\": 3, "N:\\": 4}[drive]


class WindowsPath:
    """What is asked of a path there; the real one cannot be made elsewhere."""

    def __init__(self, drive: str) -> None:
        self.drive = drive


def test_the_clock_of_a_real_loop_goes_on_during_a_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept_ns = 0

    async def main() -> float:
        nonlocal slept_ns
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        slept_ns = 41 * 60 * 10**9
        await asyncio.sleep(0.01)
        return loop.time() - before_s

    monkeypatch.setattr(clock, "passed_ns", lambda: system.passed_ns() + slept_ns)
    assert clock.run(main()) == pytest.approx(41 * 60, abs=3.0)
    assert SystemClocks().passed_s() == pytest.approx(system.passed_ns() * 1e-9, abs=0.5)


def test_the_clocks_go_on_together_while_nothing_happens() -> None:
    clocks = SystemClocks()
    before = clocks.utc_s(), clocks.passed_s(), clocks.awake_s()
    time.sleep(0.1)
    after = clocks.utc_s(), clocks.passed_s(), clocks.awake_s()
    passed = [late - early for early, late in zip(before, after, strict=True)]
    assert passed == pytest.approx([passed[1]] * 3, abs=0.05)


def test_windows_counts_the_time_awake_in_tenths_of_microseconds(
    windows: pytest.MonkeyPatch,
) -> None:
    windows.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel32()), raising=False)
    assert SystemClocks().awake_s() == pytest.approx(123.456789)
    assert SystemClocks().passed_s() == pytest.approx(time.perf_counter(), abs=0.5)


@posix_only
def test_a_closed_terminal_stops_a_run_here_and_ctrl_break_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert system.stopping_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    assert system.stopping_signals() == [signal.SIGINT, signal.SIGTERM, 21]


def test_windows_is_asked_to_end_by_ctrl_break_in_a_group_of_its_own(
    windows: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[int, int]] = []
    windows.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    windows.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    windows.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    system.ask_to_end(77)
    assert sent == [(77, 1)]
    assert system.own_group() == {"creationflags": 0x200}


@posix_only
def test_a_process_of_an_own_group_is_asked_to_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                          **system.own_group()) as process:  # fmt: skip
        assert os.getpgid(process.pid) == process.pid
        system.ask_to_end(process.pid)
        assert process.wait(10) == -signal.SIGTERM


@posix_only
def test_processes_that_are_started_deaf_do_not_hear_ctrl_c() -> None:
    with system.deaf_to_ctrl_c() as deaf:
        assert deaf
        script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(0, []))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_on_windows_no_process_can_be_started_deaf(windows: pytest.MonkeyPatch) -> None:
    with system.deaf_to_ctrl_c() as deaf:
        assert not deaf


def test_a_process_is_known_by_its_start_which_no_set_clock_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = system.process_start(os.getpid())
    assert mine is not None
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert system.process_start(os.getpid()) == mine
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        theirs = system.process_start(process.pid)
        assert theirs is None or theirs > mine
    assert system.process_start(process.pid) is None


@posix_only
def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    system.write_privately(path, "secret")
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [0, 5])
def test_windows_takes_the_rights_of_others_from_a_private_file_before_it_is_written(
    windows: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    asked: list[tuple[list[str], str]] = []

    def icacls(command: list[str], **_: object) -> SimpleNamespace:
        asked.append((command, Path(command[1]).read_text()))
        return SimpleNamespace(returncode=code)

    windows.setattr(subprocess, "run", icacls)
    windows.setattr(getpass, "getuser", lambda: "ada")
    path = tmp_path / "token"
    if code:
        with pytest.raises(OSError, match="rights"):
            system.write_privately(path, "secret")
        assert not list(tmp_path.iterdir())
    else:
        system.write_privately(path, "secret")
        assert path.read_text() == "secret"
    ((command, content),) = asked
    assert command[0] == "icacls"
    assert command[2:] == ["/inheritance:r", "/grant:r", "ada:F"]
    assert content == ""


def test_a_network_drive_of_windows_is_told_by_its_letter_or_its_share(
    windows: pytest.MonkeyPatch,
) -> None:
    windows.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel32()), raising=False)
    is_on_network: Callable[[WindowsPath], bool] = system.is_on_network  # type: ignore[assignment]
    assert not is_on_network(WindowsPath("C:"))
    assert is_on_network(WindowsPath("N:"))
    assert is_on_network(WindowsPath(r"\\server\share"))


def test_a_serial_port_of_windows_has_one_name(windows: pytest.MonkeyPatch) -> None:
    assert system.serial_port_name(r"\\.\com12") == "COM12"
    assert system.serial_port_name("COM12") == "COM12"


def test_consoles_of_windows_are_made_to_speak_utf8(windows: pytest.MonkeyPatch) -> None:
    settings: list[dict[str, str]] = []
    stream = SimpleNamespace(reconfigure=lambda **each: settings.append(each))
    windows.setattr(sys, "stdout", stream)
    windows.setattr(sys, "stderr", SimpleNamespace())  # not every stream can
    system.speak_utf8()
    assert settings == [{"encoding": "utf-8", "errors": "replace"}]


def test_consoles_of_others_keep_their_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "WINDOWS", False)
    stream = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    system.speak_utf8()
    print("5 Ω", flush=True)  # noqa: T201
    assert stream.buffer.getvalue() == b"5 ?\n"


def test_keys_of_windows_have_the_same_names(windows: pytest.MonkeyPatch) -> None:
    typed = ["\xe0", "H", "\xe0", "P", "\x00", ";", "\r", "\x1b", "q", "\x03"]
    keyboard = SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop(0))
    windows.setitem(sys.modules, "msvcrt", keyboard)
    with system.pressed_keys() as next_key:
        keys = [next_key(0.1) for _ in range(6)]
        assert keys == ["up", "down", "", "enter", "escape", "q"]
        with pytest.raises(KeyboardInterrupt):
            next_key(0.1)
        assert next_key(0.05) == ""


@posix_only
def test_the_service_manager_is_told_by_a_datagram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not system.notify_service_manager("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert system.notify_service_manager("READY=1", "STATUS=all is well")
        assert manager.recv(100) == b"READY=1\nSTATUS=all is well"


@posix_only
@pytest.mark.timeout(20)
def test_a_service_manager_that_does_not_listen_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert not system.notify_service_manager("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        while system.notify_service_manager("WATCHDOG=1"):
            pass
        assert manager.recv(100) == b"WATCHDOG=1"
        assert system.notify_service_manager("WATCHDOG=1")


def test_the_watchdog_is_for_the_process_that_systemd_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert system.watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert system.watchdog_interval_s() == 60.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert system.watchdog_interval_s() is None


def test_a_computer_that_takes_no_request_stays_awake_or_says_why() -> None:
    with system.kept_awake() as why_not:
        assert isinstance(why_not, str)


def test_without_the_package_a_computer_is_not_kept_awake_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wakepy", None)
    with system.kept_awake() as why_not:
        assert "cannot be loaded" in why_not


def test_help_needs_none_of_the_heavy_packages() -> None:
    script = "import sys, json, cellbench.system; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"psutil", "wakepy", "numpy"} & set(json.loads(done.stdout))


# --- Starts of the computer ---------------------------------------------------------------------


@posix_only
@pytest.mark.skipif(sys.platform != "linux", reason="what Linux tells")
def test_a_start_of_the_computer_is_known_by_its_id() -> None:
    assert len(system.boot_id()) == 36
    assert system.boot_id() == system.boot_id()


def test_windows_counts_its_starts(windows: pytest.MonkeyPatch) -> None:
    class Key:
        def __enter__(self) -> str:
            return "key"

        def __exit__(self, *_: object) -> None:
            pass

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE=1,
        OpenKey=lambda _, place: Key() if place.endswith("PrefetchParameters") else None,
        QueryValueEx=lambda key, name: (417, 4) if (key, name) == ("key", "BootId") else None,
    )
    windows.setitem(sys.modules, "winreg", registry)
    assert system.boot_id() == "417"


def test_a_windows_that_counts_no_starts_tells_none(windows: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    registry = SimpleNamespace(HKEY_LOCAL_MACHINE=1, OpenKey=missing)
    windows.setitem(sys.modules, "winreg", registry)
    assert system.boot_id() == ""
