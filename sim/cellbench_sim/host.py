"""A computer on the simulated bench that can be killed, as by a power cut: it never acts again.

A host is its tasks and its wires. Cancelling tasks would run every clean-up; here the wires are cut
first, and then no task of the host is ever resumed, so that no ``finally`` of the dead reaches the
bench. The bench, and other hosts on it, live on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Any, Self, TypeVar

from cellbench.errors import CellbenchError
from cellbench.transport.stream import Stream
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.device import Wire
from cellbench_sim.operator import Asked, AttendedOperator, SimulatedOperator

T = TypeVar("T")

_HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Host:
    """A host on a bench that is switched on; stands in for the bench where a session wants one.

    Whoever kills one is to `bury` it in the end.

    Args:
        bench: The bench.

    Attributes:
        alive: Whether it has not been killed.
        on_kill: Called when it is killed, before its wires are cut: what else of it dies with it.
    """

    def __init__(self, bench: SimulatedBench) -> None:
        self.alive = True
        self.on_kill: list[Callable[[], None]] = []
        self._bench = bench
        self._wires: list[Wire] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._hangs = False
        self._is_buried = False

    @property
    def resumes(self) -> bool:
        """Whether its tasks go on where they are."""
        return self._is_buried or (self.alive and not self._hangs)

    # --- Running on it --------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine on this host, with all tasks that it starts."""
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is not _make_task:
            loop.set_task_factory(_make_task)
        context = copy_context()
        context.run(_HOST.set, self)
        return loop.create_task(work, name=name, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take note of a task that runs on it."""
        self._tasks.append(task)

    def kill(self) -> None:
        """End it at this instant; twice is once."""
        if not self.alive:
            return
        self.alive = False
        for tell in self.on_kill:
            tell()
        for wire in self._wires:
            wire.sever()

    def hang(self) -> None:
        """Let its tasks stop for good, and its wires be as they are: a loop that hangs."""
        self._hangs = True

    async def bury(self) -> None:
        """When nobody looks any more: run the clean-up of what was killed, with all wires cut.

        What is never run to its end Python complains of.
        """
        self.kill()
        self._is_buried = True
        while left := [task for task in self._tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    # --- Standing in for the bench --------------------------------------------------------------

    def connect(self, name: str) -> Stream:
        """Plug a cable of this host into an instrument; see `SimulatedBench.connect`."""
        if not self.alive:
            raise CellbenchError("the host is dead")
        wire = self._bench.connect(name)
        if not isinstance(wire, Wire):
            raise TypeError(f"{name}: no wire that can be cut")
        self._wires.append(wire)
        return wire

    @property
    def operator(self) -> SimulatedOperator:
        """Who is asked on the bench."""
        return self._bench.operator

    def attended(self, person: Asked) -> AttendedOperator:
        """See `SimulatedBench.attended`."""
        return self._bench.attended(person)

    async def __aenter__(self) -> Self:
        """Begin; the bench is on already, and stays so."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bench to others."""


class _Mortal(Coroutine[Any, Any, T]):
    """A coroutine that is not resumed any more once its host is dead."""

    def __init__(self, host: Host, work: Coroutine[Any, Any, T]) -> None:
        self._host, self._work = host, work
        self._parked: Coroutine[Any, Any, None] | None = None
        self.__name__ = getattr(work, "__name__", "work")
        self.__qualname__ = getattr(work, "__qualname__", "work")

    def send(self, value: Any) -> Any:
        if self._host.resumes:
            return self._work.send(value)
        return self._park()

    def throw(self, *error: Any) -> Any:
        if self._host.resumes:
            if self._parked is not None:
                self._parked.close()
                self._parked = None
            return self._work.throw(*error)
        return self._park()

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, None, T]:
        return self._work.__await__()

    def _park(self) -> Any:
        """Wait for what never comes."""
        if self._parked is not None:
            self._parked.close()
        self._parked = _never()
        return self._parked.send(None)


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def _make_task(
    loop: asyncio.AbstractEventLoop,
    work: Generator[Any, None, T] | Coroutine[Any, Any, T],
    *,
    context: Context | None = None,
    **options: Any,
) -> asyncio.Future[T]:
    """Make a task as asyncio does; those of a host can be killed with it."""
    host = _HOST.get() if context is None else context.get(_HOST)
    if host is None or not isinstance(work, Coroutine):
        return asyncio.Task(work, loop=loop, context=context, **options)
    task = asyncio.Task(_Mortal(host, work), loop=loop, context=context, **options)
    host.adopt(task)
    return task
