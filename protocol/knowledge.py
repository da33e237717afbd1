"""What a team has learned and shares: the parameters and results of `knowledge.*`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.fields import ChannelName, Count, MessageType, Micros, Name, Text, shaped

KnowledgeKind = Literal["best_practice", "performance", "security", "ai"]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
Title = Annotated[str, Meta(min_length=1, max_length=256)]


class KnowledgeAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `knowledge.add`. Without `project_id` it is for everybody. `finding`: what a security audit found
    that this explains or mends."""

    kind: KnowledgeKind
    title: Title
    body: Text
    tags: Annotated[list[Tag], Meta(max_length=16)] = []
    project_id: Name | None = None
    finding: Name | None = None


class KnowledgeEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    entry_id: Name
    kind: KnowledgeKind
    title: Title
    body: Text
    tags: list[Tag] = []
    project_id: Name | None = None
    finding: Name | None = None
    author: Text
    added_at: Micros


EntryId = Annotated[str, shaped(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", "a UUID in lower case")]


class KnowledgeGet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `knowledge.get`."""

    entry_id: EntryId


class KnowledgeSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `knowledge.search`. Without `query` the newest come first. `project_id`: of that project only."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    kind: KnowledgeKind | None = None
    project_id: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class KnowledgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `knowledge.add` and `knowledge.get`."""

    entry: KnowledgeEntry


class KnowledgeFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `knowledge.search`, the best first."""

    entries: list[KnowledgeEntry]


class DigestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`type`: the kind of knowledge, or the type of the message that an insight came with."""

    kind: Literal["knowledge", "insight"]
    type: MessageType
    channel: ChannelName
    title: Annotated[str, Meta(max_length=512)]
    at: Micros


class KnowledgeDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a team and everybody learned in an ISO week. The counts are of all there is, `entries` are the newest."""

    week: Annotated[str, shaped(r"^[0-9]{4}-W[0-9]{2}\Z", "an ISO week such as 2024-W47")]
    since: Micros
    until: Micros
    knowledge: Count
    insights: Count
    entries: Annotated[list[DigestEntry], Meta(max_length=50)]
