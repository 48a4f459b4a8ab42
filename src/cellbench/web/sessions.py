"""Who is signed in. Sessions are in this process alone: they end with it, and when their user does.

Of what a browser holds, only a hash is kept here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cellbench.web.users import Role, User, Users, hash_of

#: A session ends after so long without a request, and so long after it began.
IDLE_S, MOST_S = 12 * 3600.0, 7 * 86400.0
_SESSIONS_MAX = 1000


@dataclass
class Session:
    """One browser, or program, that is signed in.

    Attributes:
        csrf: What each request that changes something bears in a header.
        local: Whether it came by the link that was printed at the start: it is in no file.
    """

    user: User
    local: bool
    born_s: float
    seen_s: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @property
    def role(self) -> Role:
        """What the user may do."""
        return self.user.role


class Sessions:
    """The sessions there are.

    Args:
        users: Who may have one; a user whose entry has changed has to sign in again.
        now: A clock in seconds.
    """

    def __init__(self, users: Users, now: Callable[[], float] = time.monotonic) -> None:
        self._users, self._now = users, now
        self._sessions: dict[str, Session] = {}
        self._links: dict[str, User] = {}

    def begin(self, user: User, *, local: bool = False) -> tuple[str, Session]:
        """Begin a session; returns what its browser is to bear, and the session."""
        token, now_s = secrets.token_urlsafe(32), self._now()
        session = Session(user, local, now_s, now_s)
        self._sessions[hash_of(token)] = session
        if len(self._sessions) > _SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        return token, session

    def find(self, token: str) -> Session | None:
        """The session that a browser bears, None where there is none any more."""
        key, now_s = hash_of(token), self._now()
        session = self._sessions.get(key)
        if session is None:
            return None
        over = now_s - session.seen_s > IDLE_S or now_s - session.born_s > MOST_S
        if over or not (session.local or self._users.find(session.name) == session.user):
            del self._sessions[key]
            return None
        session.seen_s = now_s
        return session

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(hash_of(token), None)

    def link_token(self, user: User) -> str:
        """Make a token that signs in one browser, once."""
        token = secrets.token_urlsafe(32)
        self._links[hash_of(token)] = user
        return token

    def by_link(self, token: str) -> User | None:
        """Whom a token from a link signs in; it is worth nothing afterwards."""
        return self._links.pop(hash_of(token), None)
