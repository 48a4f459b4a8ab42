"""Runs that lost their host are gone on with by themselves, as far as a policy says.

The service conducts nothing: each run that is resumed is a process of its own (or shares it with
those that it shares instruments with), which outlives the service and is known by the instruments
that it has. What the service has done about a run stands in
its log, and in one small file beside the store's catalogue.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cellbench.engine.called import Say, called
from cellbench.engine.lost import LostRun, lost_runs, together
from cellbench.errors import CellbenchError, InputError
from cellbench.store import Store, data_directory
from cellbench.system import notify_service_manager, watchdog_interval_s

#: The longest wait between two attempts on a bench that cannot be reached.
_RETRY_MOST_S = 600.0
#: For how long it is tried to bring a bench to quiet; after the next boot again.
_QUIET_WITHIN_S = 3600.0
#: A run whose process dies so often running is not resumed again: something kills it.
_DEATHS = 3
#: The exit code of instrument trouble: the bench is not there (yet), or in use.
_NO_BENCH = 3
#: What the service keeps beside a catalogue.
NOTES = "service.json"


class Policy(BaseModel):
    """The table ``[service]`` of service.toml.

    Attributes:
        stores: Directories whose runs are looked after; none for the usual place.
        resume: ``safe`` goes on with what its host left; ``never`` brings benches to quiet alone.
        within_hours: Only runs that were alive so recently are gone on with.
        every_s: How often it is looked for runs that were lost.
        retry_s: Wait before a bench that was not there is tried again; twice as long each time.
        jobs_every_s: How often a bench that takes jobs looks for them.
        command: How cellbench is called; by default as the service itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stores: tuple[Path, ...] = ()
    resume: Literal["safe", "never"] = "safe"
    within_hours: float = Field(24.0, ge=0)
    every_s: float = Field(60.0, gt=0)
    retry_s: float = Field(30.0, gt=0)
    jobs_every_s: float = Field(10.0, gt=0)
    command: tuple[str, ...] = Field((sys.executable, "-m", "cellbench"), min_length=1)


def usual_place() -> Path:
    """Where the policy is looked for."""
    return data_directory() / "service.toml"


def read_policy(path: Path | None) -> Policy:
    """Read a policy; None is the usual place, where there need be none.

    Raises:
        InputError: It is missing or wrong.
    """
    chosen = path or usual_place()
    if path is None and not chosen.is_file():
        return Policy()
    try:
        content = tomllib.loads(chosen.read_text(encoding="utf-8"))
        others = set(content) - {"service"}
        if others:
            raise InputError(f"{chosen}: there is one table, [service], and no {min(others)!r}")
        return Policy.model_validate(content.get("service", {}))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{chosen}: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{chosen} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(each) for each in first["loc"])
        raise InputError(f"{chosen}: {name}: {first['msg']}") from error


class Service:
    """Looks for lost runs and tends each of them, until it is cancelled.

    Args:
        policy: What is to be done about them.
        say: Writes a line of the log.
    """

    def __init__(self, policy: Policy, say: Say) -> None:
        self._policy, self._say = policy, say
        self._tended: dict[tuple[Path, str], asyncio.Task[None]] = {}
        self._complained: set[str] = set()

    async def serve(self, *, once: bool = False) -> None:
        """Look and tend; with ``once`` until what is lost now has been tended."""
        async with asyncio.TaskGroup() as group:
            watchdog = group.create_task(_feed_watchdog())
            notify_service_manager("READY=1")
            try:
                while True:
                    for runs in await asyncio.to_thread(self._look):
                        tending = Tending(runs, self._policy, self._say)
                        self._tended |= dict.fromkeys(
                            map(_key, runs), group.create_task(tending.tend())
                        )
                    self._tell_status()
                    if once:
                        break
                    await asyncio.sleep(self._policy.every_s)
                await asyncio.gather(*self._tended.values())
            finally:
                notify_service_manager("STOPPING=1")
                watchdog.cancel()

    def _look(self) -> list[tuple[LostRun, ...]]:
        """The runs that nobody tends yet, together those that one process has to go on with."""
        found = self._lost()
        if found:  # a process that was lost this very moment has lost all of its runs by now
            found = self._lost()
        recent = [each for each in found if each.is_recent(self._policy.within_hours)]
        return [*together(recent), *((each,) for each in found if each not in recent)]

    def _lost(self) -> list[LostRun]:
        found: list[LostRun] = []
        for directory in self._policy.stores or (data_directory(),):
            try:
                found += lost_runs(directory.expanduser())
            except CellbenchError as error:
                if str(error) not in self._complained:  # each minute would be too often
                    self._complained.add(str(error))
                    self._say(str(error))
        return [each for each in found if not self._is_tended(each)]

    def _is_tended(self, lost: LostRun) -> bool:
        task = self._tended.get(_key(lost))
        return lost.run in notes_of(lost.store) or (task is not None and not task.done())

    def _tell_status(self) -> None:
        names = [run for (_, run), task in self._tended.items() if not task.done()]
        status = f"tends {', '.join(names)}" if names else "no run is lost"
        notify_service_manager(f"STATUS={status}")


def _key(lost: LostRun) -> tuple[Path, str]:
    return lost.store, lost.run


class Tending:
    """What is done about a lost run: gone on with, or its bench brought to quiet.

    Args:
        lost: The run, or several of one bench that one process has to go on with.
        policy: What is to be done.
        say: Writes a line of the log.
    """

    def __init__(self, lost: Sequence[LostRun], policy: Policy, say: Say) -> None:
        self._left, self._policy = lost, policy
        self._say_of_all = say
        self._deaths = 0

    def _say(self, lost: LostRun, text: str) -> None:
        self._say_of_all(f"run {lost.run}: {text}")

    def _say_of_each(self, text: str) -> None:
        for each in self._left:
            self._say(each, text)

    async def tend(self) -> None:
        """Do it; returns when each has ended, or its bench is quiet, or nothing more helps."""
        for each in self._left:
            self._say(each, f"lost its host; last seen {each.seen.astimezone():%Y-%m-%d %H:%M}")
        if self._policy.resume == "never":
            await self._give_up("resumed is none by the policy")
        elif not self._is_recent():
            await self._give_up(f"that is more than {self._policy.within_hours:g} h ago")
        else:
            await self.go_on()

    async def go_on(self) -> None:
        """Go on with each run to its end; the bench of one that cannot be is brought to quiet."""
        await self._give_up(await self._resume())

    async def _give_up(self, why: str) -> None:
        await asyncio.gather(*(self._quiet(each, why) for each in self._left))

    def _is_recent(self) -> bool:
        return any(each.is_recent(self._policy.within_hours) for each in self._left)

    async def _resume(self) -> str:
        """Go on, as often as the bench is not there; returns why what is left was given up."""
        wait_s = self._policy.retry_s
        while True:
            tried = self._left
            self._say_of_each("resuming")
            code = await self._call_resume()
            self._left = [each for each in tried if self._is_open(each, code)]
            if not self._left:
                return ""
            if code < 0:
                self._deaths += 1
                if self._deaths >= _DEATHS:
                    return f"its process died {_DEATHS} times"
            elif code != _NO_BENCH:
                if len(tried) == 1:
                    return f"it cannot be resumed by itself (exit code {code})"
                await self._each_alone()  # which says of which of them that is true
                return ""
            if not self._is_recent():
                return f"its bench was not there for {self._policy.within_hours:g} h"
            self._say_of_each(
                f"its bench cannot be had (exit code {code}); again in {wait_s:.0f} s"
            )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_MOST_S)

    async def _each_alone(self) -> None:
        alone = [Tending([each], self._policy, self._say_of_all) for each in self._left]
        self._left = []
        await asyncio.gather(*(each.go_on() for each in alone))

    def _is_open(self, lost: LostRun, code: int) -> bool:
        with Store(lost.store, make=False) as store:
            found = store.find(lost.run).state == "running"
        if not found:
            self._say(lost, f"has ended (exit code {code})")
        return found

    async def _quiet(self, lost: LostRun, why: str) -> None:
        """Bring its bench to quiet, as often as that takes, and leave the run to people."""
        self._say(lost, f"{why}: its bench is brought to quiet")
        wait_s, waited_s = self._policy.retry_s, 0.0
        while (code := await self._call(lost, "quiet", lost.run)) == _NO_BENCH:
            if waited_s > _QUIET_WITHIN_S:
                self._say(lost, "NOT everything is confirmed; look at the bench yourself")
                return
            self._say(lost, f"NOT everything is confirmed; again in {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
            waited_s += wait_s
            wait_s = min(2 * wait_s, _RETRY_MOST_S)
        state = "its bench is quiet" if code == 0 else f"its bench CANNOT be made quiet ({code})"
        self._say(lost, f"{state}; to go on with it: cellbench resume {lost.run}")
        _note(lost, f"{why}; {state}")

    async def _call_resume(self) -> int:
        first = self._left[0]
        many = ["--bench", str(first.bench)] if len(self._left) > 1 else []
        return await self._call(first, "resume", *(each.run for each in self._left), *many)

    async def _call(self, lost: LostRun, *words: str) -> int:
        """Run a command of cellbench to its end; one that is cut short ends in good order."""
        command = (*self._policy.command, *words, "--json", "--store", str(lost.store))
        log = lost.store / "runs" / f"{lost.run}.service.log"
        return await called(command, log, partial(self._say, lost))


async def _feed_watchdog() -> None:
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify_service_manager("WATCHDOG=1")
        await asyncio.sleep(interval_s / 3)


def notes_of(store: Path) -> dict[str, str]:
    """Runs of a store that the service is done with, and why."""
    try:
        found: dict[str, str] = json.loads((store / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _note(lost: LostRun, what: str) -> None:
    """Take note that a bench was seen to: another test may be on it at the next boot."""
    half = lost.store / f".{NOTES}"
    half.write_text(json.dumps(notes_of(lost.store) | {lost.run: what}, indent=2), encoding="utf-8")
    half.replace(lost.store / NOTES)


def described(policy: Policy) -> Sequence[str]:
    """What a policy comes to, for the log."""
    stores = ", ".join(map(str, policy.stores)) or str(data_directory())
    if policy.resume == "never":
        return (f"looking after {stores}: benches of lost runs are brought to quiet",)
    return (
        f"looking after {stores}: runs that lost their host in the last {policy.within_hours:g} h "
        "are gone on with, benches of others are brought to quiet",
    )
