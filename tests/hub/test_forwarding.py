"""The engine's methods on nodes that do not have it: sent to the one that does, and answered as if it were here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from clock import ManualClock

from hub.caller import Caller
from hub.forwarding import HEARTBEAT_S, SILENT_S, Forwarding
from protocol.errors import ErrorCode, HubError
from protocol.trading import Canceled

TOPIC = "trading"
ANN = Caller(user="ann", roles=frozenset({"trader"}), transport="websocket", connection=object())


class Bus:
    """What one node announces all of them hear, unless it is lost."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.loses: Callable[[bytes], bool] = lambda payload: False

    def announce(self, topic: str, payload: bytes) -> None:
        assert topic == TOPIC
        if not self.loses(payload):
            for node in self.nodes:
                node.forwarding.hear(payload)


class Node:
    def __init__(self, name: str, bus: Bus, clock: ManualClock) -> None:
        self.leading = False
        self.calls: list[tuple[Mapping[str, Any], Caller]] = []
        self.failure: Exception | None = None
        self.forwarding = Forwarding(
            {"orders.cancel_all": self.cancel_all},
            of="the order engine",
            topic=TOPIC,
            node=name,
            leads=lambda: self.leading,
            announce=bus.announce,
            as_hub_error=self.as_hub_error,
            clock=clock,
            answer_s=0.3,
        )
        bus.nodes.append(self)

    async def cancel_all(self, params: Mapping[str, Any], caller: Caller) -> Canceled:
        self.calls.append((params, caller))
        if self.failure is not None:
            raise self.failure
        return Canceled(account=params["account"], count=3)

    def as_hub_error(self, failure: BaseException) -> HubError:
        return failure if isinstance(failure, HubError) else HubError(ErrorCode.INTERNAL, "internal error")

    async def call(self) -> Any:
        answer = self.forwarding.methods["orders.cancel_all"]({"account": "ann"}, ANN)
        return await answer


class Cluster:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = Bus()
        self.leader, self.other = Node("n1", self.bus, self.clock), Node("n2", self.bus, self.clock)
        self.leader.leading = True


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    running = [asyncio.create_task(node.forwarding.run()) for node in made.bus.nodes]
    await made.clock.until_somebody_sleeps(2)
    yield made
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_node_that_leads_answers_itself(cluster: Cluster) -> None:
    assert await cluster.leader.call() == Canceled(account="ann", count=3)
    assert cluster.leader.calls == [({"account": "ann"}, ANN)]


async def test_another_node_is_answered_by_the_one_that_leads(cluster: Cluster) -> None:
    assert await cluster.other.call() == {"account": "ann", "count": 3}
    [(params, caller)] = cluster.leader.calls
    assert params == {"account": "ann"}
    assert caller == msgspec.structs.replace(ANN, connection=None)
    assert cluster.other.calls == []


async def test_an_error_of_the_leader_is_the_callers_error(cluster: Cluster) -> None:
    cluster.leader.failure = HubError(ErrorCode.NOT_FOUND, "no such order", path="$.params.account")
    with pytest.raises(HubError) as refused:
        await cluster.other.call()
    assert (refused.value.code, refused.value.message, refused.value.path) == (
        ErrorCode.NOT_FOUND,
        "no such order",
        "$.params.account",
    )


async def test_nothing_internal_of_the_leader_gets_out(cluster: Cluster) -> None:
    cluster.leader.failure = KeyError("secret")
    with pytest.raises(HubError) as refused:
        await cluster.other.call()
    assert refused.value.code is ErrorCode.INTERNAL
    assert "secret" not in refused.value.message


async def test_without_a_leader_the_methods_are_not_available(cluster: Cluster) -> None:
    cluster.leader.leading = False
    cluster.clock.advance(SILENT_S + HEARTBEAT_S)
    for node in cluster.bus.nodes:
        with pytest.raises(HubError) as refused:
            await node.call()
        assert refused.value.code is ErrorCode.NOT_AVAILABLE
    assert cluster.leader.calls == []


async def test_a_new_leader_is_followed_from_its_first_word_on(cluster: Cluster) -> None:
    cluster.leader.leading, cluster.other.leading = False, True
    cluster.clock.advance(HEARTBEAT_S)
    await cluster.clock.until_somebody_sleeps(2)
    assert await cluster.leader.call() == {"account": "ann", "count": 3}
    assert len(cluster.other.calls) == 1


async def test_a_call_to_a_node_that_leads_no_more_is_refused_at_once_and_nothing_is_done(cluster: Cluster) -> None:
    cluster.leader.leading = False
    refused = await _refused(cluster.other)
    assert cluster.leader.calls == []
    assert (refused.code, refused.retry_after_ms) == (ErrorCode.NOT_AVAILABLE, 1000)


async def test_of_a_lost_answer_the_outcome_is_unknown(cluster: Cluster) -> None:
    cluster.bus.loses = lambda payload: b"answer" in payload
    call = asyncio.create_task(_refused(cluster.other))
    await _patience(call)
    assert call.result().code is ErrorCode.TIMEOUT
    assert call.result().retry_after_ms is not None
    assert len(cluster.leader.calls) == 1


async def test_garbage_on_the_wire_changes_nothing(cluster: Cluster) -> None:
    for payload in (b"", b"\xc1", msgspec.msgpack.encode({"node": 1}), msgspec.msgpack.encode([1, 2])):
        cluster.other.forwarding.hear(payload)
    assert await cluster.other.call() == {"account": "ann", "count": 3}


async def _refused(node: Node) -> HubError:
    try:
        await node.call()
    except HubError as failure:
        return failure
    raise AssertionError("it was answered")


async def _patience(call: asyncio.Task[HubError]) -> None:
    async with asyncio.timeout(5):
        await asyncio.wait([call])
