from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellbench.errors import InputError
from cellbench.telemetry import read_telemetry
from cellbench.telemetry.configuration import Topic

pytest.importorskip("aiomqtt", reason="the extra [mqtt] is not installed")
pytest.importorskip("apprise", reason="the extra [alerts] is not installed")
# apprise imports it where there is one.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

WHOLE = """
site: Giessen
mqtt:
  host: broker.lab.example
  user: glovebox2
  password: {file: password}
  every: 10 s
  commands: {operators: operators.yaml, within: 2 min}
alerts:
  to:
    night shift: {environment: CELLBENCH_NIGHT_SHIFT}
    log: json://127.0.0.1:8080/cellbench
  on: [trips, prompts]
  at most every: 20 min
  prompts after: 30 s
  stalled after: 1 h
  patience: 1 min
"""


def private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    private(tmp_path / "password", "of the broker\n")
    operators = "operators:\n  anna: {secret: 0123456789abcdef0123456789abcdef, may: [pause]}\n"
    private(tmp_path / "operators.yaml", operators)
    monkeypatch.setenv("CELLBENCH_NIGHT_SHIFT", "mailto://user:password@example.org")
    return tmp_path


def reading(directory: Path, text: str) -> str:
    """The error that a file leads to."""
    path = directory / "telemetry.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_telemetry(path)
    return str(caught.value)


def test_a_whole_file_is_read_with_its_secrets(directory: Path) -> None:
    path = directory / "telemetry.yaml"
    path.write_text(WHOLE)
    telemetry = read_telemetry(path)
    assert telemetry.site == "Giessen"
    assert telemetry.password == "of the broker"  # noqa: S105
    assert telemetry.mqtt is not None
    assert telemetry.mqtt.address == ("broker.lab.example", 1883)
    assert telemetry.mqtt.every_s == 10.0
    assert telemetry.operators["anna"].may == {"pause"}
    assert "0123456789abcdef" not in repr(telemetry)
    assert telemetry.alerts.on == (Topic.TRIPS, Topic.PROMPTS)
    assert telemetry.alerts.apart_s == 1200.0
    assert set(telemetry.channels) == {"night shift", "log"}


def test_secrets_are_not_taken_from_the_file_itself(directory: Path) -> None:
    said = reading(directory, "mqtt: {host: broker, user: me, password: swordfish}\n")
    assert "must not stand here in clear" in said
    said = reading(directory, "alerts: {to: {mail: 'mailto://user:swordfish@example.org'}}\n")
    assert "must not have a password in clear" in said
    assert "{environment: NAME}" in said


@pytest.mark.skipif(os.name != "posix", reason="modes of files mean nothing here")
def test_secrets_that_others_can_read_are_refused(directory: Path) -> None:
    for name in ("password", "operators.yaml"):
        (directory / name).chmod(0o644)
        assert f"chmod 600 {directory / name}" in reading(directory, WHOLE)
        (directory / name).chmod(0o600)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt: {hots: broker}\n", '"hots" is not known here; did you mean "host"?'),
        ("mqtt: {port: 1883}\n", 'needs "host"'),
        ("mqtt: {host: broker, port: 99999}\n", "less than or equal to 65535"),
        ("mqtt: {host: broker, every: 5}\n", "5"),
        ("mqtt: {host: broker, every: 5 V}\n", "5 V"),
        ("mqtt: {host: broker, password: {file: nowhere}}\n", "cannot be read"),
        ("mqtt: {host: broker, password: {environment: CELLBENCH_NO_SUCH}}\n", "is not set"),
        ("mqtt: {host: broker, tls: {ca: nowhere.pem}}\n", "nowhere.pem cannot be used"),
        ("mqtt: {host: broker, tls: {key: k.pem}}\n", 'a "key" without its "certificate"'),
        ("mqtt: {host: broker, commands: {operators: nowhere.yaml}}\n", "nowhere.yaml"),
        ("alerts: {to: {log: nonsense}}\n", 'apprise cannot use the URL of "log"'),
        ("alerts: {on: [everything]}\n", "everything"),
        ("- a list\n", "must be a block"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_said(directory: Path, text: str, expected: str) -> None:
    assert expected in reading(directory, text)


def test_a_secret_of_an_operator_that_is_short_is_refused(directory: Path) -> None:
    private(directory / "operators.yaml", "operators: {anna: {secret: short}}\n")
    assert "24 characters" in reading(directory, WHOLE)
    text = "operators: {anna: {secret: 0123456789abcdef0123456789abcdef, may: [energise]}}\n"
    private(directory / "operators.yaml", text)
    assert 'unknown commands "energise"' in reading(directory, WHOLE)


def test_a_package_that_is_missing_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_name: str) -> None:
        return None

    monkeypatch.setattr("cellbench.telemetry.configuration.find_spec", none)
    assert "pip install 'cellbench[mqtt]'" in reading(directory, "mqtt: {host: broker}\n")
    said = reading(directory, "alerts: {to: {log: 'json://127.0.0.1'}}\n")
    assert "pip install 'cellbench[alerts]'" in said
