"""Conducting the runs of a campaign on a bench with one cell: one after the other."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellbench.campaign.loading import Campaign
    from cellbench.cli.stopping import Stopping
    from cellbench.engine.owner import RunRequest
    from cellbench.engine.run import RunEnd
    from cellbench.store import Store


class OneByOne:
    """Whoever has a bench with one cell; see `cellbench.campaign.conducting.Conducts`.

    Args:
        campaign: What is carried out.
        store: Where the runs are kept.
        stopping: Ends the run under way.
        telemetry: Who is told of them; see `telling`.
        seed: Of the simulated bench for the first replicate; the next have the next.
    """

    def __init__(
        self,
        campaign: Campaign,
        store: Store,
        stopping: Stopping,
        telemetry: Path | None,
        seed: int,
    ) -> None:
        self._campaign, self._store, self._stopping = campaign, store, stopping
        self._telemetry, self._seed = telemetry, seed

    async def run(self, request: RunRequest) -> RunEnd:
        """Begin a run, and conduct it to its end."""
        from cellbench.cli.company import company
        from cellbench.cli.telling import telling
        from cellbench.engine.run import Conductor
        from cellbench.engine.session import prepare
        from cellbench.protocol import plan

        session = prepare(
            request.protocol,
            cell=request.cell,
            bench=self._campaign.bench,
            sets=request.sets,
            seed=self._seed + request.replicate - 1,
        )
        async with AsyncExitStack() as stack:
            told_of = stack.enter_context(telling(self._telemetry, self._store, self._stopping))
            beside = await stack.enter_async_context(company(session, told_of, as_json=True))
            with self._stopping.cancels_this_task():
                bench = await stack.enter_async_context(session.bench(beside.prompts))
                conductor = Conductor(
                    session.program,
                    bench,
                    self._store,
                    documents=session.documents(bench),
                    seed=session.seed,
                    planned=plan(session.program, session.declared()),
                    campaign=request.campaign,
                    replicate=request.replicate,
                )
                return await beside.conduct(conductor)

    async def resume(self, run_id: str) -> RunEnd:
        """Go on with a run."""
        from cellbench.cli.resume import resumed
        from cellbench.cli.telling import telling
        from cellbench.engine.resume import session_of

        run = self._store.find(run_id)
        session = session_of(self._store, run, self._campaign.bench)
        with telling(self._telemetry, self._store, self._stopping) as told_of:
            return await resumed(
                session, self._store, run, self._stopping, told_of, accept=False, as_json=True
            )
