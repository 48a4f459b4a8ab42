"""The queue of jobs on a real server: who may do what, who gets what, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("procrastinate", reason="the extra [server] is not installed")
import psycopg
from psycopg.types.json import Jsonb

from cellbench.campaign.submitting import is_campaign, works_of_campaign
from cellbench.engine.orders import beside_runs
from cellbench.errors import InputError
from cellbench.laboratory import Database
from cellbench.laboratory.database import Connection, Kind
from cellbench.laboratory.jobs import RefusedJob, Work, deadline_of, parse_work, works_of
from cellbench.laboratory.queue import JobQueue
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.loading import load_card

As = Callable[[Kind, str], Connection]


@pytest.fixture
def connected(database: Database) -> Iterator[As]:
    """Connects to the test's database as somebody who is granted a role there."""
    with ExitStack() as stack:

        def connect(kind: Kind, name: str) -> Connection:
            address = database.address_for(name, database.grant(kind, name))
            connection = stack.enter_context(closing(Database(address).connect()))
            connection.autocommit = True
            return connection

        yield connect


def a_job(**facts: object) -> Work:
    (work,) = works_of("ccd", [])
    return work.model_copy(update=facts)


class TestTheQueue:
    """What a bench gets, and what happens to it."""

    @pytest.fixture
    def person(self, connected: As) -> JobQueue:
        return JobQueue(connected("operator", "ann"))

    @pytest.fixture
    def room1(self, connected: As) -> JobQueue:
        return JobQueue(connected("bench", "room1"))

    @pytest.fixture
    def room2(self, connected: As) -> JobQueue:
        return JobQueue(connected("bench", "room2"))

    def test_one_bench_gets_a_job_and_it_becomes_one_run(
        self, person: JobQueue, room1: JobQueue, room2: JobQueue
    ) -> None:
        (number,) = person.submit([a_job()])
        assert room1.take(number, "room1", "A1", room1.register())
        assert not room2.take(number, "room2", "A1", room2.register())
        assert person.find(number).state == "taken"
        assert room1.begin(number, "room1", "2026-11-21-001")
        assert not room1.begin(number, "room1", "2026-11-21-002")
        assert not room2.begin(number, "room2", "2026-11-21-002")
        job = person.find(number)
        assert (job.state, job.bench, job.place) == ("running", "room1", "A1")
        assert job.run == "2026-11-21-001"
        room1.finish(number, "room1", "done", "every step has ended")
        assert person.find(number).state == "done"
        assert person.jobs() == []
        assert [each.text for each in person.jobs(ended=True)] == ["every step has ended"]

    def test_two_jobs_are_never_under_way_on_one_place(
        self, person: JobQueue, room1: JobQueue, room2: JobQueue
    ) -> None:
        first, second = person.submit([a_job(), a_job()])
        worker = room1.register()
        assert room1.take(first, "room1", "A1", worker)
        assert not room1.take(second, "room1", "A1", worker)
        assert person.find(second).state == "waiting"
        assert room2.take(second, "room2", "A1", room2.register())

    def test_higher_priorities_come_first_then_the_older(
        self, person: JobQueue, room1: JobQueue
    ) -> None:
        usual = person.submit([a_job(), a_job()])
        urgent = person.submit([a_job()], priority=5)
        assert [job.id for job in room1.waiting()] == [*urgent, *usual]

    def test_a_cancelled_job_is_gone_or_its_bench_hears_how_it_is_to_end(
        self, person: JobQueue, room1: JobQueue
    ) -> None:
        waits, runs = person.submit([a_job(), a_job()])
        assert room1.take(runs, "room1", "", room1.register())
        assert room1.begin(runs, "room1", "2026-11-21-001")
        person.cancel(waits, "abort", "ann")
        person.cancel(runs, "cycle", "ann")
        assert person.find(waits).state == "cancelled"
        assert not room1.take(waits, "room1", "A1", room1.register())
        (job,) = room1.of_bench("room1")
        assert (job.id, job.how, job.by) == (runs, "cycle", "ann")
        room1.finish(runs, "room1", "cancelled", "after its cycle")
        with pytest.raises(InputError, match="ended already"):
            person.cancel(runs, "abort", "ann")

    def test_what_was_cancelled_before_it_began_never_begins(
        self, person: JobQueue, room1: JobQueue
    ) -> None:
        (number,) = person.submit([a_job()])
        assert room1.take(number, "room1", "", room1.register())
        person.cancel(number, "abort", "ann")
        assert not room1.begin(number, "room1", "2026-11-21-001")

    def test_a_job_of_a_lost_bench_is_another_s_only_once_it_is_released(
        self, person: JobQueue, room1: JobQueue, room2: JobQueue
    ) -> None:
        (number,) = person.submit([a_job()])
        with pytest.raises(InputError, match="with no bench"):
            person.release(number)
        assert room1.take(number, "room1", "A1", room1.register())
        assert room1.begin(number, "room1", "2026-11-21-001")
        assert room2.waiting() == []
        person.release(number)
        assert [job.id for job in room2.waiting()] == [number]
        assert room2.take(number, "room2", "A1", room2.register())
        assert not room1.begin(number, "room1", "2026-11-21-002")
        assert room2.begin(number, "room2", "2026-11-21-001")

    def test_a_run_that_never_began_leaves_its_job_to_be_begun(
        self, person: JobQueue, room1: JobQueue
    ) -> None:
        (number,) = person.submit([a_job()])
        assert room1.take(number, "room1", "A1", room1.register())
        assert room1.begin(number, "room1", "2026-11-21-001")
        room1.forget_run(number, "2026-11-21-001")
        assert room1.begin(number, "room1", "2026-11-21-002")

    def test_all_of_a_submission_comes_in_or_nothing(self, person: JobQueue) -> None:
        works = [a_job(), a_job(title="\0")]
        with pytest.raises(psycopg.Error):
            person.submit(works)
        assert person.jobs() == []


class TestRights:
    """Least privilege, by the database itself."""

    def test_a_viewer_reads_and_writes_nothing(self, connected: As) -> None:
        (number,) = JobQueue(connected("operator", "ann")).submit([a_job()])
        viewer = connected("viewer", "eve")
        queue = JobQueue(viewer)
        assert [job.id for job in queue.jobs()] == [number]
        for forbidden in (
            lambda: queue.submit([a_job()]),
            lambda: queue.cancel(number, "abort", "eve"),
            lambda: queue.release(number),
            lambda: viewer.execute("UPDATE procrastinate_jobs SET priority = 1"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                forbidden()

    def test_a_bench_touches_what_waits_and_its_own(self, connected: As) -> None:
        person, one = JobQueue(connected("operator", "ann")), JobQueue(connected("bench", "room1"))
        two_is = connected("bench", "room2")
        two = JobQueue(two_is)
        (number,) = person.submit([a_job()])
        assert one.take(number, "room1", "A1", one.register())
        assert two.bench_name() == "room2"
        two.say(number, "mine")
        two.forget_run(number, "")
        changed = two_is.execute("UPDATE procrastinate_jobs SET status = 'todo'")
        assert changed.rowcount == 0
        for forbidden in (
            lambda: two.submit([a_job()]),
            lambda: two.finish(number, "room2", "failed", ""),
            lambda: two.refuse(number, "room1", "in its name"),
            lambda: two_is.execute("UPDATE procrastinate_jobs SET args = '{}'"),
            lambda: two_is.execute("DELETE FROM procrastinate_jobs"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                forbidden()
        job = person.find(number)
        assert (job.state, job.bench, job.text) == ("taken", "room1", "")

    def test_who_is_no_bench_takes_nothing(self, connected: As) -> None:
        with pytest.raises(InputError, match="no bench"):
            JobQueue(connected("operator", "ann")).bench_name()


class TestWhatIsSent:
    """A job carries all that it needs, and is believed nothing."""

    def test_protocol_card_and_settings_travel_verbatim(self, tmp_path: Path) -> None:
        part = tmp_path / "part.yaml"
        part.write_text("cellbench: 1\nname: Part\nsteps:\n  - rest: 1 min\n")
        whole = tmp_path / "whole.yaml"
        whole.write_text(
            "cellbench: 1\nname: Whole   # as written\ncell: LYC_PMMA\nparameters: {t: 1 min}\n"
            "steps:\n  - rest: $t\n  - include: part\n"
        )
        card, text = load_card(None, "LYC_PMMA")
        (work,) = works_of(str(whole), [], sets=["t=2 min"])
        sent = parse_work(work.model_dump_json())
        part.unlink()
        whole.unlink()
        assert [each.text.count("as written") for each in sent.sources] == [1, 0]
        assert sent.card == text
        program = sent.program(card)
        assert program.parameters["t"].text == "2 min"
        assert len(program.nodes) == 2

    def test_a_place_has_no_card_and_no_replicates(self) -> None:
        (work,) = works_of("ccd", ["A1"])
        assert (work.place, work.card, work.cell) == ("A1", "", "A1")
        with pytest.raises(InputError, match="A1 is one cell"):
            works_of("ccd", ["A1"], replicates=2)
        with pytest.raises(InputError, match="no cell card"):
            works_of("ccd", ["cards/none.yaml"])

    def test_a_campaign_is_a_job_for_each_of_its_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "campaign.yaml"
        told = "cellbench campaign: 1\nname: Both\nruns:\n  - protocol: ccd\n"
        path.write_text(told + "  - protocol: self_discharge\ncells: [A1, A2]\n")
        assert is_campaign(path)
        works = works_of_campaign(path, bench="room1", by="ann")
        assert [(work.place, work.title) for work in works] == [
            (place, title)
            for place in ("A1", "A2")
            for title in ("Critical current density", "Self-discharge at open circuit")
        ]
        assert {work.campaign for work in works} == {"Both"}
        assert [work.kept["replicate"] for work in works] == [1, 1, 2, 2]
        path.write_text(told.replace("ccd", "mine.yaml") + "cells: [A1]\n")
        with pytest.raises(InputError, match=r'no file "mine.yaml" beside the campaign file'):
            works_of_campaign(path)
        path.write_text(told.replace("ccd", "cdd") + "cells: [A1]\n")
        with pytest.raises(InputError, match='did you mean "ccd"'):
            works_of_campaign(path)
        path.write_text(told + "cells: [LYC_PMMA]\nreplicates: 3\n")
        assert len({work.submission for work in works_of_campaign(path)}) == 1
        path.write_text(told + "  - protocol: self_discharge\ncells: [LYC_PMMA]\n")
        with pytest.raises(InputError, match="need its place"):
            works_of_campaign(path)

    def test_no_file_of_the_bench_is_read_for_a_job(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = tmp_path / "secret.yaml"
        secret.write_text("the secret: words\n")
        monkeypatch.chdir(tmp_path)
        card, _ = load_card(None, "LYC_PMMA")
        for place in (str(secret), "secret", "../" + tmp_path.name + "/secret.yaml"):
            text = f"cellbench: 1\nname: P\ncell: LYC_PMMA\nsteps:\n  - include: {place}\n"
            work = a_job(sources=(a_job().sources[0].model_copy(update={"text": text}),))
            with pytest.raises(ProtocolError) as refused:
                work.program(card)
            assert "words" not in str(refused.value)

    def test_what_is_no_job_is_refused_in_one_line(self) -> None:
        good = json.loads(a_job().model_dump_json())
        wrong: list[object] = [
            [], {}, {"cellbench_job": 2}, good | {"sources": []}, good | {"extra <b>": 1},
            good | {"sources": [{"name": "../x", "text": ""}]}, good | {"replicate": 0},
            good | {"sources": good["sources"] * 2}, good | {"deadline": "2026-01-01"},
            good | {"cell": "a\nb"}, good | {"sets": ["x"] * 1000}, good | {"bench": "b" * 1000},
        ]  # fmt: skip
        for each in wrong:
            with pytest.raises(RefusedJob) as refused:
                parse_work(json.dumps(each))
            assert "<b>" not in str(refused.value)
            assert "\n" not in str(refused.value)
        with pytest.raises(RefusedJob, match="longer"):
            parse_work(" " * 9_000_000)

    def test_an_operator_s_own_row_is_refused_by_the_bench_that_looks_at_it(
        self, connected: As
    ) -> None:
        operator, bench = connected("operator", "ann"), JobQueue(connected("bench", "room1"))
        for hostile in (
            {},
            {"sources": "x" * 20_000_000},
            {"deadline": {"a": []}, "title": "\u202e"},
        ):
            operator.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
                " VALUES ('laboratory', 'cellbench run', %s)",
                (Jsonb(hostile),),
            )
        for job in bench.waiting():
            assert job.deadline is None
            assert job.fact("title") in {"", "?"}
            with pytest.raises(RefusedJob):
                bench.work(job.id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
                " VALUES ('bench room1', 'cellbench run', 'doing')"
            )

    def test_a_deadline_is_a_moment_or_a_time_from_now(self) -> None:
        now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        assert deadline_of("8 h", now) == now + timedelta(hours=8)
        assert deadline_of("2026-11-22T08:00+00:00", now) == now + timedelta(hours=20)
        for wrong in ("soon", "8", "-1 h", "2026-11-20 08:00", "5 V"):
            with pytest.raises(InputError):
                deadline_of(wrong, now)


async def test_a_database_that_hangs_keeps_no_thread_from_runs() -> None:
    answers = threading.Event()
    asked = [asyncio.ensure_future(beside_runs(answers.wait)) for _ in range(100)]
    await asyncio.wait_for(asyncio.to_thread(time.sleep, 0), 30)
    answers.set()
    await asyncio.gather(*asked)
