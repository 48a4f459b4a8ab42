"""What differs between operating systems, in one place; everything else is the same on all.

The branches of Windows are tested with stand-ins alone: docs/operations.md lists them. Where a
driver needs a library of one system, it says so itself.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

#: Looked at when something is done, so that a test can stand in for the other system.
WINDOWS = sys.platform == "win32"

# --- Clocks ---------------------------------------------------------------------------------------

#: On macOS the one named monotonic goes on during a sleep, and Python's `monotonic` does not.
_THROUGH_SLEEP: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))


def passed_ns() -> int:
    """Return the time that has passed since some moment, asleep or awake; nobody can set it.

    The clock of loops in real time. On Linux and macOS the usual ones stand still while the
    computer sleeps, and a sleep would be missing from the times of samples, with no gap to be seen.
    """
    return time.perf_counter_ns() if WINDOWS else time.clock_gettime_ns(_THROUGH_SLEEP)


def boot_id() -> str:
    """Return what tells one start of this computer from another, empty where nothing does.

    With the same one, `passed_ns` goes on from process to process.
    """
    try:
        if WINDOWS:
            return str(_windows_boot_count())
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _windows_boot_count() -> int:
    """How often Windows was started, as it counts itself; raises OSError where it does not."""
    registry = import_module("winreg")
    place = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
    with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, place) as key:
        return int(registry.QueryValueEx(key, "BootId")[0])


class Clocks(Protocol):
    """Three clocks that part when the computer sleeps, or when its time is set."""

    def utc_s(self) -> float:
        """Seconds of the epoch: set by NTP, people, and by nobody's summer time."""

    def passed_s(self) -> float:
        """Seconds that have passed, asleep or awake; nobody can set them."""

    def awake_s(self) -> float:
        """Seconds that the computer was awake."""


class SystemClocks:
    """The clocks of this computer."""

    def utc_s(self) -> float:
        """See `Clocks`."""
        return time.time()

    def passed_s(self) -> float:
        """See `Clocks`."""
        return passed_ns() * 1e-9

    def awake_s(self) -> float:
        """See `Clocks`."""
        if WINDOWS:
            return _windows_awake_s()
        return time.monotonic()


def _windows_awake_s() -> float:
    """The interrupt time without the time asleep, in units of 100 ns."""
    units = ctypes.c_ulonglong()
    _kernel32().QueryUnbiasedInterruptTime(ctypes.byref(units))
    return units.value * 1e-7


def _kernel32() -> Any:
    return getattr(ctypes, "windll").kernel32  # noqa: B009 (unknown to type checkers elsewhere)


# --- Signals and processes ------------------------------------------------------------------------


def stopping_signals() -> list[signal.Signals]:
    """Ctrl-C, a polite kill, a closed terminal or (Windows) Ctrl-Break or a closed console."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK" if WINDOWS else "SIGHUP")
    numbers = (getattr(signal, name, None) for name in names)
    return [number for number in numbers if number is not None]


def own_group() -> dict[str, Any]:
    """Arguments for `subprocess` of a process that Ctrl-C in this one's terminal does not reach."""
    if WINDOWS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP")}  # noqa: B009
    return {"start_new_session": True}


def own_console() -> dict[str, Any]:
    """Arguments for `subprocess` of a process that outlives this one's terminal as well."""
    if not WINDOWS:
        return own_group()
    # A console of its own, without a window: events of ours are not sent to its processes.
    flags = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
    return {"creationflags": sum(getattr(subprocess, each) for each in flags)}


def outlive_terminal(asked: Callable[[], None]) -> None:
    """Let no signal end this process; a polite kill only asks it to.

    Args:
        asked: Called by a polite kill.
    """
    for number in stopping_signals():
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: asked())


def never_wait(pipe: int) -> None:
    """Have writing to a full pipe fail, or on Windows take nothing, rather than wait."""
    if not WINDOWS:
        os.set_blocking(pipe, False)
        return
    # os.set_blocking takes pipes there from Python 3.12 on, and does just this.
    import msvcrt  # noqa: PLC0415 (exists on Windows alone)

    handle = ctypes.c_void_p(getattr(msvcrt, "get_osfhandle")(pipe))  # noqa: B009
    nowait = ctypes.byref(ctypes.c_ulong(1))
    _kernel32().SetNamedPipeHandleState(handle, nowait, None, None)


def ask_to_end(pid: int) -> None:
    """Ask a process to end in good order, which was started with `own_group`.

    Windows knows no polite kill: what comes nearest is Ctrl-Break.
    """
    os.kill(pid, getattr(signal, "CTRL_BREAK_EVENT" if WINDOWS else "SIGTERM"))


@contextmanager
def deaf_to_ctrl_c() -> Iterator[bool]:
    """Processes that are started meanwhile do not hear Ctrl-C; yields whether that can be had."""
    if WINDOWS:
        yield False
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield True
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def give_way() -> None:
    """Let this process run when the others of the computer leave time for it."""
    import psutil  # noqa: PLC0415 (twenty milliseconds, for few)

    psutil.Process().nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))


def process_start(pid: int) -> float | None:
    """When a process was started, in a measure that no set clock changes; None if there is none.

    In seconds since boot on Linux, where the wall clock's start is reckoned from the wall clock's
    boot and moves when that is set; in seconds of the epoch as the system noted it elsewhere.
    """
    if Path("/proc/self/stat").exists():
        return _process_start_on_linux(pid)
    import psutil  # noqa: PLC0415 (twenty milliseconds, for few)

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None  # also of another user, who was given the id: none of ours


def _process_start_on_linux(pid: int) -> float | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # After the name in parentheses, which may hold anything: the state, and 19 fields on the start.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19]) / os.sysconf("SC_CLK_TCK")


# --- Files and names ------------------------------------------------------------------------------

#: File systems whose locking and write ordering SQLite's write-ahead log cannot rely on.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p", "ceph", "glusterfs"}
)
_WINDOWS_DRIVE_REMOTE = 4


def is_on_network(path: Path) -> bool:
    """Whether a directory is on another computer's disk."""
    if WINDOWS:
        drive = path.drive
        return drive.startswith("\\\\") or (
            _kernel32().GetDriveTypeW(f"{drive}\\") == _WINDOWS_DRIVE_REMOTE
        )
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    table = [line.split()[1:3] for line in lines]
    resolved = path.resolve()
    inside = [
        (len(where), kind)
        for where, kind in table
        if resolved.is_relative_to(where.replace(r"\040", " "))  # how the kernel writes a space
    ]
    return max(inside, default=(0, ""))[1] in _NETWORK_FILE_SYSTEMS


def write_privately(path: Path, text: str) -> None:
    """Write a file that nobody but this user can read, whole or not at all.

    Raises:
        OSError: It cannot be written, or not be kept from others.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if WINDOWS:
                _keep_from_others(half)
            file.write(text)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise


def _keep_from_others(path: Path) -> None:
    """Windows has no owner's mode: rights are taken from the directory, unless told otherwise."""
    command = ["icacls", str(path), "/inheritance:r", "/grant:r", f"{getpass.getuser()}:F"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (our own words)
    if done.returncode != 0:
        raise OSError(done.returncode, "its rights cannot be set", str(path))


def serial_port_name(port: str) -> str:
    """The one name of a serial port that has several."""
    return port.upper().removeprefix("\\\\.\\") if WINDOWS else str(Path(port).resolve())


def speak_utf8() -> None:
    """Let output hold Ω, ° and block characters: consoles of Windows often start without.

    Elsewhere the encoding is the user's choice; what it does not hold is shown as a question mark.
    """
    settings = {"encoding": "utf-8", "errors": "replace"} if WINDOWS else {"errors": "replace"}
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(**settings)


# --- Keys -----------------------------------------------------------------------------------------

NextKey = Callable[[float], str]
_ANSI_KEYS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_WINDOWS_KEYS = {"H": "up", "P": "down", "M": "right", "K": "left"}
_PLAIN_KEYS = {"\r": "enter", "\n": "enter", "\x1b": "escape"}
#: Windows cannot wait for a key with a timeout: how often it is looked for.
_KEY_LOOK_S = 0.02
#: The rest of what a key sends follows its Escape within this.
_REST_S = 0.05


@contextmanager
def pressed_keys() -> Iterator[NextKey]:
    """Read single keys from this terminal while the context lasts, without showing them.

    Yields:
        What waits for a key, so many seconds at most: ``up``, ``down``, ``left``, ``right``,
        ``enter``, ``escape``, a character, or nothing. A terminal that is gone says ``q``.
    """
    if WINDOWS:
        yield _next_key_on_windows
        return
    import termios  # noqa: PLC0415 (exists on POSIX alone)
    import tty  # noqa: PLC0415

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda wait_s: _next_key(terminal, wait_s)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _next_key(terminal: int, wait_s: float) -> str:
    if not select.select([terminal], [], [], wait_s)[0]:
        return ""
    try:
        text = os.read(terminal, 1).decode("utf-8", errors="replace")
        # Whoever types Escape is slower than a terminal that sends the rest of an arrow.
        if text == "\x1b" and select.select([terminal], [], [], _REST_S)[0]:
            return _ANSI_KEYS.get(os.read(terminal, 2).decode("utf-8", errors="replace")[1:], "")
    except OSError:
        return "q"
    return _PLAIN_KEYS.get(text, text) or "q"


def _next_key_on_windows(wait_s: float) -> str:
    import msvcrt  # noqa: PLC0415 (exists on Windows alone)

    deadline_s = time.monotonic() + wait_s
    while not getattr(msvcrt, "kbhit")():  # noqa: B009 (unknown to type checkers elsewhere)
        if time.monotonic() >= deadline_s:
            return ""
        time.sleep(_KEY_LOOK_S)
    read = getattr(msvcrt, "getwch")  # noqa: B009
    text: str = read()
    if text in {"\x00", "\xe0"}:  # an arrow, or another key without a character
        return _WINDOWS_KEYS.get(read(), "")
    if text == "\x03":
        raise KeyboardInterrupt
    return _PLAIN_KEYS.get(text, text)


# --- Sleep, and service managers ------------------------------------------------------------------


@contextmanager
def kept_awake() -> Iterator[str]:
    """Keep the computer from going to sleep while the context lasts; yields why not, or nothing."""
    try:
        from wakepy import keep  # noqa: PLC0415 (40 milliseconds, for real benches alone)
    except ImportError as error:
        yield f"the package that asks for it cannot be loaded ({error})"
        return
    with keep.running(on_fail="pass") as mode:
        yield "" if mode.active else "this computer takes no such request"


def notify_service_manager(*facts: str) -> bool:
    """Tell systemd, if it has started this process, e.g. ``READY=1``; returns whether it was told.

    One datagram of lines to the socket in NOTIFY_SOCKET, as sd_notify(3) says. A manager that is
    away, or so busy that its queue is full, is not waited for: it hears of us the next time.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if WINDOWS or not place:
        return False
    if place.startswith("@"):  # a name that is in no directory
        place = f"\0{place[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        try:
            channel.sendto("\n".join(facts).encode(), place)
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear WATCHDOG=1 at least; None where it waits for none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) * 1e-6 if text.isdigit() and int(text) > 0 else None
