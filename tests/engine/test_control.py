"""The command channel: what comes in over it acts in the run's loop, or changes nothing at all."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench import clock
from cellbench.engine import control, gate
from cellbench.engine.control import ControlServer
from cellbench.engine.control_client import Unreachable, ask
from cellbench.engine.control_file import ControlFile, active, place, read
from cellbench.engine.gate import Gate
from cellbench.engine.requests import (
    REQUEST_MAX_BYTES,
    Envelope,
    Look,
    Note,
    Pause,
    Person,
    RefusedRequest,
    Reply,
    Request,
    Stop,
    Who,
    parse_envelope,
    parse_request,
)
from cellbench.engine.side_thread import SideThread
from cellbench.errors import CellbenchError, InputError

T = TypeVar("T")

RUN = "2026-11-21-001"
WHO = Person(user="jk", host="glovebox-pc")
PAUSE = {"command": "pause"}


class Served:
    """A server on an engine that notes what it is asked for."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "runs" / f"{RUN}.sqlite"
        self.path.parent.mkdir(exist_ok=True)
        self.asked: list[tuple[Request, Who]] = []
        self.told: list[str] = []
        self.threads: set[int] = set()
        self.server: ControlServer | None = None

    async def obey(self, request: Request, who: Who) -> Reply:
        self.threads.add(threading.get_ident())
        self.asked.append((request, who))
        if isinstance(request, Look):
            return Reply(accepted=True, text="running", data={"voltage_V": float("nan")})
        return Reply(accepted=True, text=f"{request.command} done")

    @property
    def file(self) -> ControlFile:
        found = read(place(self.path))
        assert found is not None
        return found

    async def while_served(self, beside: Callable[[], T]) -> T:
        """Serve while something is done in another thread, which the engine's loop cannot see."""
        async with SideThread() as side:
            self.server = ControlServer(RUN, self.path, side, Gate(self.obey, self.told.append))
            async with self.server:
                assert self.server._opened is not None
                await asyncio.wrap_future(self.server._opened)
                with ThreadPoolExecutor(1) as pool:
                    return await asyncio.wrap_future(pool.submit(beside))

    def __call__(self, beside: Callable[[], T]) -> T:
        return clock.run(self.while_served(beside))

    def send(self, data: bytes) -> dict[str, Any] | None:
        """Send bytes and return the answer; None where the server hangs up on them."""
        try:
            with socket.create_connection(("127.0.0.1", self.file.port), timeout=10) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return None
        return json.loads(answer) if answer else None

    def envelope(self, request: dict[str, Any], **changed: Any) -> bytes:
        fields = {"cellbench": 1, "token": self.file.token, "by": WHO.model_dump()}
        return json.dumps(fields | {"request": request} | changed).encode() + b"\n"


@pytest.fixture(autouse=True)
def _nothing_unclosed() -> Iterator[None]:
    """What a test leaves open is told of in that test, not in a later one."""
    yield
    gc.collect()


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


# --- What is obeyed -------------------------------------------------------------------------------


def test_a_request_acts_in_the_runs_loop_and_is_answered(served: Served) -> None:
    reply = served(lambda: ask(served.file, Pause(reason="topping up")))
    assert reply == Reply(accepted=True, text="pause done")
    ((request, who),) = served.asked
    assert request == Pause(reason="topping up")
    assert who.via == "terminal"
    assert who.user
    assert served.threads == {threading.get_ident()}


def test_a_look_brings_values_and_what_was_refused(served: Served) -> None:
    def beside() -> Reply:
        served.send(served.envelope(PAUSE, token="wrong"))  # noqa: S106
        return ask(served.file, Look())

    reply = served(beside)
    assert reply.data == {"voltage_V": None, "refused": {"wrong token": 1}}


@pytest.mark.long
@pytest.mark.parametrize("speed", [None, 60.0, 1.0])
def test_a_request_reaches_a_loop_whose_time_flies(served: Served, speed: float | None) -> None:
    async def busy() -> tuple[Reply, float]:
        looking = asyncio.create_task(served.while_served(lambda: ask(served.file, Pause())))
        # A bench that never rests: a sample each 100 ms, for years if need be.
        while not looking.done():
            await asyncio.sleep(0.1)
        return await looking, asyncio.get_running_loop().time()

    reply, passed_s = clock.run(busy(), virtual=True, speed=speed)
    assert reply.accepted
    assert passed_s < 3.2e7


def test_a_request_reaches_a_loop_that_waits_for_a_person(served: Served) -> None:
    async def asking() -> str:
        answer = asyncio.get_running_loop().create_future()
        obey = served.obey

        async def answered(request: Request, who: Who) -> Reply:
            answer.set_result("yes")
            return await obey(request, who)

        served.obey = answered  # type: ignore[method-assign]
        looking = asyncio.create_task(served.while_served(lambda: ask(served.file, Pause())))
        text: str = await clock.unseen(answer, patient=True)
        await clock.unseen(looking)
        return text

    assert clock.run(asking(), virtual=True) == "yes"


# --- What is not ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "changed",
    [
        {"token": "wrong"},
        {"token": ""},
        {"token": "é"},
        {"token": None},
        {"by": {"user": "jk"}},
        {"by": {"user": "jk", "host": "pc", "role": "chief"}},
        {"by": {"user": "j\x1b[2Jk", "host": "pc"}},
        {"cellbench": 2},
        {"more": 1},
        {"request": None},
        {"request": {}},
        {"request": {"command": "energise"}},
        {"request": {"command": "pause", "reason": 3}},
        {"request": {"command": "pause", "force": True}},
        {"request": {"command": "pause", "reason": "x" * 1001}},
        {"request": {"command": "pause", "reason": "a\nb"}},
        {"request": {"command": "stop"}},
        {"request": {"command": "stop", "after": "tea"}},
        {"request": {"command": "note", "text": "  "}},
        {"request": {"command": "answer"}},
    ],
)
def test_what_is_wrong_changes_nothing_and_is_counted(
    served: Served, changed: dict[str, Any]
) -> None:
    answer = served(lambda: served.send(served.envelope(**{"request": PAUSE, **changed})))
    assert answer is not None
    assert not answer["accepted"]
    assert answer["text"].startswith("refused: ")
    assert served.asked == []
    assert served.server is not None
    assert served.server.refused.total() == 1
    (told,) = served.told
    assert "refused requests to the command channel so far" in told
    assert told.isprintable()


@pytest.mark.long
@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "the request is empty"),
        (b"GET / HTTP/1.1", "the request is incomplete"),
        (b"GET / HTTP/1.1\r\n\r\n", "Invalid JSON"),
        (b"\xff\xfe\n", "Invalid JSON"),
        (b"[" * 8000 + b"\n", "Invalid JSON"),
        (b"null\n", "Input should be an object"),
        (b"x" * 100_000, f"longer than {REQUEST_MAX_BYTES} bytes"),
        (b'{"token": "' + b"x" * 100_000 + b'"}\n', f"longer than {REQUEST_MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_request_changes_nothing(served: Served, sent: bytes, why: str) -> None:
    served(lambda: served.send(sent))
    assert served.asked == []
    assert served.server is not None
    assert dict(served.server.refused) == {why: 1}


def test_a_flood_of_nonsense_is_told_of_now_and_then(served: Served) -> None:
    def beside() -> None:
        for _ in range(50):
            served.send(b"nonsense\n")

    served(beside)
    # At once, and what came since at the end.
    assert served.told == [
        "refused requests to the command channel so far: Invalid JSON (1)",
        "refused requests to the command channel so far: Invalid JSON (50)",
    ]


def test_a_slow_client_is_turned_away_and_others_are_served(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_S", 0.5)

    def beside() -> tuple[Reply, bytes]:
        with socket.create_connection(("127.0.0.1", served.file.port), timeout=10) as slow:
            slow.sendall(b'{"cellbench"')
            reply = ask(served.file, Note(text="meanwhile"))
            return reply, slow.recv(65536)

    reply, turned_away = served(beside)
    assert reply.accepted
    assert b"no request within 0.5 s" in turned_away


def test_many_silent_clients_do_not_keep_a_command_out(served: Served) -> None:
    def beside() -> Reply:
        port = served.file.port
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(200)]
        reply = ask(served.file, Pause())
        for connection in silent:
            connection.close()
        return reply

    started = time.monotonic()
    assert served(beside).accepted
    assert time.monotonic() - started < control.CLIENT_S


def test_many_clients_are_served(served: Served) -> None:
    def beside() -> list[Reply]:
        with ThreadPoolExecutor(20) as pool:
            notes = [Note(text=f"note {number}") for number in range(100)]
            return list(pool.map(lambda note: ask(served.file, note), notes))

    assert all(reply.accepted for reply in served(beside))
    assert len({request.text for request, _ in served.asked if isinstance(request, Note)}) == 100


@pytest.mark.long
def test_a_client_that_takes_no_answer_keeps_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_S", 0.5)

    async def long_answer(request: Request, who: Who) -> Reply:
        return Reply(accepted=True, text="", data={"text": "x" * 30_000_000})

    served.obey = long_answer  # type: ignore[method-assign]

    def beside() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", served.file.port), timeout=10)
        connection.sendall(served.envelope({"command": "status"}))
        return connection

    started = time.monotonic()
    served(beside).close()
    assert time.monotonic() - started < 4.0


def test_a_bug_in_a_command_is_told_of_and_ends_nothing(served: Served) -> None:
    async def broken(request: Request, who: Who) -> Reply:
        raise ZeroDivisionError("of all things")

    served.obey = broken  # type: ignore[method-assign]
    reply = served(lambda: ask(served.file, Pause()))
    assert not reply.accepted
    assert "ZeroDivisionError: of all things" in reply.text
    assert "ZeroDivisionError: of all things" in served.told[0]


# --- A run that does not answer, or has ended -----------------------------------------------------


def test_what_a_busy_engine_has_not_begun_is_withdrawn(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "ENGINE_S", 0.3)

    async def blocked() -> Reply:
        async with (
            SideThread() as side,
            ControlServer(RUN, served.path, side, Gate(served.obey, served.told.append)) as server,
        ):
            assert server._opened is not None
            await asyncio.wrap_future(server._opened)
            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(ask, served.file, Pause())
                time.sleep(1.0)  # noqa: ASYNC251 (a loop that hangs)
                return await asyncio.wrap_future(asking)

    reply = clock.run(blocked())
    assert reply == Reply(
        accepted=False, text="the run has not looked at it in 0.3 s: nothing was done"
    )
    assert served.asked == []


def test_nothing_is_left_after_the_end(served: Served) -> None:
    file = served(lambda: served.file)
    assert list(served.path.parent.iterdir()) == []
    assert all("beside the engine" not in thread.name for thread in threading.enumerate())
    with pytest.raises(Unreachable, match="takes no commands any more"):
        ask(file, Pause())


def test_whoever_has_asked_when_the_server_ends_is_answered(served: Served) -> None:
    async def main() -> tuple[Reply, bytes]:
        begun = asyncio.Event()

        async def slowly(request: Request, who: Who) -> Reply:
            begun.set()
            await asyncio.sleep(0.3)
            return Reply(accepted=True, text="done after all")

        with ThreadPoolExecutor(1) as pool:
            async with (
                SideThread() as side,
                ControlServer(RUN, served.path, side, Gate(slowly, served.told.append)) as server,
            ):
                assert server._opened is not None
                await asyncio.wrap_future(server._opened)
                port = served.file.port
                silent = socket.create_connection(("127.0.0.1", port), timeout=10)
                asking = pool.submit(ask, served.file, Pause())
                await begun.wait()
            with silent:
                return asking.result(), silent.recv(65536)

    reply, turned_away = clock.run(main())
    assert reply.text == "done after all"
    assert b"the run has ended" in turned_away


def test_clients_that_come_as_the_run_ends_hold_nothing_up_and_leave_nothing(
    served: Served,
) -> None:
    def beside() -> list[socket.socket]:
        port = served.file.port
        return [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(60)]

    started = time.monotonic()
    for client in served(beside):
        client.close()
    assert time.monotonic() - started < control.CLIENT_S


def test_a_channel_that_cannot_be_opened_does_not_keep_the_run(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.path.parent.rmdir()

    async def main() -> None:
        async with SideThread() as side:
            gate_ = Gate(served.obey, served.told.append)
            async with ControlServer(RUN, served.path, side, gate_):
                await asyncio.sleep(0.3)

    clock.run(main())
    assert served.told == ["no commands from other terminals: No such file or directory"]


def test_a_port_that_another_program_has_by_now_is_not_believed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        file = ControlFile.of_this_process(RUN, port, "token")
        with pytest.raises(CellbenchError, match="is not run"):
            ask(file, Pause())
        thread.join()


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_is_for_its_user_alone(served: Served) -> None:
    mode = served(lambda: place(served.path).stat().st_mode)
    assert stat.S_IMODE(mode) == 0o600


def test_the_file_of_a_process_that_is_gone_is_known_as_stale(tmp_path: Path) -> None:
    mine = ControlFile.of_this_process(RUN, 1234, "token")
    assert mine.is_alive
    assert mine.started is not None
    # Another process of that id, started at another time.
    reused = mine.model_copy(update={"run": "2026-11-21-002", "started": mine.started - 100.0})
    assert not reused.is_alive
    for file in (mine, reused):
        file.write(place(tmp_path / f"{file.run}.sqlite"))
    (tmp_path / "2026-11-21-003.control.json").write_text("not mine", encoding="utf-8")
    assert list(active(tmp_path)) == [mine]


def test_a_file_that_another_process_has_replaced_stays(tmp_path: Path) -> None:
    path = place(tmp_path / f"{RUN}.sqlite")
    old = ControlFile.of_this_process(RUN, 1234, "token of the old one")
    new = ControlFile.of_this_process(RUN, 1235, "token of the new one")
    old.write(path)
    new.write(path)
    old.remove(path)
    assert read(path) == new
    new.remove(path)
    assert read(path) is None
    new.remove(path)


def test_a_file_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    path = place(tmp_path / f"{RUN}.sqlite")
    path.write_text('{"port": 1}', encoding="utf-8")
    with pytest.raises(InputError, match="does not say where"):
        read(path)


# --- The parser -----------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
_KNOWN = st.sampled_from(
    ["cellbench", "token", "by", "request", "command", "reason", "after", "text", "user", "host"]
)
_WORDS = st.sampled_from(["pause", "stop", "step", "note", "status", "yes"]) | _JSON


def outcome(parse: Callable[[Any], T], given_: Any) -> T | RefusedRequest:
    try:
        return parse(given_)
    except RefusedRequest as refusal:
        return refusal


def is_short_and_harmless(refusal: RefusedRequest) -> bool:
    return str(refusal).isprintable() and len(str(refusal)) < 200


@given(st.binary(max_size=200) | _JSON.map(lambda each: json.dumps(each).encode()))
def test_the_parser_reads_a_line_or_refuses_it(line: bytes) -> None:
    found = outcome(parse_envelope, line)
    if isinstance(found, RefusedRequest):
        assert is_short_and_harmless(found)
    else:
        assert parse_envelope(found.line()) == found


@given(st.dictionaries(_KNOWN, _WORDS) | _JSON)
def test_the_parser_reads_a_request_or_refuses_it(fields: Any) -> None:
    found = outcome(parse_request, fields)
    if isinstance(found, RefusedRequest):
        assert is_short_and_harmless(found)
    else:
        assert parse_request(found.model_dump()) == found
        assert set(fields) <= set(found.model_dump())


@given(st.text(max_size=1000), st.text(max_size=100))
def test_what_goes_over_the_wire_comes_out_again(reason: str, user: str) -> None:
    try:
        request, who = Pause(reason=reason), Person(user=user, host="pc")
    except ValueError:
        return  # none that could be sent
    sent = Envelope(token=RUN, by=who, request=request.model_dump())
    received = parse_envelope(sent.line())
    assert received.by == who
    assert parse_request(received.request) == request


def test_a_broker_speaks_the_same_commands(served: Served) -> None:
    async def main() -> list[str]:
        answers = []
        async with SideThread() as side:
            entrance = Gate(served.obey, served.told.append)
            for name, arguments in (("stop", {"after": "cycle"}), ("stop", {"after": "tea"})):
                try:
                    answers.append(await side.done(entrance.command(name, arguments, "jk")))
                except CellbenchError as error:
                    answers.append(str(error))
        return answers

    first, second = clock.run(main())
    assert first == "stop done"
    assert "after" in second
    assert served.asked == [(Stop(after="cycle"), Who(user="jk", via="MQTT"))]
    assert str(served.asked[0][1]) == "jk by MQTT"


def test_a_thread_that_cannot_begin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> asyncio.SelectorEventLoop:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(asyncio, "SelectorEventLoop", none_left)
        async with SideThread():
            pass

    with pytest.raises(OSError, match="Too many open files"):
        clock.run(main())


def test_what_runs_beside_is_cancelled_at_the_end() -> None:
    async def main() -> tuple[bool, bool]:
        async with SideThread() as side:
            for_ever: Coroutine[Any, Any, None] = asyncio.sleep(1e9)
            hanging = side.run(for_ever)
            done = await side.done(asyncio.sleep(0.01, result=True))
        return done, hanging.cancelled()

    assert clock.run(main()) == (True, True)
    assert clock.run(main(), virtual=True) == (True, True)
