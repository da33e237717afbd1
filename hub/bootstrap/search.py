"""Search: documents made in the background, and found by whoever may read them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from hub.bootstrap.audit import Audit
from hub.bootstrap.caching import Caching
from hub.bootstrap.calls import make_budget
from hub.bootstrap.channels import Channels
from hub.bootstrap.connections import Connections
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.edge.search import SearchRoutes
from hub.guard.limits import SEARCH_COST
from hub.insight.caching.near import NearQuestions
from hub.insight.calls.base import Prices
from hub.insight.embedding.base import Embedder
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.following import SemanticFollowing
from hub.insight.search.ingestion import Ingestion
from hub.insight.search.queries import QueryVectors
from hub.insight.search.service import SearchService
from hub.insight.search.sessions import SessionKeeper
from hub.observe.metrics import counter, gauge
from protocol.messages import Search
from storage.consents import Consents
from storage.model_spending import Spent
from storage.sessions import Sessions
from storage.vectors import Documents


def open_search(
    ground: Ground,
    audit: Audit,
    delivery: Delivery,
    connections: Connections,
    guard: Guard,
    channels: Channels,
    rest: Rest,
    caching: Caching,
) -> Room:
    settings, namespaces, database = ground.settings.search, channels.namespaces, ground.database
    embedder = make_embedder(ground)
    queries = None  # words are hashed more quickly than a cache is asked
    if embedder.kind == "semantic":
        near = NearQuestions(HashingEmbedder().embed_now) if ground.settings.cache.similar else None
        queries = QueryVectors(embedder, caching.queries, markov=caching.markov, near=near, clock=ground.clock)
    service = SearchService(
        Documents(database),
        embedder,
        Consents(database),
        namespaces=namespaces,
        access=channels.access,
        reads=audit.reads,
        queries=queries,
    )
    read = settings.namespaces
    if read is None:
        read = tuple(name for name, policy in namespaces.items() if policy.durable)
    ingestion = Ingestion(database, embedder, namespaces=read, index=settings.index, clock=ground.clock)
    sessions = SessionKeeper(connections.registry, Sessions(database), clock=ground.clock)
    following = SemanticFollowing(
        service,
        connections.registry,
        channels.subscriptions,
        listened=delivery.fanout.channels,
        listeners=delivery.fanout.listeners,
        clock=ground.clock,
    )
    routes = SearchRoutes(rest.service, ground.dispatcher)
    return Room(
        handlers={Search: guard.limits.guarded("read", service.search, cost=lambda _: SEARCH_COST)},
        routes=routes.routes,
        metrics=lambda: _measure(ingestion),
        tasks={
            "sessions": sessions.run,
            "semantic subscriptions": following.run,
            **({} if queries is None else {"queries made in advance": queries.run}),
        },
        work={"documents": ingestion.run},
    )


def make_embedder(ground: Ground) -> Embedder:
    search, openai = ground.settings.search, ground.settings.openai
    if search.embedder == "hashing":
        return HashingEmbedder()
    # Half a second and 60 MB that nobody pays who does not want it.
    from hub.insight.embedding.openai import OpenAIEmbedder

    return OpenAIEmbedder(
        search.model,
        api_key=openai.api_key,
        base_url=openai.base_url,
        needs_consent=search.consent,
        prices=Prices(search.usd_per_mtok),
        budget=make_budget(ground, "search", Spent(search.usd_per_day, search.tokens_per_day)),
        clock=ground.clock,
    )


def _measure(ingestion: Ingestion) -> Iterable[Metric]:
    yield counter("krin_documents_stored", "Documents that this node has made for search.", ingestion.stored)
    yield gauge("krin_documents_behind", "Durable messages that cannot be found yet.", ingestion.behind)
    yield counter("krin_documents_embedded", "Vectors made up for, after a change of model.", ingestion.embedded)
    yield gauge("krin_documents_stale", "Documents without a vector of the model in use.", ingestion.stale)
