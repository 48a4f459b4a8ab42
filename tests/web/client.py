"""A browser for tests: real HTTP on loopback, with the session's cookie and its token."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import uvicorn

from cellbench.web.app import make_app
from cellbench.web.serving import listening
from cellbench.web.site import Site, own_names

PASSWORD = "a password of some length"  # noqa: S105 (of tests)


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, which it must be."""
        assert self.headers["content-type"].startswith("application/json"), self.body[:200]
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What the server says is wrong."""
        found: str = self.json()["error"]
        return found


@dataclass
class Browser:
    """One browser; ``headers`` go with every request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        """Fetch a path."""
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """Post JSON."""
        return self.send("POST", path, json.dumps(body or {}).encode(), headers)

    def json(self, path: str) -> Any:
        """Fetch JSON that must be there."""
        answer = self.get(path)
        assert answer.status == 200, answer.body
        return answer.json()

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """One request; the answer's cookies are kept."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, self._headers() | dict(headers))
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            if "set-cookie" in answered:
                kept = SimpleCookie(answered["set-cookie"])
                self.cookies |= {name: each.value for name, each in kept.items()}
            return Answer(response.status, answered, response.read())
        finally:
            connection.close()

    def sign_in(self, user: str = "anna", password: str = PASSWORD) -> Answer:
        """Sign in, and bear the session's token from now on."""
        answer = self.post("/api/session", {"user": user, "password": password})
        if answer.status == 200:
            self.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return answer

    @contextmanager
    def events(self, path: str, **headers: str) -> Iterator[Iterator[Event]]:
        """Server-sent events as they come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, None, self._headers() | headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield _events(response)
        finally:
            # The socket is the response's own by now: closing that ends the stream.
            response.close()
            connection.close()

    def _headers(self) -> dict[str, str]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        cookie = {"Cookie": pairs} if pairs else {}
        return {"Content-Type": "application/json"} | cookie | self.headers


@dataclass
class Event:
    """One server-sent event."""

    name: str
    data: Any
    id: str = ""


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    fields: dict[str, str] = {}
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif fields:
            yield Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            fields = {}


@contextmanager
def serving(site: Site) -> Iterator[Browser]:
    """Serve a site from a thread of this process, on its own port."""
    with listening("127.0.0.1", 0) as socket:
        site.port = socket.getsockname()[1]
        config = uvicorn.Config(make_app(site), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Browser(site.port)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def site_of(directory: Path, **more: Any) -> Site:
    """A site over a store whose log is kept in a list."""
    return Site(directory, 0, own_names(), say=lambda _: None, **more)
