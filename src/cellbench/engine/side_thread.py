"""One thread beside the engine's, with an event loop of its own: what talks to the outside.

Commands from other terminals and telemetry wait for networks and people; nothing of that may make
the engine's loop wait, nor (on a simulated bench) count in virtual time. What runs here touches the
engine through ``call_soon_threadsafe`` of the engine's loop alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from cellbench.clock import unseen

T = TypeVar("T")

#: What still runs at the end is cancelled; what has not ended by then is left to the process's end.
END_DEADLINE_S = 5.0


class SideThread:
    """A thread with a loop in real time, while the context lasts; entered from the engine's loop.

    At the end all that still runs in it is cancelled.

    Raises:
        OSError: There can be no such loop; on entering.
    """

    def __init__(self, name: str = "beside the engine") -> None:
        self._ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = (
            concurrent.futures.Future()
        )
        self._over: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # A daemon: what hangs here must not keep a run from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        self._loop = await unseen(asyncio.wrap_future(self._ready))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._loop is not None  # noqa: S101 (it was entered)
        assert self._over is not None  # noqa: S101 (as its loop)
        self._loop.call_soon_threadsafe(self._over.set)
        engine = asyncio.get_running_loop()
        await engine.run_in_executor(None, self._thread.join, END_DEADLINE_S)

    def run(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine in the thread, from any thread; whoever starts it looks at the result.

        Cancelling the future cancels it.
        """
        assert self._loop is not None  # noqa: S101 (it was entered)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def done(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs in the thread; virtual time stands still meanwhile."""
        return await unseen(asyncio.wrap_future(self.run(work)))

    def _work(self) -> None:
        # On Windows the usual loop is another one, which lacks the readers that MQTT needs.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._until_over())
        except OSError as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _until_over(self) -> None:
        self._over = asyncio.Event()
        self._ready.set_result(asyncio.get_running_loop())
        await self._over.wait()
