"""Alerts on their way to people: through apprise, tried again until they arrive."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping

from apprise import Apprise, LogCapture, NotifyType
from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from cellbench.errors import InputError
from cellbench.telemetry.alerts import Alert
from cellbench.telemetry.watched import Say

#: Pauses between attempts: the first, and the longest.
_PAUSE_S, _PAUSE_MAX_S = 5.0, 300.0
#: Alerts that wait for a way that is closed; the oldest give way.
_WAITING = 100


class Delivery:
    """One way on which people are told.

    Args:
        name: What they call it.
        url: As apprise has them.
        say: Takes what becomes of it.
    """

    def __init__(self, name: str, url: str, say: Say) -> None:
        self.name, self._say = name, say
        self._apprise = Apprise()
        self._apprise.add(url)
        self._waiting: deque[Alert] = deque(maxlen=_WAITING)
        self._wanted = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether all that was handed over has been delivered."""
        return not self._waiting

    def hand_over(self, alert: Alert) -> None:
        """Have an alert delivered, after those that were handed over before."""
        self._waiting.append(alert)
        self._wanted.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                alert = self._waiting[0]
                try:
                    await self._deliver(alert)
                except Exception as error:  # noqa: BLE001 (the next one may find its way)
                    text = f"internal error: {type(error).__name__}: {error}; it is given up"
                    self._say("telling", f'alert to "{self.name}": {text}')
                if self._waiting and self._waiting[0] is alert:
                    self._waiting.popleft()

    async def send(self, title: str, text: str, *, urgent: bool) -> str | None:
        """Try once; returns why it did not arrive, None if it did."""
        kind = NotifyType.WARNING if urgent else NotifyType.INFO
        with _log(logging.WARNING) as log:
            arrived = await self._apprise.async_notify(body=text, title=title, notify_type=kind)
            said = log.getvalue().strip().splitlines()
        return None if arrived else (said[0] if said else "not delivered")

    async def _deliver(self, alert: Alert) -> None:
        attempts = 0

        async def attempt() -> str | None:
            nonlocal attempts
            attempts += 1
            failure = await self.send(alert.title, alert.text, urgent=alert.urgent)
            if failure is not None and attempts == 1:
                self._say("telling", f'alert to "{self.name}": {failure}; it is tried again')
            return failure

        trying = AsyncRetrying(
            retry=retry_if_result(lambda failure: failure is not None),
            wait=wait_exponential(multiplier=_PAUSE_S, max=_PAUSE_MAX_S),
            sleep=asyncio.sleep,
        )
        await trying(attempt)
        if attempts > 1:
            self._say("telling", f'alert to "{self.name}": delivered after {attempts} attempts')


def refuse_unusable(channels: Mapping[str, str]) -> None:
    """Raise InputError for a URL that apprise does not know what to do with."""
    for name, url in channels.items():
        with _log(logging.ERROR):
            usable = Apprise().add(url)
        if not usable:
            # The URL itself may hold a secret: it is not repeated.
            raise InputError(f'alerts: apprise cannot use the URL of "{name}"')


def _log(level: int) -> LogCapture:
    """What apprise says of an attempt, in a context: it returns no reasons."""
    return LogCapture(level=level, fmt="%(message)s")  # type: ignore[no-untyped-call]
