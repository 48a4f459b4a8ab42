"""Requests of every kind that the API's own description allows, and such as it does not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from .client import Browser

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

EXAMPLES = 12
#: A check is a process of its own each time.
CHECKS = 2
#: Events do not end, and signing out ends the others' session.
LEFT_OUT = ("/events", "/api/session")


@pytest.mark.parametrize("run", ["last", None])
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_is_an_error_of_the_server(
    anna: Browser, vera: Browser, run: str | None, mode: str
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    schema = schemathesis.openapi.from_dict(anna.json("/api/openapi.json"))
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith(LEFT_OUT):
            continue
        named = {"run": run} if run and "{run}" in operation.path else None
        strategy = operation.as_strategy(schemathesis.GenerationMode(mode), path_parameters=named)

        @settings(
            max_examples=CHECKS if operation.path == "/api/check" else EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: Any) -> None:
            headers = {"X-CSRF-Token": anna.headers["X-CSRF-Token"]}
            answer = case.call(
                base_url=f"http://127.0.0.1:{anna.port}",
                headers=headers,
                cookies=anna.cookies,
                timeout=60,  # analyses are worked out when they are first asked for
            )
            assert answer.status_code < 500, answer.text
            assert answer.status_code != 401

        with contextlib.suppress(Unsatisfiable):  # nothing about it can be wrong
            ask()
            tried += 1
    assert tried > 10
