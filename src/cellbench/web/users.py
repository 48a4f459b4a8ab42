"""Who may sign in, and what for: names, roles, hashed passwords and tokens, in a file of the store.

Passwords are hashed with Argon2id at the parameters that argon2-cffi recommends. Tokens are 256
random bits, for programs; of those a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from cellbench.errors import InputError
from cellbench.system import write_privately

FILE = "web-users.json"
PASSWORD_MIN, PASSWORD_MAX = 10, 1000

Role = Literal["viewer", "operator"]
UserName = Annotated[str, StringConstraints(pattern=r"^[\w][\w.@-]{0,49}$")]

_HASHER = PasswordHasher()


class User(BaseModel):
    """One who may sign in, with a password or with a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: UserName
    role: Role
    password: str = ""
    token: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    users: list[User] = []


class Users:
    """The users file of a store, read again whenever it has changed.

    Args:
        directory: Of the store.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._seen: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        # What a name is checked against that nobody has: the answer takes as long.
        self._nobody = _HASHER.hash(secrets.token_urlsafe())

    def __len__(self) -> int:
        return len(self._current())

    def find(self, name: str) -> User | None:
        """The user of a name, as the file says now."""
        return self._current().get(name)

    def by_password(self, name: str, password: str) -> User | None:
        """Who this is; takes some tens of milliseconds and 64 MiB on purpose."""
        user = self.find(name)
        kept = user.password if user is not None and user.password else self._nobody
        try:
            _HASHER.verify(kept, password[:PASSWORD_MAX])
        except (VerificationError, InvalidHashError):
            return None
        return user if user is not None and user.password else None

    def by_token(self, token: str) -> User | None:
        """Whose token this is."""
        hashed = hash_of(token)
        same = (each for each in self._current().values() if each.token)
        return next((each for each in same if secrets.compare_digest(each.token, hashed)), None)

    def add_password(self, name: str, role: Role, password: str) -> None:
        """Enter a user, or give one another password or role.

        Raises:
            InputError: The name or the password will not do, or the file cannot be written.
        """
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
            raise InputError(f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters")
        self._add(name, role, password=_HASHER.hash(password))

    def add_token(self, name: str, role: Role) -> str:
        """Enter a user who signs in with a token, and return it: it is kept nowhere."""
        token = secrets.token_urlsafe(32)
        self._add(name, role, token=hash_of(token))
        return token

    def _add(self, name: str, role: Role, *, password: str = "", token: str = "") -> None:
        try:
            user = User(name=name, role=role, password=password, token=token)
        except ValidationError as error:
            raise InputError(
                f'"{name}" is no name: letters, digits and . _ @ -, at most 50 of them'
            ) from error
        users = self._current() | {name: user}
        file = _File(users=list(users.values()))
        try:
            write_privately(self.path, file.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from error

    def _current(self) -> dict[str, User]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return {}
        seen = (stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._users, self._seen = _read(self.path), seen
        return self._users


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> dict[str, User]:
    try:
        file = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} is no file of users: make it anew with --add-user") from error
    return {user.name: user for user in file.users}
