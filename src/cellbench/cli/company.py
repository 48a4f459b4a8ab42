"""What stands beside a run of this process: guard, people, commands, telemetry, the live view."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.gate import Gate
    from cellbench.engine.guard.keeper import Keeper
    from cellbench.engine.prompts import Prompts
    from cellbench.engine.run import Conducting, RunEnd
    from cellbench.engine.session import Session
    from cellbench.engine.side_thread import SideThread
    from cellbench.telemetry import Beside


class Company:
    """Who stands beside one run.

    Attributes:
        prompts: Whom its operator's questions go to, None where the simulated operator answers.
    """

    def __init__(
        self,
        console: Console,
        person: ConsoleOperator | None,
        prompts: Prompts | None,
        telemetry: Beside | None,
        guard: Keeper,
        side: SideThread,
    ) -> None:
        self.prompts = prompts
        self._console, self._person = console, person
        self._telemetry, self._guard, self._side = telemetry, guard, side

    async def conduct(self, conducting: Conducting) -> RunEnd:
        """Conduct a run to its end; everybody hears of it meanwhile."""
        from cellbench.engine.owner import in_company

        return await in_company(
            conducting,
            guard=self._guard,
            side=self._side,
            prompts=self.prompts,
            witness=self._witness,
        )

    @contextmanager
    def _witness(self, conducting: Conducting, gate: Gate) -> Iterator[None]:
        from cellbench.cli.live import watching

        if self._telemetry is not None:
            self._telemetry.follow(conducting, gate)
        with watching(conducting, self._console) as live:
            if self._person is not None:
                self._person.live = live
            yield


@asynccontextmanager
async def company(
    session: Session, telemetry: Beside | None, *, as_json: bool
) -> AsyncIterator[Company]:
    """Bring together who stands beside a run; enter it before the bench's own context."""
    from rich.console import Console

    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.guard.keeper import guarded
    from cellbench.engine.prompts import Prompts
    from cellbench.engine.side_thread import SideThread

    # With --json nothing but the answer goes to standard output.
    console = Console(stderr=as_json, quiet=as_json and not os.isatty(2))
    person = ConsoleOperator(console) if console.is_terminal and not as_json else None
    # A simulated bench has an operator of its own; a real one is answered from any terminal.
    prompts = Prompts(person) if person or session.simulator is None else None
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(guarded(session))
        side = await stack.enter_async_context(SideThread())
        yield Company(console, person, prompts, telemetry, guard, side)
