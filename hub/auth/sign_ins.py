"""Who is signed in, as they see it themselves: every sign-in and socket on every node, and how to end them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from hub.auth.administration import require_own_tenant, stored
from hub.auth.service import ACCESS_LIFETIME, Authentication
from hub.auth.tokens import LEEWAY_S
from hub.caller import Caller
from hub.clock import Clock
from hub.connections.directory import Directory, Socket
from protocol.errors import ErrorCode, HubError
from storage.revocations import Revocations
from storage.users import RefreshTokens

SessionKind = Literal["sign_in", "token"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in with everything that descends from it, or one token that no sign-in produced.

    `current` is the one that asks. Times are milliseconds since 1970. A token without a socket is not known to anybody
    but its holder, and is not listed.
    """

    id: str
    kind: SessionKind
    user: str
    amr: list[str] = []
    signed_in_at: int | None = None
    expires_at: int | None = None
    current: bool
    sockets: list[Socket]


class SessionList(msgspec.Struct, frozen=True):
    """`complete`: every node has answered."""

    sessions: list[Session]
    complete: bool


class SignIns:
    def __init__(
        self,
        authentication: Authentication,
        *,
        refresh_tokens: RefreshTokens,
        revocations: Revocations,
        directory: Directory,
        ring: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`ring` is called when something was ended."""
        self._authentication = authentication
        self._refresh_tokens = refresh_tokens
        self._revocations = revocations
        self._directory = directory
        self._ring = ring
        self._clock = clock

    async def list(self, caller: Caller, name: str) -> SessionList:
        """Raises HubError(not_found)."""
        await require_own_tenant(self._authentication, caller, name)
        with stored():
            sign_ins = await self._refresh_tokens.sign_ins(name, now=self._now())
        sockets, complete = await self._directory.of_user(name)
        current = caller.sid or caller.jti if caller.user == name else ""
        by_session: dict[str, list[Socket]] = {}
        for socket in sockets:
            by_session.setdefault(socket.session, []).append(socket)
        listed = [
            Session(
                id=str(each.family),
                kind="sign_in",
                user=name,
                amr=each.amr,
                signed_in_at=each.auth_time * 1000,
                expires_at=int(expires_at.timestamp() * 1000),
                current=str(each.family) == current,
                sockets=by_session.pop(str(each.family), []),
            )
            for each, expires_at in sign_ins
        ]
        listed += [
            Session(
                id=id,
                kind="sign_in" if those[0].signed_in else "token",
                user=name,
                expires_at=those[0].expires_at,
                current=id == current,
                sockets=those,
            )
            for id, those in by_session.items()
        ]
        return SessionList(listed, complete)

    async def end(self, caller: Caller, name: str, id: str) -> None:
        """Raises HubError(not_found) for a session that is not `name`'s, whether it exists or not."""
        for session in (await self.list(caller, name)).sessions:
            if session.id == id:
                return await self._end(session.kind, id, session.expires_at, by=caller.user)
        raise HubError(ErrorCode.NOT_FOUND, "there is no such session")

    async def log_out(self, caller: Caller) -> None:
        """End what the caller came in with, and nothing else."""
        await self._end(
            "sign_in" if caller.sid else "token", caller.sid or caller.jti, caller.expires_at, by=caller.user
        )

    async def _end(self, kind: SessionKind, id: str, expires_at: int | None, *, by: str) -> None:
        now = self._now()
        with stored():
            if kind == "sign_in":
                await self._revocations.end_sign_in(id, now=now, lifetime=ACCESS_LIFETIME, by=by)
            else:
                end = now + ACCESS_LIFETIME if expires_at is None else datetime.fromtimestamp(expires_at / 1000, UTC)
                await self._revocations.end_token(id, expires_at=end + timedelta(seconds=LEEWAY_S), by=by)
        self._ring()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
