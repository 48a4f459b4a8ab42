from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cellbench.errors import InputError
from cellbench.telemetry.commands import Gate, Operator, sign
from cellbench.telemetry.cursor import Cursor

SECRET = b"anna's secret, long enough"
TOPIC = "cellbench/glovebox_2/run/2026-11-21-003"


class Obedient:
    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, Any], str]] = []

    async def command(self, name: str, arguments: Mapping[str, Any], who: str) -> str:
        if name == "skip":
            raise InputError("no step is under way")
        if name == "stop":
            raise ZeroDivisionError
        self.done.append((name, dict(arguments), who))
        return f"{name}: done"


class Desk:
    """A gate with all that it needs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.commands = Obedient()
        self.said: list[tuple[str, str]] = []
        self.counter = 0
        self.restart()

    def restart(self) -> None:
        operators = {
            "anna": Operator(SECRET),
            "ben": Operator(b"ben's secret, long enough", frozenset({"pause"})),
        }
        cursor = Cursor(self.directory, "2026-11-21-003")
        self.gate = Gate(operators, TOPIC, cursor, 60.0, self.commands, self.say)

    def say(self, kind: str, text: str, /, **_data: Any) -> None:
        self.said.append((kind, text))

    def message(self, secret: bytes = SECRET, operator: str = "anna", **changes: Any) -> bytes:
        self.counter += 1
        order: dict[str, Any] = {
            "topic": TOPIC,
            "counter": self.counter,
            "command": "pause",
            "arguments": {},
        }
        return sign(secret, operator, **(order | changes))

    async def take(self, payload: bytes, *, retained: bool = False) -> dict[str, Any] | None:
        return await self.gate.take(payload, retained=retained)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "telemetry")


async def test_a_signed_command_is_carried_out_and_answered(desk: Desk) -> None:
    answer = await desk.take(desk.message(command="answer", arguments={"text": "yes"}))
    assert answer is not None
    assert answer["accepted"]
    assert answer["answer"] == "answer: done"
    assert desk.commands.done == [("answer", {"text": "yes"}, "anna")]
    assert desk.said == []


def _tampered(message: bytes) -> bytes:
    envelope = json.loads(message)
    envelope["message"] = envelope["message"].replace("pause", "abort")
    return json.dumps(envelope).encode()


def _bad_messages(desk: Desk) -> dict[str, bytes]:
    now = datetime.now(UTC)
    unsigned = json.loads(desk.message())
    del unsigned["mac"]
    return {
        "nothing": b"",
        "no JSON": b"pause",
        "no UTF-8": b"\xff\xfe{",
        "a number": b"42",
        "a deep nest": b"[" * 4000,
        "too long": desk.message(arguments={"text": "x" * 5000}),
        "no signature": json.dumps(unsigned).encode(),
        "a signature that is no text": json.dumps(unsigned | {"mac": 5}).encode(),
        "a signature of other letters": json.dumps(unsigned | {"mac": "ü"}).encode(),
        "an empty signature": json.dumps(unsigned | {"mac": ""}).encode(),
        "another secret": desk.message(secret=b"a guess that is long enough"),
        "a secret of nothing": desk.message(secret=bytes(32), operator="nobody"),
        "a stranger": desk.message(operator="mallory"),
        "another's name": desk.message(operator="ben"),
        "a changed command": _tampered(desk.message()),
        "another run": desk.message(topic=TOPIC[:-1] + "4"),
        "another bench": desk.message(topic=TOPIC.replace("2/", "3/", 1)),
        "too old": desk.message(time=now - timedelta(seconds=61)),
        "too early": desk.message(time=now + timedelta(seconds=61)),
        "no time zone": desk.message(time=datetime(2026, 11, 21, 3, 12, 41)),
        "an unknown command": desk.message(command="energise"),
        "a wrong argument": desk.message(arguments={"text": 5}),
        "a counter that is negative": desk.message(counter=-2),
        "a counter that is huge": desk.message(counter=2**64),
        "a counter that is no number": desk.message(counter="7"),
        "what its operator may not do": desk.message(
            b"ben's secret, long enough", "ben", command="abort"
        ),
    }


async def test_no_bad_message_has_an_effect_and_all_are_told_of_once_in_a_while(desk: Desk) -> None:
    messages = _bad_messages(desk)
    for name, message in messages.items():
        answer = await desk.take(message)
        assert answer is None or not answer["accepted"], name
        assert desk.commands.done == [], name
    kinds = {text.partition("refused, ")[2].partition(":")[0] for _, text in desk.said}
    assert kinds == {"malformed", "unauthenticated", "another run", "late", "not allowed"}
    assert len(desk.said) == len(kinds)
    assert all(kind == "command refused" for kind, _ in desk.said)
    assert "mallory" not in str(desk.said)


async def test_a_retained_command_is_none(desk: Desk) -> None:
    assert await desk.take(desk.message(), retained=True) is None
    assert desk.commands.done == []


async def test_a_message_counts_once_also_after_a_restart(desk: Desk) -> None:
    earlier, message = desk.message(), desk.message()
    first = await desk.take(message)
    assert first is not None
    assert first["accepted"]
    # On disk already: whatever becomes of this process.
    for again in (message, earlier):
        answer = await desk.take(again)
        assert answer is not None
        assert not answer["accepted"]
    desk.restart()
    answer = await desk.take(message)
    assert answer is not None
    assert not answer["accepted"]
    assert len(desk.commands.done) == 1
    assert [text for _, text in desk.said if "replayed" in text]


async def test_without_its_memory_a_process_takes_no_commands(desk: Desk) -> None:
    assert await desk.take(desk.message())
    (desk.directory / "2026-11-21-003.left.json").write_text("{")
    desk.restart()
    answer = await desk.take(desk.message())
    assert answer is not None
    assert not answer["accepted"]


async def test_on_a_full_disk_a_run_can_be_stopped_but_not_steered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Cursor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cursor, "_keep", full)
    message = desk.message(command="abort")
    assert (await desk.take(message) or {})["accepted"]
    assert not (await desk.take(message) or {})["accepted"]
    assert not (await desk.take(desk.message(command="continue")) or {})["accepted"]
    assert [name for name, _, _ in desk.commands.done] == ["abort"]


async def test_what_is_not_possible_is_answered(desk: Desk) -> None:
    answer = await desk.take(desk.message(command="skip"))
    assert answer is not None
    assert not answer["accepted"]
    assert "no step is under way" in answer["answer"]
    answer = await desk.take(desk.message(command="stop", arguments={"after": "cycle"}))
    assert answer is not None
    assert "ZeroDivisionError" in answer["answer"]
    assert (await desk.take(desk.message()) or {})["accepted"]
