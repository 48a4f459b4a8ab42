"""The telemetry file: which broker and which people hear of a run, and with what credentials.

Nothing secret stands in it: each secret is in a file or in the environment, and the telemetry file
says which. Relative paths are relative to the telemetry file.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from cellbench.errors import InputError
from cellbench.protocol.source import load, read_document
from cellbench.protocol.validation import Seconds, validate
from cellbench.telemetry.commands import COMMANDS, Operator

#: In place of a CA file: the certificates that the operating system trusts.
SYSTEM_CA = "system"
#: A password within a URL, as in ``mailto://user:password@host``.
_PASSWORD_IN_URL = re.compile(r"://[^/@?]*:[^/@?]+@|[?&](pass|token|secret)[a-z]*=", re.IGNORECASE)
#: A shorter secret could be guessed from one message that was listened in on.
_SECRET_CHARACTERS = 24


class Topic(StrEnum):
    """What people can be alerted of."""

    TRIPS = "trips"  #: a limit, a failure: the run is over before its protocol is
    ENDS = "ends"  #: the protocol came to an end, or somebody ended it
    HOLDS = "holds"  #: the run waits, goes on, was interrupted or resumed
    STALLS = "stalls"  #: nothing was measured for a long time
    PROMPTS = "prompts"  #: a person is waited for
    TROUBLE = "trouble"  #: an instrument or the host
    DISK = "disk"  #: space runs out
    WARNINGS = "warnings"  #: whatever else the journal warns of


Positive = Annotated[Seconds, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Secret(_Part):
    """Where a secret is: in a file, or in an environment variable."""

    file: Path | None = None
    environment: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, written: Any) -> Any:
        if isinstance(written, str):
            raise ValueError(  # noqa: TRY004 (pydantic wants this one)
                "must not stand here in clear: write {file: FILE} or {environment: NAME}"
            )
        if isinstance(written, Mapping) and len(written) != 1:
            raise ValueError('must have either "file" or "environment"')
        return written

    def read(self, beside: Path) -> str:
        """Return it.

        Raises:
            InputError: It is not there, or others can read its file.
        """
        if self.environment is not None:
            value = os.environ.get(self.environment, "")
            if not value:
                raise InputError(f"the environment variable {self.environment} is not set")
            return value
        assert self.file is not None  # noqa: S101 (one of the two is there)
        return private_text(beside / self.file.expanduser()).strip()


class Tls(_Part):
    """How the broker is known, and how it knows this computer.

    Attributes:
        ca: File of the certificates that vouch for the broker, or ``system``.
        certificate, key: Of this computer, where the broker wants one.
    """

    ca: str = SYSTEM_CA
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if self.key is not None and self.certificate is None:
            raise ValueError('has a "key" without its "certificate"')
        return self

    def context(self, beside: Path) -> ssl.SSLContext:
        """Return the context in which the broker is connected to; its name is checked.

        Raises:
            InputError: A file cannot be used.
        """
        ca = None if self.ca == SYSTEM_CA else beside / Path(self.ca).expanduser()
        try:
            context = ssl.create_default_context(cafile=ca)
            if self.certificate is not None:
                key = None if self.key is None else beside / self.key.expanduser()
                context.load_cert_chain(beside / self.certificate.expanduser(), key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(each) for each in (ca, self.certificate, self.key) if each)
            raise InputError(f"TLS: {names} cannot be used: {error}") from error
        return context


class CommandSettings(_Part):
    """Who may command a run through the broker.

    Attributes:
        operators: File with each operator's secret and what each may do.
        within_s: How far the time in a message may be from this computer's.
    """

    operators: Path
    within_s: Positive = Field(60.0, alias="within")


class MqttSettings(_Part):
    """The broker.

    Attributes:
        every_s: How often the newest readings are told at most.
        commands: None: nobody commands anything through it.
    """

    host: str
    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = None
    password: Secret | None = None
    tls: Tls | None = None
    every_s: Positive = Field(5.0, alias="every")
    commands: CommandSettings | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; the port is the usual one where none is named."""
        return self.host, self.port or (1883 if self.tls is None else 8883)


class Channel(_Part):
    """Where alerts go: a URL as apprise has them, here or, with its secrets, elsewhere."""

    url: str | None = None
    file: Path | None = None
    environment: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one(cls, written: Any) -> Any:
        if isinstance(written, str):
            return {"url": written}
        if isinstance(written, Mapping) and len(written) != 1:
            raise ValueError('must have one of "url", "file" and "environment"')
        return written

    @field_validator("url")
    @classmethod
    def _open(cls, url: str | None) -> str | None:
        if url is not None and _PASSWORD_IN_URL.search(url):
            raise ValueError(
                "must not have a password in clear: put the URL into a file or the environment, "
                "and write {file: FILE} or {environment: NAME}"
            )
        return url

    def read(self, beside: Path) -> str:
        """Return the URL; errors as of `Secret.read`."""
        if self.url is not None:
            return self.url
        return Secret(**self.model_dump(exclude_none=True)).read(beside)


class AlertSettings(_Part):
    """Who is told of what.

    Attributes:
        to: Where alerts go, by a name that people know.
        on: What they are told of.
        apart_s: One kind of alert of one run comes once in this time at most.
        prompts_after_s: How long a prompt waits before they are told.
        stalled_after_s: How long nothing is measured before they are told.
        patience_s: How long a run that has ended waits for alerts to be delivered.
    """

    to: dict[str, Channel] = Field(default_factory=dict)
    on: tuple[Topic, ...] = tuple(topic for topic in Topic if topic is not Topic.WARNINGS)
    apart_s: Positive = Field(600.0, alias="at most every")
    prompts_after_s: Positive = Field(60.0, alias="prompts after")
    stalled_after_s: Positive = Field(900.0, alias="stalled after")
    patience_s: Positive = Field(120.0, alias="patience")


class TelemetryFile(_Part):
    """What the file holds."""

    site: str | None = None
    mqtt: MqttSettings | None = None
    alerts: AlertSettings | None = None


class _OperatorEntry(_Part):
    secret: str = Field(min_length=_SECRET_CHARACTERS)
    may: tuple[str, ...] = COMMANDS

    @field_validator("may")
    @classmethod
    def _known(cls, may: tuple[str, ...]) -> tuple[str, ...]:
        unknown = ", ".join(each for each in may if each not in COMMANDS)
        if unknown:
            raise ValueError(f'has unknown commands "{unknown}"; there are: {", ".join(COMMANDS)}')
        return may


class _OperatorsFile(_Part):
    operators: dict[str, _OperatorEntry]


@dataclass(frozen=True)
class Telemetry:
    """A telemetry file with its secrets, found to be usable.

    Attributes:
        site: Part of the topics, None for none.
        mqtt: None: no broker.
        password, tls: Of the broker.
        alerts: What people are told of.
        channels: URL of each of them by name.
        operators: Those who may command through the broker; empty: nobody.
    """

    site: str | None
    mqtt: MqttSettings | None
    password: str | None
    tls: ssl.SSLContext | None
    alerts: AlertSettings
    channels: Mapping[str, str]
    operators: Mapping[str, Operator]


def read_telemetry(path: Path) -> Telemetry:
    """Read a telemetry file and what it names.

    Raises:
        InputError: It is wrong, a secret is missing, or a package that it needs is not installed.
    """
    file = validate(TelemetryFile, load(read_document(path)))
    beside, mqtt, alerts = path.absolute().parent, file.mqtt, file.alerts or AlertSettings()
    if mqtt is not None:
        _needs("aiomqtt", "mqtt", path)
    if alerts.to:
        _needs("apprise", "alerts", path)
    password = None if mqtt is None or mqtt.password is None else mqtt.password.read(beside)
    tls = None if mqtt is None or mqtt.tls is None else mqtt.tls.context(beside)
    operators: Mapping[str, Operator] = {}
    if mqtt is not None and mqtt.commands is not None:
        operators = read_operators(beside / mqtt.commands.operators.expanduser())
    channels = {name: channel.read(beside) for name, channel in alerts.to.items()}
    if channels:
        from cellbench.telemetry.delivery import refuse_unusable  # noqa: PLC0415 (an extra)

        refuse_unusable(channels)
    return Telemetry(file.site, mqtt, password, tls, alerts, channels, operators)


def read_operators(path: Path) -> Mapping[str, Operator]:
    """Read the file of those who may command, with their secrets.

    Raises:
        InputError: It is wrong, or others can read it.
    """
    private_text(path)
    file = validate(_OperatorsFile, load(read_document(path)))
    return {
        name: Operator(entry.secret.encode(), frozenset(entry.may))
        for name, entry in file.operators.items()
    }


def private_text(path: Path) -> str:
    """Return what a file says that only its owner may read.

    Raises:
        InputError: It cannot be read, or others can read it too.
    """
    try:
        # Windows keeps the files of a user's profile to that user; its modes say nothing of it.
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{path} holds a secret that others can read: chmod 600 {path}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}") from error


def _needs(package: str, extra: str, path: Path) -> None:
    if find_spec(package) is None:
        raise InputError(
            f'{path.name}: "{extra}" needs a package that is not installed: '
            f"pip install 'cellbench[{extra}]'"
        )
