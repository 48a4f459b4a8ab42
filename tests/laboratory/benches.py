"""A laboratory of tests: people and benches of one database, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
from tests.serving import CYCLER
from tests.serving import served as serving

from cellbench.engine.lost import NEVER_BEGAN
from cellbench.laboratory import Database
from cellbench.laboratory.database import Kind
from cellbench.laboratory.jobs import works_of
from cellbench.laboratory.queue import JobQueue
from cellbench.store import JournalEntry, Run, RunReader, Store, never_began

from .networks import Network
from .postgresql import LOOPBACK, PostgreSQL

CELL = "NMC811_LYC_PMMA_Li"
PATIENCE_S = 120.0


class Laboratory:
    """People and benches of one database, each a process with a role of its own."""

    def __init__(self, server: PostgreSQL, database: Database, directory: Path) -> None:
        self.server, self.database, self.directory = server, database, directory
        self.stack = ExitStack()
        self._addresses: dict[str, str] = {}
        (directory / "cycler.yaml").write_text(CYCLER)
        self.person("ann", "operator")

    def person(self, name: str, kind: Kind) -> None:
        self._addresses[name] = self.database.address_for(name, self.database.grant(kind, name))

    def address(self, name: str, network: Network | None = None) -> str:
        """How somebody reaches the database from here, or from another network."""
        address = self._addresses[name]
        return address if network is None else address.replace(LOOPBACK, network.server)

    def protocol(self, text: str) -> str:
        path = self.directory / f"protocol {abs(hash(text))}.yaml"
        path.write_text(text)
        return str(path)

    def ask(self, *words: str, who: str = "ann", code: int = 0) -> Any:
        """Run a command to its end, and return its JSON."""
        done = self.typed(*words, "--json", who=who)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def typed(self, *words: str, who: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cellbench", *words],
            env=os.environ | {"CELLBENCH_DATABASE": self._addresses[who]},
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def submit(self, protocol: str, *cells: str, priority: int = 0, **facts: Any) -> list[int]:
        with closing(Database(self._addresses["ann"]).connect()) as connection:
            connection.autocommit = True
            return JobQueue(connection).submit(works_of(protocol, cells, **facts), priority)

    def jobs(self) -> dict[int, dict[str, Any]]:
        with closing(self.database.connect()) as connection:
            connection.autocommit = True
            return {job.id: job.answer() for job in JobQueue(connection).jobs(ended=True)}

    def take(self, number: int, bench: str, place: str) -> None:
        with closing(Database(self._addresses[bench]).connect()) as connection:
            connection.autocommit = True
            queue = JobQueue(connection)
            assert queue.take(number, bench, place, queue.register())

    def bench(
        self, name: str, file: Path | str, *options: str, network: Network | None = None
    ) -> Bench:
        return Bench(self, name, file, options, network)

    def serve(
        self, name: str, *options: str, speed: str = "10", within: Sequence[str] = ()
    ) -> Path:
        """A bench that outlives its hosts; returns its file."""
        usual = ("--bench", str(self.directory / "cycler.yaml"), "--cell", CELL)
        answer = self.stack.enter_context(
            serving(*(options or usual), "--speed", speed, within=within)
        )
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(answer["bench"]))
        return path


class Bench:
    """A computer that takes jobs: its service, and its store."""

    def __init__(
        self,
        laboratory: Laboratory,
        name: str,
        file: Path | str,
        options: Sequence[str],
        network: Network | None,
    ) -> None:
        self.name, self.store = name, laboratory.directory / f"store of {name}"
        policy = laboratory.directory / f"{name}.toml"
        policy.write_text(
            f'[service]\nstores = ["{self.store.as_posix()}"]\njobs_every_s = 0.3\n'
            "every_s = 0.5\nretry_s = 1\n"
        )
        self._command = [
            sys.executable, "-m", "cellbench", "service", "--config", str(policy), "--take-jobs",
            "--bench", str(file), *options,
        ]  # fmt: skip
        laboratory.person(name, "bench")
        self._environment = os.environ | {"CELLBENCH_DATABASE": laboratory.address(name, network)}
        if network is not None:  # and its addresses are its own
            self._command = [*network.within, *self._command]
            locks = laboratory.directory / f"locks of {name}"
            self._environment |= {"CELLBENCH_LOCKS": str(locks)}
        self._laboratory = laboratory
        self.log = laboratory.directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = self._laboratory.stack.enter_context(
                subprocess.Popen(
                    [*self._command, *options], env=self._environment, stdout=log, stderr=log
                )
            )
        self._laboratory.stack.callback(self.end)

    def finish(self) -> str:
        """Wait for what was started with --once."""
        assert self.process is not None
        assert self.process.wait(PATIENCE_S) == 0, self.said
        assert "Traceback" not in self.said
        return self.said

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """kill -9, the service first, then all that it has started and their guards."""
        assert self.process is not None
        below = psutil.Process(self.process.pid).children(recursive=True)
        for each in [psutil.Process(self.process.pid), *below]:
            each.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def journal(self) -> Sequence[JournalEntry]:
        """Of its newest run, as far as there is one."""
        return self.journal_of(self.runs[0]) if self.runs else ()

    def journal_of(self, run: Run) -> Sequence[JournalEntry]:
        """Of one of its runs, as far as that has begun."""
        path = self.run_file(run)
        return RunReader(path).journal if path.is_file() and not never_began(path) else ()

    def entries(self, kind: str) -> int:
        """How many of a kind the journals of all its runs have."""
        return sum(each.kind == kind for run in self.runs for each in self.journal_of(run))

    def run_file(self, run: Run) -> Path:
        with Store(self.store) as store:
            return store.run_path(run.id)

    @property
    def runs(self) -> list[Run]:
        with Store(self.store) as store:
            return list(store.runs())


def assert_each_is_one_run(laboratory: Laboratory, benches: Sequence[Bench]) -> None:
    # A server that is lost just when a run is to begin keeps that from beginning, which is entered.
    runs = [(bench.name, run.id) for bench in benches for run in bench.runs
            if run.reason != NEVER_BEGAN]  # fmt: skip
    jobs = laboratory.jobs().values()
    assert Counter(runs) == Counter((job["bench"], job["run"]) for job in jobs if job["run"])
