"""What tokens are worth no more. Every door asks a table in memory; every node keeps it up to date with Postgres.

A revocation is written with the change that causes it, under a number. Nodes ring each other through the broker, and
look into Postgres by themselves, too: without a broker it takes half a second, not for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from hub.auth.tokens import Claims
from hub.caller import Caller, Grant, Tenant
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent
from protocol.errors import ErrorCode, HubError
from storage.errors import StorageError
from storage.revocations import LONGEST_TOKEN, PAGE, History, Kind, Revocation, Revocations, erased_mark

logger = logging.getLogger("krin.revocations")

TOPIC = "revocations"
LOOK_S = 0.5
SWEEP_S = 3600.0
RECENT_MS = 10_000
LONGEST_TOKEN_MS = int(LONGEST_TOKEN.total_seconds() * 1000)


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may do, in the words of storage.users. None: as the token says."""

    roles: frozenset[str] | None = None
    teams: frozenset[str] | None = None
    grants: Grant | None = None
    tenant: Tenant | None = None


class Revoked:
    """The table in memory. It holds two entries at most for each name, sign-in and token, and each only as long as a
    token may live that it means."""

    def __init__(self) -> None:
        self.number = 0  # of the newest that was applied
        self._ended: dict[tuple[Kind, str], Revocation] = {}
        self._changed: dict[tuple[Kind, str], tuple[Revocation, Rights]] = {}
        self._any_erased = False

    def __len__(self) -> int:
        return len(self._ended) + len(self._changed)

    def apply(self, revocations: Iterable[Revocation]) -> set[tuple[Kind, str]]:
        """Take over what is newer than what is known; returns whom it is about."""
        touched = set()
        for each in revocations:
            if each.number <= self.number:
                continue
            self.number = each.number
            about = (each.kind, each.subject)
            if each.rights is None:
                self._ended[about] = each
            else:
                self._changed[about] = each, msgspec.convert(each.rights, Rights)
            touched.add(about)
            self._any_erased |= each.kind == "erased"
        return touched

    def begin_again(self) -> None:
        """Take over everything anew: numbers are given out again. What is known stays until the table says otherwise,
        for a revocation that a restored table has lost was meant all the same."""
        self.number = 0

    def forget(self, now: datetime) -> None:
        """Drop what no token can be meant by any more."""
        self._ended = {about: each for about, each in self._ended.items() if each.expires_at > now}
        self._changed = {about: each for about, each in self._changed.items() if each[0].expires_at > now}

    def admit(self, claims: Claims) -> Claims:
        """The claims of a valid token as they count now. Raises HubError(token_invalid)."""
        if claims.exp * 1000 - claims.issued_ms > LONGEST_TOKEN_MS:
            raise HubError(ErrorCode.TOKEN_INVALID, f"a token lives {LONGEST_TOKEN.days} days at most")
        rights = self._rights(claims.sub, claims)
        return claims if rights is None else msgspec.structs.replace(claims, **rights)

    def judge(self, caller: Caller) -> Caller:
        """Somebody who came in with a valid token, as they count now: the same object if nothing has changed.

        Raises HubError(token_invalid).
        """
        rights = self._rights(caller.user, caller)
        if rights is None or all(getattr(caller, field) == value for field, value in rights.items()):
            return caller
        return msgspec.structs.replace(caller, **rights)

    def _rights(self, name: str, bearer: Claims | Caller) -> dict[str, Any] | None:
        """What replaces the bearer's own rights. Raises HubError(token_invalid)."""
        marks: list[tuple[Kind, str]] = [("user", name), ("sign_in", bearer.sid), ("token", bearer.jti)]
        if self._any_erased:  # a hash for each look-up: only where somebody was
            marks.append(("erased", erased_mark(name)))
        for mark in marks:
            ended = self._ended.get(mark)
            if ended is not None and bearer.issued_ms < ended.before_ms and not _is_spared(bearer, ended):
                raise HubError(ErrorCode.TOKEN_INVALID, "the token was revoked")
        found = self._changed.get(("user", name))
        if found is None or bearer.issued_ms >= found[0].before_ms:
            return None
        scoped = bearer.principal == "machine" or bearer.client_id
        rights = _within(found[1], bearer) if scoped else found[1]
        values = {"roles": rights.roles, "teams": rights.teams, "grant": rights.grants, "tenant": rights.tenant}
        return {field: value for field, value in values.items() if value is not None}


def _within(rights: Rights, bearer: Claims | Caller) -> Rights:
    """For credentials with a scope of their own: what they may is cut, and never grows."""
    teams = bearer.teams
    if rights.teams is not None and "*" not in rights.teams:
        teams = rights.teams if "*" in teams else teams & rights.teams
    grant, other = bearer.grant, rights.grants
    if other is not None:
        grant = Grant(
            publish=tuple(pattern for pattern in grant.publish if pattern in other.publish),
            subscribe=tuple(pattern for pattern in grant.subscribe if pattern in other.subscribe),
        )
    roles = bearer.roles if rights.roles is None else bearer.roles & rights.roles
    return Rights(roles=roles, teams=teams, grants=grant, tenant=rights.tenant)


def _is_spared(bearer: Claims | Caller, revocation: Revocation) -> bool:
    return bool(revocation.spared) and revocation.spared in (bearer.sid, bearer.jti)


class RevocationWatch:
    """Keeps the table in memory up to date, and tells those who hold connections whom a change is about."""

    def __init__(
        self,
        revoked: Revoked,
        stored: Revocations,
        *,
        announce: Callable[[str, bytes], None],
        review: Callable[[set[tuple[Kind, str]]], None],
        signal: Report,
        clock: Clock,
    ) -> None:
        """`signal` hears of rights that have just changed, on whichever node."""
        self._revoked = revoked
        self._stored = stored
        self._announce = announce
        self._review = review
        self._signal = signal
        self._clock = clock
        self._rung = asyncio.Event()
        self._behind = False
        self._history: History | None = None

    async def look(self) -> None:
        """Read what is new; after a restart or a restore of the database, everything. Raises StorageError."""
        history = await self._stored.history()
        if history != self._history:
            if self._history is not None:
                logger.info("the database restarted or was restored: all revocations are read again")
            self._history = history
            self._revoked.begin_again()
        while True:
            page = await self._stored.after(self._revoked.number, now=self._now())
            if touched := self._revoked.apply(page):
                self._review(touched)
                self._tell_of_rights(page)
            if len(page) < PAGE:
                return

    def _tell_of_rights(self, page: Iterable[Revocation]) -> None:
        recent = self._clock.now_ms() - RECENT_MS
        for each in page:
            if each.rights is not None and each.before_ms >= recent:
                self._signal(SecurityEvent(name="privilege_permissions_changed", user=each.subject))

    def ring(self) -> None:
        """Something was written: let every node look at once."""
        self._announce(TOPIC, b"")
        self._rung.set()  # without a broker the announcement may not come back

    def hear(self, payload: bytes) -> None:
        self._rung.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_on(), name="revocations look")
            group.create_task(self._sweep_on(), name="revocations sweep")

    async def _look_on(self) -> None:
        while True:
            sleep = asyncio.ensure_future(self._clock.sleep(LOOK_S))
            rung = asyncio.ensure_future(self._rung.wait())
            try:
                await asyncio.wait([sleep, rung], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
                rung.cancel()
            self._rung.clear()
            try:
                await self.look()
            except StorageError as failure:
                if not self._behind:
                    logger.warning("revocations cannot be read: %s", failure)
                self._behind = True
            else:
                self._behind = False

    async def _sweep_on(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_S)
            self._revoked.forget(self._now())
            try:
                await self._stored.sweep(now=self._now())
            except StorageError as failure:
                logger.warning("expired revocations cannot be removed: %s", failure)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
