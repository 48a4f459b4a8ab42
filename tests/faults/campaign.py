"""The campaign of faults: many scenarios, each from its number, and what came of them.

    python -m tests.faults.campaign --seeds 0-5000 --jobs 2
    python -m tests.faults.campaign --seed 123 --show
    python -m tests.faults.campaign --nights 50 --jobs 2

A failing number reproduces exactly; it is made shorter and printed as code.
"""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.faults.checks import violations
from tests.faults.generate import scenario
from tests.faults.lab import Played, play
from tests.faults.nights import night
from tests.faults.scenario import Scenario, name_of
from tests.faults.shrink import shrunk

_CHUNK = 20
_SHRUNK_MOST = 5
_SHOWN = (
    "ending",
    "results",
    "charge_C",
    "charge_min_C",
    "charge_max_C",
    "from_s",
    "to_s",
    "zero_s",
)


@dataclass(frozen=True)
class Result:
    """What came of one scenario.

    Attributes:
        cell: Its card.
        answered: Deaths of hosts at which a guard lived.
    """

    seed: int
    bench: str
    cell: str
    ending: str
    struck: tuple[str, ...]
    rows: int
    simulated_s: float
    wall_s: float
    kills: int
    resumes: int
    answered: int = 0
    wrong: tuple[str, ...] = field(default=())


def say(text: object = "", end: str = "\n") -> None:
    """Write to the terminal at once."""
    sys.stdout.write(f"{text}{end}")
    sys.stdout.flush()


def judged(make: Callable[[int], Scenario], seed: int) -> Result:
    """Play the scenario of a number and look at what came of it."""
    began_s = time.perf_counter()
    planned = make(seed)
    try:
        played = play(planned)
        wrong = tuple(violations(played))
    except Exception as error:  # noqa: BLE001 (the campaign goes on)
        text = traceback.format_exc(limit=-3)
        wrong = (f"cannot be played: {type(error).__name__}: {error}\n{text}",)
        return Result(
            seed, planned.bench, planned.cell, "broken", (), 0, 0.0, 0.0, 0, 0, wrong=wrong
        )
    return Result(
        seed,
        planned.bench,
        planned.cell,
        _ending(played),
        tuple(name_of(fault) for _, fault in played.seen.struck),
        len(played.reader.all_rows) if played.reader else 0,  # type: ignore[attr-defined]
        played.ended_s,
        time.perf_counter() - began_s,
        played.hosts.kills,
        played.hosts.resumes,
        sum(math.isfinite(each.notices_s) for each in played.hosts.deaths),
        wrong,
    )


def _ending(played: Played) -> str:
    end = played.end
    return "never began" if end is None else str(end.state.value)


def campaign(make: Callable[[int], Scenario], seeds: Sequence[int], jobs: int) -> list[Result]:
    """Play many scenarios, in so many processes."""
    if jobs == 1:
        return [_told(judged(make, seed)) for seed in seeds]
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_freeze) as pool:
        chunk = _CHUNK if len(seeds) > _CHUNK * jobs else 1
        return [_told(each) for each in pool.imap(partial(judged, make), seeds, chunksize=chunk)]


def _told(result: Result) -> Result:
    """Tell at once what is wrong."""
    if result.wrong:
        told = "; ".join(result.wrong)
        say(f"seed {result.seed} ({result.bench}, {result.ending}): {told}")
    return result


def _freeze() -> None:
    """What was imported stays: no need to look for garbage in it."""
    gc.freeze()


def summary(results: Sequence[Result], wall_s: float) -> str:
    """What came of a campaign, as text."""
    endings = Counter(each.ending for each in results)
    struck = Counter(name for each in results for name in each.struck)
    benches = Counter(each.bench for each in results)
    cells = Counter(each.cell for each in results)
    wrong = [each for each in results if each.wrong]
    lines = [
        f"{len(results)} scenarios (seeds {results[0].seed} to {results[-1].seed}), "
        f"{sum(each.rows for each in results)} rows, "
        f"{sum(each.simulated_s for each in results) / 3600:.0f} h of simulated time, "
        f"{wall_s:.0f} s of wall time",
        "benches: " + _counts(benches),
        "cells: " + _counts(cells),
        "endings: " + _counts(endings),
        f"hosts killed: {sum(each.kills for each in results)}, "
        f"of which a guard took over from {sum(each.answered for each in results)}, "
        f"resumed by a person: {sum(each.resumes for each in results)}",
        "faults that struck: " + _counts(struck),
        f"scenarios with something wrong: {len(wrong)}",
    ]
    return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def show(planned: Scenario) -> None:
    """Print a scenario, its journal and what is wrong."""
    say(planned.code())
    say(planned.text)
    played = play(planned)
    for at_s, fault in played.seen.struck:
        say(f"{at_s:10.3f} s  {fault}")
    for entry in played.reader.journal if played.reader else ():
        told = {key: value for key, value in entry.data.items() if key in _SHOWN}
        say(f"{entry.time_s:10.3f}  {entry.kind:14} {entry.step:24} {entry.text} {told or ''}")
    for end in played.hosts.ends:
        say(f"end: {end if isinstance(end, Exception) else (end.state.value, end.reason)}")
    for text in violations(played):
        say(f"WRONG: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign that the command line asks for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign")
    parser.add_argument("--seeds", default="0-100", help="first and last+1, as 0-5000")
    parser.add_argument("--seed", type=int, help="one scenario alone")
    parser.add_argument("--show", action="store_true", help="print its journal")
    parser.add_argument("--nights", type=int, help="so many full nights instead")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-shrink", action="store_true")
    asked = parser.parse_args(arguments)
    make = scenario if asked.nights is None else night
    if asked.seed is not None and asked.show:
        show(make(asked.seed))
        return 0
    seeds: Sequence[int]
    if asked.seed is not None:
        seeds = [asked.seed]
    elif asked.nights is not None:
        seeds = range(asked.nights)
    else:
        first, last = map(int, asked.seeds.split("-"))
        seeds = range(first, last)
    began_s = time.perf_counter()
    results = campaign(make, seeds, min(asked.jobs, len(seeds)))
    say(summary(results, time.perf_counter() - began_s))
    failing = [each for each in results if each.wrong]
    if asked.nights is None and not asked.no_shrink:
        for each in failing[:_SHRUNK_MOST]:
            shorter, wrong = shrunk(make(each.seed))
            say(f"\nseed {each.seed}, shrunk: {'; '.join(wrong)}\n{shorter.code()}")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
