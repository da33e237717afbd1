"""Who may come in and what they may do, as administrators see and change it.

A caller with a tenant administers that tenant only: whoever belongs elsewhere does not exist for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from hub.auth.service import BUILT_IN_ROLES, Authentication
from hub.caller import Caller, Grant, Tenant
from hub.channels.access import Access, Action, Rule
from hub.clock import Clock
from hub.dispatch import convert
from hub.namespaces import Namespace
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName, Name
from storage.errors import NotFound, Rejected, StorageError
from storage.revocations import Revocations
from storage.users import User, Users


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user as administrators see one. `created_at` is in milliseconds since 1970."""

    name: str
    roles: list[str]
    teams: list[str]
    grants: Grant
    tenant: str
    disabled: bool
    created_at: int

    @classmethod
    def of(cls, user: User) -> Account:
        return cls(
            name=user.name,
            roles=user.roles,
            teams=user.teams,
            grants=msgspec.convert(user.grants, Grant),
            tenant=user.tenant,
            disabled=user.disabled,
            created_at=int(user.created_at.timestamp() * 1000),
        )


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Without a password: somebody who cannot sign in with one."""

    name: Name
    password: str | None = None
    roles: list[str]
    teams: list[str] = []
    tenant: Tenant = ""


class UserChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is left out stays as it is."""

    roles: list[str] | None = None
    teams: list[str] | None = None
    grants: Grant | None = None
    disabled: bool | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool
    rule: Rule | Literal["disabled"]
    reason: str


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """May `user` do that? With `roles`: somebody of that name with these roles, teams and tenant."""

    user: Name
    action: Action
    channel: ChannelName
    roles: list[str] | None = None
    teams: list[str] = []
    tenant: Tenant = ""


class Administration:
    def __init__(
        self,
        authentication: Authentication,
        *,
        users: Users,
        revocations: Revocations,
        access: Access,
        roles: frozenset[str],
        ring: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`roles` are those that exist; `ring` is called when something was taken away."""
        self._authentication = authentication
        self._users = users
        self._revocations = revocations
        self._access = access
        self._roles = roles
        self._ring = ring
        self._clock = clock

    async def users(self, caller: Caller, *, after: str, limit: int) -> list[Account]:
        with stored():
            found = await self._users.list(after=after, limit=limit, tenant=caller.tenant)
        return [Account.of(user) for user in found]

    async def create(self, caller: Caller, new: NewUser) -> Account:
        """Raises HubError(schema_invalid, version_conflict, permission_denied)."""
        self._check_roles(caller, new.roles)
        if caller.tenant and new.tenant not in ("", caller.tenant):
            raise HubError(ErrorCode.PERMISSION_DENIED, "this is not your tenant", path="$.tenant")
        with stored():
            user = await self._authentication.create_user(
                new.name,
                new.password,
                roles=new.roles,
                teams=new.teams,
                tenant=caller.tenant or new.tenant,
                by=caller.user,
            )
        return Account.of(user)

    async def update(self, caller: Caller, name: str, changes: UserChanges) -> Account | None:
        """Change what somebody may do, at once and everywhere. None: nobody of that name signs in here, but tokens for
        the name are meant all the same.

        Raises HubError(not_found, schema_invalid, permission_denied).
        """
        self._check_roles(caller, changes.roles or ())
        if caller.tenant and changes.grants is not None:
            raise HubError(ErrorCode.PERMISSION_DENIED, "a tenant's administrator grants no channels", path="$.grants")
        await require_own_tenant(self._authentication, caller, name)
        grants = None if changes.grants is None else msgspec.to_builtins(changes.grants)
        with stored():
            try:
                user = await self._users.update(
                    name,
                    roles=changes.roles,
                    teams=changes.teams,
                    grants=grants,
                    disabled=changes.disabled,
                    now=self._now(),
                    by=caller.user,
                )
            except NotFound:
                await self._update_unknown(caller, name, changes, grants)
                user = None
        self._ring()
        return None if user is None else Account.of(user)

    async def end_all(self, caller: Caller, name: str, *, spared: str = "") -> None:
        """Every sign-in, token and key of this name ends, but for one. Raises HubError(not_found)."""
        await require_own_tenant(self._authentication, caller, name)
        with stored():
            await self._revocations.end_user(name, now=self._now(), spared=spared, by=caller.user)
        self._ring()

    async def explain(self, params: Mapping[str, Any], caller: Caller) -> Explanation:
        """The method `auth.explain`. Raises HubError(schema_invalid, not_found, unknown_channel, bad_request)."""
        asked: Question = convert(params, Question)
        if asked.roles is not None:
            who = Caller(
                user=asked.user,
                roles=frozenset(asked.roles),
                teams=frozenset(asked.teams),
                tenant=asked.tenant,
                transport="system",
            )
        else:
            await require_own_tenant(self._authentication, caller, asked.user)
            user = await self._authentication.find_user(asked.user)
            if user is None:
                raise no_such_user()
            if user.disabled:
                return Explanation(allowed=False, rule="disabled", reason="a disabled user may do nothing at all")
            who = caller_of_user(user)
        decision = self._access.decide(who, asked.action, asked.channel)
        return Explanation(allowed=decision.allowed, rule=decision.rule, reason=decision.reason)

    async def _update_unknown(
        self, caller: Caller, name: str, changes: UserChanges, grants: dict[str, Any] | None
    ) -> None:
        now = self._now()
        rights = {"roles": changes.roles, "teams": changes.teams, "grants": grants}
        rights = {field: value for field, value in rights.items() if value is not None}
        if rights:
            await self._revocations.change_rights(name, rights, now=now, by=caller.user)
        if changes.disabled is not None:
            await self._revocations.block(name, changes.disabled, now=now, by=caller.user)

    def _check_roles(self, caller: Caller, roles: Iterable[str]) -> None:
        if caller.tenant and not caller.roles.issuperset(roles):  # whose roles may reach beyond the tenant
            raise HubError(ErrorCode.PERMISSION_DENIED, "you have not all of these roles yourself", path="$.roles")
        if not self._roles.issuperset(roles):
            known = ", ".join(sorted(self._roles))
            raise HubError(ErrorCode.SCHEMA_INVALID, f"there is no such role; there are {known}", path="$.roles")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def known_roles(namespaces: Mapping[str, Namespace]) -> frozenset[str]:
    """Built-in roles, and those that the namespaces mention."""
    named = {
        entry.partition(":")[0] for policy in namespaces.values() for entry in (*policy.publish, *policy.subscribe)
    }
    return frozenset(named | set(BUILT_IN_ROLES)) - {"*"}


def caller_of_user(user: User) -> Caller:
    """What somebody is who signs in now."""
    return Caller(
        user=user.name,
        roles=frozenset(user.roles),
        teams=frozenset(user.teams),
        grant=msgspec.convert(user.grants, Grant),
        tenant=user.tenant,
        transport="system",
    )


@contextmanager
def stored() -> Iterator[None]:
    """What the store says, in the protocol's words."""
    try:
        yield
    except Rejected:
        raise HubError(ErrorCode.BAD_REQUEST, "this cannot be stored") from None
    except StorageError as failure:
        raise HubError(ErrorCode.NOT_AVAILABLE, "this is not possible right now", retry_after_ms=1000) from failure


async def require_own_tenant(authentication: Authentication, caller: Caller, name: str) -> None:
    """Raises HubError(not_found): the same for a user of another tenant and for one that does not exist."""
    if not caller.tenant or caller.user == name:
        return
    user = await authentication.find_user(name)
    if user is None or user.tenant != caller.tenant:
        raise no_such_user()


def no_such_user() -> HubError:
    return HubError(ErrorCode.NOT_FOUND, "there is no such user")
