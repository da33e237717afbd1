"""Policy per namespace: which promise its messages get, who may use it, what it accepts and keeps."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.channels import split_channel
from protocol.errors import ErrorCode, HubError
from protocol.messages import Promise

Who = tuple[str, ...]

QUALIFIERS = ("", "own", "team", "role")
EVERYONE: Who = ("*",)
ANY_TYPE = ("*",)


class Namespace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One namespace's policy, as it stands in the `[namespaces.NAME]` table of the configuration file.

    promise: durable (acknowledged means committed to Postgres), recoverable (gaps are mended from a bounded history)
    or latest (newest value per key). publish, subscribe: roles, each alone or qualified: `trader:own` lets a trader
    into the channel that carries its own name, `agent:team` into those of its teams, `*:role` into those named
    after one of its roles; `*` is everyone signed in. `admin` may do everything. types: the domain types accepted;
    `*` accepts any, custom ones as plain JSON objects. history_size and history_ttl_s bound what a recoverable
    channel keeps; a durable one keeps everything. rate_per_s bounds what one connection publishes here,
    channel_rate_per_s what all publishers together send into one channel. tenant_scoped: channels are named
    `tenant/rest`, and a caller of a tenant reaches those of its own tenant only. mfa: whoever signed in with a password
    alone may read here but not publish. audit_reads: who reads here is written down. about: a channel is named after
    another one (`insights:team:alpha`), and read by whoever may read that.
    """

    promise: Promise = "recoverable"
    types: tuple[str, ...] = ANY_TYPE
    publish: Who = ()
    subscribe: Who = ()
    history_size: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    history_ttl_s: Annotated[int, Meta(ge=1)] = 300
    presence: bool = False
    max_bytes: Annotated[int, Meta(ge=64, le=1_048_576)] = 65_536
    rate_per_s: Annotated[int, Meta(ge=1)] | None = None
    channel_rate_per_s: Annotated[int, Meta(ge=1)] | None = None
    max_keys: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    tenant_scoped: bool = False
    mfa: bool = False
    audit_reads: bool = False
    about: bool = False

    @property
    def durable(self) -> bool:
        return self.promise == "durable"

    @property
    def latest(self) -> bool:
        return self.promise == "latest"

    def accepts(self, type_name: str) -> bool:
        return self.types == ANY_TYPE or type_name in self.types


TEAM_TYPES = (
    "PLAN_PROPOSED",
    "PLAN_COMMITTED",
    "PROJECT_ENDED",
    "SECURITY_REPORT",
    "KNOWLEDGE_DIGEST",
    "SPECIALIST_UPDATE",
    "AGENT_STATUS",
    "TASK_CREATED",
    "TASK_STATUS_UPDATE",
    "HANDOFF",
    "APPROVAL_REQUESTED",
    "APPROVAL_RESOLVED",
    "GATE_RESULT",
    "BUDGET_ALERT",
    "SCHEMA_CHANGE_ANNOUNCED",
    "CONTRACT_CHANGED",
    "ALERT",
)

DEFAULTS: dict[str, Namespace] = {
    "prices": Namespace(promise="latest", types=("PRICE_TICK",), publish=("feed",), subscribe=EVERYONE),
    "book": Namespace(promise="latest", types=("BOOK",), publish=("feed",), subscribe=EVERYONE),
    "ticker": Namespace(promise="latest", types=("TICKER",), publish=("feed",), subscribe=EVERYONE),
    "sources": Namespace(promise="latest", types=("SOURCE_STATUS",), publish=("feed",), subscribe=EVERYONE),
    "instruments": Namespace(promise="latest", types=("INSTRUMENT",), publish=("feed",), subscribe=EVERYONE),
    "status": Namespace(
        promise="latest", types=("STATUS", "SOURCE_STATUS"), publish=("feed", "agent"), subscribe=EVERYONE
    ),
    "trades": Namespace(types=("TRADE", "TRADE_CORRECTION", "TRADE_BUST"), publish=("feed",), subscribe=EVERYONE),
    "bars": Namespace(types=("BAR",), publish=("feed",), subscribe=EVERYONE),
    "agent": Namespace(publish=("agent",), subscribe=("agent", "dashboard"), presence=True),
    "custom": Namespace(publish=("feed", "trader", "agent"), subscribe=EVERYONE, presence=True),
    "orders": Namespace(
        promise="durable",
        types=("ORDER_EVENT", "EXECUTION_REPORT"),
        publish=("trader:own",),
        subscribe=("trader:own",),
        mfa=True,
        audit_reads=True,
    ),
    "fills": Namespace(
        promise="durable",
        types=("EXECUTION_REPORT",),
        publish=("trader:own",),
        subscribe=("trader:own",),
        mfa=True,
        audit_reads=True,
    ),
    "positions": Namespace(promise="latest", types=("POSITION", "BALANCE"), subscribe=("trader:own",)),
    "risk": Namespace(promise="durable", types=("RISK_DECISION",), subscribe=("trader:own", "risk")),
    "trading": Namespace(promise="latest", types=("TRADING_STATE",), subscribe=EVERYONE),
    "team": Namespace(
        promise="durable",
        types=TEAM_TYPES,
        publish=("agent:team",),
        subscribe=("agent:team", "dashboard"),
        presence=True,
    ),
    "tasks": Namespace(
        promise="durable",
        types=("TASK_CREATED", "TASK_STATUS_UPDATE", "HANDOFF"),
        publish=("agent:team",),
        subscribe=("agent:team", "dashboard"),
    ),
    "alerts": Namespace(promise="durable", types=("ALERT",), publish=("agent", "feed"), subscribe=EVERYONE),
    "approvals": Namespace(
        promise="durable",
        types=("APPROVAL_REQUESTED", "APPROVAL_RESOLVED"),
        publish=("agent", "trader"),
        subscribe=("*:role",),
        mfa=True,
        audit_reads=True,
    ),
    "semantic": Namespace(promise="latest", types=("SEARCH_HIT",), subscribe=EVERYONE),  # each gets what they may read
    "sessions": Namespace(subscribe=("*:own",)),  # nothing is published there: who may find what sessions were about
    "insights": Namespace(promise="durable", types=("INSIGHT", "INSIGHT_RETRACTED"), about=True),
    "system": Namespace(types=("AUDIT_HEAD", "STATUS"), subscribe=EVERYONE),
    "security": Namespace(types=("THREAT_DETECTED",), subscribe=("security",), history_ttl_s=86_400),
}


class Namespaces:
    """Finds a channel's policy. The one table of namespaces of a hub."""

    def __init__(self, table: Mapping[str, Namespace] = DEFAULTS) -> None:
        self._table = dict(table)
        self._known: dict[str, tuple[Namespace, str]] = {}

    def of(self, channel: str) -> tuple[Namespace, str]:
        """(policy, the channel's name after the colon). Raises HubError(bad_request, unknown_channel).

        Of a channel about another one: the name and the readers of that other.
        """
        if (found := self._known.get(channel)) is not None:
            return found
        prefix, name = split_channel(channel)
        namespace = self._table.get(prefix)
        if namespace is None:
            raise HubError(ErrorCode.UNKNOWN_CHANNEL, "no such namespace", path="$.channel")
        if namespace.about:
            namespace, name = self._about(namespace, name)
        if len(self._known) >= 65_536:  # a cache, not a registry: forget rather than grow
            self._known.clear()
        self._known[channel] = found = (namespace, name)
        return found

    def _about(self, namespace: Namespace, name: str) -> tuple[Namespace, str]:
        try:
            subject, rest = self.of(name)
        except HubError:  # it is about no channel: for administrators
            return namespace, name
        return (namespace, name) if subject.about else (_read_as(namespace, subject), rest)

    def items(self) -> ItemsView[str, Namespace]:
        return self._table.items()

    def by_prefix(self) -> Iterator[tuple[str, Namespace]]:
        """Every beginning of a channel's name that decides who reads there, and its policy."""
        for prefix, namespace in self._table.items():
            yield prefix, namespace
            if namespace.about:
                for other, subject in self._table.items():
                    if not subject.about:
                        yield f"{prefix}:{other}", _read_as(namespace, subject)


def _read_as(namespace: Namespace, subject: Namespace) -> Namespace:
    return msgspec.structs.replace(
        namespace,
        subscribe=subject.subscribe,
        tenant_scoped=subject.tenant_scoped,
        audit_reads=subject.audit_reads,
    )
