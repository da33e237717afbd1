"""Webhooks for those who own them: made, listed, changed, tried, removed."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from hub.auth.sealing import Sealer, Unreadable
from hub.caller import Caller
from hub.clock import Clock
from hub.guard.outbound import Forbidden, Outbound
from hub.webhooks.messages import of_test
from hub.webhooks.reach import Reach
from hub.webhooks.signing import headers, new_secret, written
from protocol.errors import ErrorCode, HubError
from protocol.positions import Position
from storage.errors import Conflict, NotFound, StorageError
from storage.webhooks import Delivery, Webhook, Webhooks

OVERLAP = timedelta(days=1)  # for which an old secret signs as well
MAX_CHANNELS = 50
MAX_PAGE = 100

T = TypeVar("T")
Patterns = Annotated[
    list[Annotated[str, Meta(min_length=3, max_length=255)]], Meta(min_length=1, max_length=MAX_CHANNELS)
]
Url = Annotated[str, Meta(min_length=1, max_length=2_048)]


class NewWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`channels`: names, and prefixes that end in `*`."""

    url: Url
    channels: Patterns


class WebhookChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is left out stays. `enabled` true: also after it was disabled because deliveries failed."""

    url: Url | None = None
    channels: Patterns | None = None
    enabled: bool | None = None


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is told once: when it is made. `failures`: attempts in a row."""

    id: str
    owner: str
    url: str
    channels: list[str]
    enabled: bool
    reason: str | None
    failures: int
    created_at: datetime
    secret: str | None = None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a test. `status` null: nobody answered."""

    delivered: bool
    status: int | None
    error: str | None


def keys_of(webhook: Webhook, sealer: Sealer, now: datetime) -> list[bytes]:
    """Its secrets that sign now, the newest first. Raises HubError(not_available) if they cannot be read."""
    sealed = [webhook.secret]
    if webhook.old_secret is not None and webhook.old_secret_until is not None and now < webhook.old_secret_until:
        sealed.append(webhook.old_secret)
    try:
        return [sealer.open(each, owner=webhook.id.encode()) for each in sealed]
    except Unreadable:
        raise HubError(ErrorCode.NOT_AVAILABLE, "the webhook's secret cannot be read: rotate it") from None


def owner_of(webhook: Webhook) -> Caller:
    return msgspec.json.decode(webhook.caller, type=Caller)


class WebhookService:
    def __init__(self, table: Webhooks, sealer: Sealer, *, reach: Reach, outbound: Outbound, clock: Clock) -> None:
        self._table = table
        self._sealer = sealer
        self._reach = reach
        self._outbound = outbound
        self._clock = clock

    async def add(self, new: NewWebhook, caller: Caller) -> WebhookView:
        """It begins with what is published from now on. Raises HubError."""
        await self._check(new.url, new.channels, caller)
        id, secret = f"wh_{secrets.token_hex(8)}", new_secret()
        begin = await self._heads(new.channels, caller)
        await _stored(
            self._table.create(
                id,
                owner=caller.user,
                caller=_kept(caller),
                url=new.url,
                channels=new.channels,
                secret=self._sealer.seal(secret, owner=id.encode()),
                begin=begin,
                now=self._now(),
            )
        )
        return await self._shown(id, secret)

    async def list(self, caller: Caller) -> Sequence[WebhookView]:
        """The caller's; an administrator's are everybody's."""
        found = await _stored(self._table.list(None if "admin" in caller.roles and not caller.tenant else caller.user))
        return [_view(each) for each in found]

    async def get(self, id: str, caller: Caller) -> WebhookView:
        return _view(await self._own(id, caller))

    async def change(self, id: str, changes: WebhookChanges, caller: Caller) -> WebhookView:
        """By its owner with the rights that they have now; others may only disable it. Raises HubError."""
        webhook = await self._own(id, caller)
        mine = webhook.owner == caller.user
        if not mine and (changes.url, changes.channels, changes.enabled) != (None, None, False):
            raise HubError(ErrorCode.PERMISSION_DENIED, "only its owner may do more than disable it")
        channels = changes.channels or webhook.channels
        begin: dict[str, Position] = {}
        if mine:
            await self._check(changes.url or webhook.url, channels, caller)
            if changes.channels is not None:
                begin = await self._heads([each for each in channels if each not in webhook.channels], caller)
        await _stored(
            self._table.change(
                id,
                url=changes.url,
                channels=changes.channels,
                enabled=changes.enabled,
                caller=_kept(caller) if mine else None,
                begin=begin,
                by=caller.user,
            )
        )
        return await self._shown(id)

    async def rotate(self, id: str, caller: Caller) -> WebhookView:
        """Another secret. That of before signs, too, for a day."""
        await self._own(id, caller)
        secret = new_secret()
        sealed = self._sealer.seal(secret, owner=id.encode())
        await _stored(self._table.rotate(id, sealed, until=self._now() + OVERLAP, by=caller.user))
        return await self._shown(id, secret)

    async def remove(self, id: str, caller: Caller) -> None:
        await self._own(id, caller)
        await _stored(self._table.remove(id, by=caller.user))

    async def test(self, id: str, caller: Caller) -> Tried:
        """One attempt with a message of no channel."""
        webhook = await self._own(id, caller)
        now = self._now()
        message = of_test(id, secrets.token_hex(8), self._clock.now_ms())
        signed = headers(message.id, int(now.timestamp()), message.body, keys=keys_of(webhook, self._sealer, now))
        answer = await self._outbound.post(webhook.url, message.body, signed)
        return Tried(delivered=answer.good, status=answer.status, error=answer.error)

    async def deliveries(self, id: str, caller: Caller, *, limit: int) -> Sequence[Delivery]:
        """The newest first."""
        await self._own(id, caller)
        return await _stored(self._table.deliveries(id, limit=limit))

    async def _check(self, url: str, channels: Sequence[str], caller: Caller) -> None:
        try:
            await self._outbound.check(url)
        except Forbidden as failure:
            raise HubError(ErrorCode.SCHEMA_INVALID, str(failure), path="$.url") from None
        self._reach.check(caller, channels)

    async def _heads(self, patterns: Sequence[str], caller: Caller) -> dict[str, Position]:
        return {each: await self._reach.head(each) for each in await self._reach.channels(caller, patterns)}

    async def _own(self, id: str, caller: Caller) -> Webhook:
        """Raises HubError(not_found) also for somebody else's."""
        found = await _stored(self._table.get(id))
        admin = "admin" in caller.roles and not caller.tenant
        if found is None or not (admin or found.owner == caller.user):
            raise HubError(ErrorCode.NOT_FOUND, "there is no such webhook")
        return found

    async def _shown(self, id: str, secret: bytes | None = None) -> WebhookView:
        found = await _stored(self._table.get(id))
        if found is None:
            raise HubError(ErrorCode.NOT_FOUND, "there is no such webhook")
        return msgspec.structs.replace(_view(found), secret=None if secret is None else written(secret))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def _kept(caller: Caller) -> str:
    """Who asks, for as long as the webhook lives: it ends with their rights, not with the sign-in of now."""
    kept = msgspec.structs.replace(
        caller, transport="system", address="", connection=None, kind=None, name=None, sid="", jti="", expires_at=None
    )
    return msgspec.json.encode(kept).decode()


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        owner=webhook.owner,
        url=webhook.url,
        channels=webhook.channels,
        enabled=webhook.enabled,
        reason=webhook.reason,
        failures=webhook.failures,
        created_at=webhook.created_at,
    )


async def _stored(work: Awaitable[T]) -> T:
    """Raises HubError for what the table raises."""
    try:
        return await work
    except NotFound:
        raise HubError(ErrorCode.NOT_FOUND, "there is no such webhook") from None
    except Conflict as failure:
        raise HubError(ErrorCode.LIMIT_EXCEEDED, str(failure)) from None
    except StorageError as failure:
        raise HubError(ErrorCode.NOT_AVAILABLE, "webhooks cannot be read now", retry_after_ms=1000) from failure
