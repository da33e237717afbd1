"""What became of a message for a connection: read off what the parts hold anyway, and never recorded on delivery.

A subscription covers what its recovery brought and everything live after it. Of that, something waits, was noted as
left out (hub.connections.verdicts), never came to this node, or else was written. Only connections of this node are
explained, and only while they are open.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.fanout import Audience, Fanout
from hub.channels.shaping import passes
from hub.channels.stored import StoredMessages
from hub.channels.subscriptions import Subscription
from hub.connections.connection import Connection
from hub.connections.registry import Registry
from hub.connections.verdicts import Notes
from hub.namespaces import Namespace, Namespaces
from hub.permissions import Need, Permissions
from hub.publication import Publication
from protocol.codec import Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import Explain, Explained, ExplainResult, Filter, Verdict

MAX_EXPLAINED = 100  # connections in one answer


class Explainer:
    def __init__(
        self,
        registry: Registry,
        fanout: Fanout,
        stored: StoredMessages,
        *,
        notes: Notes,
        namespaces: Namespaces,
        access: Access,
        permissions: Permissions,
    ) -> None:
        self._registry = registry
        self._fanout = fanout
        self._stored = stored
        self._notes = notes
        self._namespaces = namespaces
        self._access = access
        self._permissions = permissions

    async def explain(self, command: Explain, caller: Caller, codec: Codec) -> ExplainResult:
        """For one connection, or for all that the caller has on this node, up to MAX_EXPLAINED.

        Raises HubError(bad_request, unknown_channel, permission_denied, mfa_required, not_available).
        """
        namespace, _ = self._namespaces.of(command.channel)
        connections = self._meant(command, caller)
        publication: Publication | None = None
        if any(self._may_read(each, command.channel) for each in connections):
            publication = await self._read(command, namespace)
        return ExplainResult(
            channel=command.channel,
            offset=command.offset,
            connections=[self._explain(each, command, namespace, publication) for each in connections],
        )

    def _meant(self, command: Explain, caller: Caller) -> list[Connection]:
        if command.client is None:
            return [each for each in self._registry.of_user(caller.user) if each.caller.tenant == caller.tenant][
                :MAX_EXPLAINED
            ]
        found = next((each for each in self._registry if each.id == command.client and each.session), None)
        mine = found is not None and (found.caller.user, found.caller.tenant) == (caller.user, caller.tenant)
        if not mine:
            self._permissions.require(Need.ADMIN, caller, target="explain")
        if found is None or (caller.tenant and found.caller.tenant != caller.tenant):
            raise HubError(ErrorCode.BAD_REQUEST, "this node has no such open connection", path="$.client")
        return [found]

    def _may_read(self, connection: Connection, channel: str) -> bool:
        return self._access.decide(connection.caller, "subscribe", channel).allowed

    async def _read(self, command: Explain, namespace: Namespace) -> Publication | None:
        """The message itself, if it is still kept: a filter can be asked again."""
        try:
            found = await self._stored.read(command.channel, namespace, after=command.offset - 1, limit=1)
        except HubError:  # a database that is away explains nothing, and keeps nobody from the rest
            return None
        return next((each for each in found.messages if each.offset == command.offset), None)

    def _explain(
        self, connection: Connection, command: Explain, namespace: Namespace, publication: Publication | None
    ) -> Explained:
        subscription = connection.subscriptions.get(command.channel)
        if not self._may_read(connection, command.channel):
            verdict: Verdict = "not_permitted"
            by, reason = None, "this connection may not read the channel"
        elif subscription is None:
            verdict, by, reason = "not_subscribed", None, "this connection is not subscribed to the channel now"
        else:
            verdict, by, reason = self._of_subscription(connection, subscription, command, namespace, publication)
        return Explained(client=connection.id, verdict=verdict, by=by, reason=reason, rtt_ms=connection.rtt_ms)

    def _of_subscription(
        self,
        connection: Connection,
        subscription: Subscription,
        command: Explain,
        namespace: Namespace,
        publication: Publication | None,
    ) -> tuple[Verdict, int | None, str]:
        channel, offset = command.channel, command.offset
        listener, outbox, start = subscription.listener, connection.outbox, subscription.start
        audience = self._fanout.audience(channel)
        if start is None and subscription.covered <= offset <= subscription.replayed:
            return _written(outbox.holds(channel, offset), "by the replay")
        if start is None or audience is None:
            return "waiting", None, "the subscription has not been answered yet"
        moved = audience.epoch != start.epoch and audience.newest > 0
        epoch = audience.epoch if moved else start.epoch
        if offset > max(audience.newest, 0 if moved else start.offset):
            return "not_arrived", None, "no such message has come to this node yet"
        if not moved and namespace.latest and offset <= start.offset:
            held = any(each.offset == offset for each in listener.buffer or ())
            waits = held or outbox.holds(channel, offset)
            return _of_snapshot(subscription, command, publication, waits=waits)
        if not moved and offset < subscription.covered:
            return "not_subscribed", None, f"this connection's subscription begins with offset {subscription.covered}"
        note = self._notes.find(outbox.reader, channel, epoch or "", offset, noted=outbox.noted)
        if note is not None and note != "forgotten":
            return note[0], note[1], _REASONS[note[0]]
        if outbox.closed:
            return "unknown", None, "the connection is being ended; it resumes after the last message it has"
        waits = any(each.offset == offset for each in (*(listener.buffer or ()), *audience.log))
        if waits or outbox.holds(channel, offset) or (listener.shaper is not None and listener.shaper.holds(offset)):
            return "waiting", None, "it has not been written yet"
        if audience.lost(offset):
            return "dropped", None, "it was lost on the way to this node, and could not be read again"
        wanted = subscription.options.filter
        if wanted is not None and (let_through := _asked_again(wanted, offset, audience, publication)) is not True:
            if let_through is None:
                return "unknown", None, "this subscription has a filter, and the message is kept no longer"
            return "filtered", None, _REASONS["filtered"]
        if note == "forgotten" and namespace.latest:
            return "unknown", None, "this connection missed messages of this time; which ones is no longer known"
        if moved or offset > start.offset:
            return "delivered", None, "live"
        replayed = offset <= subscription.replayed
        return "delivered", None, "by the replay" if replayed else "in the answer to subscribe, or after it"


def _of_snapshot(
    subscription: Subscription, command: Explain, publication: Publication | None, *, waits: bool
) -> tuple[Verdict, int | None, str]:
    """Of a latest value from before the subscription: it was among those that came first, or it was not."""
    offset, snapshot, options = command.offset, subscription.snapshot, subscription.options
    if snapshot is not None and offset in snapshot:
        return _written(waits, "in the snapshot")
    if publication is not None:
        refused = options.filter is not None and not passes(options.filter, publication)
        if refused or options.max_age_ms is not None or options.min_quality is not None:
            return "filtered", None, _REASONS["filtered"]
    if snapshot is None:
        return "unknown", None, "the snapshot had too many values to remember which"
    return "not_subscribed", None, "it is older than this connection's subscription, and was not in its snapshot"


def _written(waits: bool, how: str) -> tuple[Verdict, int | None, str]:
    return ("waiting", None, "it has not been written yet") if waits else ("delivered", None, how)


def _asked_again(wanted: Filter, offset: int, audience: Audience, publication: Publication | None) -> bool | None:
    """Whether the filter lets it through; None: nobody knows the message any more."""
    recent: Iterable[Publication] = () if publication is None else (publication,)
    for known in (*recent, *(audience.recent or ())):
        if known.offset == offset:
            return passes(wanted, known)
    return None


_REASONS: dict[str, str] = {
    "conflated": "the reader was slow, or wants few: a newer value of the key took its place",
    "filtered": "the subscription's filter, min_quality or max_age_ms leaves it out",
    "expired": "it waited longer than it was worth sending",
}
