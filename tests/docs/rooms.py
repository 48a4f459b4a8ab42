"""What is there when somebody begins to read a page: a run under way, a bench that was left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from tests.serving import served

#: At a minute per second: long enough for every command of the page.
ASKING = """
name: A night of cycles
cell: LYC_PMMA
steps:
  - prompt: {ask: Is the glovebox closed?, choices: [yes, no]}
  - repeat: 500
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 30 min}
      - rest: 30 min
"""
#: In real time, for a press that hears its host: the run is killed in the middle.
SHORT = """
name: Killed in the middle
cell: LYC_PMMA
steps:
  - rest: 4 s
"""


@contextmanager
def a_run_that_asks(here: Path) -> Iterator[None]:
    """A run at a terminal, which waits for an answer."""
    from tests.terminal import Terminal  # no Windows

    (here / "asking.yaml").write_text(ASKING, encoding="utf-8")
    command = [sys.executable, "-m", "cellbench", "run", "asking.yaml", "--speed", "60"]
    terminal = Terminal(command)
    try:
        terminal.wait_for("Is the glovebox closed?")
        yield
    except BaseException:
        terminal.process.kill()
        raise
    finally:
        code = terminal.end()
        terminal.close()
    assert code == 130, "the page ends with an abort"


@contextmanager
def a_bench_that_was_left(here: Path) -> Iterator[None]:
    """A bench in another process, whose run was killed and whose guard has it now."""
    (here / "short.yaml").write_text(SHORT, encoding="utf-8")
    with served("--fixture", "spring") as answer:
        (here / "bench.yaml").write_text(json.dumps(answer["bench"]), encoding="utf-8")
        command = [sys.executable, "-m", "cellbench", "run", "short.yaml", "--bench", "bench.yaml"]
        with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if "rest" in line:
                    break
            time.sleep(0.5)
            run.kill()
        yield


ROOMS: dict[str, Callable[[Path], AbstractContextManager[None]]] = defaultdict(
    lambda: lambda _: nullcontext(),
    {
        "steering.md": a_run_that_asks,
        "guard.md": a_bench_that_was_left,
        "resume.md": a_bench_that_was_left,
    },
)
