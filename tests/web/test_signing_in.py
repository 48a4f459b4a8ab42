"""Signing in: passwords, tokens, links; what a browser is given; who guesses is slowed down."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from cellbench.errors import InputError
from cellbench.system import WINDOWS
from cellbench.web.limiter import FORGOTTEN_S, FREE, MOST_S, Limiter, TooManyAttempts, address_key
from cellbench.web.sessions import IDLE_S, Sessions
from cellbench.web.sessions import MOST_S as SESSION_S
from cellbench.web.site import Site
from cellbench.web.users import User, Users

from .client import PASSWORD, Browser, serving, site_of


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Browser]:
    """A server of its own, whose failures are nobody else's."""
    Users(tmp_path).add_password("anna", "operator", PASSWORD)
    (tmp_path / "runs").mkdir()
    with serving(site_of(tmp_path, limiter=Limiter(Clock()))) as browser:
        yield browser


def test_a_session_is_in_a_cookie_that_scripts_cannot_read(alone: Browser) -> None:
    answer = alone.sign_in()
    assert answer.json() | {"csrf": ""} == {"user": "anna", "role": "operator", "csrf": ""}
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert cookie["path"] == "/"
    assert cookie.value not in answer.body.decode()
    assert alone.json("/api/session") == answer.json()


def test_signing_out_ends_the_session_for_whoever_kept_its_cookie(alone: Browser) -> None:
    alone.sign_in()
    kept = Browser(alone.port, cookies=dict(alone.cookies))
    assert kept.get("/api/session").status == 200
    assert alone.send("DELETE", "/api/session", None, {}).status == 200
    assert kept.get("/api/session").status == 401


@pytest.mark.long
@pytest.mark.parametrize(
    ("user", "password"), [("anna", "wrong"), ("nobody", PASSWORD), ("", ""), ("anna", "")]
)
def test_what_is_wrong_is_not_told(alone: Browser, user: str, password: str) -> None:
    answer = alone.sign_in(user, password)
    assert answer.status == 401
    assert answer.error == "the name or the password is wrong, or the link was used before"
    assert "set-cookie" not in answer.headers


@pytest.mark.long
def test_guessing_is_slowed_down_also_with_many_connections(alone: Browser) -> None:
    def guess(number: int) -> int:
        return Browser(alone.port).sign_in("anna", f"a guess, number {number}").status

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(guess, range(60)))
    assert answers.count(401) == FREE
    assert answers.count(429) == 60 - FREE
    refused = alone.sign_in()  # from this address, for now, also what is right
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert "too many attempts" in refused.error


def test_each_failure_makes_the_next_attempt_wait_longer() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for _ in range(FREE):
        limiter.begin(["user anna"])
    waits = []
    for _ in range(10):
        with pytest.raises(TooManyAttempts) as error:
            limiter.begin(["user anna", "address 192.0.2.1"])
        waits.append(error.value.wait_s)
        limiter.begin(["user bert"])  # who has not failed
        limiter.succeeded(["user bert"])
        clock.now += error.value.wait_s
        limiter.begin(["user anna"])
    assert waits == [min(MOST_S, 2.0**number) for number in range(10)]
    clock.now += FORGOTTEN_S + 1
    for _ in range(FREE):
        limiter.begin(["user anna"])


def test_a_success_forgets_the_failures() -> None:
    limiter = Limiter(Clock())
    for _ in range(50):
        limiter.begin(["user anna"])
        limiter.succeeded(["user anna"])


def test_the_limiters_memory_is_bounded() -> None:
    limiter = Limiter(Clock())
    for number in range(30_000):
        limiter.begin([f"user {number}"])
    assert len(limiter._failures) == 10_000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_a_network_of_ipv6_is_one_address(one: str, other: str, same: bool) -> None:
    assert (address_key(one) == address_key(other)) is same


def test_a_link_signs_in_once_and_another_is_printed(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    site = site_of(tmp_path)
    printed: list[str] = []
    user = User(name="jk", role="operator")
    site.new_link = lambda: printed.append(site.sessions.link_token(user))
    site.new_link()
    with serving(site) as browser:
        answer = browser.post("/api/session", {"token": printed[0]})
        assert answer.json()["role"] == "operator"
        assert browser.get("/api/session").status == 200
        assert Browser(browser.port).post("/api/session", {"token": printed[0]}).status == 401
        assert len(printed) == 2
        assert Browser(browser.port).post("/api/session", {"token": printed[1]}).status == 200


def test_a_program_signs_in_with_its_token_on_every_request(alone: Browser, tmp_path: Path) -> None:
    token = Users(tmp_path).add_token("archive", "viewer")
    program = Browser(alone.port, {"Authorization": f"Bearer {token}"})
    assert program.json("/api/session")["user"] == "archive"
    assert program.post("/api/runs/last/pause", {"confirm": True}).status == 403
    assert Browser(alone.port, {"Authorization": f"Bearer {token}x"}).get("/api/runs").status == 401
    assert Browser(alone.port).post("/api/session", {"token": token}).status == 200


@pytest.mark.long
def test_whoever_is_taken_out_of_the_file_is_signed_out(alone: Browser, tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add_password("vera", "operator", PASSWORD)
    alone.sign_in("vera")
    assert alone.get("/api/session").status == 200
    users.add_password("vera", "viewer", PASSWORD)
    assert alone.get("/api/session").status == 401


def test_sessions_end_by_themselves(tmp_path: Path) -> None:
    clock = Clock()
    users = Users(tmp_path)
    users.add_password("anna", "operator", PASSWORD)
    anna = users.find("anna")
    assert anna is not None
    sessions = Sessions(users, clock)
    token, _ = sessions.begin(anna)
    clock.now += IDLE_S - 1
    assert sessions.find(token)
    clock.now += IDLE_S + 1
    assert not sessions.find(token)
    token, _ = sessions.begin(anna)
    for _ in range(int(SESSION_S / IDLE_S)):
        assert sessions.find(token)
        clock.now += IDLE_S
    clock.now += 1
    assert not sessions.find(token)


def test_passwords_are_kept_as_argon2_hashes_in_a_file_of_ones_own(tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add_password("anna", "operator", PASSWORD)
    token = users.add_token("archive", "viewer")
    text = users.path.read_text()
    assert PASSWORD not in text
    assert token not in text
    assert "$argon2id$" in text
    if not WINDOWS:
        assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    again = Users(tmp_path)
    assert len(again) == 2
    assert again.by_password("anna", PASSWORD) == users.find("anna")
    assert again.by_password("archive", "") is None  # a token is no empty password


@pytest.mark.parametrize("name", ["", "a b", "<b>", "../x", "x" * 60, "anna\n"])
def test_a_name_that_will_not_do_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no name"):
        Users(tmp_path).add_token(name, "viewer")


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="10 to 1000"):
        Users(tmp_path).add_password("anna", "viewer", "short")


def test_a_damaged_file_of_users_lets_nobody_in(alone: Browser, tmp_path: Path) -> None:
    alone.sign_in()
    path = tmp_path / "web-users.json"
    path.write_text('{"users": [{"name": "eve"')
    os.utime(path, (1, 1))
    answer = alone.get("/api/session")
    assert answer.status == 422
    assert "is no file of users" in answer.error


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/runs/last?x=1", "/runs/last?x=1"),
        ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"),
        ("https://elsewhere.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_to_this_server_only(asked: str, led: str) -> None:
    from cellbench.web.pages import local_path

    assert local_path(asked) == led


def test_a_host_is_ours_by_name_or_as_an_address() -> None:
    site = Site(Path(), 0, frozenset({"localhost", "bench.example"}))
    for host in ("localhost:8765", "BENCH.example.", "127.0.0.1:1", "[::1]:8765", "192.0.2.7"):
        assert site.is_ours(host), host
    for host in ("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1"):
        assert not site.is_ours(host), host
