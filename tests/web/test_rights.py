"""Who may do what: every route there is, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from cellbench.web.app import ROUTERS, inner_app

from .client import Answer, Browser, site_of

#: Routes that are open on purpose: a new one is written down here, or protected.
OPEN = {("POST", "/api/session"), ("GET", "/sign-in")}
#: Routes that change something which is no run's business: viewers may use them.
FOR_VIEWERS = {("DELETE", "/api/session"), ("POST", "/api/check")}


def routes() -> list[tuple[str, str]]:
    found = [
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    described = inner_app(site_of(Path())).openapi()["paths"]
    assert {(method.upper(), path) for path in described for method in described[path]} == {
        each for each in found if each[1].startswith("/api")
    }
    return [each for each in found if each not in OPEN]


READS = [path for method, path in routes() if method == "GET"]
CHANGES = [(method, path) for method, path in routes() if method != "GET"]
ACTIONS = [each for each in CHANGES if each not in FOR_VIEWERS]


def sent(browser: Browser, method: str, path: str, **headers: str) -> Answer:
    filled = path.replace("{run}", "last").replace("{name}", "ccd")
    body = b'{"confirm": true, "text": "x", "prompt": "x"}' if method == "POST" else None
    return browser.send(method, filled, body, headers)


def test_there_are_the_actions_that_the_contract_names() -> None:
    names = {path.rpartition("/")[2] for _, path in ACTIONS}
    assert names == {"pause", "continue", "skip", "stop", "abort", "emergency", "answer", "note"}


@pytest.mark.parametrize("path", READS)
def test_nothing_is_shown_without_a_session(server: Browser, path: str) -> None:
    answer = sent(server, "GET", path)
    if path.startswith("/api/"):
        assert answer.status == 401
        assert answer.error == "nobody is signed in"
    else:
        assert answer.status == 303
        assert answer.headers["location"].startswith("/sign-in?next=/")


@pytest.mark.parametrize(("method", "path"), CHANGES)
class TestEveryChange:
    """Refused in each of these ways, before anything else is looked at."""

    def test_without_a_session(self, server: Browser, method: str, path: str) -> None:
        assert sent(server, method, path).status == 401

    def test_without_the_sessions_token(self, anna: Browser, method: str, path: str) -> None:
        bare = Browser(anna.port, cookies=anna.cookies)
        assert sent(bare, method, path).status == 403

    def test_with_another_sessions_token(
        self, anna: Browser, vera: Browser, method: str, path: str
    ) -> None:
        mixed = Browser(anna.port, headers=dict(vera.headers), cookies=anna.cookies)
        assert sent(mixed, method, path).status == 403

    def test_with_a_token_that_is_no_text(self, anna: Browser, method: str, path: str) -> None:
        odd = Browser(anna.port, {"X-CSRF-Token": "\xe9"}, anna.cookies)
        assert sent(odd, method, path).status == 403

    @pytest.mark.parametrize(
        "origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"]
    )
    def test_from_another_origin(self, anna: Browser, method: str, path: str, origin: str) -> None:
        answer = sent(anna, method, path, Origin=origin)
        assert answer.status == 403
        assert answer.error == "the request comes from another origin"

    def test_from_another_site_without_an_origin(
        self, anna: Browser, method: str, path: str
    ) -> None:
        assert sent(anna, method, path, **{"Sec-Fetch-Site": "cross-site"}).status == 403

    def test_under_a_name_that_is_not_ours(self, anna: Browser, method: str, path: str) -> None:
        assert sent(anna, method, path, Host="rebound.example").status == 421


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_viewers_change_nothing(vera: Browser, method: str, path: str) -> None:
    answer = sent(vera, method, path)
    assert answer.status == 403
    assert answer.error == "vera is a viewer: this needs an operator"


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_an_action_has_to_be_confirmed(anna: Browser, method: str, path: str) -> None:
    path = path.replace("{run}", "last")
    whole = {"confirm": False, "text": "x", "prompt": "x"}
    for body in ({}, {"confirm": False}, {"confirm": "yes"}, whole):
        assert anna.post(path, body).status == 422


@pytest.mark.parametrize(
    "path", ["/", "/api/runs", "/nowhere", "/api/runs/none", "/static/pages.css", "/sign-in"]
)
def test_every_answer_bears_the_headers_that_keep_browsers_safe(anna: Browser, path: str) -> None:
    headers = anna.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_a_request_is_bounded_in_size(anna: Browser) -> None:
    answer = anna.post("/api/check", {"text": "x" * 1_100_000})
    assert answer.status == 413
