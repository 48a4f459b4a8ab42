"""An instrument that fails a run: it is reached again, waited for, or the run ends.

What the bench file says of it (`OnTrouble`) is done: first it is tried to connect to it again, a
few times, further apart each time. Then the run waits for it, held with the cell at open circuit,
or ends with the instrument's error. An instrument that was reached again has to be the one that it
was; a channel is then brought to open circuit, which is read back, before anything goes on.
Everything is in the journal: ``trouble``, each ``attempt``, ``waiting``, ``overcome``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeAlias, TypeVar

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.bench import Bench, OnTrouble
from cellbench.engine.journal import Journal
from cellbench.engine.status import Status
from cellbench.engine.steering import PAUSE, Steering
from cellbench.errors import InstrumentError, InstrumentTimeout, StoppedThere, TransportClosed
from cellbench.instruments.readings import Identity
from cellbench.instruments.roles import ByHand, Channel, Instrument, Switch
from cellbench.quantities import format_quantity
from cellbench.store import JournalEntry
from cellbench.transport.stream import ClosedForGood

T = TypeVar("T")
#: An instrument's connection and state are made good; raises like any use of it.
Restore: TypeAlias = Callable[[], Awaitable[None]]

#: Before the second attempt to reach an instrument; each further pause is twice as long.
PAUSE_S = 2.0
PAUSE_MAX_S = 60.0
#: Longest duration of one attempt. A potentiostat may have to end a period of its lowest frequency.
ATTEMPT_S = 60.0
CHANNEL_ATTEMPT_S = 240.0
#: An instrument that fails again so soon after it was reached was not well: the same trouble.
PROBATION_S = 600.0
#: A wait that is longer than this is told with dates.
_HALF_A_DAY_S = 43_200.0
#: When a run on a simulated bench begins: nothing that is told depends on the time of the day.
_SIMULATED_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class _Series:
    """The trouble with one instrument, from its first failure until it has worked for a while.

    Attributes:
        attempts: To reach it.
        reached_s: When it was last reached, nan if never.
    """

    since_s: float
    attempts: int = 0
    reached_s: float = math.nan

    @property
    def reached(self) -> bool:
        """Whether it was reached in the meantime."""
        return not math.isnan(self.reached_s)

    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        if not self.attempts:
            return 0.0
        return min(PAUSE_S * 2.0 ** (self.attempts - 1), PAUSE_MAX_S)


class Trouble:
    """Overcomes what instruments of one run fail at, as far as the bench file lets it.

    Args:
        bench: The instruments, and what is to be done about each.
        journal: Where it is entered.
        steering: What is held while the run waits.
        status: Tells the step under way.

    Attributes:
        restore: What makes good, by instrument, what it has lost besides its connection; awaited
            once it is reached.
    """

    def __init__(self, bench: Bench, journal: Journal, steering: Steering, status: Status) -> None:
        self.restore: dict[str, Restore] = {}
        self._bench = bench
        self._journal = journal
        self._steering = steering
        self._status = status
        self._series: dict[str, _Series] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._begun_anew: dict[str, int] = {}
        self._ending = False
        journal.listeners.append(self._note)

    async def insist(
        self, action: Callable[[], Awaitable[T]], *, to_its_end: bool = False
    ) -> T | None:
        """Carry out an action, from its start after each trouble and each hold.

        Args:
            action: What has to be done; it may fail and be cancelled at any moment.
            to_its_end: Whether neither a hold nor a skip interrupts it.

        Returns:
            What it came to; None if the step is to be skipped.

        Raises:
            InstrumentError: The trouble cannot be overcome.
        """
        while to_its_end or not self._steering.skip_wanted:
            failure: InstrumentError | None = None
            if not to_its_end:
                await self._steering.wait()
            async with nullcontext() if to_its_end else self._steering.interruptible():
                try:
                    return await action()
                except InstrumentError as error:
                    failure = error
            if failure is not None:
                await self.overcome(failure, anew=True)
        return None

    async def overcome(self, error: InstrumentError, *, anew: bool = False) -> None:
        """Return when the instrument of an error can be used again, with a channel's cell open.

        Args:
            error: What happened.
            anew: Whether what failed begins from its start again. Without a step that ends in
                between, it may do so once more often than there are retries.

        Raises:
            InstrumentError: It cannot, within what its policy allows; or nothing can be done.
        """
        if anew:
            name = error.instrument
            self._begun_anew[name] = self._begun_anew.get(name, 0) + 1
            if self._begun_anew[name] > 1 + self._policy(name).retries:
                raise error
        if isinstance(error, StoppedThere):
            self._steering.hold(PAUSE, f"{error}; cellbench continue lets the run go on")
        # Several may wait for one instrument, and go away; that it is reached does not.
        await asyncio.shield(self.begin(error))

    def begin(self, error: InstrumentError, *, blind: bool = False) -> asyncio.Task[None]:
        """Begin to overcome an error, unless that is under way already.

        Args:
            error: What happened.
            blind: Whether a limit is in force on what the instrument measures: then the cell goes
                to open circuit at once.
        """
        name = error.instrument
        task = self._tasks.get(name)
        if task is None or task.done():
            task = asyncio.create_task(self._overcome(error), name=f"trouble with {name}")
            task.add_done_callback(_looked_at)
            self._tasks[name] = task
            instrument = None if self._ending else self._find(name)
            if instrument is not None:
                self._begin_series(name)
            blind = blind or isinstance(instrument, Channel)  # nothing goes on without it
        if blind and not self._ending and not task.done():
            self._hold(name)
        return task

    def is_under_way(self, name: str) -> bool:
        """Whether an instrument is in trouble that is being overcome."""
        task = self._tasks.get(name)
        return task is not None and not task.done()

    def stop(self) -> None:
        """Begin nothing any more: the run is on its way to the safe state."""
        self._ending = True
        for task in self._tasks.values():
            task.cancel()

    def _note(self, entry: JournalEntry) -> None:
        """A step that came to its end has got over what kept it from it."""
        if entry.kind == "step ended" and entry.data.get("ending") != INTERRUPTED:
            self._begun_anew.clear()

    # --- One trouble ----------------------------------------------------------------------------

    def _begin_series(self, name: str) -> None:
        series, now_s = self._series.get(name), self._journal.now_s
        if series is None or not now_s - series.reached_s <= PROBATION_S:
            self._series[name] = _Series(now_s)

    async def _overcome(self, error: InstrumentError) -> None:
        name = error.instrument
        instrument = self._find(name)
        if instrument is None or self._ending:
            raise error
        series, began_s = self._series[name], self._journal.now_s
        await self._enter("trouble", name, str(error), failed_before=series.reached)
        try:
            self._require_hope(error, series)
            await self._reach(instrument, series, error)
        finally:
            self._steering.let_go(_hold_of(name))
        took_s = self._journal.now_s - began_s
        text = f"{name}: works again after {_time(took_s)} ({_times(series.attempts)} tried)"
        if isinstance(instrument, Channel):
            text += ", the cell is at open circuit, read back"
        await self._enter("overcome", name, text, took_s=took_s, attempts=series.attempts)

    def _require_hope(self, error: InstrumentError, series: _Series) -> None:
        """Raise the error of an instrument that answers, and fails at the same each time."""
        exhausted = series.attempts >= self._policy(error.instrument).retries
        if exhausted and series.reached and not is_silence(error):
            raise error

    async def _reach(
        self, instrument: Instrument | Switch, series: _Series, error: InstrumentError
    ) -> None:
        """Reach it again; takes the hold where that takes longer than the retries."""
        name = error.instrument
        policy = self._policy(name)
        waits = False
        while True:
            pause_s = series.pause_s()
            if series.attempts >= policy.retries:
                left_s = series.since_s + policy.patience_s - self._journal.now_s
                if policy.then == "abort" or left_s <= 0:
                    self._give_up(error, series)
                if not waits:
                    await self._wait(instrument, series, policy)
                    waits = True
                pause_s = min(pause_s, left_s)
            await asyncio.sleep(pause_s)
            series.attempts += 1
            try:
                await self._attempt(instrument, series)
            except InstrumentError as failure:
                if isinstance(failure.__cause__, ClosedForGood) or _is_another(failure):
                    raise
                # While one waits for hours only what is new is told.
                if not waits or str(failure) != str(error):
                    text = f"{failure} (attempt {series.attempts})"
                    await self._enter("attempt", name, text, attempt=series.attempts)
                error = failure
            else:
                series.reached_s = self._journal.now_s
                return

    def _give_up(self, error: InstrumentError, series: _Series) -> NoReturn:
        if not series.attempts:
            raise error
        took_s = self._journal.now_s - series.since_s
        reason = str(error).removeprefix(f"{error.instrument}: ")
        text = f"{reason}; given up after {_time(took_s)} ({_times(series.attempts)} tried)"
        raise InstrumentError(error.instrument, text) from error

    async def _wait(
        self, instrument: Instrument | Switch, series: _Series, policy: OnTrouble
    ) -> None:
        """Hold the run, and say why."""
        name = instrument.name
        self._hold(name)
        until_s = series.since_s + policy.patience_s
        text = f"the run waits for {name}, {_time(policy.patience_s)} at most"
        if isinstance(instrument, Channel):
            text += (
                "; whether its cell is energised is unknown until it answers: it goes on by the "
                "limits that were programmed into it"
            )
        else:
            text += ", with the cell at open circuit"
        await self._enter("waiting", name, text, since_s=series.since_s, until_s=until_s)

    async def _attempt(self, instrument: Instrument | Switch, series: _Series) -> None:
        """Connect to it, see that it is the same, open a channel's cell, restore what it lost."""
        name = instrument.name
        limit_s = CHANNEL_ATTEMPT_S if isinstance(instrument, Channel) else ATTEMPT_S
        try:
            async with asyncio.timeout(limit_s):
                await self._connect(instrument, reopen=series.attempts > 1)
        except TimeoutError as failure:
            raise InstrumentTimeout(name, f"cannot be reached within {_time(limit_s)}") from failure
        except TransportClosed as failure:
            raise InstrumentError(name, f"cannot be reached: {failure}") from failure
        if name in self.restore:
            await self.restore[name]()

    async def _connect(self, instrument: Instrument | Switch, *, reopen: bool) -> None:
        stream = self._bench.streams.get(instrument.name)
        if stream is not None and (stream.lost or reopen) and not stream.is_read:
            await stream.reopen()
        self._require_same(instrument.name, await instrument.connect())
        if isinstance(instrument, Channel):
            outcome = await instrument.quiet()
            if not outcome.confirmed:
                raise InstrumentError(instrument.name, outcome.state)

    def _require_same(self, name: str, found: Identity) -> None:
        known = self._bench.identities.get(name, found)
        if (found.model, found.serial) != (known.model, known.serial):
            raise _AnotherInstrument(
                name,
                f"is a {_called(found)} now, and was a {_called(known)} when the run began: put "
                "back what was there, or start a new run",
            )

    # --- Holding and telling --------------------------------------------------------------------

    def _hold(self, name: str) -> None:
        series, policy = self._series.get(name), self._policy(name)
        if series is None:
            return
        since = self._clock(series.since_s, policy)
        why = f"waits for {name} since {since}"
        if policy.then == "wait":
            why += f", until {self._clock(series.since_s + policy.patience_s, policy)}"
        self._steering.hold(_hold_of(name), why)

    def _clock(self, time_s: float, policy: OnTrouble) -> str:
        """A time of the run as a clock shows it; the clock of a simulated bench begins at 0:00."""
        if self._bench.simulated:
            at = _SIMULATED_START + timedelta(seconds=time_s)
        else:
            at = datetime.now().astimezone() + timedelta(seconds=time_s - self._journal.now_s)
        dated = policy.then == "wait" and policy.patience_s > _HALF_A_DAY_S
        return f"{at:{'%Y-%m-%d %H:%M' if dated else '%H:%M'}}"

    async def _enter(self, kind: str, name: str, text: str, **data: float) -> None:
        step = self._status.step_path
        await self._journal.enter(kind, step=step, text=text, instrument=name, **data)

    def _policy(self, name: str) -> OnTrouble:
        return self._bench.on_trouble.get(name, OnTrouble())

    def _find(self, name: str) -> Instrument | Switch | None:
        """The instrument of that name, None where a person works it."""
        switch = self._bench.switch
        candidates: list[Instrument | Switch] = [*self._bench.instruments()]
        if switch is not None:
            candidates.append(switch.switch)
        found = next((each for each in candidates if each.name == name), None)
        return None if isinstance(found, ByHand) else found


class _AnotherInstrument(InstrumentError):
    """Another instrument answers in the place of the one that was lost."""


def _is_another(error: InstrumentError) -> bool:
    return isinstance(error, _AnotherInstrument)


def is_cut_off(error: InstrumentError) -> bool:
    """Whether an instrument failed because its connection is gone."""
    return isinstance(error.__cause__, TransportClosed)


def is_silence(error: InstrumentError) -> bool:
    """Whether an instrument does not answer, in contrast to one that answers with a refusal."""
    cause = error.__cause__
    inner = isinstance(cause, InstrumentError) and is_silence(cause)
    return inner or is_cut_off(error) or isinstance(error, InstrumentTimeout)


def _hold_of(name: str) -> str:
    return f"instrument {name}"


def _called(identity: Identity) -> str:
    return f"{identity.model} {identity.serial}".strip()


def _time(time_s: float) -> str:
    return format_quantity(float(f"{time_s:.3g}"), "time")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _looked_at(task: asyncio.Task[None]) -> None:
    """Nobody has to be waiting for a trouble that ends as an error."""
    if not task.cancelled():
        task.exception()
