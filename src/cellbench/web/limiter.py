"""Slows down who guesses passwords: each failure makes the next attempt wait longer.

An attempt counts as failed from its beginning until it has succeeded, so that many at the same time
gain nothing.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Attempts that nobody waits for: people mistype.
FREE = 5
FIRST_S, MOST_S = 1.0, 60.0
#: Failures are forgotten after so long without another.
FORGOTTEN_S = 900.0
_KEYS_MAX = 10_000


class TooManyAttempts(Exception):
    """Nothing was tried: come back later.

    Args:
        wait_s: How much later.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many attempts: wait {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass
class _Failures:
    count: int = 0
    last_s: float = 0.0

    @property
    def wait_s(self) -> float:
        """How long after the last one the next may come."""
        return 0.0 if self.count < FREE else min(MOST_S, FIRST_S * 2.0 ** (self.count - FREE))


class Limiter:
    """Counts failures by key: an address, a user.

    Args:
        now: A clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: dict[str, _Failures] = {}

    def begin(self, keys: Iterable[str]) -> None:
        """Count an attempt.

        Raises:
            TooManyAttempts: One of the keys has to wait; nothing is counted.
        """
        now_s = self._now()
        kept = [self._of(key, now_s) for key in keys]
        wait_s = max(each.last_s + each.wait_s - now_s for each in kept)
        if wait_s > 0:
            raise TooManyAttempts(wait_s)
        for each in kept:
            each.count += 1
            each.last_s = now_s

    def succeeded(self, keys: Iterable[str]) -> None:
        """Forget what these keys failed at."""
        for key in keys:
            self._failures.pop(key, None)

    def _of(self, key: str, now_s: float) -> _Failures:
        found = self._failures.pop(key, None)
        if found is None or now_s - found.last_s > FORGOTTEN_S:
            found = _Failures(last_s=now_s)
        self._failures[key] = found  # the newest last
        if len(self._failures) > _KEYS_MAX:
            del self._failures[next(iter(self._failures))]
        return found


def address_key(host: str) -> str:
    """The key of an address: who has one of IPv6 has a whole network of them."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return f"address {host}"
    if address.version == 6 and address.ipv4_mapped is None:
        return f"address {ipaddress.ip_network((address, 64), strict=False)}"
    return f"address {address}"
