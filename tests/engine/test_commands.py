"""Commands act on a run and stand in its journal, with who gave them."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from tests.engine.conftest import Ran, Runner

from cellbench import clock
from cellbench.bench import Bench
from cellbench.cli.live import LiveView
from cellbench.cli.operator import ConsoleOperator
from cellbench.engine import commands
from cellbench.engine.control_file import place, read
from cellbench.engine.prompts import Prompts
from cellbench.engine.requests import (
    Abort,
    Answer,
    Command,
    Continue,
    Note,
    Pause,
    Reply,
    Skip,
    Stop,
    Who,
)
from cellbench.engine.run import Conductor, RunState
from cellbench.engine.snapshot import snapshot
from cellbench.errors import InputError, StoreError
from cellbench.store import JournalEntry
from cellbench_sim.bench import SimulatedBench

WHO = Who(user="jk", host="glovebox-pc")

CYCLING = """
cellbench: 1
name: Some cycles
cell: LYC_PMMA
steps:
  - repeat: 5
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 60 s}
      - rest: 60 s
"""
ASKING = """
cellbench: 1
name: Some questions
cell: LYC_PMMA
steps:
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
  - prompt: "Top up the press"
"""

Act = Callable[[Conductor], Awaitable[None]]


def at(time_s: float, act: Act) -> Callable[[SimulatedBench, Bench, Conductor], Awaitable[None]]:
    async def beside(_: SimulatedBench, __: Bench, conductor: Conductor) -> None:
        await asyncio.sleep(time_s)
        await act(conductor)

    return beside


async def accepted(conductor: Conductor, command: Command) -> str:
    reply = await conductor.commands.obey(command, WHO)
    assert reply.accepted, reply.text
    return reply.text


async def refused(conductor: Conductor, command: Command) -> str:
    reply = await conductor.commands.obey(command, WHO)
    assert not reply.accepted, reply.text
    return reply.text


def entries(ran: Ran, kind: str) -> list[JournalEntry]:
    return [entry for entry in ran.reader.journal if entry.kind == kind]


def started(ran: Ran) -> list[str]:
    return [entry.step for entry in entries(ran, "step started")]


def test_a_pause_holds_the_run_at_a_persons_pace_until_it_is_continued(run: Runner) -> None:
    async def act(conductor: Conductor) -> None:
        begun = time.perf_counter()
        assert "paused" in await accepted(conductor, Pause(reason="topping up"))
        (why,) = conductor.status.holds.values()
        assert why.startswith("paused by jk at glovebox-pc since ")
        assert why.endswith(": topping up")
        again = await accepted(conductor, Pause())
        assert again == f"{why} already"
        await asyncio.sleep(1.0)
        # What a person holds passes as time does for people, lest a night is over in a moment.
        assert time.perf_counter() - begun > 0.9
        assert await accepted(conductor, Continue()) == "the pause is over"
        assert "not paused" in await refused(conductor, Continue())
        assert conductor.status.holds == {}

    begun = time.perf_counter()
    ran = run(CYCLING, disturb=at(150.0, act))
    assert time.perf_counter() - begun < 20.0  # ten minutes, but for the pause
    assert ran.end.state is RunState.COMPLETED
    assert len(set(started(ran))) >= 10
    pause, go_on = entries(ran, "command")
    assert pause.text == "paused by jk at glovebox-pc: topping up"
    assert pause.data["command"] == "pause"
    assert pause.data["asked"] == {"reason": "topping up"}
    assert pause.data["by"] == {"user": "jk", "host": "glovebox-pc", "via": "terminal"}
    assert pause.step == "cycle[2]/current"
    assert go_on.text == "continued by jk at glovebox-pc"


def test_a_pause_that_is_over_leaves_other_holds(run: Runner) -> None:
    async def act(conductor: Conductor) -> None:
        conductor.steering.hold("disk", "the disk is full")
        assert await refused(conductor, Continue()) == (
            "it is not paused; it is held: the disk is full"
        )
        await accepted(conductor, Pause())
        assert await accepted(conductor, Continue()) == (
            "the pause is over; it is held: the disk is full"
        )
        conductor.steering.let_go("disk")

    assert run(CYCLING, disturb=at(150.0, act)).end.state is RunState.COMPLETED


@pytest.mark.parametrize("paused", [False, True])
def test_an_abort_ends_the_run_through_its_safe_state(run: Runner, paused: bool) -> None:
    async def act(conductor: Conductor) -> None:
        if paused:
            await accepted(conductor, Pause())
        text = await accepted(conductor, Abort(reason="smoke"))
        assert text == "aborted by jk at glovebox-pc: smoke; on the way to the safe state"

    ran = run(CYCLING, disturb=at(150.0, act))
    assert ran.end.state is RunState.INTERRUPTED
    assert ran.end.reason == "aborted by jk at glovebox-pc: smoke"
    assert ran.end.exit_code == 130
    assert ran.end.safe
    assert started(ran)[-1].startswith("cycle[2]/")
    kinds = ran.kinds()
    assert kinds.index("command") < kinds.index("aborted") < kinds.index("safe state")
    assert "traceback" not in ran.reader.documents


@pytest.mark.parametrize("release", [False, True])
def test_an_aborted_run_keeps_its_force_unless_it_is_to_be_released(
    run: Runner, release: bool
) -> None:
    async def act(conductor: Conductor) -> None:
        await accepted(conductor, Abort(release=release))

    pressed = CYCLING.replace("steps:\n", "steps:\n  - press: {to: 5 MPa}\n", 1)
    ran = run(pressed, disturb=at(150.0, act))
    assert ran.end.safe
    assert (ran.simulator.world.force_N() < 30.0) is release


def test_a_skipped_step_is_ended_and_the_next_one_begins(run: Runner) -> None:
    async def act(conductor: Conductor) -> None:
        assert await accepted(conductor, Skip()) == "skips cycle[2]/current"

    ran = run(CYCLING, disturb=at(150.0, act))
    assert ran.end.state is RunState.COMPLETED
    endings = {entry.step: entry for entry in entries(ran, "step ended")}
    assert len(endings) == 10
    assert "skipped" in endings["cycle[2]/current"].data["ending"]
    assert "skipped" not in endings["cycle[2]/rest"].data["ending"]
    assert 120.0 < endings["cycle[2]/current"].time_s < 155.0
    (entered,) = entries(ran, "command")
    assert entered.text == "cycle[2]/current skipped by jk at glovebox-pc"


@pytest.mark.parametrize(
    ("after", "last"), [("step", "cycle[2]/current"), ("cycle", "cycle[2]/rest")]
)
def test_a_run_ends_early_where_it_is_told_to(run: Runner, after: str, last: str) -> None:
    async def act(conductor: Conductor) -> None:
        stop = Stop.model_validate({"after": after})
        text = await accepted(conductor, stop)
        assert text == f"ends after {'cycle[2]/current' if after == 'step' else 'cycle[2]'}"
        assert await accepted(conductor, stop) == f"{text} already"
        assert snapshot(conductor)["end_after"] == after

    ran = run(CYCLING, disturb=at(150.0, act))
    assert ran.end.state is RunState.INTERRUPTED
    assert started(ran)[-1] == last
    assert [entry.step for entry in entries(ran, "step ended")][-1] == last
    assert ran.end.safe


def test_what_makes_no_sense_now_is_refused_with_the_reason(run: Runner) -> None:
    async def act(conductor: Conductor) -> None:
        why = await refused(conductor, Stop(after="cycle"))
        assert why == "rest is in no cycle; --after step ends the run after it"
        assert await refused(conductor, Answer(text="yes")) == "no question is open"

    ran = run(
        "cellbench: 1\nname: A rest\ncell: LYC_PMMA\nsteps:\n  - rest: 60 s\n",
        disturb=at(30.0, act),
    )
    assert ran.end.state is RunState.COMPLETED
    assert entries(ran, "command") == []


def test_a_run_that_is_ending_takes_no_commands(run: Runner) -> None:
    replies: list[Reply] = []

    async def act(conductor: Conductor) -> None:
        await accepted(conductor, Abort())
        while not conductor.ending:
            await asyncio.sleep(0)
        assert snapshot(conductor)["state"] == "ending"
        replies.append(await conductor.commands.obey(Pause(), WHO))
        conductor.commands.tell("nobody hears of it any more")

    ran = run(CYCLING, disturb=at(150.0, act))
    (reply,) = replies
    assert not reply.accepted
    assert reply.text == "the run is ending: aborted by jk at glovebox-pc"
    assert len(entries(ran, "command")) == 1


def test_a_note_stands_in_the_journal(run: Runner) -> None:
    async def act(conductor: Conductor) -> None:
        assert await accepted(conductor, Note(text="a click from the press")) == "noted"

    (note,) = entries(run(CYCLING, disturb=at(150.0, act)), "note")
    assert note.text == "a click from the press (jk at glovebox-pc)"


def test_a_disk_that_does_not_take_the_entry_keeps_no_command(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(conductor: Conductor) -> None:
        async def full(*_: object, **__: object) -> None:
            raise StoreError("no space left")

        async def slow(*_: object, **__: object) -> None:
            await asyncio.sleep(1e6)

        enter = conductor.journal.enter
        monkeypatch.setattr(conductor.journal, "enter", full)
        text = await accepted(conductor, Pause())
        assert text.endswith("(but it cannot be entered in the journal: no space left)")
        assert conductor.status.holds
        monkeypatch.setattr(conductor.journal, "enter", slow)
        text = await accepted(conductor, Continue())
        assert text.endswith("(but the disk has not taken the entry of it yet)")
        assert not conductor.status.holds
        monkeypatch.setattr(conductor.journal, "enter", enter)

    monkeypatch.setattr(commands, "KEPT_S", 0.5)
    assert run(CYCLING, disturb=at(150.0, act)).end.state is RunState.COMPLETED


def test_a_look_says_what_the_run_does(run: Runner) -> None:
    looks = []

    async def act(conductor: Conductor) -> None:
        looks.append(snapshot(conductor))
        conductor.steering.hold("pause", "paused by jk at pc since Sat 03:12")
        looks.append(snapshot(conductor))
        console = Console(file=io.StringIO(), width=100)
        console.print(LiveView(lambda: snapshot(conductor)))
        assert isinstance(console.file, io.StringIO)
        assert "PAUSED by jk at pc since Sat 03:12" in console.file.getvalue()
        conductor.steering.let_go("pause")

    run(CYCLING, disturb=at(150.0, act))
    running, held = looks
    assert json.loads(json.dumps(running)) == running
    assert running["state"] == "running"
    assert running["step"]["path"] == "cycle[2]/current"
    assert running["readings"]["current_A"]["age_s"] < 2.0
    assert running["simulated"] is True
    assert held["state"] == "held"
    assert held["holds"] == {"pause": "paused by jk at pc since Sat 03:12"}


# --- Questions ------------------------------------------------------------------------------------


class Typist:
    """A console that somebody types at."""

    def __init__(self) -> None:
        self.shown = Console(file=io.StringIO(), width=200)
        self._typed: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def print(self, *what: object, **how: object) -> None:
        self.shown.print(*what, **how)  # type: ignore[arg-type]

    def input(self) -> str:
        line = self._typed.get()
        if line is None:
            raise EOFError
        return line

    def type(self, line: str | None) -> None:
        self._typed.put(line)

    @property
    def text(self) -> str:
        assert isinstance(self.shown.file, io.StringIO)
        return self.shown.file.getvalue()


async def until_asked(prompts: Prompts, prompt: str) -> None:
    """Wait in real time: while a person is asked, virtual time stands still."""
    while prompts.question is None or prompts.question.prompt != prompt:
        await asyncio.to_thread(time.sleep, 0.01)


def test_an_open_question_is_answered_from_another_terminal(run: Runner) -> None:
    async def disturb(_: SimulatedBench, bench: Bench, conductor: Conductor) -> None:
        prompts = bench.operator = conductor.commands.prompts = Prompts(None)
        await until_asked(prompts, "Is the glovebox closed?")
        look = snapshot(conductor)
        assert look["state"] == "asking"
        assert look["question"]["choices"] == ["yes", "no"]
        why = await refused(conductor, Answer(text="maybe"))
        assert why == (
            '"maybe" is not an answer to this: yes, no. The question is: "Is the glovebox closed?"'
        )
        text = await accepted(conductor, Answer(text="no"))
        assert text == 'answered "no" to "Is the glovebox closed?"'
        await until_asked(prompts, "Top up the press")
        await accepted(conductor, Answer(text="done, to 5.2 MPa"))

    ran = run(ASKING, disturb=disturb)
    assert ran.end.state is RunState.COMPLETED
    answers = [entry.text for entry in entries(ran, "answer")]
    assert answers == ["no", "done, to 5.2 MPa"]
    texts = [entry.text for entry in entries(ran, "command")]
    assert texts[0] == '"no" answered by jk at glovebox-pc'


def operator(typist: Typist) -> ConsoleOperator:
    return ConsoleOperator(typist)  # type: ignore[arg-type]  # as much of one as is used


@pytest.mark.parametrize("virtual", [False, True])
def test_the_first_answer_counts_and_the_line_of_a_withdrawn_question_is_for_the_next(
    virtual: bool,
) -> None:
    typist = Typist()

    async def main() -> list[str]:
        prompts = Prompts(operator(typist))
        first = asyncio.create_task(prompts.ask("Is it closed?", ("yes", "no")))
        await until_asked(prompts, "Is it closed?")
        await asyncio.to_thread(time.sleep, 0.05)
        prompts.answer("no")
        answers = [await first]
        # The read that began for the first question goes on; nothing of it is lost.
        second = asyncio.create_task(prompts.ask("Is it cold?", ("cold", "warm")))
        await until_asked(prompts, "Is it cold?")
        typist.type("tepid")
        typist.type("warm")
        answers.append(await second)
        third = asyncio.create_task(prompts.ask("Press it"))
        await until_asked(prompts, "Press it")
        typist.type("")
        return [*answers, await third]

    assert clock.run(main(), virtual=virtual) == ["no", "warm", "done"]
    assert "(no longer asked)" in typist.text
    assert '"tepid" is not an answer to this: cold, warm' in typist.text


def test_a_line_that_nobody_asked_for_answers_nothing() -> None:
    typist = Typist()

    async def main() -> str:
        prompts = Prompts(operator(typist))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await prompts.ask("Is it closed?")
        assert prompts.question is None
        typist.type("yes, for the question that is gone")
        await asyncio.sleep(0.1)
        later = asyncio.create_task(prompts.ask("Is it cold?"))
        await until_asked(prompts, "Is it cold?")
        typist.type("for this one")
        return await later

    assert clock.run(main()) == "for this one"


def test_a_terminal_without_input_leaves_the_question_to_others() -> None:
    typist = Typist()

    async def main() -> list[str]:
        prompts, answers = Prompts(operator(typist)), []
        for prompt in ("Is it closed?", "Is it cold?"):
            asking = asyncio.create_task(prompts.ask(prompt))
            await until_asked(prompts, prompt)
            typist.type(None)
            await asyncio.sleep(0.1)
            assert not asking.done()
            prompts.answer(f"answer to {prompt}")
            answers.append(await asking)
        return answers

    assert clock.run(main()) == ["answer to Is it closed?", "answer to Is it cold?"]
    assert typist.text.count("this terminal's input is closed") == 2


def test_questions_wait_for_each_other() -> None:
    async def main() -> Sequence[str]:
        prompts = Prompts(None)
        asking = [asyncio.create_task(prompts.ask(prompt)) for prompt in ("one", "two")]
        for prompt in ("one", "two"):
            await until_asked(prompts, prompt)
            prompts.answer(f"answer to {prompt}")
            prompts.answer("a second answer")
        return await asyncio.gather(*asking)

    assert clock.run(main(), virtual=True) == ["answer to one", "answer to two"]


def test_a_withdrawn_question_leaves_no_more_than_one_reader() -> None:
    typist, before = Typist(), threading.active_count()

    async def main() -> None:
        prompts = Prompts(operator(typist))
        for number in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await prompts.ask(f"question {number}")

    clock.run(main())
    assert threading.active_count() == before + 1
    typist.type("")


def test_another_users_run_is_said_to_be_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(InputError, match="2026-11-21-001 is another user's run"):
        read(place(tmp_path / "2026-11-21-001.sqlite"))
