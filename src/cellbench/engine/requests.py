"""What may be asked of a run from outside, as it comes over a wire, and what is answered.

One line of JSON asks, one answers. Whatever else comes in is refused here, before anything looks at
it: the parser knows every field, its type and its length.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from cellbench.untrusted import Strict, printable

#: Version of the wire format.
VERSION: Literal[1] = 1
#: A longer request is refused unread.
REQUEST_MAX_BYTES = 8192
TEXT_MAX = 1000
NAME_MAX = 100


class RefusedRequest(Exception):
    """What came in is no request; the message says why, and repeats nothing of it."""


_Text = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=TEXT_MAX), AfterValidator(printable)
]
_Said = Annotated[_Text, StringConstraints(min_length=1)]
_Name = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_MAX), AfterValidator(printable)
]


class Person(Strict):
    """Who asks, as their program says: whoever holds the token is believed.

    Attributes:
        via: The way in: ``terminal``, ``web``, ``MQTT`` (where the host is not known).
    """

    user: _Name
    host: _Name
    via: _Name = "terminal"


class Who(Person):
    """Who asks, as a run takes note of it."""

    host: str = ""

    def __str__(self) -> str:
        """As a person reads it: "jk at glovebox-pc"."""
        place = f" at {self.host}" if self.host else ""
        way = _WAYS.get(self.via, f" by {self.via}")
        return f"{self.user}{place}{way}"


_WAYS = {"terminal": "", "web": " through the web"}


class Pause(Strict):
    """Hold the run, its cell at open circuit."""

    command: Literal["pause"] = "pause"
    reason: _Text = ""


class Continue(Strict):
    """End the pause."""

    command: Literal["continue"] = "continue"


class Abort(Strict):
    """End the run through its safe state, now.

    Attributes:
        release: Whether the force is taken off the stack, too.
    """

    command: Literal["abort"] = "abort"
    reason: _Text = ""
    release: bool = False


class Skip(Strict):
    """End the step that is under way."""

    command: Literal["skip"] = "skip"


class Stop(Strict):
    """End the run after the step, or the pass of the innermost loop, that is under way."""

    command: Literal["stop"] = "stop"
    after: Literal["step", "cycle"]


class Answer(Strict):
    """Answer the question that is open."""

    command: Literal["answer"] = "answer"
    text: _Said


class Note(Strict):
    """Keep a remark in the journal."""

    command: Literal["note"] = "note"
    text: _Said


class Look(Strict):
    """Say what the run does now; changes nothing."""

    command: Literal["status"] = "status"


Command = Pause | Continue | Abort | Skip | Stop | Answer | Note
Request = Command | Look

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="command")])


class Envelope(Strict):
    """A request with who sends it, as one line on the wire.

    Attributes:
        token: The run's, which only its user can read.
        request: Looked at when the token is the right one.
    """

    cellbench: Literal[1] = VERSION
    token: Annotated[str, StringConstraints(max_length=NAME_MAX)]
    by: Person
    request: dict[str, Any]

    def line(self) -> bytes:
        """As it goes over the wire; without what a run of an earlier version would not know."""
        return self.model_dump_json(exclude_unset=True).encode() + b"\n"


class Reply(Strict):
    """What came of a request.

    Attributes:
        accepted: Whether it was done.
        text: What was done, or why not; a whole clause.
        data: Of a `Look`: what the run does.
    """

    accepted: bool
    text: str
    data: dict[str, Any] | None = None

    def line(self) -> bytes:
        """As it goes over the wire."""
        return self.model_dump_json().encode() + b"\n"


def parse_envelope(line: bytes) -> Envelope:
    """Read a line from the wire.

    Raises:
        RefusedRequest: It is none.
    """
    if len(line) > REQUEST_MAX_BYTES:
        raise RefusedRequest(f"longer than {REQUEST_MAX_BYTES} bytes")
    try:
        return Envelope.model_validate_json(line)
    except ValidationError as error:
        raise _refused(error) from None


def parse_request(fields: object) -> Request:
    """Read a request from the values of its JSON object.

    Raises:
        RefusedRequest: It is none.
    """
    try:
        return _REQUESTS.validate_python(fields)
    except ValidationError as error:
        raise _refused(error) from None


def _refused(error: ValidationError) -> RefusedRequest:
    """The first thing that is wrong, in pydantic's words; never what was sent."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "union_tag_invalid":
        return RefusedRequest("there is no such command")
    # The place is made of our own field names, but for one that must not be there.
    place = "" if first["type"] == "extra_forbidden" else ".".join(map(str, first["loc"]))
    message = first["msg"].partition(":")[0] if first["type"] == "json_invalid" else first["msg"]
    return RefusedRequest(f"{place}: {message}".removeprefix(": "))
