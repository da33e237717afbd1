"""A real Redis Cluster for tests: three servers on loopback, which share the slots, and replicas for who wants them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

START_S = 30
NODE_TIMEOUT_MS = 1000


class ClusterServer:
    """One server of the cluster."""

    def __init__(self, folder: Path, port: int, bus_port: int) -> None:
        folder.mkdir()
        self.port = port
        self.bus_port = bus_port
        options = {
            "--port": port,
            "--cluster-port": bus_port,
            "--bind": "127.0.0.1",
            "--dir": folder,
            "--save": "",
            "--cluster-enabled": "yes",
            "--cluster-node-timeout": NODE_TIMEOUT_MS,
            "--cluster-require-full-coverage": "no",
            "--repl-diskless-sync-delay": 0,
        }
        words = [str(word) for pair in options.items() for word in pair]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(["redis-server", *words], stdout=log, stderr=log)
        self.client = Redis(host="127.0.0.1", port=port, protocol=2, socket_timeout=5)
        self.client.response_callbacks.clear()  # what the server says, as it says it

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER MYID").decode())

    def ask(self, *words: object) -> Any:
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types here

    @property
    def nodes(self) -> list[str]:
        """What it knows of the others, a line each."""
        return list(self.ask("CLUSTER NODES").decode().splitlines())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class RedisCluster:
    """`masters` own the slots, in thirds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.masters = [self._server(index) for index in range(3)]
        self.replicas: list[ClusterServer] = []

    async def start(self) -> None:
        addresses = [f"127.0.0.1:{server.port}" for server in self.masters]
        await until(lambda: all(answers(server) for server in self.masters))
        self.cli("--cluster", "create", *addresses, "--cluster-yes")
        await until(lambda: all(self._agreed(server) for server in self.masters))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    def owner_of(self, channel: str) -> ClusterServer:
        """The master that has the channel's slot, as they see it themselves."""
        slot = key_slot(channel.encode())
        ranges = self.masters[0].ask("CLUSTER SLOTS")
        [port] = [found[2][1] for found in ranges if found[0] <= slot <= found[1]]
        return next(server for server in (*self.masters, *self.replicas) if server.port == port)

    async def add_replica_of(self, master: ClusterServer) -> ClusterServer:
        replica = self._server(len(self.masters) + len(self.replicas))
        self.replicas.append(replica)
        await until(lambda: answers(replica))
        replica.ask("CLUSTER MEET", "127.0.0.1", master.port, master.bus_port)
        master_id = master.id
        await until(lambda: any(line.startswith(master_id) for line in replica.nodes))
        replica.ask("CLUSTER REPLICATE", master_id)
        await until(lambda: "master_link_status:up" in replica.ask("INFO", "replication").decode())
        await until(lambda: all(self._knows(server, replica, role="slave") for server in self.masters))
        # It has met its master only. Did that die before it has told of the others, nobody could elect the replica.
        await until(lambda: all(self._knows(replica, server, role="master") for server in self.masters))
        return replica

    def _knows(self, server: ClusterServer, other: ClusterServer, *, role: Literal["master", "slave"]) -> bool:
        other_id = other.id
        return any(line.startswith(other_id) and f" {role} " in line for line in server.nodes)

    def begin_move(self, channel: str, source: ClusterServer, target: ClusterServer) -> None:
        slot = key_slot(channel.encode())
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)

    def finish_move(self, channel: str, source: ClusterServer, target: ClusterServer) -> None:
        slot = key_slot(channel.encode())
        while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *self.masters):
            server.ask("CLUSTER SETSLOT", slot, "NODE", target.id)

    def forget(self) -> None:
        for server in self.masters:
            server.ask("FLUSHALL")

    def cli(self, *words: str) -> None:
        done = subprocess.run(["redis-cli", *words], capture_output=True, text=True, timeout=START_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        for server in (*self.masters, *self.replicas):
            server.client.close()
            server.thaw()
            server.kill()

    def _server(self, index: int) -> ClusterServer:
        port, bus_port = free_ports(2)
        return ClusterServer(self._folder / str(index), port, bus_port)

    def _agreed(self, server: ClusterServer) -> bool:
        info = server.ask("CLUSTER INFO").decode()
        return "cluster_state:ok" in info and "cluster_known_nodes:3" in info


@contextlib.asynccontextmanager
async def redis_cluster() -> AsyncIterator[RedisCluster]:
    """A cluster until the end of the block; without a Redis that knows sharded pub/sub the test is skipped."""
    if (reason := missing_redis_7()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="krin-") as folder:
        cluster = RedisCluster(Path(folder))
        try:
            await cluster.start()
            yield cluster
        finally:
            cluster.close()


def missing_redis_7() -> str | None:
    """Why there can be no cluster here; None when there can."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        return "sharded pub/sub needs Redis 7; no redis-server with redis-cli is installed"
    text = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    version = text.split("v=")[1].split()[0]
    return None if int(version.split(".")[0]) >= 7 else f"sharded pub/sub needs Redis 7; here is {version}"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def answers(server: ClusterServer) -> bool:
    with contextlib.suppress(OSError, RedisError):
        return bool(server.client.ping())
    return False


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(START_S):
        while not fact():
            await asyncio.sleep(0.05)
