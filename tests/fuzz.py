"""The long fuzz run: `nice python -m tests.fuzz [--inputs 1000000] [--seed N]`.

The targets are those of tests/hub/fuzzing.py, which runs a little of each on every change; and a hub in a process of its
own gets messages over real sockets. Prints a line for each target; the first misbehaviour ends it with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import sys
import tempfile
import time
from pathlib import Path

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
MAX_GROWTH_MIB = 5
ALARMS = re.compile(r"Traceback|incident |never retrieved")


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss / (1 << 20))


def pure(seed: int, count: int) -> None:
    targets = pure_targets(seed)
    for name, (target, make) in targets.items():
        share = count // len(targets)
        run(target, (make() for _ in range(min(1_000, share))))  # caches fill
        before = resident_mib()
        report(name, run(target, (make() for _ in range(share))), resident_mib() - before)


async def sessions(seed: int, count: int, data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as address, Database.open(address) as database:
        await migrate(database)
        for codec in CODECS.values():
            async with Scene(database).running() as scene:
                await session(scene, codec, seed, 2_000)
                before = resident_mib()
                made = await session(scene, codec, seed + 1, count // 2)
                report(f"session, {codec.name}", made, resident_mib() - before)


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


def live_sockets(seed: int, count: int, data_dir: Path) -> None:
    hub = start_hub(data_dir, "--drain-timeout", "0")
    try:
        process = psutil.Process(hub.process.pid)
        for codec in CODECS.values():
            asyncio.run(live(hub, codec, Inputs(seed), 2_000))
            before = process.memory_info().rss
            made = asyncio.run(live(hub, codec, Inputs(seed + 1), count // 2))
            report(f"live sockets, {codec.name}", made, (process.memory_info().rss - before) / (1 << 20))
        alarms = [line[:300] for line in (data_dir / "stderr.log").read_text().splitlines() if ALARMS.search(line)]
        assert alarms == []
    finally:
        stop_hub(hub)


def report(name: str, count: Count, growth_mib: float) -> None:
    text = f"{name}: {count.inputs:,} inputs, slowest {count.slowest_s * 1000:.0f} ms, memory {growth_mib:+.1f} MiB"
    print(text + (" (look at this)" if growth_mib > MAX_GROWTH_MIB else ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    parts = {name: int(options.inputs * share) for name, share in SHARES.items()}
    pure(options.seed, options.inputs - sum(parts.values()))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hub").mkdir()
        asyncio.run(sessions(options.seed, parts["session"], Path(folder) / "postgres"))
        live_sockets(options.seed, parts["live sockets"], Path(folder) / "hub")


if __name__ == "__main__":
    main()
