"""A network for each bench, of one link to the server, which can be cut without a word.

Each is a namespace of the kernel's: what is sent goes nowhere but to the other end of the link.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

#: For tests of networks, see RFC 2544; each process has four addresses for each of its networks.
_ADDRESSES, _COUNT = IPv4Address("198.18.0.0"), 2**17
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Network:
    """One that is there.

    Attributes:
        server: Address of our end of the link.
        bench: Address of the other end.
        within: The words with which a command begins that is to run there.
    """

    server: str
    bench: str
    within: tuple[str, ...]
    _ends: tuple[tuple[tuple[str, ...], str], ...]

    def cut(self) -> None:
        """Lose whatever is sent from now on, at both ends; nobody is told."""
        for within, link in self._ends:
            _run(*within, "tc", "qdisc", "replace", "dev", link, "root", "blackhole")

    def heal(self) -> None:
        """Let everything pass again."""
        for within, link in self._ends:
            _run(*within, "tc", "qdisc", "del", "dev", link, "root")


@contextmanager
def network(number: int) -> Iterator[Network]:
    """Make a network; the test is skipped where that cannot be.

    Args:
        number: 0 to 3, another one for each network of a process.
    """
    for program in ("ip", "tc", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"no program {program} here to make a network (iproute2, util-linux)")
    try:
        _run("unshare", "--net", "true")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"only root can make a network namespace: {error.stderr.strip()}")
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            yield _linked(holder, number)
        finally:
            holder.kill()  # and its namespace and link are gone


def _linked(holder: subprocess.Popen[bytes], number: int) -> Network:
    _wait_until_apart(holder)
    within = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
    ours, theirs = f"cell{holder.pid}", "server"
    first = _ADDRESSES + (os.getpid() * 16 + number * 4) % _COUNT
    server, bench = str(first + 1), str(first + 2)
    try:
        _run("ip", "link", "add", ours, "type", "veth", "peer", theirs, "netns", str(holder.pid))
        _run("ip", "address", "add", f"{server}/30", "dev", ours)
        _run("ip", "link", "set", ours, "up")
        _run(*within, "ip", "link", "set", "lo", "up")
        _run(*within, "ip", "address", "add", f"{bench}/30", "dev", theirs)
        _run(*within, "ip", "link", "set", theirs, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no link to a network namespace can be made here: {error.stderr.strip()}")
    return Network(server, bench, within, (((), ours), (within, theirs)))


def _wait_until_apart(holder: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{holder.pid}/ns/net").readlink() == ours:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
