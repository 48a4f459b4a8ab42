"""``cellbench serve``: what it refuses to open, users, TLS, and what the rest does not load."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.web.users import Users

from .client import PASSWORD
from .processes import Process, server


def serve(*arguments: str, typed: str = "") -> Result:
    result = CliRunner().invoke(app, ["serve", *arguments], input=typed)
    assert "Traceback" not in result.output
    return result


def entered(store: Path, name: str = "anna") -> None:
    store.mkdir(exist_ok=True)
    Users(store).add_password(name, "operator", PASSWORD)


@pytest.mark.long
def test_it_does_not_open_beyond_this_computer_without_a_user(store_directory: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "bench.example"):  # noqa: S104 (refused)
        result = serve("--host", host, "--without-tls")
        assert result.exit_code == 2
        assert "cellbench serve --add-user NAME --role operator" in result.output


def test_it_does_not_open_beyond_this_computer_without_tls(store_directory: Path) -> None:
    entered(store_directory)
    result = serve("--host", "0.0.0.0")  # noqa: S104 (refused)
    assert result.exit_code == 2
    assert "--certificate FILE and --key FILE" in result.output
    assert "--without-tls" in result.output


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--certificate", "x.pem"], "TLS needs both files"),
        (["--certificate", "x.pem", "--key", "y.pem"], "there is no file x.pem"),
        (["--host", "192.0.2.1", "--without-tls"], "cannot be had"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_cannot_be_is_told(store_directory: Path, arguments: list[str], said: str) -> None:
    entered(store_directory)
    result = serve(*arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.long
def test_a_port_that_is_taken_is_told(store_directory: Path) -> None:
    with server() as (_, browser):
        result = serve("--port", str(browser.port))
        assert result.exit_code == 2
        assert f"port {browser.port} of 127.0.0.1 cannot be had" in result.output


@pytest.mark.long
def test_a_user_is_entered_with_a_password_that_is_asked_for(store_directory: Path) -> None:
    typed = f"{PASSWORD}\n{PASSWORD}\n"
    result = serve("--add-user", "anna", "--role", "operator", typed=typed)
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    found = Users(store_directory).by_password("anna", PASSWORD)
    assert found is not None
    assert found.role == "operator"
    assert serve("--add-user", "a b", typed=typed).exit_code == 2
    assert serve("--add-user", "bert", typed="short\nshort\n").exit_code == 2


def test_a_token_is_shown_once(store_directory: Path) -> None:
    result = serve("--add-user", "archive", "--token")
    token = result.output.splitlines()[-1]
    found = Users(store_directory).by_token(token)
    assert found is not None
    assert (found.name, found.role) == ("archive", "viewer")


@pytest.mark.long
def test_with_users_no_link_is_printed(store_directory: Path) -> None:
    entered(store_directory)
    process = Process("serve", "--port", "0")
    try:
        process.hears(r"cellbench is at http://127\.0\.0\.1:\d+/")
        assert "token" not in process.said
    finally:
        process.close()


@pytest.mark.long
def test_it_speaks_tls(store_directory: Path, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    entered(store_directory)
    process = Process(
        "serve", "--port", "0", "--certificate", str(tmp_path / "certificate.pem"),
        "--key", str(tmp_path / "key.pem"),
    )  # fmt: skip
    try:
        port = int(process.hears(r"cellbench is at https://127\.0\.0\.1:(\d+)/")[1])
        context = ssl.create_default_context()
        authority.configure_trust(context)
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        body = json.dumps({"user": "anna", "password": PASSWORD})
        headers = {"Content-Type": "application/json", "Origin": f"https://localhost:{port}"}
        connection.request("POST", "/api/session", body, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        (cookie,) = SimpleCookie(response.getheader("set-cookie") or "").values()
        assert cookie["secure"]
        assert cookie.key.startswith("__Host-")
        connection.close()
    finally:
        process.close()


def test_a_key_that_is_none_is_told(store_directory: Path, tmp_path: Path) -> None:
    entered(store_directory)
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).write_text("nothing")
    result = serve(
        "--certificate", str(tmp_path / "certificate.pem"), "--key", str(tmp_path / "key.pem")
    )
    assert result.exit_code == 2
    assert "cannot be used" in result.output


def test_other_commands_load_nothing_of_it() -> None:
    code = (
        "import sys\n"
        "from cellbench.cli.app import app\n"
        "found = {'fastapi', 'starlette', 'uvicorn', 'argon2', 'numpy'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
