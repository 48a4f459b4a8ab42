"""Questions to a person, who answers at the run's own terminal or from another one.

Whichever answer comes first counts; the question is then withdrawn from where it still stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cellbench.clock import unseen
from cellbench.instruments.roles import Operator


@dataclass(frozen=True)
class Question:
    """A question that stands.

    Attributes:
        choices: What may be answered; empty: anything.
        asked_s: Loop time since when it stands.
    """

    prompt: str
    choices: tuple[str, ...]
    asked_s: float
    answer: asyncio.Future[str] = field(repr=False, compare=False)

    def objection(self, text: str) -> str:
        """Why a text is no answer to it, empty where it is one."""
        if not self.choices or text in self.choices:
            return ""
        return f'"{text}" is not an answer to this: {", ".join(self.choices)}'


class Prompts:
    """The operator of a run: asks a person, one question at a time, and takes answers from others.

    Args:
        person: Who is at the run's own terminal; None for nobody.

    Attributes:
        question: The question that is open, None where there is none.
    """

    def __init__(self, person: Operator | None) -> None:
        self.question: Question | None = None
        self._person = person
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Ask, and return the first answer; while a person thinks, virtual time stands still."""
        async with self._one_at_a_time:
            loop = asyncio.get_running_loop()
            question = Question(prompt, tuple(choices), loop.time(), loop.create_future())
            self.question = question
            try:
                return await self._first_answer(question)
            finally:
                self.question = None

    def answer(self, text: str) -> None:
        """Answer the open question with a text that there is no objection to."""
        if self.question is not None and not self.question.answer.done():
            self.question.answer.set_result(text)

    async def _first_answer(self, question: Question) -> str:
        if self._person is None:
            return await unseen(question.answer, patient=True)
        at_terminal = asyncio.ensure_future(self._person.ask(question.prompt, question.choices))
        try:
            answers = {question.answer, at_terminal}
            await unseen(asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED), patient=True)
            return question.answer.result() if question.answer.done() else at_terminal.result()
        finally:
            if at_terminal.cancel():
                await asyncio.wait({at_terminal})
