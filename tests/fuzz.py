"""The long fuzz run: `nice python -m tests.fuzz [--inputs 1000000] [--seed N]`.

The targets are those of tests/hub/fuzzing.py, which runs a little of each on every change; and a hub in a process of its
own gets messages over real sockets. Prints a line for each target; the first misbehaviour ends it with its input. Memory
is judged over the second half of each target's inputs: by then caches and histories are full. Exit code 1 if it grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "hub"), str(HERE / "edge")]  # as pytest has it

from conftest import RunningHub, start_hub, stop_hub  # noqa: E402
from fuzzing import BATCH, LONGEST_S, Count, Inputs, pure_targets, run, session  # noqa: E402
from scene import Scene  # noqa: E402

from protocol.codec import CODECS, JSON, Codec  # noqa: E402
from storage.database import Database  # noqa: E402
from storage.embedded import EmbeddedPostgres  # noqa: E402
from storage.migrate import migrate  # noqa: E402

SHARES = {"session": 0.15, "live sockets": 0.1}  # the rest goes to the pure targets in equal parts
MAX_GROWTH_MIB = 1.0
MAX_SESSION_GROWTH_MIB = 6.0  # every session has a token of its own, and the hub remembers 4,096, about 1 KiB each
ALARMS = re.compile(r"Traceback|incident |never retrieved")


class Outcome(NamedTuple):
    target: str
    inputs: int
    slowest_s: float
    growth_mib: float

    def __str__(self) -> str:
        slowest_ms = self.slowest_s * 1000
        return f"{self.target}: {self.inputs:,} inputs, slowest {slowest_ms:.0f} ms, memory {self.growth_mib:+.1f} MiB"


async def outcome(target: str, fuzz: Callable[[], Awaitable[Count]], process: psutil.Process) -> Outcome:
    """`fuzz` sends half of the inputs."""
    first = await fuzz()
    before = process.memory_info().rss
    second = await fuzz()
    growth_mib = (process.memory_info().rss - before) / (1 << 20)
    return Outcome(target, first.inputs + second.inputs, max(first.slowest_s, second.slowest_s), growth_mib)


async def pure(seed: int, count: int) -> AsyncIterator[Outcome]:
    targets = pure_targets(seed)
    half = count // len(targets) // 2
    for name in targets:

        async def fuzz(name: str = name) -> Count:
            target, make = targets[name]
            return run(target, (make() for _ in range(half)))

        yield await outcome(name, fuzz, psutil.Process())


async def sessions(seed: int, count: int, data_dir: Path) -> AsyncIterator[Outcome]:
    half = count // len(CODECS) // 2
    seeds = itertools.count(seed)
    async with EmbeddedPostgres(data_dir) as address, Database.open(address) as database:
        await migrate(database)
        for codec in CODECS.values():
            async with Scene(database).running() as scene:
                fuzz = partial(session, scene, codec)
                yield await outcome(
                    f"session, {codec.name}", lambda fuzz=fuzz: fuzz(next(seeds), half), psutil.Process()
                )


async def live(hub: RunningHub, codec: Codec, inputs: Inputs, count: int) -> Count:
    """Frames over real sockets; a question after each is answered, or the hub has closed with a code."""
    sent, slowest = 0, 0.0
    token = hub.token("ann")
    while sent < count:
        async with connect(hub.ws_url, subprotocols=[Subprotocol(codec.subprotocol)], compression=None) as socket:
            with contextlib.suppress(ConnectionClosed):
                await _ask(socket, codec, {"type": "connect", "id": 1, "token": token}, 1)
                for number in range(1 << 40, (1 << 40) + BATCH):
                    await socket.send(inputs.frame(codec))
                    sent += 1
                    began = time.perf_counter()
                    await _ask(socket, codec, {"type": "history", "id": number, "channel": "custom:quiet"}, number)
                    slowest = max(slowest, time.perf_counter() - began)
        assert socket.close_code not in (None, 1006), "the connection broke"
    return Count(sent, slowest)


async def _ask(socket: object, codec: Codec, command: dict[str, object], number: int) -> None:
    made = codec.encode(command)
    await socket.send(made.decode() if codec is JSON else made)  # type: ignore[attr-defined]
    wanted = b'"id":%d' % number if codec is JSON else codec.encode(number)
    async with asyncio.timeout(LONGEST_S * 10):
        while True:
            received = await socket.recv(decode=False)  # type: ignore[attr-defined]
            assert b"internal" not in received, received
            if wanted in received:
                return


async def live_sockets(seed: int, count: int, data_dir: Path) -> AsyncIterator[Outcome]:
    half = count // len(CODECS) // 2
    hub = start_hub(data_dir, "--drain-timeout", "0")
    try:
        for codec in CODECS.values():
            fuzz = partial(live, hub, codec, Inputs(seed), half)
            yield await outcome(f"live sockets, {codec.name}", fuzz, psutil.Process(hub.process.pid))
        alarms = [line[:300] for line in (data_dir / "stderr.log").read_text().splitlines() if ALARMS.search(line)]
        assert alarms == []
    finally:
        stop_hub(hub)


async def fuzz_all(seed: int, inputs: int, folder: Path) -> list[Outcome]:
    """Everything in turn; returns the targets whose memory grew."""
    shares = {name: int(inputs * share) for name, share in SHARES.items()}
    (folder / "hub").mkdir()
    grown = []
    for outcomes in (
        pure(seed, inputs - sum(shares.values())),
        sessions(seed, shares["session"], folder / "postgres"),
        live_sockets(seed, shares["live sockets"], folder / "hub"),
    ):
        async for each in outcomes:
            print(each, flush=True)
            allowed_mib = MAX_SESSION_GROWTH_MIB if each.target.startswith("session") else MAX_GROWTH_MIB
            if each.growth_mib > allowed_mib:
                grown.append(each)
    return grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        grown = asyncio.run(fuzz_all(options.seed, options.inputs, Path(folder)))
    for each in grown:
        print(f"{each.target}: memory grew in the second half", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
