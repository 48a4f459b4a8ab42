"""The event loop's clock: real time, scaled time, or virtual time that jumps to what is due next.

Engine, drivers and emulators only ever use the running loop's time, so that the same code runs a
test in real time on hardware and in seconds on the simulated bench. The virtual loop is an ordinary
selector event loop whose selector, asked to wait, moves the clock instead.

Virtual time is kept in whole nanoseconds from 0. It stands still while a *hold* is taken (work in a
thread that the loop cannot see, a person who is being asked); it never runs backwards. So does real
time, on its own loop, while the callbacks of one turn run: what a program does then hangs on when
its loop woke and what for, which a recording can keep, and not on how long its code took.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextvars import Context, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast

from cellbench.errors import CellbenchError
from cellbench.system import passed_ns

T = TypeVar("T")

#: Iterations of the loop without any passing of time after which a program counts as stuck. A
#: simulated instant holds a few dozen: bytes handed over, tasks woken.
BUSY_LOOP_ITERATIONS = 200_000
#: Turns of a jumping loop between looks at the real selector (signals, other threads): a look costs
#: more than a turn.
_TURNS_PER_LOOK = 50
#: Timers that may wait before those that were cancelled are looked for.
_TIMERS_UNSWEPT = 100
#: Real time after which work in a thread that holds virtual time counts as hung.
HOLD_LIMIT_S = 300.0
#: While held, the real selector is asked this often whether the hold has ended.
_HOLD_POLL_S = 0.05
_NS = 1_000_000_000
#: asyncio treats timers within one clock resolution as due; below a microsecond a float of some
#: thousand hours cannot tell two instants apart, and a sleep never becomes due.
_RESOLUTION_S = 1e-6
#: Turns in real time after which the clock moves all the same: a task that spins until a deadline
#: must see it come.
_TURNS_PER_WAKE = 1000
#: What a platform's selector can be told to wait.
_LONGEST_WAIT_S = 24 * 3600.0
#: After a turn in real time that took so long, timers are given as long again, up to a bound.
_LONG_TURN_S = 0.02
_GRACE_S = 1.0


class VirtualTimeError(CellbenchError):
    """Virtual time cannot go on: a deadlock, or a program that never waits."""


class _TimeSelector(selectors.BaseSelector):
    """A selector that lets virtual time pass where a real one would sleep."""

    def __init__(self, speed: float | None) -> None:
        self._real = selectors.DefaultSelector()
        self.speed = speed
        self.idle_turns = 0
        self._origin = time.perf_counter()
        self._held_s = 0.0
        self.delay: Callable[[float], float] | None = None
        self.now_ns = 0
        self.now_s = 0.0
        self.holds = 0
        self.patient_holds = 0

    @property
    def jumps(self) -> bool:
        return self.speed is None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            self.stand_still()
            if self.speed is not None and not self.holds:
                # Else what comes in after a long computation would come in before it, and the
                # pauses that are measured from there would be too short for the other end.
                self._go_to(self._reached_ns(timeout, self.speed))
            return ready
        self.idle_turns = 0
        if self.holds:
            return self._held()
        if self.speed is not None:
            return self._pass_scaled(timeout, self.speed)
        if timeout is None:
            raise VirtualTimeError(
                "virtual time is deadlocked: every task waits and no timer is set"
            )
        self.jump_to(self.now_s + timeout)
        return []

    def jump_to(self, time_s: float) -> None:
        """Let time pass up to a timer, which may be overdue."""
        if self.delay is not None:
            time_s = max(time_s, self.delay(time_s))
        if time_s <= self.now_s:
            self.stand_still()
            return
        self.idle_turns = 0
        # A wait below a nanosecond is the rounding of a float; time must pass all the same.
        self.now_ns += round((time_s - self.now_s) * _NS) or 1
        self.now_s = self.now_ns / _NS

    def _go_to(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.now_s = now_ns / _NS

    def pace(self, speed: float | None) -> None:
        """Let time pass at another speed from now on, None to jump."""
        self.speed = speed
        if speed is not None:
            self._origin = time.perf_counter() - self.now_s / speed

    def stand_still(self, turns: int = 1) -> None:
        """Take note of turns in which no time passes."""
        self.idle_turns += turns
        if self.idle_turns > BUSY_LOOP_ITERATIONS:
            raise _stuck()

    def _pass_scaled(
        self, timeout: float | None, speed: float
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait at the given speed; without a timer, for whoever connects or calls."""
        if timeout is None:
            timeout = _HOLD_POLL_S * speed
        # Paced against one origin, so that what a turn costs does not slow the clock down.
        due = self._origin + (self.now_ns / _NS + timeout) / speed
        ready = self._real.select(max(0.0, due - time.perf_counter()))
        if ready:
            self._go_to(self._reached_ns(timeout, speed))
        else:
            self._go_to(self.now_ns + max(1, round(timeout * _NS)))
        return ready

    def _reached_ns(self, timeout: float | None, speed: float) -> int:
        """Virtual time that real time has reached, at most the next timer's."""
        reached_ns = round((time.perf_counter() - self._origin) * speed * _NS)
        if timeout is not None:
            reached_ns = min(reached_ns, self.now_ns + round(timeout * _NS))
        return max(self.now_ns, reached_ns)

    def _held(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Let real time pass without virtual time."""
        started = time.perf_counter()
        ready = self._real.select(_HOLD_POLL_S)
        passed_s = time.perf_counter() - started
        self._origin += passed_s
        # The one watchdog in real time: the others run on the clock that stands still here.
        self._held_s = 0.0 if ready or self.patient_holds else self._held_s + passed_s
        if self._held_s > HOLD_LIMIT_S:
            raise VirtualTimeError(
                f"work outside the event loop has not ended for {HOLD_LIMIT_S:g} s of real time"
            )
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def _stuck() -> VirtualTimeError:
    return VirtualTimeError(
        f"virtual time stands still: {BUSY_LOOP_ITERATIONS} turns of the event loop "
        "without anything that waits (a busy loop?)"
    )


class _Call:
    """A call that is due in the next turn or at some time: asyncio's handle, in fewer frames.

    A simulated sample takes six of them. Nobody but the loop looks at more than what is here.
    """

    __slots__ = ("__weakref__", "_args", "_callback", "_cancelled", "_context", "_when")
    #: asyncio looks for one where it has made a timer.
    _source_traceback: ClassVar[None] = None

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        when: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._when = when
        self._cancelled = False

    def when(self) -> float:
        """Loop time at which it is due."""
        return self._when

    def cancelled(self) -> bool:
        """Whether it is never to be made."""
        return self._cancelled

    def cancel(self) -> None:
        """Have the loop leave it out; what it would have called is let go of at once."""
        self._cancelled = True
        self._callback, self._args = _nothing, ()


def _nothing() -> None:
    """What a call that was cancelled would do."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: its time is virtual seconds since it was made.

    Args:
        speed: None jumps from one due thing to the next; a number is how many virtual seconds
            pass in one real second (1 for real time, 60 for a minute in a second).
    """

    # What asyncio's loop keeps (read in CPython 3.11 to 3.13).
    _ready: deque[Any]
    _stopping: bool
    _closed: bool

    def __init__(self, speed: float | None = None) -> None:
        self._time = _TimeSelector(speed)
        self._paced = speed is not None
        super().__init__(self._time)
        # Asked for again and again for each simulated sample: without a frame of Python's.
        self.time = partial(attrgetter("now_s"), self._time)  # type: ignore[method-assign]
        self.get_debug = partial(attrgetter("_debug"), self)  # type: ignore[method-assign]
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]
        self._clock_resolution = _RESOLUTION_S
        # Timers by time and then by number, so that those of one instant come in the order in which
        # they were set; asyncio leaves that to chance. Tuples are compared without Python code.
        self._timers: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self._sweep_at = _TIMERS_UNSWEPT

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call ``callback`` at a loop time; those of one instant in the order in which they came.

        As asyncio's own, but for the order.
        """
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        timer = _Call(callback, args, context, when)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer  # type: ignore[return-value]

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call ``callback`` in the next turn, as asyncio's own."""
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        call = _Call(callback, args, context)
        self._ready.append(call)
        return call  # type: ignore[return-value]

    @property
    def jumps(self) -> bool:
        """Whether time jumps to what is due next; else it passes at a speed, with its jitter."""
        return self._time.jumps

    @property
    def speed(self) -> float | None:
        """Virtual seconds in a real one; None where time jumps."""
        return self._time.speed

    def pace(self, speed: float | None) -> None:
        """Let time pass at another speed from now on: while a person holds a run that jumps.

        Args:
            speed: As of the class.
        """
        self._time.pace(speed)
        self._paced = speed is not None

    def delay_timers(self, delay: Callable[[float], float]) -> None:
        """Have a function say when the next timer is served, as late as a real loop may serve it.

        Args:
            delay: Takes the loop time at which it is due, returns that or a later one.
        """
        self._time.delay = delay

    @contextlib.contextmanager
    def hold(self, *, patient: bool = False) -> Iterator[None]:
        """Keep virtual time still while something happens that the loop cannot see.

        Args:
            patient: For as long as it takes, as a person may; else `HOLD_LIMIT_S` of real time.
        """
        self._time.holds += 1
        self._time.patient_holds += patient
        try:
            yield
        finally:
            self._time.holds -= 1
            self._time.patient_holds -= patient

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread; virtual time stands still until it is done."""
        future = cast("asyncio.Future[T]", super().run_in_executor(executor, func, *args))
        self._time.holds += 1
        future.add_done_callback(self._release)
        return future

    def _run_once(self) -> None:
        """Take a turn as asyncio does; then some without the selector, while nobody needs it.

        A simulated instrument's turn is shorter than asking the selector would be.
        """
        clock, ready, timers = self._time, self._ready, self._timers
        if len(timers) > self._sweep_at:
            self._sweep()
        # Public ways to these attributes would cost as much again as the turn.
        # ruff: disable[SLF001]
        for turn in range(_TURNS_PER_LOOK):
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            if not turn:
                self._process_events(clock.select(self._patience_s()))  # type: ignore[attr-defined]
            elif not ready:
                if not timers:
                    return
                clock.jump_to(timers[0][0])
            due_s = clock.now_s + _RESOLUTION_S
            while timers and timers[0][0] < due_s:
                ready.append(heappop(timers)[2])
            for _ in range(len(ready)):
                call = ready.popleft()
                if call._cancelled:
                    continue
                try:
                    call._context.run(call._callback, *call._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 (as asyncio: its handler tells of it)
                    text = f"exception in the callback {call._callback!r}"
                    self.call_exception_handler({"message": text, "exception": error})
            if self._paced or self._stopping or clock.holds:
                return
        # Since the last jump of the clock, if there was one, hardly more than have been taken.
        clock.stand_still(_TURNS_PER_LOOK)
        # ruff: enable[SLF001]

    def _patience_s(self) -> float | None:
        """How long the selector may wait; None without anything that is due."""
        if self._ready or self._stopping:
            return 0.0
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0][0] - self._time.now_s), _LONGEST_WAIT_S)

    def _sweep(self) -> None:
        """Drop timers that were cancelled, as those of a time-out nearly always are."""
        self._timers[:] = [each for each in self._timers if not each[2].cancelled()]
        heapify(self._timers)
        self._sweep_at = _TIMERS_UNSWEPT + 2 * len(self._timers)

    def _release(self, _: asyncio.Future[T]) -> None:
        self._time.holds -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the default executor's threads, which the loop cannot see either."""
        with self.hold():
            await super().shutdown_default_executor(*args, **kwargs)


if sys.platform == "win32":
    _PlatformLoop = asyncio.ProactorEventLoop
else:
    _PlatformLoop = asyncio.SelectorEventLoop


class RealLoop(_PlatformLoop):
    """The platform's event loop in real time, which moves when the loop wakes and not in between.

    It wakes for one thing that has come in (from outside, from another thread), or for timers that
    are due, never for both at once. All that follows from one wake happens at its time.

    Args:
        speed: Seconds of the loop in one real second.

    Attributes:
        on_late: Told, when the loop wakes for timers, how late the first of them is served, s.
    """

    # What asyncio's loops keep, as in `VirtualLoop`; the selector of Windows is its proactor.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _selector: Any

    def __init__(self, speed: float = 1.0) -> None:
        self.on_late: Callable[[float], None] | None = None
        self._speed = speed
        self._origin_ns = passed_ns()
        self._now_s = 0.0
        self._turns = 0
        self._came_last = self._waited = self._thread_last = False
        self._last_fd = -1
        self._held_until_s = 0.0
        self._from_threads: deque[asyncio.Handle] = deque()
        super().__init__()
        self._clock_resolution = _RESOLUTION_S
        self._select: Callable[[float | None], list[Any]] = self._selector.select
        self._selector.select = self._wake

    def time(self) -> float:
        """When the loop last woke, s since it was made."""
        return self._now_s

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have another thread's callback wake the loop; as asyncio's own, but not amid a turn."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.Handle(callback, args, self, context)
        self._from_threads.append(handle)
        self._write_to_self()  # type: ignore[attr-defined]
        return handle

    def _wake(self, timeout_s: float | None) -> list[Any]:
        """Stand in for the selector's wait: nothing while callbacks follow from one another."""
        self._turns += 1
        if timeout_s is not None and timeout_s <= 0 and self._turns < _TURNS_PER_WAKE:
            return []
        due_s = self._scheduled[0].when() if self._scheduled else None
        serve_s = math.inf if due_s is None else self._served_from(due_s)
        # What has come in goes first, so that an answer counts that came while the host stalled;
        # but not twice running: timers must not starve.
        if self._real_s() < serve_s or not self._came_last:
            wait_s = min(_LONGEST_WAIT_S, max(0.0, serve_s - self._real_s()) / self._speed)
            came = self._arrival(wait_s if timeout_s is None or timeout_s > 0 else 0.0)
            if came is not None:
                self._wake_for_arrival(due_s)
                return came
        self._waited = True
        if due_s is not None and self._real_s() >= serve_s:
            self._wake_for_timers(due_s)
        elif self._turns >= _TURNS_PER_WAKE:
            self._move_to(self._real_s())
        return []

    def _served_from(self, due_s: float) -> float:
        """When a timer may be served that was perhaps set late in a turn that took long.

        Else a deadline for an answer could pass before the request was sent.
        """
        real_s = self._real_s()
        ran_s = 0.0 if self._waited else real_s - self._now_s
        if due_s - self._now_s < 4 * _RESOLUTION_S:
            return due_s  # there is no time left for anything before it
        if ran_s >= _LONG_TURN_S and due_s <= self._now_s + 2 * ran_s and not self._held_until_s:
            self._held_until_s = real_s + min(ran_s, _GRACE_S)
        return max(due_s, self._held_until_s)

    def _arrival(self, wait_s: float) -> list[Any] | None:
        """Wait for one thing that comes in, None if nothing does.

        It is something from outside, returned as the selector's, or what another thread wants.
        """
        if self._from_threads and not self._thread_last:
            return self._let_thread_in()
        came = self._select(0.0 if self._from_threads else wait_s)
        if came:
            self._thread_last = False
            return self._one_of(came)
        return self._let_thread_in() if self._from_threads else None

    def _let_thread_in(self) -> list[Any]:
        self._thread_last = True
        self._ready.append(self._from_threads.popleft())
        return []

    def _one_of(self, came: list[Any]) -> list[Any]:
        """The next file after the last that had its turn; a selector shows the others again."""
        if sys.platform == "win32":
            return came  # the proactor has already let them in
        chosen = min(came, key=lambda each: (each[0].fd <= self._last_fd, each[0].fd))
        self._last_fd = chosen[0].fd
        return [chosen]

    def _wake_for_arrival(self, due_s: float | None) -> None:
        self._came_last = True
        real_s = self._real_s()
        if due_s is not None and real_s > due_s - 2 * _RESOLUTION_S:
            # That timer is served later, on its own. No two wakes are at one time, so that their
            # order is that of their times: each takes half of what is left.
            real_s = (self._now_s + due_s) / 2
        self._move_to(real_s)

    def _wake_for_timers(self, due_s: float) -> None:
        self._came_last = False
        self._held_until_s = 0.0
        self._move_to(self._real_s())
        if self.on_late is not None:
            self.on_late(self._now_s - due_s)

    def _move_to(self, time_s: float) -> None:
        self._now_s = max(self._now_s, round(time_s * _NS) / _NS)
        self._turns = 0
        self._waited = False

    def _real_s(self) -> float:
        return (passed_ns() - self._origin_ns) / _NS * self._speed


async def unseen(work: Awaitable[T], *, patient: bool = False) -> T:
    """Await something that the loop cannot see coming (a thread, a person); time stands still.

    See `VirtualLoop.hold` for ``patient``.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        return await work
    with loop.hold(patient=patient):
        return await work


def run(main: Coroutine[Any, Any, T], *, virtual: bool = False, speed: float | None = None) -> T:
    """Run a coroutine to its end, on a `RealLoop` or (``virtual``) on a `VirtualLoop`."""
    with asyncio.Runner(
        loop_factory=lambda: VirtualLoop(speed) if virtual else RealLoop()
    ) as runner:
        return runner.run(main)


def at_speed(speed: float) -> dict[str, Any]:
    """How time passes beside what another process plays at a speed, for `run`."""
    return {"virtual": speed != 1.0, "speed": speed}


def of_real_time(real_s: float) -> float:
    """How many seconds of the running loop pass in ``real_s`` of the computer's own time."""
    loop = asyncio.get_running_loop()
    return real_s * (loop.speed or 1.0) if isinstance(loop, VirtualLoop) else real_s


async def sleep_until(deadline_s: float) -> None:
    """Sleep to an absolute loop time: periodic work does not drift by what each round takes."""
    loop = asyncio.get_running_loop()
    if deadline_s <= loop.time():
        await asyncio.sleep(0)
        return
    awake = loop.create_future()
    timer = loop.call_at(deadline_s, _wake, awake)
    try:
        await awake
    except BaseException:
        timer.cancel()
        raise


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
