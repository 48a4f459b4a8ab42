"""The connection to the MQTT broker: made, watched, and made again after ever longer pauses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiomqtt import Client, MqttError, Will

from cellbench.telemetry.configuration import Telemetry
from cellbench.telemetry.limiter import Rare
from cellbench.telemetry.watched import Say

#: A broker that says nothing for so long is gone.
_KEEPALIVE_S = 20
_TIMEOUT_S = 10.0
#: Pauses before connecting again: the first, and the longest.
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0
#: A connection that has lasted so long was a good one: the pauses begin anew.
_STABLE_S = 30.0
#: Messages that nobody has looked at yet; a flood of commands must not fill the memory.
_INCOMING = 200

#: A broker that comes and goes is told of so often at most.
_SAID_APART_S = 600.0

# What the client has to say goes through the journal; on the terminal it would spoil the live view.
_LOG = logging.getLogger("cellbench.mqtt")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False

__all__ = ["Broker", "Client", "MqttError", "Will"]


class Broker:
    """The broker of a telemetry file.

    Args:
        telemetry: What it says; with a broker.
        identifier: What the broker knows this client by: the same for a process that goes on.
        say: Takes what happens to the connection.
    """

    def __init__(self, telemetry: Telemetry, identifier: str, say: Say) -> None:
        settings = telemetry.mqtt
        assert settings is not None  # noqa: S101 (nobody makes one without)
        self._settings, self._telemetry = settings, telemetry
        self._identifier, self._say = identifier, say
        self._rare = Rare(_SAID_APART_S)
        self._away = self._said = False

    @property
    def name(self) -> str:
        """What people call it."""
        host, port = self._settings.address
        return f"MQTT broker {host}:{port}"

    @asynccontextmanager
    async def connected(self, will: Will | None = None) -> AsyncIterator[Client]:
        """Connect once.

        Args:
            will: What the broker tells the others if this client is gone without a word.

        Raises:
            MqttError: The broker cannot be reached, refuses, or went away.
        """
        host, port = self._settings.address
        client = Client(
            host,
            port,
            username=self._settings.user,
            password=self._telemetry.password,
            logger=_LOG,
            identifier=self._identifier,
            will=will,
            clean_session=True,
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            max_queued_incoming_messages=_INCOMING,
            tls_context=self._telemetry.tls,
        )
        client.pending_calls_threshold = _INCOMING
        async with client:
            yield client

    async def stay_connected(
        self,
        will: Callable[[], Will | None],
        serve: Callable[[Client], Awaitable[None]],
        leave: asyncio.Event,
    ) -> None:
        """Have ``serve`` use the connection until it returns, and connect again when it is lost.

        Args:
            will: Returns what is left with the broker, see `connected`; asked each time.
            serve: Uses the connection; anew with each one.
            leave: Once it is set, a lost connection is tried for once more only.
        """
        loop, pause_s = asyncio.get_running_loop(), _PAUSE_S
        while True:
            leaving, began_s = leave.is_set(), loop.time()
            try:
                async with self.connected(will()) as client:
                    self._is_back()
                    began_s = loop.time()
                    await serve(client)
                    return
            except MqttError as error:
                self._is_away(str(error))
            if leaving:
                return
            if loop.time() - began_s > _STABLE_S:
                pause_s = _PAUSE_S
            # Many benches lose one broker at one moment: they do not all come back at one.
            spread_s = pause_s * random.uniform(0.8, 1.2)  # noqa: S311 (no secret)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), spread_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _is_away(self, why: str) -> None:
        if self._away:
            return
        count = self._rare.admits("away")
        self._away, self._said = True, count is not None
        if self._said:
            more = f" (and {count} times more since the last time)" if count else ""
            text = f"{self.name}: {why}{more}; the run goes on, and tells it later what it misses"
            self._say("telling", text)

    def _is_back(self) -> None:
        if self._away and self._said:
            self._say("telling", f"{self.name} is there again")
        self._away = False
