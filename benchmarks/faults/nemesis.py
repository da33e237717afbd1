"""What goes wrong, when, and how it is put right again. The schedule follows from the seed; the interleaving cannot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from benchmarks.faults.cluster import Cluster, Node
from benchmarks.faults.history import Fault, History, Incident

QUIET_START_S = 2.0
QUIET_END_S = 3.0
CUT = "client-cut"
Hurt = Callable[["Nemesis"], Awaitable[str]]


class Cuttable(Protocol):
    def cut(self) -> None: ...


class Planned(NamedTuple):
    at: float
    kind: str


def plan(seconds: float, counts: Mapping[str, int], *, seed: int, apart: bool = False) -> list[Planned]:
    """Each fault as often as asked, spread over the run: one in each of as many equal parts, anywhere in its part.

    `apart`: one at a time, in random order and at equal distances, so that each can be timed alone; cut clients, who
    are the traffic and no fault of the hub's, stay as they are.
    """
    dice = random.Random(f"plan-{seed}")
    length = max(0.0, seconds - QUIET_START_S - QUIET_END_S)
    planned = [
        Planned(QUIET_START_S + length * (place + dice.random()) / count, kind)
        for kind, count in sorted(counts.items())
        if not apart or kind == CUT
        for place in range(count)
    ]
    if apart:
        queue = [kind for kind, count in sorted(counts.items()) if kind != CUT for _ in range(count)]
        dice.shuffle(queue)
        planned += [Planned(QUIET_START_S + length * place / len(queue), kind) for place, kind in enumerate(queue)]
    return sorted(planned)


class Nemesis:
    """Carries out a plan. Faults of different things overlap; those of one thing wait for each other."""

    def __init__(
        self, cluster: Cluster, history: History, clients: Sequence[Cuttable], *, seed: int, now: Callable[[], float]
    ) -> None:
        self.cluster = cluster
        self.clients = clients
        self.dice = random.Random(f"nemesis-{seed}")
        self.node_locks = [asyncio.Lock() for _ in cluster.nodes]
        self.redis_lock = asyncio.Lock()
        self.postgres_lock = asyncio.Lock()
        self.quiet = asyncio.Event()  # set: nothing is being hurt
        self.quiet.set()
        self._history = history
        self._now = now
        self._under_way = 0

    async def run(self, planned: Sequence[Planned]) -> None:
        """To the end of the plan, with everything put right. A fault that cannot be put right is an incident."""
        async with asyncio.TaskGroup() as group:
            for fault in planned:
                await asyncio.sleep(max(0.0, fault.at - self._now()))
                group.create_task(self._carry_out(fault.kind), name=fault.kind)

    async def _carry_out(self, kind: str) -> None:
        self._under_way += 1
        self.quiet.clear()
        try:
            await FAULTS[kind](self)
        except Exception as failure:
            self._history.incidents.append(Incident(self._now(), "harness", f"{kind}: {failure}"))
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.quiet.set()

    def began(self, kind: str, target: str) -> Callable[[], None]:
        """Note a fault's begin; call the answer at its end."""
        begin = self._now()
        return lambda: self._history.faults.append(Fault(begin, self._now(), kind, target))

    def any_node(self) -> tuple[Node, asyncio.Lock]:
        """A random node, rather one that is not being hurt already."""
        free = [index for index, lock in enumerate(self.node_locks) if not lock.locked()]
        index = self.dice.choice(free or range(len(self.node_locks)))
        return self.cluster.nodes[index], self.node_locks[index]


async def kill_node(nemesis: Nemesis) -> str:
    node, lock = nemesis.any_node()
    async with lock:
        ended = nemesis.began("node killed", node.name)
        await node.kill()
        await asyncio.sleep(nemesis.dice.uniform(0, 1))
        await node.start_again()
        ended()
    return node.name


async def drain_node(nemesis: Nemesis) -> str:
    node, lock = nemesis.any_node()
    async with lock:
        ended = nemesis.began("node drained", node.name)
        code, _ = await node.terminate()
        await node.start_again()
        ended()
    if code != 0:
        raise RuntimeError(f"a drained node ended with {code}")
    return node.name


async def freeze_node(nemesis: Nemesis) -> str:
    node, lock = nemesis.any_node()
    async with lock:
        ended = nemesis.began("node frozen", node.name)
        node.freeze()
        await asyncio.sleep(nemesis.dice.uniform(0.5, 4))
        node.thaw()
        ended()
    return node.name


async def part_node_from_redis(nemesis: Nemesis) -> str:
    node, lock = nemesis.any_node()
    async with lock:
        ended = nemesis.began("node without redis", node.name)
        node.redis_proxy.freeze()
        await asyncio.sleep(nemesis.dice.uniform(0.5, 4))
        node.redis_proxy.thaw()
        ended()
    return node.name


async def part_clients(nemesis: Nemesis) -> str:
    """Half-open: the connections to one node stay, and no byte passes."""
    node, lock = nemesis.any_node()
    async with lock:
        ended = nemesis.began("clients frozen", node.name)
        node.proxy.freeze()
        await asyncio.sleep(nemesis.dice.uniform(0.5, 3))
        node.proxy.thaw()
        ended()
    return node.name


async def cut_clients(nemesis: Nemesis) -> str:
    """One client loses its connection and comes back, maybe elsewhere."""
    nemesis.dice.choice(nemesis.clients).cut()
    return ""


async def kill_redis(nemesis: Nemesis) -> str:
    async with nemesis.redis_lock:
        redis = nemesis.cluster.redis
        ended = nemesis.began("redis empty", "redis")
        await redis.kill()
        redis.forget()
        await asyncio.sleep(nemesis.dice.uniform(0, 2))
        await redis.start()
        ended()
    return "redis"


async def restart_redis(nemesis: Nemesis) -> str:
    """Kill, and come back with what is on the disk: all but the last second if it appends, else some old dump."""
    async with nemesis.redis_lock:
        redis = nemesis.cluster.redis
        ended = nemesis.began("redis killed", "redis")
        await redis.kill()
        await asyncio.sleep(nemesis.dice.uniform(0, 1))
        await redis.start()
        ended()
    return "redis"


async def stale_redis(nemesis: Nemesis) -> str:
    """Save, let more be written, kill, and come back with the old dump."""
    async with nemesis.redis_lock:
        redis = nemesis.cluster.redis
        await redis.save()
        await asyncio.sleep(nemesis.dice.uniform(0.3, 1))
        ended = nemesis.began("redis stale", "redis")
        await redis.kill()
        await asyncio.sleep(nemesis.dice.uniform(0, 1))
        await redis.start()
        ended()
    return "redis"


async def freeze_redis(nemesis: Nemesis) -> str:
    async with nemesis.redis_lock:
        redis = nemesis.cluster.redis
        ended = nemesis.began("redis frozen", "redis")
        redis.freeze()
        await asyncio.sleep(nemesis.dice.uniform(0.5, 4))
        redis.thaw()
        ended()
    return "redis"


async def kill_postgres(nemesis: Nemesis) -> str:
    async with nemesis.postgres_lock:
        postgres = nemesis.cluster.postgres
        ended = nemesis.began("postgres killed", "postgres")
        postgres.kill(everything=nemesis.dice.random() < 0.5)
        await asyncio.sleep(nemesis.dice.uniform(0, 2))
        await postgres.start_again()
        ended()
    return "postgres"


async def kill_backend(nemesis: Nemesis) -> str:
    async with nemesis.postgres_lock:
        postgres = nemesis.cluster.postgres
        ended = nemesis.began("postgres backend killed", "postgres")
        await postgres.kill_backend()
        await postgres.start_again()
        ended()
    return "postgres"


async def freeze_postgres(nemesis: Nemesis) -> str:
    async with nemesis.postgres_lock:
        postgres = nemesis.cluster.postgres
        ended = nemesis.began("postgres frozen", "postgres")
        postgres.freeze()
        await asyncio.sleep(nemesis.dice.uniform(0.5, 5))
        postgres.thaw()
        ended()
    return "postgres"


FAULTS: dict[str, Hurt] = {
    "node-kill": kill_node,
    "node-drain": drain_node,
    "node-freeze": freeze_node,
    "redis-part": part_node_from_redis,
    "client-part": part_clients,
    CUT: cut_clients,
    "redis-kill": kill_redis,
    "redis-restart": restart_redis,
    "redis-stale": stale_redis,
    "redis-freeze": freeze_redis,
    "postgres-kill": kill_postgres,
    "postgres-backend": kill_backend,
    "postgres-freeze": freeze_postgres,
}
