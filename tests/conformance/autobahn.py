"""Autobahn|Testsuite against the hub's WebSocket protocol, once through ASGI `send` and once through the raw path.

`python -m tests.conformance.autobahn --wstest PATH` runs all 517 cases twice in about twenty minutes. `wstest` is
Python 2.7; with any CPython 2.7 and `virtualenv<20.22`:

    virtualenv -p python2.7 ab && ab/bin/pip install autobahntestsuite==25.10.1    # then --wstest ab/bin/wstest

The limits on size, fragments and time are lifted: what the hub refuses on purpose is proven by tests/edge. Cases 12 and
13 are about permessage-deflate, which the hub never negotiates: they end as unimplemented. Exit code 1 when another case
failed or did not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn

from hub.connections.outbox import Outbox
from hub.connections.verdicts import Notes
from hub.edge.raw import EXTENSION, HttpProtocol, RawWebSocketProtocol
from protocol import frames
from protocol.codec import JSON

LARGEST_BYTES = 64 << 20
AGENTS = {"send": "an echo through ASGI send()", "raw": "an echo through raw frames"}
PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
COMPRESSION = ("12.", "13.")


class LiftedProtocol(RawWebSocketProtocol):
    max_fragments = 1 << 20
    message_s = 600.0


class RawEcho:
    """A receiver that answers as the hub's fan-out does: complete frames past the transport while it keeps up."""

    def __init__(self, socket: RawWebSocketProtocol) -> None:
        self._outbox = Outbox(
            socket,
            JSON,
            limit_bytes=LARGEST_BYTES,
            touch=lambda outbox: None,
            on_overflow=socket.abort,
            on_pressure=lambda code, channel: None,
            notes=Notes(),
        )

    def receive(self, payload: bytes | str) -> None:
        text = isinstance(payload, str)
        data = frames.frame(payload.encode() if text else payload, frames.TEXT if text else frames.BINARY)
        if self._outbox.ready:
            self._outbox.transmit(data)
        else:
            self._outbox.write(data)

    def blocked(self) -> None:
        self._outbox.block()

    def unblocked(self) -> None:
        self._outbox.unblock(0.0)

    def violated(self, code: int) -> None: ...

    def lost(self) -> None:
        self._outbox.close()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: `/raw` answers past `send`, every other path through it."""
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/raw":
        raw = scope["extensions"][EXTENSION]
        raw.attach(RawEcho(raw))
        return
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


def echo_server(protocol: type[RawWebSocketProtocol]) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            echo,
            http=HttpProtocol,
            ws=protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_max_size=LARGEST_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
    )


async def run(wstest: str, cases: list[str], report: Path) -> dict[str, dict[str, Any]]:
    """Every case of both agents: {agent: {case: {"behavior": ..., "behaviorClose": ...}}}."""
    listener = listen()
    server = echo_server(LiftedProtocol)
    serving = asyncio.create_task(server.serve([listener]))
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    report.mkdir(parents=True, exist_ok=True)
    specification = report / "fuzzingclient.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(report),
                "servers": [{"agent": agent, "url": f"{url}/{agent}"} for agent in AGENTS],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    with (report / "wstest.log").open("w") as log:
        client = await asyncio.create_subprocess_exec(
            wstest, "-m", "fuzzingclient", "-s", str(specification), stdout=log, stderr=log
        )
        try:
            await client.wait()
        finally:
            if client.returncode is None:
                client.terminate()
            server.should_exit = True
            await serving
    found: dict[str, dict[str, Any]] = json.loads((report / "index.json").read_text())
    return found


def summary(results: dict[str, dict[str, Any]]) -> tuple[str, bool]:
    """What a reader wants to know, and whether all is well."""
    lines = []
    well = set(results) == set(AGENTS)
    for agent, cases in results.items():
        counts = Counter(case["behavior"] for case in cases.values())
        lines.append(f"{AGENTS[agent]}: {len(cases)} run, " + ", ".join(f"{n} {what}" for what, n in counts.items()))
        for name, case in cases.items():
            if name.startswith(COMPRESSION) and case["behavior"] == "UNIMPLEMENTED":
                continue
            good = case["behavior"] in PASSED and case["behaviorClose"] in PASSED
            well = well and good
            if case["behavior"] != "OK" or not good:
                lines.append(f"  {name}: {case['behavior']}, close {case['behaviorClose']}")
    return "\n".join(lines), well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wstest", default=os.environ.get("WSTEST") or shutil.which("wstest"), help="or $WSTEST")
    parser.add_argument("--report", type=Path, default=Path("autobahn-report"), help="where the HTML reports go")
    parser.add_argument("--cases", nargs="*", default=["*"], metavar="PATTERN", help='such as "1.*" "7.1.5"')
    options = parser.parse_args()
    if not options.wstest:
        print("skipped: there is no wstest (the top of this module says how to get one)", file=sys.stderr)
        return 2
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # of the broken messages that are the test
    text, well = summary(asyncio.run(run(options.wstest, options.cases, options.report)))
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
